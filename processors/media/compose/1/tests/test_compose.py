"""A film lasts as its shots do, shows each in its time, and is the same bytes each time."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]
import pytest
from PIL import Image, ImageDraw

from theory_core import TheoryError, canonicalize

REF = "media/compose@1"
SIZE = (320, 180)
DURATIONS = [400, 1000, 300]


def picture(index: int, size: tuple[int, int] = SIZE) -> bytes:
    image = Image.new("RGB", size, (40 * index + 20, 60, 200 - 50 * index))
    ImageDraw.Draw(image).rectangle((20 + 60 * index, 30, 70 + 60 * index, 130), fill="white")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shotlist(durations: list[int], fps: int = 10, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {
        "schema": "theory.shotlist.v1",
        "fps": fps,
        "width": size[0],
        "height": size[1],
        "shots": [
            {"id": f"shot-{index:03d}", "duration_ms": ms} for index, ms in enumerate(durations)
        ],
    }


@pytest.fixture(scope="module")
def inputs(artifact: Any) -> dict[str, Any]:
    return {
        "shotlist": artifact("/artifacts/s.json", canonicalize(shotlist(DURATIONS))),
        "frames": [
            artifact(f"/artifacts/frames/shot-{index:03d}.png", picture(index))
            for index in range(3)
        ],
    }


@pytest.fixture(scope="module")
def film(run: Any, inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("film") / "final.mp4"
    file.write_bytes(run(REF, inputs).outputs["outputs/final.mp4"])
    return file


def decode(film: Path, size: tuple[int, int]) -> list[bytes]:
    """Every picture of the film as RGB."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    length = size[0] * size[1] * 3
    return [raw[at : at + length] for at in range(0, len(raw), length)]


def difference(one: bytes, other: bytes) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def test_the_film_has_exactly_the_frames_of_its_shots(film: Path) -> None:
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert frames == 17
    assert seconds == pytest.approx(1.7, abs=0.1)


def test_every_frame_shows_the_picture_of_its_shot(film: Path) -> None:
    shown = decode(film, SIZE)
    expected = [index for index, ms in enumerate(DURATIONS) for _ in range(ms // 100)]
    assert len(shown) == len(expected)
    originals = [Image.open(io.BytesIO(picture(index))).tobytes() for index in range(3)]
    for frame, index in zip(shown, expected, strict=True):
        assert difference(frame, originals[index]) < 4
        assert difference(frame, originals[(index + 1) % 3]) > 10


def test_the_same_input_gives_the_same_bytes(run: Any, inputs: dict[str, Any], film: Path) -> None:
    assert run(REF, inputs).outputs["outputs/final.mp4"] == film.read_bytes()


def test_names_of_pictures_decide_nothing(run: Any, inputs: dict[str, Any], film: Path) -> None:
    anonymous = [{**frame, "path": f"/artifacts/{frame['cid'][3:]}"} for frame in inputs["frames"]]
    ran = run(REF, {**inputs, "frames": anonymous})
    assert ran.outputs["outputs/final.mp4"] == film.read_bytes()


def test_nothing_of_host_or_time_is_in_the_film(film: Path) -> None:
    body = film.read_bytes()
    assert body[4:12] == b"ftypisom"
    for word in (b"2026", str(film.parent).encode(), b"/tmp", b"creation"):
        assert word not in body


def test_one_shot_of_one_frame_makes_a_film(run: Any, artifact: Any, tmp_path: Path) -> None:
    params = {
        "shotlist": artifact("/artifacts/s.json", canonicalize(shotlist([100]))),
        "frames": [artifact("/artifacts/shot-000.png", picture(0))],
    }
    file = tmp_path / "one.mp4"
    file.write_bytes(run(REF, params).outputs["outputs/final.mp4"])
    assert len(decode(file, SIZE)) == 1


def test_progress_ends_at_the_whole(run: Any, inputs: dict[str, Any]) -> None:
    told = [content["progress"] for _, content in run(REF, inputs).frames]
    assert told == sorted(told)
    assert told[-1] == 1000


def test_ffmpeg_stays_in_our_process_group(
    run: Any, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    real = subprocess.Popen

    def record(command: list[str], **options: Any) -> Any:
        asked.append(options)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", record)
    run(REF, inputs)
    assert asked[0]["stdin"] == subprocess.DEVNULL
    assert {"start_new_session", "process_group", "preexec_fn", "shell"}.isdisjoint(asked[0])


def test_a_failure_of_ffmpeg_is_internal_and_says_why_on_stderr(
    run: Any, inputs: dict[str, Any], artifact: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = artifact("/artifacts/frames/shot-000.png", picture(0)[:60])
    with pytest.raises(TheoryError) as caught:
        run(REF, {**inputs, "frames": [cut, *inputs["frames"][1:]]})
    assert caught.value.code == "ERR_INTERNAL"
    assert caught.value.detail == {"reason": "ffmpeg_failed"}
    assert capsys.readouterr().err.strip()


def test_a_run_that_is_stopped_takes_ffmpeg_along(
    providers: Any, inputs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SimpleNamespace(process=None)
    real = subprocess.Popen

    def keep(command: list[str], **options: Any) -> Any:
        state.process = real(command, **options)
        return state.process

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", keep)
    provider = providers(REF)
    monkeypatch.setattr(provider, "_follow", stop)
    config = SimpleNamespace(work_dir=Path(inputs["shotlist"]["local_path"]).parent)
    with pytest.raises(KeyboardInterrupt):
        provider.make_runner(config)(inputs)
    assert state.process.returncode is not None


def wrong(artifact: Any, inputs: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    frames = inputs["frames"]
    odd = artifact("/artifacts/o.json", canonicalize(shotlist(DURATIONS, size=(321, 180))))
    part = artifact("/artifacts/p.json", canonicalize(shotlist([150, 1000, 300])))
    rate = artifact("/artifacts/r.json", canonicalize(shotlist(DURATIONS, fps=24)))
    size = artifact("/artifacts/f/shot-002.png", picture(2, (160, 90)))
    text = artifact("/artifacts/f/shot-002.png", b"no picture at all, but long enough")
    none = artifact("/artifacts/f/shot-002.png", b"")
    return [
        ({"shotlist": odd}, "shotlist_invalid"),
        ({"shotlist": part}, "shotlist_invalid"),
        ({"shotlist": rate}, "shotlist_invalid"),
        ({"shotlist": None}, "shotlist_missing"),
        ({"shotlist": artifact("/artifacts/x", b"{")}, "ERR_JSON_SYNTAX"),
        ({"shotlist": artifact("/artifacts/x", b" " * (1024 * 1024 + 1))}, "shotlist_too_large"),
        ({"frames": None}, "frames_missing"),
        ({"frames": "abc"}, "frames_missing"),
        ({"frames": [{}, *frames[1:]]}, "frames_missing"),
        ({"frames": frames[:2]}, "frames_mismatch"),
        ({"frames": [*frames, frames[0]]}, "frames_mismatch"),
        ({"frames": frames[::-1]}, "frames_mismatch"),
        ({"frames": [*frames[:2], {**frames[2], "path": "/a/shot-009.png"}]}, "frames_mismatch"),
        ({"frames": [*frames[:2], size]}, "frame_size"),
        ({"frames": [*frames[:2], text]}, "frame_not_png"),
        ({"frames": [*frames[:2], none]}, "frame_not_png"),
    ]


def test_inputs_that_do_not_belong_together_are_refused(
    run: Any, artifact: Any, inputs: dict[str, Any]
) -> None:
    for changes, reason in wrong(artifact, inputs):
        with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
            run(REF, {**inputs, **changes})
        assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)

"""A text becomes a film of that text: the four processors one after the other."""

# ruff: noqa: ANN401, RUF001 - providers are loaded by path; texts in many scripts

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image, ImageChops, ImageStat

from theory_core import digest

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "sample.txt"
Produce = Callable[..., dict[str, bytes]]


@pytest.fixture(scope="module")
def produce(run: Any, artifact: Any) -> Produce:
    """All outputs that a text leads to, by relative path."""

    def start(text: str, **look: int) -> dict[str, bytes]:
        made: dict[str, bytes] = {}

        def step(ref: str, **params: Any) -> None:
            made.update(run(ref, params).outputs)

        def stored(path: str) -> dict[str, Any]:
            found: dict[str, Any] = artifact(f"/artifacts/{path}", made[path])
            return found

        step("llm/litellm@1", task="script", text=text)
        step("media/shotlist@1", script=stored("outputs/script.json"), **look)
        step("media/frames@1", shotlist=stored("outputs/shotlist.json"))
        frames = [stored(path) for path in sorted(made) if path.startswith("outputs/frames/")]
        step("media/compose@1", shotlist=stored("outputs/shotlist.json"), frames=frames)
        return made

    return start


@pytest.fixture(scope="module")
def sample(produce: Produce) -> dict[str, bytes]:
    return produce(SAMPLE.read_text())


def frame_at(film: Path, at_ms: int) -> Image.Image:
    """The picture that the film shows at a time."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", f"{at_ms / 1000:.3f}"]
    command += ["-i", str(film), "-frames:v", "1", "-f", "image2pipe", "-c:v", "png", "-"]
    return Image.open(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout))


def test_the_film_shows_each_shot_in_its_time(sample: dict[str, bytes], tmp_path: Path) -> None:
    film = tmp_path / "final.mp4"
    film.write_bytes(sample["outputs/final.mp4"])
    shotlist = json.loads(sample["outputs/shotlist.json"])
    _, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert seconds == pytest.approx(shotlist["total_ms"] / 1000, abs=0.1)
    start = 0
    for shot in shotlist["shots"]:
        shown = frame_at(film, start + shot["duration_ms"] // 2).convert("RGB")
        start += shot["duration_ms"]
        drawn = Image.open(io.BytesIO(sample[f"outputs/frames/{shot['id']}.png"]))
        means = ImageStat.Stat(ImageChops.difference(shown, drawn)).mean
        assert max(means) < 3, shot["id"]


def test_the_film_is_about_the_text(sample: dict[str, bytes]) -> None:
    shots = json.loads(sample["outputs/shotlist.json"])["shots"]
    text = " ".join(SAMPLE.read_text().split())
    assert len(shots) >= 5
    assert all(shot["sentence"] in text for shot in shots)
    assert any("θάλασσα" in shot["sentence"] for shot in shots)
    assert any("Світло" in shot["sentence"] for shot in shots)
    for entry in json.loads(sample["outputs/frames.json"])["frames"]:
        assert entry["missing_glyphs"] == []


SMALL = {"width": 320, "height": 180, "fps": 10, "max_total_ms": 2000}


def test_the_same_text_gives_the_same_bytes_everywhere(produce: Produce) -> None:
    text = "One sentence. And another."
    assert produce(text, **SMALL) == produce(text, **SMALL)


@pytest.mark.parametrize(
    "other", ["One sentence. And another!", "One sentence.\nAnd another.", "One sentence."]
)
def test_two_texts_share_no_picture(produce: Produce, other: str) -> None:
    def pictures(text: str) -> set[str]:
        made = produce(text, **SMALL)
        return {digest(body) for path, body in made.items() if path.endswith(".png")}

    one, two = pictures("One sentence. And another."), pictures(other)
    assert one
    assert two
    assert one.isdisjoint(two)


@pytest.mark.parametrize("text", ["一つの文。もう一つの文！", "no punctuation", "x" * 9000, "..."])
def test_any_text_becomes_a_film(produce: Produce, text: str) -> None:
    assert produce(text, **SMALL)["outputs/final.mp4"][4:8] == b"ftyp"

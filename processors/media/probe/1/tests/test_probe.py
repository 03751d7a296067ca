"""Facts are what the file states; whatever the bytes are, the answer is facts or a refusal."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import wave
import zlib
from pathlib import Path
from typing import Any

import imageio_ffmpeg  # type: ignore[import-untyped]
import pytest
from PIL import Image

from theory_core import TheoryError

REF = "media/probe@1"


def picture(kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, kind, **options)
    return buffer.getvalue()


def sound(frames: int = 22050, rate: int = 22050, channels: int = 1, width: int = 2) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(bytes(frames * channels * width))
    return buffer.getvalue()


def film(folder: Path, *options: str) -> bytes:
    target = folder / "film.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    command += ["-f", "lavfi", "-i", "color=c=red:s=320x180:r=25:d=1.2"]
    command += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=1.2"]
    command += ["-c:v", "libx264", "-c:a", "aac", *options, str(target)]
    subprocess.run(command, check=True)
    return target.read_bytes()


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("film"))


@pytest.fixture
def facts(run: Any, artifact: Any) -> Any:
    def ask(body: bytes) -> dict[str, Any]:
        ran = run(REF, {"media": artifact("/artifacts/m", body)})
        stated: dict[str, Any] = json.loads(ran.outputs["outputs/facts.json"])
        assert stated["schema"] == "theory.media.v1"
        assert stated["size_bytes"] == len(body)
        return stated

    return ask


@pytest.fixture
def refusal(run: Any, artifact: Any) -> Any:
    def ask(body: bytes) -> str:
        with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
            run(REF, {"media": artifact("/artifacts/m", body)})
        assert caught.value.code == "ERR_INPUTS"
        return str(caught.value.detail["reason"])

    return ask


def test_a_film_states_its_length_size_frames_and_codecs(facts: Any, mp4: bytes) -> None:
    stated = facts(mp4)
    assert (stated["container"], stated["width"], stated["height"]) == ("mp4", 320, 180)
    assert stated["frames"] == 30
    assert 1200 <= stated["duration_ms"] <= 1260
    shown, heard = stated["tracks"]
    assert (shown["kind"], shown["codec"], shown["duration_ms"]) == ("video", "avc1", 1200)
    assert (heard["kind"], heard["codec"]) == ("audio", "mp4a")
    assert (heard["sample_rate_hz"], heard["channels"]) == (44100, 1)


def test_where_the_index_stands_changes_no_fact(facts: Any, mp4: bytes, tmp_path: Path) -> None:
    first = facts(film(tmp_path, "-movflags", "+faststart"))
    names = ("duration_ms", "frames", "tracks")
    assert [first[name] for name in names] == [facts(mp4)[name] for name in names]


def test_a_film_in_fragments_is_not_guessed_at(refusal: Any, tmp_path: Path) -> None:
    body = film(tmp_path, "-movflags", "+frag_keyframe+empty_moov")
    assert refusal(body) == "media_unsupported"


@pytest.mark.parametrize("options", [{}, {"optimize": True}])
def test_a_png_states_its_size(facts: Any, options: dict[str, Any]) -> None:
    stated = facts(picture("PNG", (640, 360), **options))
    assert (stated["container"], stated["width"], stated["height"]) == ("png", 640, 360)
    assert stated["frames"] == 1
    assert "duration_ms" not in stated


def test_an_animated_png_states_its_frames(facts: Any) -> None:
    more = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green")]
    stated = facts(picture("PNG", save_all=True, append_images=more))
    assert stated["frames"] == 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(90)}])
def test_a_jpeg_states_its_size(facts: Any, options: dict[str, Any]) -> None:
    stated = facts(picture("JPEG", (200, 100), **options))
    assert (stated["container"], stated["width"], stated["height"]) == ("jpeg", 200, 100)


@pytest.mark.parametrize(
    ("channels", "width", "codec"), [(1, 2, "pcm_s16le"), (2, 1, "pcm_u8"), (6, 3, "pcm_s24le")]
)
def test_a_wav_states_its_length_and_rate(
    facts: Any, channels: int, width: int, codec: str
) -> None:
    stated = facts(sound(11025, 22050, channels, width))
    assert stated["duration_ms"] == 500
    (track,) = stated["tracks"]
    assert (track["codec"], track["channels"]) == (codec, channels)
    assert (track["sample_rate_hz"], track["samples"]) == (22050, 11025)


def test_the_same_bytes_have_the_same_facts_in_both_modes(run: Any, artifact: Any) -> None:
    media = {"media": artifact("/artifacts/m", picture("PNG"))}
    bodies = {run(REF, media, mode=mode).outputs["outputs/facts.json"] for mode in ("mock", "real")}
    assert len(bodies) == 1


def test_what_is_no_media_file_is_refused(refusal: Any, run: Any) -> None:
    for body in (b"", b"x", b"GIF89a" + bytes(20), b"%PDF-1.7" + bytes(20), bytes(64)):
        assert refusal(body) == "media_unsupported"
    with pytest.raises(TheoryError) as caught:
        run(REF, {"media": "text"})
    assert caught.value.detail == {"reason": "media_missing"}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = b"\x89PNG\r\n\x1a\n"
IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))


def box(kind: bytes, *inner: bytes) -> bytes:
    body = b"".join(inner)
    return struct.pack(">I", 8 + len(body)) + kind + body


FTYP = box(b"ftyp", b"isom", bytes(4))


@pytest.mark.parametrize(
    "body",
    [
        PNG,
        PNG + IHDR,
        PNG + IHDR + chunk(b"IEND", b""),
        PNG + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        PNG + struct.pack(">I", 2**32 - 1) + b"IHDR",
        PNG + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        PNG + IHDR + chunk(b"tEXt", b"") * 100_001,
        b"\xff\xd8\xff\xd9" + bytes(20),
        b"\xff\xd8\xff\xda" + bytes(20),
        b"\xff\xd8\xff\xe0\x00\x00" + bytes(20),
        b"\xff\xd8" + b"\xff" * 200_000,
        b"\xff\xd8" + b"\xff\xd0" * 200_000,
        b"RIFF" + bytes(4) + b"WAVE",
        b"RIFF" + bytes(4) + b"WAVEdata" + struct.pack("<I", 4) + bytes(4),
        b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 0, 2, 16),
        sound()[:-1],
        FTYP,
        FTYP + box(b"moov"),
        FTYP + box(b"moov", box(b"mvhd", bytes(20))),
        FTYP + struct.pack(">I", 4) + b"moov",
        FTYP + struct.pack(">I4sQ", 1, b"moov", 2**64 - 1),
        FTYP + struct.pack(">I4sQ", 1, b"moov", 15),
        FTYP + box(b"free") * 100_001,
    ],
)
def test_a_malformed_file_is_refused(refusal: Any, body: bytes) -> None:
    assert refusal(body) == "media_malformed"


def test_lengths_that_contradict_the_file_are_refused(refusal: Any, mp4: bytes) -> None:
    at = mp4.index(b"stts") + 8
    assert refusal(mp4[:at] + b"\xff\xff\xff\xff" + mp4[at + 4 :]) == "media_malformed"
    at = mp4.index(b"mvhd") + 16
    assert refusal(mp4[:at] + bytes(4) + mp4[at + 4 :]) == "media_malformed"


def test_a_sparse_giant_costs_no_memory(providers: Any, tmp_path: Path) -> None:
    file = tmp_path / "giant.mp4"
    with file.open("wb") as stream:
        stream.write(FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**36 - len(FTYP)))
        os.truncate(stream.fileno(), 2**36)
    with pytest.raises(TheoryError) as caught:
        providers(REF).probe(file)
    assert caught.value.detail == {"reason": "media_malformed"}


@pytest.mark.parametrize("kind", ["png", "jpeg", "wav", "mp4"])
def test_damaged_files_have_facts_or_a_refusal(
    providers: Any, tmp_path: Path, kind: str, mp4: bytes
) -> None:
    whole = {"png": picture("PNG"), "jpeg": picture("JPEG"), "wav": sound(64), "mp4": mp4}[kind]
    probe, file, chance = providers(REF).probe, tmp_path / "m", random.Random(kind)  # noqa: S311
    for _ in range(400):
        body = bytearray(whole[: chance.randrange(4, len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            body[chance.randrange(len(body))] = chance.choice((0, 1, 0x7F, 0xFF))
        file.write_bytes(body)
        try:
            assert probe(file)["container"] == kind
        except TheoryError as error:
            assert error.code == "ERR_INPUTS"  # noqa: PT017 - either is right

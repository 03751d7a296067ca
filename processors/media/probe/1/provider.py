"""State the facts of a WAV, PNG, JPEG or MP4 file: length, size, counts, codecs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from theory_core import TheoryError, canonicalize
from theory_runtime import Config, OutputItem, ProcessorResult

NAME: Final = "probe"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.media.v1"
MAX_PARTS: Final = 100_000
"""Chunks, segments or boxes of one file: more is no file that anybody made to be played."""
MAX_TABLE_BYTES: Final = 16 * 1024 * 1024
"""The largest table of an MP4 that is read."""
MAX_NUMBER: Final = 2**53 - 1
HEAD_BYTES: Final = 16

Facts = dict[str, Any]


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `media/probe@1`."""
    del config  # what a file is does not depend on who asks

    def run(params: dict[str, Any]) -> ProcessorResult:
        media = params.get("media")
        if not isinstance(media, Mapping) or not isinstance(media.get("local_path"), str):
            raise _refused("media_missing")
        facts = {"source": media.get("cid"), **probe(Path(media["local_path"]))}
        body = canonicalize({"schema": SCHEMA, **facts})
        return ProcessorResult(
            outputs=[OutputItem("outputs/facts.json", body, "application/json")],
            usage={},
            processor_info=f"{NAME} {VERSION}",
        )

    return run


def probe(file: Path) -> Facts:
    """The facts of a media file, from its own headers; no picture and no sound is decoded.

    Law: no file, however made, takes more than `MAX_PARTS` steps or `MAX_TABLE_BYTES` of memory.
    Raises `ERR_INPUTS` with `detail.reason`: `media_unsupported` (another format, or a kind of
    these that states no facts up front), `media_malformed` (cut off, or it contradicts itself).
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        read = _reader(head)
        stream.seek(0)
        try:
            facts = read(File(stream, size))
        except TheoryError:
            raise
        except (struct.error, ValueError, OverflowError) as error:
            raise _malformed() from error
    if not all(value <= MAX_NUMBER for value in _numbers(facts)):
        raise _malformed()
    return {"size_bytes": size, **facts}


def _reader(head: bytes) -> Callable[[File], Facts]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return _wav
    if head[4:8] == b"ftyp":
        return _mp4
    raise _refused("media_unsupported")


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _malformed() -> TheoryError:
    return _refused("media_malformed")


def _numbers(facts: object) -> Iterator[int]:
    if isinstance(facts, int):
        yield facts
    elif isinstance(facts, dict):
        for value in facts.values():
            yield from _numbers(value)
    elif isinstance(facts, list):
        for value in facts:
            yield from _numbers(value)


class File:
    """A window on a file: whatever reads beyond its end is `media_malformed`."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self._stream = stream
        self.at = 0
        self.end = end
        self._steps = 0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes from here."""
        if count < 0 or count > self.end - self.at:
            raise _malformed()
        self._stream.seek(self.at)
        data = self._stream.read(count)
        if len(data) != count:
            raise _malformed()
        self.at += count
        return data

    def unpack(self, form: str) -> tuple[int, ...]:
        """Whole numbers from here, as `struct` reads them."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def skip(self, count: int) -> None:
        """Go on behind so many bytes."""
        if count < 0 or count > self.end - self.at:
            raise _malformed()
        self.at += count

    def step(self) -> None:
        """Count one part of the file."""
        self._steps += 1
        if self._steps > MAX_PARTS:
            raise _malformed()


# PNG


def _png(file: File) -> Facts:
    """Size from IHDR; every chunk up to IEND has to be there, so a file cut short is found out."""
    file.skip(8)
    size: tuple[int, ...] | None = None
    frames, has_picture = 1, False
    while True:
        file.step()
        length, kind = file.unpack(">I")[0], file.take(4)
        begin = file.at
        if size is None and kind != b"IHDR":
            raise _malformed()
        if kind == b"IHDR":
            size = file.unpack(">II")
        elif kind == b"acTL":
            frames = file.unpack(">I")[0]
        has_picture = has_picture or kind == b"IDAT"
        file.at = begin
        file.skip(length + 4)
        if kind == b"IEND":
            break
    if size is None or not all(0 < side < 2**31 for side in size) or not has_picture or not frames:
        raise _malformed()
    return _picture("png", size, frames)


def _picture(kind: str, size: tuple[int, ...], frames: int) -> Facts:
    track = {"kind": "video", "codec": kind, "width": size[0], "height": size[1]}
    return {
        "container": kind,
        "width": size[0],
        "height": size[1],
        "frames": frames,
        "tracks": [{**track, "frames": frames}],
    }


# JPEG

_FRAME_STARTS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length."""
_SCAN, _END, _FILL = 0xDA, 0xD9, 0xFF


def _jpeg(file: File) -> Facts:
    """Size from the first frame header, which stands before the first scan."""
    file.skip(2)
    while True:
        file.step()
        if file.take(1) != b"\xff":
            raise _malformed()
        marker = file.take(1)[0]
        while marker == _FILL:
            file.step()
            marker = file.take(1)[0]
        if marker in _BARE:
            continue
        if marker in {_SCAN, _END, 0}:
            raise _malformed()
        (length,) = file.unpack(">H")
        if marker in _FRAME_STARTS:
            _, height, width = file.unpack(">BHH")
            if not width or not height:
                raise _refused("media_unsupported")  # the height follows the scan
            return _picture("jpeg", (width, height), 1)
        file.skip(length - 2)


# WAV

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_SOUNDS: Final[Mapping[tuple[int, int], str]] = {
    (_PCM, 8): "pcm_u8",
    (_PCM, 16): "pcm_s16le",
    (_PCM, 24): "pcm_s24le",
    (_PCM, 32): "pcm_s32le",
    (_FLOAT, 32): "pcm_f32le",
    (_FLOAT, 64): "pcm_f64le",
    (_ALAW, 8): "pcm_alaw",
    (_MULAW, 8): "pcm_mulaw",
}


def _wav(file: File) -> Facts:
    """Length from the bytes of sound and the size of a sample frame, both stated."""
    file.skip(12)
    form: tuple[int, ...] | None = None
    while file.end - file.at >= 8:  # noqa: PLR2004 - the head of a chunk
        file.step()
        kind, length = file.take(4), file.unpack("<I")[0]
        begin = file.at
        if kind == b"fmt ":
            form = file.unpack("<HHIIHH")
            if form[0] == _EXTENSIBLE:
                file.skip(8)
                form = (*file.unpack("<H"), *form[1:])
        elif kind == b"data":
            if form is None or length > file.end - begin:
                raise _malformed()
            return _sound(form, length)
        file.at = begin
        file.skip(length + length % 2)
    raise _malformed()


def _sound(form: tuple[int, ...], length: int) -> Facts:
    code, channels, rate, _, frame_bytes, bits = form
    codec = _SOUNDS.get((code, bits))
    if codec is None:
        raise _refused("media_unsupported")
    if not channels or not rate or frame_bytes != channels * bits // 8 or length % frame_bytes:
        raise _malformed()
    samples = length // frame_bytes
    track = {"kind": "audio", "codec": codec, "sample_rate_hz": rate, "channels": channels}
    duration_ms = samples * 1000 // rate
    return {
        "container": "wav",
        "duration_ms": duration_ms,
        "tracks": [{**track, "samples": samples, "duration_ms": duration_ms}],
    }


# MP4 (ISO base media)

_UNITS: Final = struct.Struct(">II")


def _boxes(file: File, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the contents of each box between two offsets."""
    at = begin
    while at < end:
        file.step()
        file.at = at
        length, kind = file.unpack(">I")[0], file.take(4)
        if length == 1:
            length = file.unpack(">Q")[0]
        elif length == 0:
            length = end - at
        if length < file.at - at or length > end - at:
            raise _malformed()
        yield kind, file.at, at + length
        at += length


def _find(file: File, begin: int, end: int, *names: bytes) -> tuple[int, int] | None:
    """The contents of the first box of a name, inside the first of the name before, and so on."""
    for name in names:
        found = next((box[1:] for box in _boxes(file, begin, end) if box[0] == name), None)
        if found is None:
            return None
        begin, end = found
    return begin, end


def _need(file: File, begin: int, end: int, *names: bytes) -> tuple[int, int]:
    found = _find(file, begin, end, *names)
    if found is None:
        raise _malformed()
    return found


def _mp4(file: File) -> Facts:
    """Facts of a film whose index says all; one in fragments states no length up front."""
    movie: tuple[int, int] | None = None
    for kind, begin, end in _boxes(file, 0, file.end):
        if kind == b"moov":
            movie = movie or (begin, end)
        elif kind == b"moof":
            raise _refused("media_unsupported")
    if movie is None:
        raise _malformed()
    if _find(file, *movie, b"mvex") is not None:
        raise _refused("media_unsupported")
    tracks = [_track(file, b, e) for kind, b, e in list(_boxes(file, *movie)) if kind == b"trak"]
    if not tracks:
        raise _malformed()
    facts: Facts = {"container": "mp4", "duration_ms": _duration(file, *movie, b"mvhd")}
    shown = next((track for track in tracks if track["kind"] == "video"), None)
    if shown is not None:
        facts |= {name: shown[name] for name in ("width", "height", "frames")}
    return {**facts, "tracks": tracks}


def _duration(file: File, begin: int, end: int, *names: bytes) -> int:
    """Milliseconds, rounded down, of a header that states units a second and units."""
    file.at, _ = _need(file, begin, end, *names)
    long = file.unpack(">Bxxx")[0] == 1
    file.skip(16 if long else 8)
    scale = file.unpack(">I")[0]
    length = file.unpack(">Q" if long else ">I")[0]
    unknown = 2**64 - 1 if long else 2**32 - 1
    if not scale or length == unknown:
        raise _malformed()
    return int(length * 1000 // scale)


def _track(file: File, begin: int, end: int) -> Facts:
    media = _need(file, begin, end, b"mdia")
    file.at, _ = _need(file, *media, b"hdlr")
    file.skip(8)
    handler = file.take(4)
    table = _need(file, *media, b"minf", b"stbl")
    file.at, limit = _need(file, *table, b"stsd")
    file.skip(8)
    entry = file.at
    length, codec = file.unpack(">I")[0], file.take(4)
    if length > limit - entry or not codec.isascii() or not codec.decode("ascii").isprintable():
        raise _malformed()
    track: Facts = {"codec": codec.decode("ascii").strip()}
    duration_ms = _duration(file, *media, b"mdhd")
    file.at = entry + 8
    if handler == b"vide":
        file.skip(24)
        width, height = file.unpack(">HH")
        track |= {"kind": "video", "width": width, "height": height}
        track["frames"] = _samples(file, *table)
    elif handler == b"soun":
        file.skip(16)
        channels, rate = file.unpack(">H6xI")
        track |= {"kind": "audio", "channels": channels, "sample_rate_hz": rate >> 16}
        track["samples"] = _samples(file, *table)
    else:
        track["kind"] = "other"
    return {**track, "duration_ms": duration_ms}


def _samples(file: File, begin: int, end: int) -> int:
    """How many samples the table of times holds."""
    file.at, limit = _need(file, begin, end, b"stts")
    file.skip(4)
    (count,) = file.unpack(">I")
    if count * _UNITS.size > min(limit - file.at, MAX_TABLE_BYTES):
        raise _malformed()
    return sum(number for number, _ in _UNITS.iter_unpack(file.take(count * _UNITS.size)))

"""Join the pictures of a shot list into a silent film whose bytes depend on the input alone."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from theory_core import TheoryError, loads_strict
from theory_runtime import Config, OutputItem, ProcessorResult

NAME: Final = "compose"
VERSION: Final = "1.0.0"
SHOTLIST_SCHEMA: Final = "theory.shotlist.v1"
MAX_SHOTLIST_BYTES: Final = 1024 * 1024
MAX_SHOTS: Final = 60
FRAME_RATES: Final = (10, 20, 25, 50)
KEYFRAME_S: Final = 2
PNG_HEAD: Final = struct.Struct(">8s4x4sII")
STDERR_TAIL: Final = 2000
_SHOT_NAME: Final = re.compile(r"shot-[0-9]{3}\.png")

X264: Final = "threads=1:lookahead-threads=1:sliced-threads=0:cpu-independent=1:scenecut=0"
"""One thread, no shortcut of the processor at hand: the bytes must not depend on the host."""

COLOURS: Final = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=bitexact+accurate_rnd+full_chroma_int,"
    "format=yuv420p,"
    "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
)
"""Every picture is converted once, and says how, before it is repeated."""


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `media/compose@1`."""

    def run(params: dict[str, Any]) -> ProcessorResult:
        shotlist = read_shotlist(params.get("shotlist"))
        pictures = match(shotlist, params.get("frames"))
        folder = Path(config.work_dir).resolve()
        listing = folder / "shots.ffconcat"
        listing.write_text(_listing(shotlist, pictures, folder), encoding="utf-8")
        film = folder / "final.mp4"
        _encode(shotlist, listing, film, config)
        return ProcessorResult(
            outputs=[OutputItem("outputs/final.mp4", film, "video/mp4")],
            usage={},
            processor_info=_info(),
        )

    return run


def _info() -> str:
    import imageio_ffmpeg  # type: ignore[import-untyped]  # noqa: PLC0415 - looks for its binary at import

    return f"{NAME} {VERSION} (imageio-ffmpeg {imageio_ffmpeg.__version__})"


# Reading


def read_shotlist(value: object) -> dict[str, Any]:
    """The shot list in the artifact that `value` names.

    Raises `ERR_INPUTS` with `detail.reason`: `shotlist_missing`, `shotlist_too_large`,
    `shotlist_invalid`; JSON that is not strict keeps the reason of the parser.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("local_path"), str):
        raise _refused("shotlist_missing")
    with Path(value["local_path"]).open("rb") as file:
        raw = file.read(MAX_SHOTLIST_BYTES + 1)
    if len(raw) > MAX_SHOTLIST_BYTES:
        raise _refused("shotlist_too_large")
    try:
        shotlist = loads_strict(raw)
    except TheoryError as error:
        raise _refused(error.code) from error
    if not isinstance(shotlist, dict) or shotlist.get("schema") != SHOTLIST_SCHEMA:
        raise _refused("shotlist_invalid")
    fps, shots = shotlist.get("fps"), shotlist.get("shots")
    sizes = (shotlist.get("width"), shotlist.get("height"))
    if fps not in FRAME_RATES or not all(type(size) is int and size % 2 == 0 for size in sizes):
        raise _refused("shotlist_invalid")
    if not isinstance(shots, list) or not 1 <= len(shots) <= MAX_SHOTS:
        raise _refused("shotlist_invalid")
    if not all(_is_shot(shot, index, 1000 // fps) for index, shot in enumerate(shots)):
        raise _refused("shotlist_invalid")
    return shotlist


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _is_shot(shot: object, index: int, frame_ms: int) -> bool:
    """Whether a shot is named by its place and lasts a whole number of frames."""
    if not isinstance(shot, Mapping) or shot.get("id") != f"shot-{index:03d}":
        return False
    duration_ms = shot.get("duration_ms")
    return type(duration_ms) is int and duration_ms > 0 and duration_ms % frame_ms == 0


def match(shotlist: Mapping[str, Any], frames: object) -> list[Path]:
    """The pictures in the order given, which is the order of the shots.

    Names decide nothing, for the inputs' hash covers order and bytes alone; but a name that is
    another shot's is refused. Raises `ERR_INPUTS` with `detail.reason`: `frames_missing`,
    `frames_mismatch`, `frame_size`, `frame_not_png`.
    """
    if not isinstance(frames, Sequence) or isinstance(frames, str):
        raise _refused("frames_missing")
    if len(frames) != len(shotlist["shots"]):
        raise _refused("frames_mismatch")
    pictures: list[Path] = []
    for shot, frame in zip(shotlist["shots"], frames, strict=True):
        if not isinstance(frame, Mapping) or not isinstance(frame.get("local_path"), str):
            raise _refused("frames_missing")
        name = str(frame.get("path", "")).rpartition("/")[2]
        if _SHOT_NAME.fullmatch(name) and name != f"{shot['id']}.png":
            raise _refused("frames_mismatch")
        picture = Path(frame["local_path"])
        if _png_size(picture) != (shotlist["width"], shotlist["height"]):
            raise _refused("frame_size")
        pictures.append(picture)
    return pictures


def _png_size(picture: Path) -> tuple[int, int]:
    with picture.open("rb") as file:
        head = file.read(PNG_HEAD.size)
    if len(head) < PNG_HEAD.size:
        raise _refused("frame_not_png")
    signature, chunk, width, height = PNG_HEAD.unpack(head)
    if (signature, chunk) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        raise _refused("frame_not_png")
    return width, height


# Encoding


def _listing(shotlist: Mapping[str, Any], pictures: Sequence[Path], folder: Path) -> str:
    """The concat script: every picture for its time, and the last once more as an end mark.

    The pictures are linked under names of our own, so no name of an artifact is ever quoted.
    """
    lines = ["ffconcat version 1.0"]
    for shot, picture in zip(shotlist["shots"], pictures, strict=True):
        link = folder / f"{shot['id']}.png"
        link.unlink(missing_ok=True)
        link.symlink_to(picture.resolve())
        seconds = f"{shot['duration_ms'] // 1000}.{shot['duration_ms'] % 1000:03d}"
        lines += [f"file {link.name}", f"duration {seconds}"]
    lines += [lines[-2], ""]
    return "\n".join(lines)


def _frames(shotlist: Mapping[str, Any]) -> int:
    """How many pictures the film has."""
    total_ms: int = sum(shot["duration_ms"] for shot in shotlist["shots"])
    return total_ms * int(shotlist["fps"]) // 1000


def _arguments(shotlist: Mapping[str, Any], listing: Path, film: Path) -> Iterator[str]:
    """What ffmpeg is asked: constant rate, fixed groups of pictures, no trace of time or host."""
    fps = shotlist["fps"]
    yield from ("-hide_banner", "-nostdin", "-nostats", "-v", "error", "-xerror", "-y")
    yield from ("-fflags", "+bitexact", "-threads", "1", "-filter_threads", "1")
    yield from ("-f", "concat", "-safe", "1", "-i", str(listing))
    yield from (
        "-an",
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
        "-frames:v",
        str(_frames(shotlist)),
    )
    yield from ("-vf", f"{COLOURS},fps={fps}")
    yield from ("-c:v", "libx264", "-preset", "veryfast", "-tune", "stillimage", "-crf", "20")
    yield from ("-g", str(KEYFRAME_S * fps), "-keyint_min", str(KEYFRAME_S * fps))
    yield from ("-x264-params", X264, "-threads", "1", "-flags:v", "+bitexact")
    yield from ("-fflags", "+bitexact", "-movflags", "+faststart", "-f", "mp4")
    yield from ("-progress", "pipe:1", str(film))


def _encode(shotlist: Mapping[str, Any], listing: Path, film: Path, config: Config) -> None:
    """Run ffmpeg as a child in our own process group, so it ends when we are ended."""
    import imageio_ffmpeg  # noqa: PLC0415 - looks for its binary at import

    command = [imageio_ffmpeg.get_ffmpeg_exe(), *_arguments(shotlist, listing, film)]
    complaints = film.with_suffix(".log")
    with (
        complaints.open("wb") as log,
        subprocess.Popen(  # noqa: S603 - a fixed binary, arguments of our own making
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=film.parent
        ) as process,
    ):
        try:
            written = _follow(process.stdout, _frames(shotlist), config)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0 or written != _frames(shotlist):
        print(complaints.read_bytes()[-STDERR_TAIL:].decode("utf-8", "replace"), file=sys.stderr)  # noqa: T201
        raise TheoryError("ERR_INTERNAL", "internal error", {"reason": "ffmpeg_failed"})


def _follow(stdout: IO[bytes] | None, total: int, config: Config) -> int:
    """Turn ffmpeg's own count of frames into progress, until it closes its output; the last one."""
    written = 0
    for line in stdout or ():
        name, _, value = line.strip().partition(b"=")
        if name == b"frame" and value.isdigit():
            written = int(value)
            config.progress("Event", {"phase": "encode", "progress": 1000 * written // total})
    return written

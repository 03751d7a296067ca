"""Turn a script into a list of shots: one for each line, timed by its reading length."""

from __future__ import annotations

import colorsys
import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from theory_core import TheoryError, canonicalize, loads_strict
from theory_runtime import Config, OutputItem, ProcessorResult

NAME: Final = "shotlist"
VERSION: Final = "1.0.0"
SCHEMA: Final = "theory.shotlist.v1"
SCRIPT_SCHEMA: Final = "theory.script.v1"
MAX_SCRIPT_BYTES: Final = 1024 * 1024
MAX_SHOTS: Final = 60
MAX_SENTENCE_CHARS: Final = 400

BASE_MS: Final = 1100
MS_PER_UNIT: Final = 48
SHORTEST_MS: Final = 1600
LONGEST_MS: Final = 6400
LEAST_MS: Final = 400
"""No shot is shorter, however tight `max_total_ms` is."""
DEFAULT_TOTAL_MS: Final = 60_000


def make_runner(config: Config) -> Callable[[dict[str, Any]], ProcessorResult]:
    """The runner; `params` are those of the registry's `media/shotlist@1`."""
    del config  # the same work in both modes

    def run(params: dict[str, Any]) -> ProcessorResult:
        shotlist = arrange(
            read_script(params.get("script")),
            fps=params.get("fps", 25),
            width=params.get("width", 1280),
            height=params.get("height", 720),
            max_total_ms=params.get("max_total_ms", DEFAULT_TOTAL_MS),
        )
        body = canonicalize(shotlist)
        return ProcessorResult(
            outputs=[OutputItem("outputs/shotlist.json", body, "application/json")],
            usage={},
            processor_info=f"{NAME} {VERSION}",
        )

    return run


def read_script(value: object) -> dict[str, Any]:
    """The script that `value` is, or that the artifact it names holds.

    Raises `ERR_INPUTS` with `detail.reason`: `script_missing`, `script_too_large`,
    `script_invalid`; JSON that is not strict keeps the reason of the parser.
    """
    if not isinstance(value, Mapping):
        raise _refused("script_missing")
    script: Any = dict(value)
    if "local_path" in value:
        with Path(value["local_path"]).open("rb") as file:
            raw = file.read(MAX_SCRIPT_BYTES + 1)
        if len(raw) > MAX_SCRIPT_BYTES:
            raise _refused("script_too_large")
        try:
            script = loads_strict(raw)
        except TheoryError as error:
            raise _refused(error.code) from error
    if not isinstance(script, dict) or script.get("schema") != SCRIPT_SCHEMA:
        raise _refused("script_invalid")
    lines, texts = script.get("lines"), (script.get("title"), script.get("source"))
    if not isinstance(lines, list) or not 1 <= len(lines) <= MAX_SHOTS:
        raise _refused("script_invalid")
    if not all(isinstance(line, str) and _fits(line) for line in lines):
        raise _refused("script_invalid")
    if not all(isinstance(text, str) for text in texts):
        raise _refused("script_invalid")
    return script


def _refused(reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", "invalid inputs payload", {"reason": reason})


def _fits(line: str) -> bool:
    return bool(line.strip()) and len(line) <= MAX_SENTENCE_CHARS


def arrange(
    script: Mapping[str, Any], *, fps: int, width: int, height: int, max_total_ms: int
) -> dict[str, Any]:
    """The shot list of a script: sizes in pixels, times in integer milliseconds.

    Law: every duration is a whole number of frames, so nothing is rounded later;
    the sum is at most `max_total_ms`, unless every shot is down to `LEAST_MS`.
    """
    lines: list[str] = script["lines"]
    durations = _durations(lines, step_ms=1000 // fps, max_total_ms=max_total_ms)
    shots = [
        {
            "id": f"shot-{index:03d}",
            "index": index,
            "sentence": line,
            "duration_ms": duration_ms,
            "palette": palette(script["source"], index),
        }
        for index, (line, duration_ms) in enumerate(zip(lines, durations, strict=True))
    ]
    return {
        "schema": SCHEMA,
        "title": script["title"],
        "source": script["source"],
        "fps": fps,
        "width": width,
        "height": height,
        "total_ms": sum(durations),
        "shots": shots,
    }


def _durations(lines: list[str], *, step_ms: int, max_total_ms: int) -> list[int]:
    wanted = [
        min(LONGEST_MS, max(SHORTEST_MS, BASE_MS + MS_PER_UNIT * _reading_units(line)))
        for line in lines
    ]
    total = sum(wanted)
    if total > max_total_ms:
        wanted = [max(LEAST_MS, ms * max_total_ms // total) for ms in wanted]
        spare = sum(wanted) - max_total_ms
        for index, ms in enumerate(wanted):
            cut = min(max(spare, 0), ms - LEAST_MS)
            wanted[index] -= cut
            spare -= cut
    return [max(LEAST_MS, ms) // step_ms * step_ms for ms in wanted]


def _reading_units(line: str) -> int:
    """Characters as a reader spends time on them: an ideograph counts as three letters."""
    return sum(3 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def palette(source: str, index: int) -> dict[str, str]:
    """Colours of one shot, `#rrggbb`: a dark gradient `from`-`to`, `accent`, `ink` for text.

    The source's digest gives the hue, and the shots of one film wander through its neighbours.
    """
    seed = hashlib.sha256(json.dumps([source, index]).encode()).digest()
    home = int.from_bytes(hashlib.sha256(source.encode()).digest()[:2]) % 360
    hue = (home + index * 23 + seed[0] % 9) % 360
    return {
        "from": _colour(hue, 14 + seed[1] % 6, 52 + seed[2] % 16),
        "to": _colour((hue + 36 + seed[3] % 24) % 360, 9 + seed[4] % 5, 58 + seed[5] % 16),
        "accent": _colour((hue + 168 + seed[6] % 24) % 360, 80, 84 + seed[7] % 12),
        "ink": _colour(hue, 96, 40),
    }


def _colour(hue: int, lightness: int, saturation: int) -> str:
    """`#rrggbb` of a hue in degrees and two percentages."""
    parts = colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)

"""The one place that configures logging: one JSON object a line on stderr."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog

from theory_api.observability.redaction import Redactor

LINE_CAP: Final = 64 * 1024
"""Bytes of one line, its newline included."""

_EVENT_CAP: Final = 1024
_FIRST: Final = ("ts", "level", "event", "version")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_QUICK: Final = msgspec.json.Encoder()

_Event = MutableMapping[str, Any]


def configure(
    *, level: str, version: str, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Send every event of this process, other libraries' too, to `stream` (stderr).

    Called once by the composition root, before anything logs. `secrets` are values that must
    never appear, whatever they are found in.
    """
    lines = Lines(stream or sys.stderr)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            Line(version=version, redactor=Redactor(secrets)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(level=max(_LEVELS[level], logging.WARNING)))


class Lines:
    """Writes finished lines to a stream.

    Those of one turn of the event loop are written together, with a warning or worse at the
    latest. Law: a log that cannot be written stops nothing.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def info(self, line: str) -> None:
        """Write a line with those that follow it at once."""
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if len(self._waiting) == 1 or self._loop is not loop:
            self._loop = loop
            loop.call_soon(self.flush)

    debug = info

    def error(self, line: str) -> None:
        """Write a line, and every line before it."""
        self._waiting.append(line)
        self.flush()

    warning = error

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, []
        if lines:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()


class Line:
    """Turns an event into its line. Law: one event, one line, whatever its values hold."""

    def __init__(self, *, version: str, redactor: Redactor) -> None:
        self._version = version
        self._redactor = redactor

    def __call__(self, _logger: object, _method: str, event: _Event) -> str:
        """The line without its newline: ASCII only, so no control byte reaches a terminal."""
        clean = self._redactor.mapping(event)
        clean = {"ts": _now(), "version": self._version} | clean
        ordered = {name: clean.pop(name) for name in _FIRST if name in clean} | clean
        line = _encode(ordered)
        return line if len(line) < LINE_CAP else _cut(ordered)


def _now() -> str:
    """UTC wall clock with 27 bytes."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _cut(values: dict[str, Any]) -> str:
    """A line that fits: the widest members give way first, a long event name last."""
    for name in sorted(values, key=lambda member: _width(values[member]), reverse=True):
        if name not in _FIRST:
            values[name] = f"<{_width(values[name])} bytes left out>"
            line = _encode(values)
            if len(line) < LINE_CAP:
                return line
    kept = {name: str(values[name])[:_EVENT_CAP] for name in _FIRST if name in values}
    return _encode(kept | {"left_out": len(values) - len(kept)})


def _encode(values: dict[str, Any]) -> str:
    try:
        line = _QUICK.encode(values)
    except (OverflowError, UnicodeEncodeError):  # Beyond 64 bits; half a surrogate pair.
        return _ENCODER.encode(values)
    return line.decode() if line.isascii() else _ENCODER.encode(values)


def _width(value: Any) -> int:  # noqa: ANN401
    return len(_encode({"": value}))


class _Bridge(logging.Handler):
    """Events of libraries that use the standard logging."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        name = record.levelname.lower() if record.levelname.lower() in _LEVELS else "error"
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        facts: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if exc_info is not None:
            facts["exc_info"] = exc_info
        getattr(logger, name)("library.log", **facts)

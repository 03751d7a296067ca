"""The one place that configures logging: one JSON object a line on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog

from theory_api.observability.redaction import Redactor

LINE_CAP: Final = 64 * 1024
"""Bytes of one line, its newline included."""

_EVENT_CAP: Final = 1024
_FIRST: Final = ("ts", "level", "event", "version")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))

_Event = MutableMapping[str, Any]


def configure(
    *, level: str, version: str, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Send every event of this process, other libraries' too, to `stream` (stderr).

    Called once by the composition root, before anything logs. `secrets` are values that must
    never appear, whatever they are found in.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            Line(version=version, redactor=Redactor(secrets)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: structlog.PrintLogger(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(level=max(_LEVELS[level], logging.WARNING)))


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
    return _ENCODER.encode(values)


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

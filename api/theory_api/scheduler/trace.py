"""What a run looked like from outside: lifecycle and frames, bodies by digest, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from theory_core import LIMITS, canonicalize, digest

CAP: Final = 4 * 1024 * 1024
"""Bytes of one trace; what lies between its beginning and its end is counted, not kept."""
_TAIL: Final = 1024 * 1024
_CUT: Final = 256
"""Room for the line that says what was cut."""


class Trace:
    """Collects the lines of `/artifacts/execution/{execution_id}/trace.jsonl`.

    Law: the first lines and the last are there, however many come; what was cut is told in its
    place.
    """

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._room = CAP - _TAIL - _CUT
        self._tail: deque[bytes] = deque()
        self._size = 0
        self._cut_lines = 0
        self._cut_bytes = 0

    def frame(self, frame: Mapping[str, Any]) -> None:
        """Note a server frame; token text and frame data by digest."""
        kind, content = frame["kind"], dict(frame["content"])
        if kind == "Token":
            text = content.pop("text").encode()
            content |= {"digest": digest(text), "size_bytes": len(text)}
        elif kind == "Frame":
            data = content.pop("data").encode()
            content |= {"digest": digest(data), "size_bytes": len(data)}
        elif kind == "RunResult":
            content = {"digest": digest(canonicalize(content))}
        elif kind == "Log":
            text = content.pop("message").encode()
            content |= {"digest": digest(text), "size_bytes": len(text)}
        self._add({"frame": kind, "seq": frame["seq"], "content": content})

    def event(self, phase: str, **facts: str | int) -> None:
        """Note a step of the orchestrator."""
        self._add({"event": phase, **facts})

    def _add(self, line: Mapping[str, Any]) -> None:
        body = canonicalize(line) + b"\n"
        if len(body) > LIMITS["line_bytes"]:
            content = canonicalize(line["content"])
            told = {"digest": digest(content), "size_bytes": len(content)}
            body = canonicalize({**line, "content": told}) + b"\n"
        if not self._tail and len(body) <= self._room:
            self._room -= len(body)
            self._head.append(body)
            return
        self._tail.append(body)
        self._size += len(body)
        while self._size > _TAIL:
            gone = self._tail.popleft()
            self._size -= len(gone)
            self._cut_lines += 1
            self._cut_bytes += len(gone)

    def encode(self) -> bytes:
        """NDJSON; where lines were cut, a line says how many, and of how many bytes."""
        cut = {"event": "trace.cut", "lines": self._cut_lines, "size_bytes": self._cut_bytes}
        said = [canonicalize(cut) + b"\n"] if self._cut_lines else []
        return b"".join((*self._head, *said, *self._tail))

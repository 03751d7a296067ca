"""What a run looked like from outside: lifecycle and frames, bodies by digest, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from theory_core import LIMITS, canonicalize, digest

CAP: Final = 4 * 1024 * 1024
"""Bytes of one trace; what comes after is counted, not kept."""


class Trace:
    """Collects the lines of `/artifacts/execution/{execution_id}/trace.jsonl`."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped = 0

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
        if len(body) > LIMITS["line_bytes"] or self._size + len(body) > CAP:
            self._dropped += 1
            return
        self._lines.append(body)
        self._size += len(body)

    def encode(self) -> bytes:
        """NDJSON; its last line says how many lines were not kept, if any were not."""
        lines = list(self._lines)
        if self._dropped:
            lines.append(canonicalize({"event": "trace.dropped", "lines": self._dropped}) + b"\n")
        return b"".join(lines)

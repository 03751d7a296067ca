"""The end of what a process wrote on stderr: bounded while it writes, clean when it is read."""

from collections.abc import Iterable, Mapping
from typing import Final

from theory_core import LIMITS
from theory_runtime.redaction import redact

KEPT_BYTES: Final = 16 * 1024
"""More than is shown, so that a credential cut in two by the cap is still recognised."""


class Tail:
    """Keeps the newest bytes of a stream, however much flows by."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._kept += data
        if len(self._kept) > 2 * KEPT_BYTES:
            del self._kept[:-KEPT_BYTES]

    def read(self, *, secrets: Iterable[str] = (), places: Mapping[str, str] | None = None) -> str:
        """At most 2 KiB of redacted text; `places` are folders of this host and their names."""
        text = bytes(self._kept[-KEPT_BYTES:]).decode("utf-8", "replace")
        for place, name in (places or {}).items():
            text = text.replace(place, name)
        text = redact(text, secrets).strip()
        cut = text.encode("utf-8")[-LIMITS["stderr_tail_bytes"] :]
        return cut.decode("utf-8", "ignore")

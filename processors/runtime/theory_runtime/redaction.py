"""Take credentials out of text that leaves the process."""

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "[redacted]"

_SHORTEST: Final = 4

# Law: no pattern takes more than linear time; what is matched here was written by strangers.
_SHAPES: Final = (
    re.compile(r"(?i)\b(?:bearer|basic)\s+\S{4,}"),
    re.compile(r"\bsk-[\w-]{8,}"),
    re.compile(r"-----BEGIN [A-Z ]*KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[\w-]{8,2048}\.[\w-]{4,}\.[\w-]*"),
)
_USERINFO: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,31}://)[^\s/@]+@")
_NAMED: Final = re.compile(
    r"(?i)((?:api[_-]?key|secret|password|passwd|authorization|access[_-]?key|token)"
    r"[\"']?\s*[:=]\s*)(?!\[redacted\])(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)"
)
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def redact(text: str, known: Iterable[str] = ()) -> str:
    """The text without `known` secrets, shapes of credentials and control characters."""
    for value in sorted(known, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
    text = _CONTROL.sub("", text)
    for shape in _SHAPES:
        text = shape.sub(MASK, text)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return _NAMED.sub(rf"\1{MASK}", text)

"""Take credentials out of text that leaves the process."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

MASK: Final = "[redacted]"

LEAST_BYTES: Final = 16
"""A secret that is shorter may stand in bytes by chance; they are not searched for it."""

_SHORTEST: Final = 4
_LEAST_CHARS: Final = 8
"""A secret that is shorter may be a part of an honest word: outside of logs it is let be."""

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


def mask(value: Any, known: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    """A JSON value, none of whose texts and names holds a `known` secret; else it is the same."""
    if not known:
        return value
    if isinstance(value, str):
        for secret in sorted(known, key=len, reverse=True):
            if len(secret) >= _LEAST_CHARS:
                value = value.replace(secret, MASK)
        return value
    if isinstance(value, Mapping):
        return {mask(name, known): mask(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [mask(item, known) for item in value]
    return value


def tells(value: Any, known: Sequence[str]) -> bool:  # noqa: ANN401 - any JSON
    """Whether a JSON value holds a secret anywhere, in letters of whichever case."""
    if isinstance(value, str):
        folded = value.casefold()
        return any(len(one) >= _LEAST_CHARS and one.casefold() in folded for one in known)
    if isinstance(value, Mapping):
        return any(tells(name, known) or tells(item, known) for name, item in value.items())
    return isinstance(value, list) and any(tells(item, known) for item in value)


def holds(data: bytes, known: Sequence[str]) -> bool:
    """Whether bytes hold a secret as it is."""
    values = (secret.encode() for secret in known)
    return any(len(value) >= LEAST_BYTES and value in data for value in values)

"""Remove what nobody may read from values on their way out: logs, stderr tails, messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

MASK: Final = "[redacted]"

_WORDS: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SENSITIVE: Final = frozenset(
    {
        "auth",
        "authorization",
        "bearer",
        "cookie",
        "credential",
        "credentials",
        "passphrase",
        "passwd",
        "password",
        "secret",
        "secrets",
        "token",
    }
)
_SENSITIVE_PAIRS: Final = frozenset({("api", "key"), ("private", "key"), ("access", "key")})

_TEXTS: Final = (
    re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{8,}"),
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
)
_USERINFO: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,31}://)[^\s/@'\"]+@")
_ASSIGNED: Final = re.compile(
    r"(?i)((?:api[_-]?key|private[_-]?key|access[_-]?key|authorization|password|passwd"
    r"|secret|token)[\"']?\s*[=:]\s*)(?!\[redacted\])"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&}\])]+)"
)
_HARMLESS: Final = re.compile(r"(?:b3:|sha256:)?[A-Za-z0-9._/@-]*")
"""Texts that no shape above fits, keys that begin with `sk-` apart: no space, no `=`, no `://`."""

_DIGEST: Final = re.compile(r"(?:b3|sha256):[0-9a-f]{64}")
_SHORTEST_SECRET: Final = 6
_DEPTH: Final = 16
_TEXT_CAP: Final = 16 * 1024
_NAMES: Final = 256
_NAME_CAP: Final = 64
"""Names of members that are judged once, and how long they may be."""


class Redactor:
    """Knows what to hide: sensitive names, shapes of credentials, and the given secret values.

    Digests (`b3:…`, `sha256:…`) and plain numbers stay readable, whatever they are called.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._names: dict[str, tuple[str, bool]] = {}
        known = sorted({value for value in secrets if len(value) >= _SHORTEST_SECRET}, key=len)
        self._known = tuple(reversed(known))

    def text(self, value: str) -> str:
        """`value` without credentials."""
        for secret in self._known:
            value = value.replace(secret, MASK)
        if "sk-" not in value and _HARMLESS.fullmatch(value):
            return value
        for shape in _TEXTS:
            value = shape.sub(MASK, value)
        value = _USERINFO.sub(rf"\1{MASK}@", value)
        return _ASSIGNED.sub(rf"\1{MASK}", value)

    def value(self, value: Any, depth: int = 0) -> Any:  # noqa: ANN401
        """A plain JSON value in place of any value, credentials removed at every level."""
        if type(value) is str:
            return _short(self.text(value))
        match value:
            case None | bool() | int() | float():
                return value
            case bytes() | bytearray() | memoryview():
                return f"<{len(value)} bytes>"
            case Mapping() if depth < _DEPTH:
                return self.mapping(value, depth + 1)
            case list() | tuple() | set() | frozenset() if depth < _DEPTH:
                return [self.value(item, depth + 1) for item in value]
            case BaseException():
                return _short(self.text(f"{type(value).__name__}: {value}"))
            case str() | Path():
                return _short(self.text(str(value)))
            case _:
                return f"<{type(value).__name__}>"

    def mapping(self, values: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
        """The same members, those with sensitive names masked."""
        clean: dict[str, Any] = {}
        for name, value in values.items():
            shown, hidden = self._names.get(name) or self._name(str(name))
            clean[shown] = MASK if hidden and _hideable(value) else self.value(value, depth)
        return clean

    def _name(self, name: str) -> tuple[str, bool]:
        """A member's name as it is shown, and whether what it holds is hidden."""
        judged = (self.text(name), sensitive(name))
        if len(self._names) < _NAMES and len(name) <= _NAME_CAP:
            self._names[name] = judged
        return judged


def sensitive(name: str) -> bool:
    """Whether a member of this name holds a secret; `tokens`, a count, does not."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not _SENSITIVE.isdisjoint(words) or "apikey" in words:
        return True
    return any(pair in _SENSITIVE_PAIRS for pair in pairwise(words))


def _hideable(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return False
    return value is not None and not isinstance(value, bool | int | float)


def _short(text: str) -> str:
    if len(text) <= _TEXT_CAP:
        return text
    return f"{text[:_TEXT_CAP]}… ({len(text)} characters)"

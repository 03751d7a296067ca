"""What a run was given in secret, kept out of all that is noted of it or told about it.

The runtime of a processor does the same, nearer to where it happens; this is for runtimes that do
not, and for one that a processor has changed. Values are compared as they are: what is encoded, or
told in pieces, is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from theory_api.domain.registry import ProcessorSpec
from theory_api.observability.redaction import MASK
from theory_api.scheduler.context import Context

_LEAST_CHARS: Final = 8
"""A secret that is shorter may be a part of an honest word; the runtime draws the same line."""


class Discretion:
    """The secrets of one run; a run without any is believed whatever it says."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        stripped = {value.rstrip("\r\n") for value in values}
        kept = (value for value in stripped if len(value) >= _LEAST_CHARS)
        self._values = tuple(sorted(kept, key=len, reverse=True))
        self._folded = tuple(value.casefold() for value in self._values)

    @classmethod
    def of(cls, context: Context, spec: ProcessorSpec, mode: str) -> Discretion:
        """That of a processor's run: what its spec declares and this process knows."""
        found = (context.secret(name) for name in spec.secrets(mode))
        return cls(value for value in found if value)

    def mask(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The same JSON value without a secret in any of its texts and names."""
        if not self._values:
            return value
        if isinstance(value, str):
            for secret in self._values:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, Mapping):
            return {self.mask(name): self.mask(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask(item) for item in value]
        return value

    def tells(self, value: Any) -> bool:  # noqa: ANN401 - any JSON
        """Whether a JSON value holds a secret, in letters of whichever case."""
        if not self._values:
            return False
        if isinstance(value, str):
            folded = value.casefold()
            return any(secret in folded for secret in self._folded)
        if isinstance(value, Mapping):
            return any(self.tells(name) or self.tells(item) for name, item in value.items())
        return isinstance(value, list | tuple) and any(map(self.tells, value))

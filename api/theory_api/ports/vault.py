"""Where a cloud keeps the secrets of one environment: values go in, and never come out."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Held(Enum):
    """How a secret stands in a vault."""

    THERE = "there"
    MISSING = "missing"
    KEYLESS = "without its key"
    """Something is called so, and does not hold what processors look for in it."""
    NOWHERE = "no such environment"


class Vault(Protocol):
    """Secrets by the names that the registry lists.

    Law: nothing reads a value back. All raise `TheoryError`: `ERR_ENDPOINT_MISSING` (no such
    environment), `ERR_MODAL_INVOCATION` (it refuses, does not answer in time, or knows no such
    credentials); neither repeats a value.
    """

    async def standing(self, name: str) -> Held:
        """Whether a secret is there; an environment that is not there is an answer too."""

    async def put(self, name: str, value: str) -> bool:
        """Keep a value under a name, in the place of one that is there; whether it is a new one."""

    async def close(self) -> None:
        """Let go of the connection; idempotent."""

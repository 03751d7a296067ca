"""The catalogue of error codes, as the native core declares it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from theory_core import _core


class ErrorCode(NamedTuple):
    """What the catalogue says about one code.

    `status` is its one HTTP status; `retryable` whether the same request may succeed later;
    `summary` what happened; `remedy` what the user should do. Source: spec, errors.
    """

    code: str
    status: int
    retryable: bool
    summary: str
    remedy: str


ERROR_CODES: Final[Mapping[str, ErrorCode]] = MappingProxyType(
    {row[0]: ErrorCode(*row) for row in _core.CATALOGUE}
)
"""Every code by its text, in the order of the specification."""

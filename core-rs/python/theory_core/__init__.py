"""Byte rules of Theory: what two strangers must compute alike.

Canonical JSON, digests, WorldPaths, selectors, the event chain and its verifier. No dependencies.
"""

from types import MappingProxyType
from typing import Final

from theory_core import _core
from theory_core._core import (
    FACETS,
    HASH_SCHEMA,
    UNICODE,
    Hasher,
    Selector,
    WorldPath,
    canonicalize,
    canonicalize_json,
    check_outputs,
    check_writable,
    digest,
    digest_file,
    expand_prefix,
    inputs_hash,
    is_name,
    loads_strict,
    resolve_outputs,
)
from theory_core.error import TheoryError

LIMITS: Final = MappingProxyType(_core.LIMITS)

__all__ = [
    "FACETS",
    "HASH_SCHEMA",
    "LIMITS",
    "UNICODE",
    "Hasher",
    "Selector",
    "TheoryError",
    "WorldPath",
    "canonicalize",
    "canonicalize_json",
    "check_outputs",
    "check_writable",
    "digest",
    "digest_file",
    "expand_prefix",
    "inputs_hash",
    "is_name",
    "loads_strict",
    "resolve_outputs",
]

"""Byte rules of Theory: what two strangers must compute alike.

Canonical JSON, digests, WorldPaths, selectors, the event chain and its verifier. No dependencies.
"""

from types import MappingProxyType
from typing import Final

from theory_core import _core
from theory_core._core import (
    EVENT_VERSION,
    FACETS,
    HASH_SCHEMA,
    UNICODE,
    Chain,
    Hasher,
    Selector,
    WorldPath,
    canonicalize,
    canonicalize_json,
    check_outputs,
    check_writable,
    digest,
    digest_file,
    event_hash,
    execution_id,
    expand_prefix,
    inputs_hash,
    is_name,
    loads_strict,
    resolve_outputs,
)
from theory_core.catalogue import ERROR_CODES, ErrorCode
from theory_core.error import TheoryError
from theory_core.verifier import Fault, Report, verify

LIMITS: Final = MappingProxyType(_core.LIMITS)

__all__ = [
    "ERROR_CODES",
    "EVENT_VERSION",
    "FACETS",
    "HASH_SCHEMA",
    "LIMITS",
    "UNICODE",
    "Chain",
    "ErrorCode",
    "Fault",
    "Hasher",
    "Report",
    "Selector",
    "TheoryError",
    "WorldPath",
    "canonicalize",
    "canonicalize_json",
    "check_outputs",
    "check_writable",
    "digest",
    "digest_file",
    "event_hash",
    "execution_id",
    "expand_prefix",
    "inputs_hash",
    "is_name",
    "loads_strict",
    "resolve_outputs",
    "verify",
]

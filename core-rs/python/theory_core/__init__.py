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
    RUN_SUBPROTOCOL,
    UNICODE,
    Chain,
    Hasher,
    RunProtocol,
    Selector,
    WorldPath,
    canonicalize,
    canonicalize_json,
    check_outputs,
    check_writable,
    digest,
    digest_file,
    encode_frame,
    error_envelope,
    event_hash,
    execution_id,
    expand_prefix,
    inputs_hash,
    is_name,
    loads_strict,
    resolve_outputs,
    success_envelope,
    validate_envelope,
    validate_frame,
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
    "RUN_SUBPROTOCOL",
    "UNICODE",
    "Chain",
    "ErrorCode",
    "Fault",
    "Hasher",
    "Report",
    "RunProtocol",
    "Selector",
    "TheoryError",
    "WorldPath",
    "canonicalize",
    "canonicalize_json",
    "check_outputs",
    "check_writable",
    "digest",
    "digest_file",
    "encode_frame",
    "error_envelope",
    "event_hash",
    "execution_id",
    "expand_prefix",
    "inputs_hash",
    "is_name",
    "loads_strict",
    "resolve_outputs",
    "success_envelope",
    "validate_envelope",
    "validate_frame",
    "verify",
]

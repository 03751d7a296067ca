"""What a run leaves as evidence, for success and failure alike."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from theory_core import HASH_SCHEMA, canonicalize
from theory_runtime.order import Order

BY_PROCESSOR: Final = "processor"
BY_SUPERVISOR: Final = "supervisor"


def default_info(ref: str) -> str:
    """`name version (runtime)` of a processor that does not say it; for servers, not workers."""
    name, _, number = ref.partition("@")
    return f"{name} {number} (theory-runtime {_version()})"


@cache
def _version() -> str:
    """Asked once in a server: each worker would spend an eighth of its start on it."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - as above

    try:
        return version("theory-runtime")
    except PackageNotFoundError:
        return "unpackaged"


def build(
    order: Order,
    *,
    inputs_hash: str,
    written_by: str,
    duration_ms: int,
    processor_info: str,
    usage: Mapping[str, int] | None = None,
    outputs_index: str | None = None,
    image_id: str | None = None,
) -> bytes:
    """Canonical receipt; one with an outputs index is that of a success (spec: receipts).

    It names the image by the digest that the caller pinned, else by its id, where that is known.
    """
    fields: dict[str, Any] = {
        "execution_id": order.execution_id,
        "processor_ref": order.ref,
        "env_fingerprint": order.fingerprint,
        "inputs_hash": inputs_hash,
        "hash_schema": HASH_SCHEMA,
        "processor_info": processor_info,
        "mode": order.mode,
        "status": "error" if outputs_index is None else "success",
        "registry_snapshot": order.payload["registry_snapshot"],
        "written_by": written_by,
        "usage": dict(usage or {}),
        "timestamp_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "duration_ms": duration_ms,
    }
    if outputs_index is not None:
        fields["outputs_index"] = outputs_index
    if order.expected_oci is not None:
        fields["image_digest"] = order.expected_oci
    elif image_id is not None:
        fields["image_id"] = image_id
    return canonicalize(fields)

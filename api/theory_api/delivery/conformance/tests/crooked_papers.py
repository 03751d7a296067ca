"""What a run leaves, envelope and receipt, right but for the one fault that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from theory_api.delivery.conformance.sample import hash_of
from theory_core import (
    HASH_SCHEMA,
    canonicalize,
    digest,
    error_envelope,
    success_envelope,
)

REF = "test/crooked@1"
FINGERPRINT = "cpu:1;memory:1Gi;platform:amd64;runtime:python3"


IMAGE = "sha256:" + "2" * 64
"""What this server says that it is."""


def ack(fault: str, name: str, state: str) -> str:
    """The greeting of a connection."""
    content = {"execution_id": name, "state": state, "image_digest": IMAGE}
    if fault == "unsaid.ack":
        del content["image_digest"]
    return canonicalize({"kind": "Ack", "seq": 0, "content": content}).decode()


def receipt(
    fault: str, name: str, payload: Mapping[str, Any], index: bytes | None
) -> dict[str, Any]:
    """The receipt of a run; without an index that of a failure."""
    lies = fault == "errors.receipt"
    fields: dict[str, Any] = {
        "execution_id": name,
        "processor_ref": "test/other@1" if fault == "receipt.fields" else REF,
        "env_fingerprint": payload["env_fingerprint"],
        "inputs_hash": hash_of(payload["inputs"]["params"]),
        "hash_schema": HASH_SCHEMA,
        "processor_info": "crooked 1 (test)",
        "mode": payload["mode"],
        "status": "error" if index is None and not lies else "success",
        "registry_snapshot": payload["registry_snapshot"],
        "written_by": "processor",
        "usage": {},
        "timestamp_utc": "2026-01-01T00:00:00.000000Z",
        "duration_ms": 1,
    }
    if "expected_oci" in payload and fault not in {"environment.pinned", "unsaid.receipt"}:
        fields["image_digest"] = payload["expected_oci"]
    if fault == "receipt.inputs":
        fields["inputs_hash"] = digest(b"")
    if index is not None and fault != "unindexed":
        fields["outputs_index"] = digest(b"" if fault == "receipt.index" else index)
    return fields


def success(
    fault: str, name: str, payload: Mapping[str, Any], entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """The envelope of a success."""
    inside = [entry for entry in entries if entry["path"].startswith(payload["write_prefix"])]
    text = success_envelope(
        name, inside, write_prefix=payload["write_prefix"], env_fingerprint=FINGERPRINT
    )
    envelope: dict[str, Any] = json.loads(text)
    envelope["outputs"] = entries
    if fault == "outputs.sorted":
        envelope["outputs"] = entries[::-1]
    if fault == "index.path":
        envelope["index_path"] = "/artifacts/outputs.json"
    if fault == "envelope.valid":
        envelope["host"] = "here"
    if fault == "envelope.fingerprint":
        envelope["meta"]["env_fingerprint"] = "cpu:2;memory:1Gi;platform:amd64;runtime:python3"
    if "expected_oci" in payload and fault != "unsaid.envelope":
        envelope["meta"]["image_digest"] = payload["expected_oci"]
    if fault == "envelope.digest" and "expected_oci" not in payload:
        envelope["meta"]["image_digest"] = "sha256:" + "1" * 64
    return envelope


def failure(fault: str, name: str, payload: Mapping[str, Any], code: str) -> dict[str, Any]:
    """The envelope of an error."""
    text = error_envelope(name, code, env_fingerprint=payload["env_fingerprint"])
    envelope: dict[str, Any] = json.loads(text)
    if fault == "errors.envelope" and code == "ERR_INPUTS":
        envelope["error"]["stack"] = "at line 1"
    return envelope

"""Cases: receipts, refusals of the processor, and what it says of its environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from theory_api.delivery.conformance.bench import SNAPSHOT, Bench, Ran
from theory_api.delivery.conformance.frames import not_canonical
from theory_api.delivery.conformance.outputs import INDEX, RECEIPT, differing, incomparable
from theory_api.delivery.conformance.report import (
    Case,
    Finding,
    failed,
    passed,
    skipped,
    verdict,
)
from theory_api.delivery.conformance.sample import hash_of
from theory_core import ERROR_CODES, HASH_SCHEMA, TheoryError, digest, validate_envelope

_AT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_DIMENSIONS: Final = frozenset(
    {"usd_micro", "cpu_ms", "gpu_ms", "io_bytes", "co2_mg", "tokens", "latency_ms"}
)
_DIGEST_HEADER: Final = "Theory-Image-Digest"
_NO_IMAGE: Final = "sha256:" + "0" * 64


async def _there(bench: Bench) -> Finding:
    item = (await bench.plain()).shelf.get(RECEIPT)
    if item is None:
        return failed("receipt.json never arrived")
    wrong = not_canonical([item.body])
    if wrong is None and not isinstance(json.loads(item.body), dict):
        wrong = "it is no object"
    return verdict(wrong, f"{len(item.body)} bytes of canonical JSON")


async def _fields(bench: Bench) -> Finding:
    ran = await bench.plain()
    fields = receipt(ran)
    due = {
        "execution_id": ran.order.execution_id,
        "processor_ref": bench.sample.ref,
        "env_fingerprint": bench.sample.fingerprint,
        "hash_schema": HASH_SCHEMA,
        "mode": "mock",
        "status": "success",
        "registry_snapshot": SNAPSHOT,
    }
    for name, value in due.items():
        if fields.get(name) != value:
            return failed(f"{name} is {fields.get(name)}")
    if fields.get("written_by") not in {"processor", "supervisor"}:
        return failed(f"written_by is {fields.get('written_by')}")
    info = fields.get("processor_info")
    return verdict(
        None if info and isinstance(info, str) else f"processor_info is {info}", f"{info}"
    )


async def _inputs_hash(bench: Bench) -> Finding:
    told = receipt(await bench.plain()).get("inputs_hash")
    return verdict(None if told == hash_of(bench.sample.params) else f"{told}", f"{told}")


async def _index(bench: Bench) -> Finding:
    ran = await bench.plain()
    told, item = receipt(ran).get("outputs_index"), ran.shelf.get(INDEX)
    if item is None:
        return failed(f"{told}, and no index arrived")
    due = digest(item.body)
    return verdict(None if told == due else f"{told}, the index that arrived is {due}", f"{told}")


async def _measures(bench: Bench) -> Finding:
    fields = receipt(await bench.plain())
    usage, at, took = (fields.get(name) for name in ("usage", "timestamp_utc", "duration_ms"))
    if not isinstance(usage, dict) or not usage.keys() <= _DIMENSIONS:
        return failed(f"usage is {usage}")
    for name, amount in (*usage.items(), ("duration_ms", took)):
        if type(amount) is not int or amount < 0:
            return failed(f"{name} is {amount}")
    if not isinstance(at, str) or not _AT.fullmatch(at):
        return failed(f"timestamp_utc is {at}")
    return passed(f"usage {', '.join(sorted(usage)) or 'unstated'}, {took} ms")


async def _refused(bench: Bench) -> Finding:
    if bench.sample.refused is None:
        return skipped("the sample names no parameters that are refused")
    ran = await bench.refused()
    return verdict(None if ran.heard.code == "ERR_INPUTS" else ran.heard.told, ran.heard.told)


async def _error_envelope(bench: Bench) -> Finding:
    if bench.sample.refused is None:
        return skipped("the sample names no parameters that are refused")
    ran = await bench.refused()
    try:
        validate_envelope(dict(ran.heard.result), execution_id=ran.order.execution_id)
    except TheoryError as error:
        return failed(f"{error.message} {dict(error.detail)}")
    told = ran.heard.result["error"]
    known = told["message"].startswith(ERROR_CODES[told["code"]].summary)
    return verdict(None if known else f"message {told['message']}", ran.heard.told)


async def _error_receipt(bench: Bench) -> Finding:
    if bench.sample.refused is None:
        return skipped("the sample names no parameters that are refused")
    fields = receipt(await bench.refused())
    kept = fields.get("status") == "error" and "outputs_index" not in fields
    seen = f"status {fields.get('status')}, index {fields.get('outputs_index')}"
    return verdict(None if kept else seen, seen)


async def _platform(bench: Bench) -> Finding:
    other = re.sub("platform:[^;]*", "platform:riscv64", bench.sample.fingerprint)
    ran = await bench.run(bench.order(env_fingerprint=other))
    return verdict(None if ran.heard.code == "ERR_REGISTRY_MISMATCH" else ran.heard.told, _MISMATCH)


async def _image(bench: Bench) -> Finding:
    ran = await bench.run(bench.order(expected_oci=_NO_IMAGE))
    return verdict(None if ran.heard.code == "ERR_REGISTRY_MISMATCH" else ran.heard.told, _MISMATCH)


async def _pinned(bench: Bench) -> Finding:
    image = (await bench.target.health()).headers.get(_DIGEST_HEADER)
    # What is in no image can be asked for none, and names none anywhere.
    asked = {} if image is None else {"expected_oci": image}
    ran = await bench.run(bench.order(**asked))
    if ran.heard.result.get("status") != "success":
        return failed(f"asked for {image}, which it names: {ran.heard.told}")
    acks = (item for item in ran.heard.frames if item.get("kind") == "Ack")
    told = {
        "Ack": next(acks, {}).get("content"),
        "the envelope": ran.heard.result.get("meta"),
        "the receipt": receipt(ran),
    }
    for place, fields in told.items():
        found = fields.get("image_digest") if isinstance(fields, dict) else None
        if found != image:
            return failed(f"{place} says {found}, /healthz {image}")
    return passed(f"{image} in {', '.join(told)}")


_MISMATCH: Final = "ERR_REGISTRY_MISMATCH"


async def _real(bench: Bench) -> Finding:
    sample = bench.sample
    if sample.secrets and bench.target.url is not None:
        return skipped("a deployed processor may have its secrets: nothing is spent to find out")
    if sample.secrets:
        facts = [*sample.fingerprint.split(";"), f"secrets:{','.join(sorted(sample.secrets))}"]
        order = bench.order(
            mode="real", secrets=list(sample.secrets), env_fingerprint=";".join(sorted(facts))
        )
        ran = await bench.run(order)
        kept = ran.heard.code == "ERR_MISSING_SECRET"
        return verdict(None if kept else ran.heard.told, "no secret given: ERR_MISSING_SECRET")
    if sample.network != "none":
        return skipped("mode real of this processor uses the network")
    mock, real = await bench.plain(), await bench.run(bench.order(mode="real"))
    wrong = differing(mock, real) or incomparable(mock, real)
    return verdict(wrong, "needs nothing from outside: the same bytes as in mock")


def receipt(ran: Ran) -> dict[str, Any]:
    """The receipt that a run put; empty if there is none that can be read."""
    item = ran.shelf.get(RECEIPT)
    try:
        fields = None if item is None else json.loads(item.body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _all() -> Iterator[Case]:
    yield Case("receipt.there", "§8.2", "receipt.json is written, canonical", _there)
    yield Case("receipt.fields", "§8.2", "it states what was asked, and by whom it is", _fields)
    yield Case("receipt.inputs", "§8.2", "inputs_hash is that of the inputs", _inputs_hash)
    yield Case("receipt.index", "§8.2", "outputs_index is the digest of the index", _index)
    yield Case("receipt.measures", "§8.2", "usage, time and duration are whole numbers", _measures)
    yield Case("errors.inputs", "§15", "parameters that do not fit: ERR_INPUTS", _refused)
    yield Case("errors.envelope", "§7", "an error is a valid envelope", _error_envelope)
    yield Case("errors.receipt", "§8.2", "a failure has its receipt too", _error_receipt)
    yield Case("environment.platform", "§7", "another architecture than declared", _platform)
    yield Case("environment.image", "§12", "another image digest than expected", _image)
    yield Case("environment.pinned", "EN-12", "one image digest, or none, in all it says", _pinned)
    yield Case("mode.real", "§11.2", "real asks for its secrets, or needs none", _real)


CASES: Final = tuple(_all())

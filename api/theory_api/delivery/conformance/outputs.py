"""Cases: the envelope, its outputs, their index, and the two doors they go through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from theory_api.delivery.conformance.bench import Bench, Ran
from theory_api.delivery.conformance.frames import not_canonical
from theory_api.delivery.conformance.report import (
    Case,
    Finding,
    failed,
    passed,
    skipped,
    verdict,
)
from theory_api.delivery.conformance.talk import parsed
from theory_core import TheoryError, canonicalize, digest, validate_envelope

INDEX: Final = "outputs.json"
RECEIPT: Final = "receipt.json"
_SEVERAL: Final = 2


async def _canonical(bench: Bench) -> Finding:
    ran = await bench.plain()
    results = [raw for raw in ran.heard.raw if parsed(raw).get("kind") == "RunResult"]
    return verdict(not_canonical(results), "RunResult is canonical JSON")


async def _valid(bench: Bench) -> Finding:
    """Repairs first what other cases judge, so that this one judges the rest."""
    ran = await bench.plain()
    envelope: dict[str, Any] = {
        **ran.heard.result,
        "index_path": f"{ran.order.write_prefix}{INDEX}",
    }
    meta = envelope.get("meta")
    if isinstance(meta, dict):
        kept = {name: item for name, item in meta.items() if name != "image_digest"}
        envelope["meta"] = {**kept, "env_fingerprint": bench.sample.fingerprint}
    if isinstance(envelope.get("outputs"), list):
        envelope["outputs"] = ran.entries()
    try:
        validate_envelope(
            envelope, execution_id=ran.order.execution_id, write_prefix=ran.order.write_prefix
        )
    except TheoryError as error:
        return failed(f"{error.message} {dict(error.detail)}")
    return passed(f"{len(ran.entries())} outputs")


async def _fingerprint(bench: Bench) -> Finding:
    meta = (await bench.plain()).heard.result.get("meta")
    told = meta.get("env_fingerprint") if isinstance(meta, dict) else None
    return verdict(None if told == bench.sample.fingerprint else f"{told}", f"{told}")


async def _no_digest(bench: Bench) -> Finding:
    meta = (await bench.plain()).heard.result.get("meta")
    told = meta.get("image_digest") if isinstance(meta, dict) else None
    wrong = None if told is None else f"{told}, though no digest was asked for"
    return verdict(wrong, "no digest, as none was asked for")


async def _inside(bench: Bench) -> Finding:
    ran = await bench.plain()
    paths = _paths(ran)
    folder = f"{ran.order.write_prefix}outputs/"
    wrong = next((path for path in paths if not path.startswith(folder)), None)
    return verdict(wrong, f"{len(paths)} outputs below {folder}")


async def _sorted(bench: Bench) -> Finding:
    paths = _paths(await bench.plain())
    kept = paths == sorted(paths, key=str.encode)
    return verdict(None if kept else f"{paths[:4]}", f"{len(paths)} outputs by path")


async def _delivered(bench: Bench) -> Finding:
    ran = await bench.plain()
    for entry in ran.entries():
        relpath = ran.relpath(entry)
        item = ran.shelf.get(relpath)
        if item is None:
            return failed(f"{relpath} never arrived")
        stated = (entry.get("cid"), entry.get("size_bytes"), entry.get("mime"))
        if stated != (digest(item.body), len(item.body), item.mime):
            arrived = f"{digest(item.body)[:15]}, {len(item.body)} bytes, {item.mime}"
            return failed(f"{relpath} is stated as {stated}; what arrived is {arrived}")
    return passed(f"{len(ran.entries())} outputs with their bytes, sizes and types")


async def _listed(bench: Bench) -> Finding:
    ran = await bench.plain()
    known = {INDEX, RECEIPT, *(ran.relpath(entry) for entry in ran.entries())}
    wrong = next((item.relpath for item in ran.shelf.arrived if item.relpath not in known), None)
    told = None if wrong is None else f"{wrong} was put, and the envelope does not name it"
    return verdict(told, f"{len(ran.shelf.arrived)} objects, each accounted for")


async def _index_path(bench: Bench) -> Finding:
    ran = await bench.plain()
    told, due = ran.heard.result.get("index_path"), f"{ran.order.write_prefix}{INDEX}"
    return verdict(None if told == due else f"{told}", f"{told}")


async def _index(bench: Bench) -> Finding:
    ran = await bench.plain()
    item = ran.shelf.get(INDEX)
    if item is None:
        return failed("outputs.json never arrived")
    if wrong := not_canonical([item.body]):
        return failed(f"outputs.json: {wrong}")
    listed = json.loads(item.body)
    entries = listed.get("outputs") if isinstance(listed, dict) else None
    if not isinstance(entries, list) or listed.keys() != {"outputs"}:
        return failed("outputs.json is not {outputs: […]}")
    same = _bag(entries) == _bag(ran.heard.result.get("outputs"))
    return verdict(
        None if same else "its entries are not the envelope's", f"{len(entries)} entries"
    )


async def _index_last(bench: Bench) -> Finding:
    names = [item.relpath for item in (await bench.plain()).shelf.arrived]
    after = names[names.index(INDEX) :] if INDEX in names else []
    wrong = next((name for name in after if name.startswith("outputs/")), None)
    return verdict(wrong and f"{wrong} came after the index", "the index came after all outputs")


async def _by_socket(bench: Bench) -> Finding:
    items = (await bench.plain()).shelf.arrived
    wrong = next((item.relpath for item in items if not item.by_socket), None)
    return verdict(wrong and f"{wrong} came over TCP", f"{len(items)} objects over the socket")


async def _by_url(bench: Bench) -> Finding:
    if bench.door.seen_as is not None:
        return skipped("a container need not reach the URL")
    ran = await bench.by_url()
    if not ran.shelf.arrived:
        return failed(f"nothing arrived: {ran.heard.told}")
    wrong = next((item.relpath for item in ran.shelf.arrived if item.by_socket), None)
    return verdict(wrong and f"{wrong} came over the socket", _counted(ran))


async def _same(bench: Bench) -> Finding:
    if bench.door.seen_as is not None:
        return skipped("a container need not reach the URL")
    one, other = await bench.plain(), await bench.by_url()
    if not other.shelf.arrived:
        return skipped("nothing came over TCP")
    wrong = differing(one, other)
    if wrong is None and len(one.shelf.outputs()) < _SEVERAL:
        return skipped("the sample makes one output; two at least are due")
    return verdict(wrong, f"{len(one.shelf.outputs())} outputs through both doors, the same bytes")


async def _headers(bench: Bench) -> Finding:
    items = (await bench.plain()).shelf.arrived
    wrong = next((item.relpath for item in items if not item.has_header), None)
    return verdict(wrong and f"{wrong} came without", f"{len(items)} objects with the headers")


async def _shut(bench: Bench) -> Finding:
    ran = await bench.run(bench.order(refuse=True))
    return verdict(None if ran.heard.code == "ERR_UPLOAD" else ran.heard.told, "ERR_UPLOAD")


async def _twice(bench: Bench) -> Finding:
    one = await bench.plain()
    other = await bench.run(bench.order(below="/artifacts/elsewhere/once-more"))
    wrong = differing(one, other) or incomparable(one, other)
    return verdict(
        wrong, f"{len(one.shelf.outputs())} outputs, the same bytes under another prefix"
    )


def incomparable(*runs: Ran) -> str | None:
    """What makes it meaningless that runs share all of their outputs: one failed, or has none."""
    for ran in runs:
        if ran.heard.result.get("status") != "success":
            return f"a run failed: {ran.heard.told}"
        if not ran.shelf.outputs():
            return "no output arrived"
    return None


def differing(one: Ran, other: Ran) -> str | None:
    """The first output that two runs of the same work do not share."""
    left, right = one.shelf.outputs(), other.shelf.outputs()
    for name in sorted(left.keys() | right.keys()):
        if name not in left or name not in right:
            return f"{name} is in one run alone ({other.heard.told})"
        if (left[name].body, left[name].mime) != (right[name].body, right[name].mime):
            return f"{name} differs"
    return None


def _paths(ran: Ran) -> list[str]:
    outputs = ran.heard.result.get("outputs")
    entries = outputs if isinstance(outputs, list) else []
    return [str(entry.get("path")) for entry in entries if isinstance(entry, dict)]


def _bag(entries: object) -> list[bytes]:
    """Entries without their order."""
    found = entries if isinstance(entries, list) else []
    return sorted(canonicalize(entry) for entry in found)


def _counted(ran: Ran) -> str:
    return f"{len(ran.shelf.arrived)} objects over TCP"


def _all() -> Iterator[Case]:
    yield Case("envelope.canonical", "EN-13", "the envelope is canonical JSON", _canonical)
    yield Case("envelope.valid", "§7", "the envelope answers the request, and is closed", _valid)
    yield Case("envelope.fingerprint", "EN-4", "meta has the fingerprint asked for", _fingerprint)
    yield Case("envelope.digest", "EN-12", "no image digest unless one was asked for", _no_digest)
    yield Case("outputs.prefix", "EN-8", "outputs lie below the prefix's outputs/", _inside)
    yield Case("outputs.sorted", "EN-11", "outputs are sorted by path", _sorted)
    yield Case("outputs.delivered", "§8.1", "each output arrived as it is stated", _delivered)
    yield Case("outputs.listed", "§8.1", "nothing arrived that is not named", _listed)
    yield Case("index.path", "EN-7", "the index lies right below the prefix", _index_path)
    yield Case("index.same", "§8.1", "the index is canonical, with the same entries", _index)
    yield Case("index.last", "§8.1", "the index is written after all outputs", _index_last)
    yield Case("doors.socket", "§8.1", "a socket that is given is used", _by_socket)
    yield Case("doors.url", "§8.1", "without a socket the URL is used", _by_url)
    yield Case("doors.same", "§8.1", "two outputs at least, the same through both", _same)
    yield Case("doors.headers", "§8.1", "every PUT carries the upload's headers", _headers)
    yield Case("doors.shut", "§15", "a door that refuses: ERR_UPLOAD", _shut)
    yield Case("mock.same", "§11.2", "mock: other ids and prefixes, the same bytes", _twice)


CASES: Final = tuple(_all())

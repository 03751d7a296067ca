"""What has to hold of a plan that has ended, judged from outside: an empty list, or what is wrong.

Nothing here asks the scheduler: it reads the export, the projected rows and the artifact files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from theory_api.adapters.files.home import Home
from theory_api.adapters.files.journalled import reading
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.truth import MemoryTruth
from theory_api.domain.kinds import from_data
from theory_api.domain.projection import project
from theory_api.ports.truth import Append, ReadModel, StoredEvent
from theory_core import TheoryError, digest, loads_strict, verify

Event = dict[str, Any]

_CIDS: Final = frozenset(
    {"cid", "document", "envelope", "inputs", "outputs_index", "receipt", "registry_snapshot"}
    | {"trace"}
)
"""Members of events that name stored bytes."""
_ENDED: Final = frozenset(
    f"execution.{how}" for how in ("succeeded", "failed", "cancelled", "orphaned")
)
_PAGE: Final = 1000


async def stored(read: ReadModel, plan: str) -> list[StoredEvent]:
    """All events of a plan."""
    found: list[StoredEvent] = []
    while page := await read.events(plan, after=len(found), limit=_PAGE):
        found += page
    return found


async def judge(
    read: ReadModel, home: Path, plan: str, *, told: list[bytes], expected: dict[str, bytes]
) -> list[str]:
    """Faults of a plan; `told` are export lines that somebody was given, `expected` its outputs.

    `expected` maps `transition:relpath` to the bytes that one succeeded attempt has delivered.
    """
    events = await stored(read, plan)
    export = [b'{"event":%b,"hash":"%b"}\n' % (e.body, e.hash.encode()) for e in events]
    wires: list[Event] = [loads_strict(event.body) for event in events]
    faults = []
    report = verify(b"".join(export), laws=True)
    if report.fault is not None:
        faults.append(f"ledger: {report.fault}")
    if told != export[: len(told)]:
        faults.append("an acknowledged event is lost, or another one")
    faults += _once(wires)
    faults += await _books(read, plan, wires)
    faults += await _projections(read, plan, events, wires)
    faults += await _artifacts(home, wires)
    if _delivered(wires) != Counter((name, digest(body)) for name, body in expected.items()):
        faults.append(f"outputs: {_delivered(wires)}")
    return faults


def _once(wires: list[Event]) -> Iterator[str]:
    """Law: one end a plan, an execution and a transition; one reserve and one settle or void."""
    kinds = Counter(wire["kind"] for wire in wires)
    if kinds["plan.created"] != 1 or kinds["plan.completed"] != 1:
        yield f"plan: {kinds}"
    if wires and wires[-1]["kind"] != "plan.completed":
        yield "something happened after the plan's end"
    reserved = _named(wires, {"budget.reserved"})
    for what, found in {
        "admissions": _named(wires, {"transition.admitted"}),
        "reserves": reserved,
        "settles and voids": _named(wires, {"budget.settled", "budget.voided"}),
        "ends": _named(wires, set(_ENDED)),
    }.items():
        if found.keys() != reserved.keys() or set(found.values()) != {1}:
            yield f"{what}: {found}"
    done = Counter(w["data"]["transition"] for w in wires if w["kind"] == "transition.succeeded")
    proposed = {w["data"]["transition"] for w in wires if w["kind"] == "transition.proposed"}
    if done != Counter(proposed):
        yield f"succeeded: {done}"


def _named(wires: list[Event], kinds: set[str]) -> Counter[str]:
    return Counter(wire["data"]["execution_id"] for wire in wires if wire["kind"] in kinds)


async def _books(read: ReadModel, plan: str, wires: list[Event]) -> list[str]:
    """Law: what was settled is what is spent, and nothing is held after the end."""
    settled: Counter[str] = Counter()
    for wire in wires:
        if wire["kind"] == "budget.settled":
            settled.update(wire["data"]["actual"])
    rows = await read.balance(plan)
    spent = Counter({row.dimension: row.spent for row in rows})
    faults = [f"held: {row}" for row in rows if row.reserved]
    faults += [f"over: {r}" for r in rows if r.limit is not None and r.spent > r.limit]
    if +spent != +settled:
        faults.append(f"spent {dict(spent)}, settled {dict(settled)}")
    return faults


async def _projections(
    read: ReadModel, plan: str, events: list[StoredEvent], wires: list[Event]
) -> list[str]:
    """Law: the projected rows are those that the whole ledger implies."""
    numbered = [
        (event.seq, event.at, from_data(event.kind, wire["data"]))
        for event, wire in zip(events, wires, strict=True)
    ]
    anew = MemoryTruth()
    epoch = await anew.claim("s", "judge")
    append = Append(plan, 0, tuple(events), project(plan, numbered))
    await anew.append([append], shard="s", epoch=epoch)
    implied = await rows(MemoryReads(anew.database), plan)
    found = await rows(read, plan)
    return [f"projected {name} differ" for name in implied if implied[name] != found[name]]


async def rows(read: ReadModel, plan: str) -> dict[str, object]:
    """Everything that is projected from a plan."""
    return {
        "plan": await read.plan(plan),
        "balance": await read.balance(plan),
        "transitions": await read.transitions(plan),
        "executions": await read.executions(plan),
        "artifacts": await read.artifacts(plan, "/artifacts/"),
    }


async def _artifacts(home: Path, wires: list[Event]) -> list[str]:
    """Law: every artifact that an event names is there, with exactly its bytes."""
    files = reading(Home(home))
    faults = []
    for cid in sorted({cid for wire in wires for cid in _cids(wire["data"])}):
        try:
            await files.get(cid)
        except TheoryError as error:
            faults.append(f"{cid}: {error.code}")
    return faults


def _cids(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for member, inner in value.items():
            yield from _cids(inner, member)
    elif isinstance(value, list):
        for inner in value:
            yield from _cids(inner, name)
    elif isinstance(value, str) and name in _CIDS and value.startswith("b3:"):
        yield value


def _delivered(wires: list[Event]) -> Counter[tuple[str, str]]:
    """(transition and path below the write prefix, cid) of what succeeded attempts produced."""
    succeeded = _named(wires, {"execution.succeeded"})
    found: Counter[tuple[str, str]] = Counter()
    for wire in wires:
        data = wire["data"]
        if wire["kind"] == "artifact.produced" and data.get("execution_id") in succeeded:
            marker = f"/{data['execution_id']}/outputs/"
            for output in data["outputs"]:
                if marker in output["path"]:
                    below = output["path"].split(marker, 1)[1]
                    found[f"{data['transition']}:{below}", output["cid"]] += 1
    return found

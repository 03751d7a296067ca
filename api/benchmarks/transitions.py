"""Transitions per second through the whole scheduler, from an acknowledged proposal to success.

    python -m benchmarks.transitions --store sqlite --plans 1000 --per-plan 5
    python -m benchmarks.transitions --database-url postgresql://user@127.0.0.1:5432/postgres

Every transition is proposed by a command of its own, whose commit is awaited; the next one of the
same plan is proposed once the last one is seen to have succeeded. So as many are in flight as there
are plans. Each passes admission, reservation, execution, receipt and settlement.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.house import House, Store, open_house, verified
from benchmarks.measure import arguments, percentile, report, stores
from benchmarks.noop import REF, registry
from theory_api.domain.commands import Proposal, ProposeTransition
from theory_api.domain.naming import attempt_id
from theory_api.domain.values import SelectorSpec
from theory_api.ports.truth import StoredEvent
from theory_core import canonicalize

_INPUTS: Final = canonicalize({"schema": "v1", "params": {}})
_PREFIX: Final = "/artifacts/outputs/bench-noop-v1/{execution_id}/"
_AT_ONCE: Final = 32
"""Plans applied at once before the measurement."""

_AMPLE: Final = 10**15
"""A limit that no run reaches, so that every dimension is reserved and settled."""


Events = AsyncGenerator[StoredEvent]


@dataclass(slots=True)
class Timing:
    """Seconds from each proposal to the sight of its success, and to its acknowledgement."""

    succeeded: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)


def gated(plan: str, last: str) -> dict[str, Any]:
    """A plan whose one transition waits for the end of the transition `last`: it stays open."""
    path = f"/artifacts/execution/{attempt_id(f'/world/bench/{plan}', last, 1)}/determinism.json"
    gate = {
        "processor_ref": REF,
        "mode": "mock",
        "inputs": {},
        "predicates": {"admission": [{"name": "artifact.exists@1", "params": {"path": path}}]},
    }
    limit = dict.fromkeys(registry().processor(REF).estimate, _AMPLE)
    return {
        "schema": "theory.plan.v1",
        "plan": plan,
        "budget": limit,
        "transitions": {"gate": gate},
    }


async def proposal(house: House, name: str) -> Proposal:
    """A transition as a processor would propose it."""
    inputs = await house.artifacts.put(_INPUTS)
    return Proposal(
        transition=name,
        processor_ref=REF,
        mode="mock",
        inputs=inputs.cid,
        write_prefix=_PREFIX,
        write_set=(SelectorSpec(kind="prefix", path=_PREFIX),),
        hold=dict(registry().processor(REF).estimate),
        timeout_ms=60_000,
    )


async def listen(house: House, plan: str) -> Events:
    """The plan's events from now on: the newest one has been read when this returns."""
    head = (await house.read.plan(plan)).head_seq
    events = house.engine.subscribe(plan, after=head - 1)
    await anext(events)
    return events


async def drive(
    house: House, plan: str, events: Events, proposals: list[Proposal], timing: Timing
) -> None:
    """Propose one transition after the other, each once the one before has succeeded."""
    for item in proposals:
        began = time.perf_counter()
        await house.engine.submit(ProposeTransition(plan=plan, by="bench", proposal=item))
        timing.acknowledged.append(time.perf_counter() - began)
        async for event in events:
            if event.kind == "transition.succeeded":
                break
        timing.succeeded.append(time.perf_counter() - began)
    await events.aclose()


async def opened(house: House, plans: int, last: str) -> list[str]:
    """Plans to propose to, some of them applied at once."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> str:
        async with room:
            document = gated(f"p{number}", last)
            return (await house.plans.apply(document, tenant="bench", by="bench")).plan

    return await asyncio.gather(*(one(number) for number in range(plans)))


async def run(store: Store, folder: Path, *, plans: int, per_plan: int) -> dict[str, Any]:
    """One measurement; the ledgers are verified afterwards."""
    names = [f"t{number:06d}" for number in range(per_plan)]
    async with open_house(store, folder, parallel=plans) as house:
        paths = await opened(house, plans, names[-1])
        items = [await proposal(house, name) for name in names]
        timing = Timing()
        heard = [(path, await listen(house, path)) for path in paths]
        gc.collect()
        began, burnt = time.perf_counter(), time.process_time()
        await asyncio.gather(*(drive(house, *plan, items, timing) for plan in heard))
        took, cpu = time.perf_counter() - began, time.process_time() - burnt
        for path in paths:
            await house.engine.wait(path)
        ledgers = [await verified(house.read, path) for path in paths]
    done = plans * per_plan
    ended = [ledger[-1]["kind"] for ledger in ledgers]
    if ended != ["plan.completed"] * plans or len(timing.succeeded) != done:
        message = "the plans did not complete"
        raise RuntimeError(message)
    own = sum(event["data"].get("transition") in names for event in ledgers[0])
    return {
        "store": store.kind,
        "plans": plans,
        "transitions": done,
        "per_s": done / took,
        "events_per_transition": own / per_plan,
        "p50_ms": percentile(timing.succeeded, 0.5) * 1000,
        "p99_ms": percentile(timing.succeeded, 0.99) * 1000,
        "ack_p50_ms": percentile(timing.acknowledged, 0.5) * 1000,
        "cpu_us": cpu / done * 1e6,
        "events_verified": sum(map(len, ledgers)),
    }


def main() -> None:
    """Measure as the command line says."""
    parser = arguments(__doc__)
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--per-plan", type=int, default=5)
    given = parser.parse_args()
    rows = []
    for store in stores(given):
        for _ in range(given.runs):
            with tempfile.TemporaryDirectory() as folder:
                work = run(store, Path(folder), plans=given.plans, per_plan=given.per_plan)
                rows.append(asyncio.run(work))
    report("transitions", rows, given.out)


if __name__ == "__main__":
    main()

"""What must hold after every commit, and at the end: judged on what the stores really hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from theory_api.adapters.memory.tables import PlanTables
from theory_api.adapters.memory.truth import MemoryDatabase
from theory_api.domain.kinds import from_data
from theory_api.domain.projection import project
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.tests.simulator.chance import Chance
from theory_api.scheduler.tests.simulator.model import OVER, Model
from theory_core import (
    TheoryError,
    canonicalize,
    digest,
    event_hash,
    execution_id,
    loads_strict,
    verify,
)

PROMPT_S: Final = 1800.0
"""Simulated time within which an owner that goes on has dispatched what it started."""

EVERY: Final = 40
"""Commits between two replays of the ledgers against the projections."""


@dataclass(frozen=True)
class Promise:
    """What a client was told."""

    plan: str
    key: str
    events: tuple[str, ...]
    seq: int


class Oracle:
    """Reads every commit as it happens. Every method may raise `ViolationError`."""

    def __init__(self, database: MemoryDatabase, blobs: dict[str, bytes], chance: Chance) -> None:
        self._database = database
        self._blobs = blobs
        self._chance = chance
        self._law = chance.law
        self._epoch = 0
        self._keys: dict[tuple[str, str], int] = {}
        self.models: dict[str, Model] = {}
        self.homes: dict[str, str] = {}
        self.settled: set[str] = set()
        """Execution -> plan, from the moment its start is committed."""
        self.started: dict[str, None] = {}
        """Executions that were dispatched to the machine."""
        self._noted: dict[str, int] = {}
        """Execution -> epoch in which its outcome was first noted."""
        self.late: set[int] = set()
        """Epochs whose lease ended, or with a commit that came after its writer gave it up."""
        self._begun: dict[str, tuple[int, float]] = {}
        """Execution that is not dispatched yet -> the epoch that started it, and when."""
        self.now: Callable[[], float] = lambda: 0.0
        self.running: Callable[[str], bool] = lambda _name: False
        """Whether the machine still runs an execution."""
        self.promises: list[Promise] = []
        self.commits = 0
        self.moved = 0.0

    def claimed(self, epoch: int) -> None:
        """Law: epochs rise."""
        self._law(epoch > self._epoch, f"epoch {epoch} claimed after {self._epoch}")
        self._chance.note("claim", epoch)
        self._epoch = epoch

    def overtook(self, epoch: int) -> bool:
        """Whether somebody else has written, or may have, since this epoch began to."""
        return epoch != self._epoch or epoch in self.late

    def expired(self) -> None:
        """The lease of the newest epoch ended; nobody has claimed another yet."""
        self.late.add(self._epoch)

    def noted(self, name: str) -> None:
        """An outcome is durable."""
        self._noted.setdefault(name, self._epoch)

    def committed(
        self, batch: Sequence[Append], epoch: int, idempotency: Sequence[IdempotencyRow]
    ) -> None:
        """Law: no epoch commits once a newer one was claimed; no idempotency key twice."""
        self.commits += 1
        self._law(epoch == self._epoch, f"epoch {epoch} committed after {self._epoch} was claimed")
        for share in batch:
            self._share(share, epoch)
        self._prompt(epoch)
        for row in idempotency:
            self._chance.note("key", row.key)
            self._law((row.scope, row.key) not in self._keys, f"key {row.key} was used twice")
            self._keys[row.scope, row.key] = self.commits
        if self.commits % EVERY == 0:
            for share in batch:
                self.replay(share.plan)

    def _prompt(self, epoch: int) -> None:
        """Law: what an owner started it dispatches, or dies; nothing waits for its successor."""
        for name, (owner, since) in list(self._begun.items()):
            if owner != epoch or name not in self.models[self.homes[name]].open:
                del self._begun[name]
            else:
                late = self.now() - since > PROMPT_S
                self._law(not late, f"{name} was started and is not dispatched")

    def _share(self, share: Append, epoch: int) -> None:
        tables = self._database.plans[share.plan]
        model = self.models.setdefault(share.plan, Model())
        place = len(tables.events) - len(share.events)
        self._law(tuple(tables.events[place:]) == share.events, "the store holds other events")
        previous = tables.events[place - 1] if place else None
        for seq, event in enumerate(share.events, start=place + 1):
            self._event(model, seq, previous, event, epoch)
            previous = event
        self._compare(share.plan, model, tables)

    def _event(
        self, model: Model, seq: int, previous: StoredEvent | None, event: StoredEvent, epoch: int
    ) -> None:
        self._chance.note(event.plan, event.hash)
        where = f"{event.plan} {event.seq} {event.kind}"
        follows = event_hash(None if previous is None else previous.hash, event.body)
        self._law(event.seq == seq and follows == event.hash, f"{where}: the chain is broken")
        self._law(previous is None or event.at >= previous.at, f"{where}: time went back")
        stated: Any = loads_strict(event.body)
        data = stated["data"]
        self._law(canonicalize(stated) == event.body, f"{where}: not canonical")
        same = (stated["plan"], stated["seq"], stated["kind"]) == (event.plan, seq, event.kind)
        self._law(same, f"{where}: the row and its bytes differ")
        model.read(event.kind, data)
        if "epoch" in data:
            self._law(data["epoch"] == epoch, f"{where}: it names epoch {data['epoch']}")
        if event.kind == "transition.admitted":
            name = execution_id(event.plan, data["transition"], data["attempt"])
            self._law(name == data["execution_id"], f"{where}: it has another attempt's name")
        if event.kind == "execution.started":
            self.homes[data["execution_id"]] = event.plan
            self._begun[data["execution_id"]] = (epoch, self.now())
        if event.kind == "execution.orphaned":
            known = self._noted.get(data["execution_id"], epoch) < epoch
            self._law(not known, f"{where}: its outcome had been noted before")
        if event.kind == "stream.sealed":
            said = b"x" * data["count"]
            whole = (data["bytes"], data["digest"]) == (len(said), digest(said))
            self._law(whole and said != b"", f"{where}: it seals what was not streamed")
        if event.kind in {"budget.settled", "budget.voided"}:
            self._law(not self.running(data["execution_id"]), f"{where}: it still runs")
            self.settled.add(data["execution_id"])
        if event.kind == "budget.voided":
            self._law(data["execution_id"] not in self.started, f"{where}: it ran all the same")
        self._law(not model.broken, f"{where}: {'; '.join(model.broken)}")

    def _compare(self, plan: str, model: Model, tables: PlanTables) -> None:
        """Law: the projections tell what the ledger tells."""
        told = {name: columns["status"] for name, columns in tables.transitions.items()}
        self._law(
            told == {name: step.status for name, step in model.steps.items()},
            f"{plan}: transitions and ledger differ",
        )
        self._law(tables.row["status"] == model.status, f"{plan}: status and ledger differ")
        for name, row in tables.balances.items():
            kept = (row.limit, row.reserved, row.spent)
            expected = (model.limit.get(name), model.reserved(name), model.spent.get(name, 0))
            self._law(kept == expected, f"{plan}: {name} is {kept}, the ledger says {expected}")

    def replay(self, plan: str) -> None:
        """Law: projections are the replay of the ledger, whatever pieces it came in."""
        tables = self._database.plans[plan]
        typed = []
        for event in tables.events:
            stated: Any = loads_strict(event.body)
            typed.append((event.seq, event.at, from_data(stated["kind"], stated["data"])))
        fresh = PlanTables(plan, tables.shard)
        changes = project(plan, typed)
        fresh.apply(changes, fresh.check(changes))
        for name in ("row", "balances", "transitions", "executions", "artifacts"):
            same = getattr(fresh, name) == getattr(tables, name)
            self._law(same, f"{plan}: {name} are not those of a replay")

    def dispatched(self, name: str) -> None:
        """Law: nothing takes effect before it is committed, nor after it is settled."""
        plan = self.homes.get(name)
        self._law(plan is not None, f"{name} was dispatched before its start was committed")
        open_now = plan is not None and name in self.models[plan].open
        self._law(open_now, f"{name} was dispatched after its end")
        self.started[name] = None
        self._begun.pop(name, None)
        self._chance.note("dispatch", name)

    def answered(self, key: str, answer: Answer) -> None:
        """Law: what was acknowledged is in the ledger, then and for ever."""
        promise = Promise(answer.plan, key, answer.events, answer.seq)
        self._kept(promise)
        self.promises.append(promise)

    def seen(self, event: StoredEvent, last: int) -> None:
        """Law: a reader sees each committed event once, in order, and no other."""
        self._law(event.seq == last + 1, f"a reader saw {event.seq} after {last}")
        held = self._database.plans[event.plan].events
        there = len(held) >= event.seq and held[event.seq - 1] == event
        self._law(there, f"a reader saw {event.plan} {event.seq} before it was committed")

    def _kept(self, promise: Promise) -> None:
        count = len(promise.events)
        if not count:
            return
        held = self._database.plans[promise.plan].events if promise.plan in self.models else []
        kinds = tuple(event.kind for event in held[promise.seq - count : promise.seq])
        self._law(
            kinds == promise.events, f"{promise.key} was acknowledged and is not in the ledger"
        )

    def finish(self) -> None:
        """Everything that must hold once every plan has ended."""
        for promise in self.promises:
            self._kept(promise)
        for plan, tables in self._database.plans.items():
            model = self.models[plan]
            self.replay(plan)
            self._law(model.status in OVER | {"completed"}, f"{plan} did not end: {model.status}")
            self._law(not model.open, f"{plan} has open reservations")
            self._law(
                sum(event.kind in _ENDINGS for event in tables.events) == 1, f"{plan}: two ends"
            )
            for asked, kinds in model.by.items():
                once = not asked.startswith("key-") or len(kinds) == len(set(kinds))
                once = once or set(kinds) <= _CREATION
                self._law(once, f"{plan}: {asked} took effect twice: {kinds}")
            self._verify(plan, tables)
            self._bytes(plan, tables)

    def _verify(self, plan: str, tables: PlanTables) -> None:
        lines = [
            canonicalize({"event": loads_strict(event.body), "hash": event.hash})
            for event in tables.events
        ]
        head = (tables.head.seq, tables.head.hash)
        try:
            report = verify(lines, expect_head=head, laws=True, threads=1)
        except TheoryError as error:
            if error.code != "ERR_UNAVAILABLE":
                raise
            report = verify(lines, expect_head=head, threads=1)
        self._law(report.fault is None, f"{plan}: the verifier says {report.fault}")

    def _bytes(self, plan: str, tables: PlanTables) -> None:
        """Law: nothing is referenced that is not there with its digest."""
        named = {row["cid"] for row in tables.artifacts.values()}
        for row in tables.executions.values():
            named |= {row[name] for name in ("envelope", "receipt", "trace") if row[name]}
        for cid in named:
            self._law(
                digest(self._blobs.get(cid, b"")) == cid, f"{plan}: {cid} is named and not there"
            )


_ENDINGS: Final = frozenset({"plan.completed", "plan.failed", "plan.cancelled"})
_CREATION: Final = frozenset({"plan.created", "artifact.produced", "transition.proposed"})

"""Ledgers to append, and one of every store to append them to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import theory_api
from theory_api.adapters.files.home import Home, open_home
from theory_api.adapters.sql.upgrade import upgrade
from theory_api.domain import events as ev
from theory_api.domain.projection import project
from theory_api.domain.values import Counts, Fault, Output, Policy, Retry, SelectorSpec
from theory_api.ports.truth import Append, StoredEvent
from theory_core import Chain, canonicalize, digest, execution_id

MIGRATIONS = Path(theory_api.__file__).parents[2] / "migrations"
CID = digest(b"")


@dataclass
class Story:
    """A plan's ledger, told event by event as a writer would."""

    plan: str = "/world/acme/p1"
    seq: int = 0
    chain: Chain = field(default_factory=Chain)
    told: list[tuple[int, str, ev.Event | None]] = field(default_factory=list)
    stored: list[StoredEvent] = field(default_factory=list)

    def append(self, *events: ev.Event) -> Append:
        """The next events, with their projection."""
        expected = self.seq
        numbered: list[tuple[int, str, ev.Event | None]] = []
        stored = []
        for event in events:
            self.seq += 1
            at = f"2026-11-21T04:25:00.{self.seq:06d}Z"
            wire = {
                "v": "theory.event.v1",
                "plan": self.plan,
                "seq": self.seq,
                "at": at,
                "kind": event.KIND,
                "data": event.data(),
            }
            ((body, hashed),) = self.chain.append([wire])
            numbered.append((self.seq, at, event))
            stored.append(StoredEvent(self.plan, self.seq, event.KIND, at, body, hashed))
        self.told += numbered
        self.stored += stored
        return Append(self.plan, expected, tuple(stored), project(self.plan, numbered))

    def about(self, transition: str, attempt: int = 1) -> ev.About:
        """The members that name an attempt."""
        name = execution_id(self.plan, transition, attempt)
        return {"execution_id": name, "transition": transition, "attempt": attempt}

    def created(self, **limit: int) -> Append:
        """The plan comes into being, with a limit by dimension."""
        return self.append(
            ev.PlanCreated(
                schema="theory.plan.v1",
                document=CID,
                transitions=2,
                limit=limit,
                policy=Policy(
                    ref="default@1",
                    on_refused="fail",
                    on_breach="fail",
                    lease_ms=1000,
                    retry=Retry(max_attempts=1, backoff_ms=(), jitter_permille=0, retry_on=()),
                ),
                lane="build",
                registry_snapshot=CID,
                goal=(),
                invariants=(),
                by="local",
            )
        )

    def proposed(self, transition: str) -> ev.Event:
        """A transition, waiting."""
        return ev.TransitionProposed(
            transition=transition,
            processor_ref="test/work@1",
            mode="mock",
            inputs=CID,
            depends_on=(),
            write_prefix="/artifacts/outputs/test-work-v1/{execution_id}/",
            write_set=(),
            admission=(),
            success=(),
            hold={"tokens": 5},
            timeout_ms=1000,
            by="local",
        )

    def started(self, transition: str, attempt: int = 1, **hold: int) -> tuple[ev.Event, ...]:
        """An attempt is admitted, reserved, started."""
        about = self.about(transition, attempt)
        prefix = f"/artifacts/outputs/test-work-v1/{about['execution_id']}/"
        write_set = (SelectorSpec(kind="prefix", path=prefix),)
        return (
            ev.TransitionAdmitted(
                **about, write_prefix=prefix, write_set=write_set, inputs_hash=CID
            ),
            ev.BudgetReserved(**about, hold=hold, duration_ms=1000, owner="o1", epoch=1),
            ev.ExecutionStarted(
                **about,
                processor_ref="test/work@1",
                adapter="process",
                mode="mock",
                timeout_ms=1000,
                inputs=CID,
                inputs_hash=CID,
                env_fingerprint="cpu:1",
                registry_snapshot=CID,
            ),
        )

    def settled(
        self, transition: str, attempt: int = 1, *, hold: dict[str, int], actual: dict[str, int]
    ) -> tuple[ev.Event, ...]:
        """An attempt delivers one artifact and is paid."""
        about = self.about(transition, attempt)
        path = f"/artifacts/outputs/test-work-v1/{about['execution_id']}/outputs/a.txt"
        output = Output(path=path, cid=CID, size_bytes=0, mime="text/plain")
        return (
            ev.ExecutionSucceeded(
                **about,
                envelope=CID,
                receipt=CID,
                outputs_index=CID,
                outputs=1,
                output_bytes=0,
                duration_ms=3,
            ),
            ev.ArtifactProduced(**about, part=1, parts=1, outputs=(output,)),
            ev.BudgetSettled(**about, hold=hold, actual=actual, basis={}, receipt=CID),
            ev.TransitionSucceeded(**about),
        )

    def failed(self) -> ev.Event:
        """The plan's end."""
        return ev.PlanFailed(
            error=Fault(code="ERR_PREDICATE_FAILED", message="no"),
            verdicts=(),
            counts=Counts(succeeded=1),
            spent={},
        )

    def export(self) -> bytes:
        """NDJSON, as the verifier takes it."""
        return b"".join(
            b'{"event":%b,"hash":%b}\n' % (event.body, canonicalize(event.hash))
            for event in self.stored
        )


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def tell() -> Callable[[str], Story]:
    """Makes the story of another plan."""
    return Story


@pytest.fixture
def migrations() -> Path:
    return MIGRATIONS


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A home whose database is made and up to date."""
    found = open_home(tmp_path / "home")
    await upgrade(found.database, MIGRATIONS, found.lock())
    return found


Closer = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
async def closing() -> AsyncIterator[Closer]:
    """Takes `close` methods and calls them at the end, newest first."""
    waiting: list[Callable[[], Awaitable[None]]] = []
    yield waiting.append
    for close in reversed(waiting):
        await close()

"""A plan to try commands on: what the tests of the domain start from."""

# ruff: noqa: ANN401 - builders hand fields of any type on

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.decide import decide
from theory_api.domain.decision import Decision
from theory_api.domain.evolve import evolve
from theory_api.domain.kinds import from_data
from theory_api.domain.state import PlanState
from theory_api.domain.values import (
    ControlOp,
    Fault,
    Output,
    Policy,
    Predicate,
    Retry,
    SelectorSpec,
    Verdict,
)
from theory_core import EVENT_VERSION, canonicalize, digest, execution_id

PLAN = "/world/acme/p1"
AT = "2026-11-21T04:25:00.123456Z"
CID = digest(b"something")
PREFIX = "/artifacts/outputs/demo-echo-v1/{execution_id}/"
BROKE = Fault(code="ERR_PROVIDER", message="the provider said no")
NEVER = Fault(code="ERR_ORPHANED", message="its owner died before it started")
VECTORS = Path(__file__).parents[4] / "core-rs" / "vectors" / "events"


@cache
def schema(kind: str) -> jsonschema_rs.Draft202012Validator:
    """The closed JSON Schema of a kind, which is law."""
    text = (VECTORS / f"{kind}.schema.json").read_text(encoding="utf-8")
    return jsonschema_rs.Draft202012Validator(json.loads(text))


def wire(seq: int, event: ev.Event) -> dict[str, Any]:
    """The event as a ledger states it."""
    head = {"v": EVENT_VERSION, "plan": PLAN, "seq": seq, "at": AT}
    return {**head, "kind": event.KIND, "data": event.data()}


def policy(
    *,
    on_refused: Any = "fail",
    on_breach: Any = "fail",
    attempts: int = 2,
    retry_on: tuple[str, ...] = ("ERR_PROVIDER", "ERR_ORPHANED"),
) -> Policy:
    """A policy with short delays and no jitter."""
    return Policy(
        ref="default@1",
        on_refused=on_refused,
        on_breach=on_breach,
        lease_ms=60_000,
        retry=Retry(
            max_attempts=attempts, backoff_ms=(200, 1000), jitter_permille=0, retry_on=retry_on
        ),
    )


def proposal(name: str, *depends_on: str, **fields: Any) -> cmd.Proposal:
    """A transition that holds 10 usd_micro and writes below its own prefix."""
    defaults: dict[str, Any] = {
        "transition": name,
        "processor_ref": "demo/echo@1",
        "mode": "mock",
        "inputs": CID,
        "depends_on": depends_on,
        "write_prefix": PREFIX,
        "write_set": (SelectorSpec(kind="prefix", path=PREFIX),),
        "hold": {"usd_micro": 10},
        "timeout_ms": 1000,
    }
    return cmd.Proposal(**(defaults | fields))


def creation(*proposals: cmd.Proposal, **fields: Any) -> cmd.CreatePlan:
    """A plan with a limit of 100 usd_micro."""
    defaults: dict[str, Any] = {
        "plan": PLAN,
        "by": "local",
        "document": CID,
        "limit": {"usd_micro": 100},
        "policy": policy(),
        "lane": "build",
        "registry_snapshot": CID,
        "proposals": proposals,
    }
    return cmd.CreatePlan(**(defaults | fields))


def verdict(predicate: Predicate, answer: Any = "true", at_seq: int = 10_000) -> Verdict:
    """An answer to a predicate."""
    return Verdict(
        name=predicate.name,
        params=predicate.params,
        verdict=answer,
        reason="because",
        at_seq=at_seq,
    )


def output(path: str, body: bytes = b"bytes") -> Output:
    """An artifact."""
    return Output(path=path, cid=digest(body), size_bytes=len(body), mime="text/plain")


class Book:
    """The fold of a plan and its whole ledger; every event is held against its schema."""

    def __init__(self, *proposals: cmd.Proposal, **fields: Any) -> None:
        self.state = PlanState(plan=PLAN)
        self.events: list[ev.Event] = []
        if proposals:
            self.do(creation(*proposals, **fields))

    def do(self, command: cmd.Command) -> Decision:
        """Decide and evolve. Law: `decide` changes nothing."""
        before = repr(self.state)
        decision = decide(self.state, command)
        assert repr(self.state) == before
        for event in decision.events:
            seq = self.state.seq + 1
            stated = json.loads(canonicalize(wire(seq, event)))
            fault = next(schema(event.KIND).iter_errors(stated), None)
            assert fault is None, f"{event.KIND}: {fault}"
            assert from_data(event.KIND, stated["data"]) == event
            evolve(self.state, seq, event)
            self.events.append(event)
        return decision

    def kinds(self) -> list[str]:
        """Kinds of all events so far."""
        return [event.KIND for event in self.events]

    def status(self, transition: str) -> str:
        """Where a transition stands."""
        return self.state.transitions[transition].status

    def admission(self, name: str, **fields: Any) -> cmd.Admit:
        """The command that admits the next attempt of a transition."""
        entry = self.state.transitions[name]
        ident = execution_id(PLAN, name, entry.attempt)
        write_set = tuple(
            SelectorSpec(kind=spec.kind, path=spec.path.replace("{execution_id}", ident))
            for spec in entry.proposed.write_set
        )
        defaults: dict[str, Any] = {
            "plan": PLAN,
            "transition": name,
            "attempt": entry.attempt,
            "execution_id": ident,
            "write_prefix": entry.proposed.write_prefix.replace("{execution_id}", ident),
            "write_set": write_set,
            "inputs": CID,
            "inputs_hash": CID,
            "verdicts": tuple(
                verdict(asked, at_seq=self.state.seq) for asked in entry.proposed.admission
            ),
            "adapter": "process",
            "env_fingerprint": "cpu:1",
            "owner": "me",
            "epoch": 1,
        }
        return cmd.Admit(**(defaults | fields))

    def admit(self, name: str) -> str:
        """Admit, and answer the execution's id."""
        command = self.admission(name)
        decision = self.do(command)
        assert decision.events, f"{name} was not admitted"
        return command.execution_id

    def control(self, ident: str, op: ControlOp, **fields: Any) -> cmd.ControlExecution:
        """The command that steers an attempt; its adapter can have it stand still."""
        defaults: dict[str, Any] = {
            "plan": PLAN,
            "by": "me",
            "reason": "seen enough",
            "execution_id": ident,
            "op": op,
            "budget": {"usd_micro": 3} if op == "set_budget" else None,
            "able": ("process",),
        }
        return cmd.ControlExecution(**(defaults | fields))

    def completion(
        self,
        ident: str,
        outcome: str = "succeeded",
        used: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> cmd.Complete:
        """The command that reports an attempt's end."""
        failed = outcome != "succeeded"
        attempt = self.state.open.get(ident)
        asked = () if failed or attempt is None else self._success(attempt.transition)
        defaults: dict[str, Any] = {
            "plan": PLAN,
            "execution_id": ident,
            "outcome": outcome,
            "usage": cmd.Usage(measured=dict(used or {})),
            "error": (NEVER if outcome == "void" else BROKE) if failed else None,
            "envelope": CID,
            "receipt": CID,
            "outputs_index": None if failed else CID,
            "verdicts": tuple(verdict(one, at_seq=self.state.seq) for one in asked),
        }
        return cmd.Complete(**(defaults | fields))

    def _success(self, name: str) -> tuple[Predicate, ...]:
        return self.state.transitions[name].proposed.success

    def finish(
        self,
        ident: str,
        outcome: str = "succeeded",
        used: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> Decision:
        """Report an attempt's end."""
        return self.do(self.completion(ident, outcome, used, **fields))

    def conclude(self, answer: str = "true") -> Decision:
        """Have the plan judged, its goal answered alike throughout."""
        answers = tuple(verdict(asked, answer, self.state.seq) for asked in self.state.goal)
        return self.do(cmd.Conclude(plan=PLAN, verdicts=answers))

"""What people do with plans: apply a document, cancel, pause, resume, top up, steer a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from theory_api.domain import commands as cmd
from theory_api.domain.document import PlanDocument, read
from theory_api.domain.planning import Planned, resolve
from theory_api.domain.references import ATTACHMENTS, stand_in, substitute
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.values import ControlOp, Output, Policy
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.registry import Snapshots
from theory_api.ports.truth import IdempotencyRow
from theory_api.scheduler.answer import Answer
from theory_core import LIMITS, TheoryError, WorldPath, canonicalize, digest


class Submitter(Protocol):
    """The part of the scheduler that services need to change plans."""

    async def submit(
        self, command: cmd.Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        """Have a command judged; returns after its commit."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Bytes that a person hands over with a plan."""

    data: bytes
    mime: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a document came to."""

    plan: str
    created: bool
    """False when this very document had been applied before: the plan goes on as it is."""
    replayed: bytes | None = None
    """The stored answer of an earlier request with the same idempotency key."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked document, and what it stands for."""

    document: PlanDocument
    planned: Planned
    snapshot: RegistrySnapshot
    policy: Policy
    body: bytes
    """Canonical document and attachments' digests: what makes two applications the same."""


LARGE: Final = 1_000
"""Transitions of a document that is checked beside the loop, which serves others meanwhile."""


def _is_large(document: Mapping[str, Any]) -> bool:
    steps = document.get("transitions")
    return isinstance(steps, Mapping) and len(steps) > LARGE


class PlanCommands:
    """Every change of a plan goes through here, for web and command line alike."""

    def __init__(
        self,
        engine: Submitter,
        artifacts: ArtifactStore,
        snapshots: Snapshots,
        *,
        ci: bool,
        default_adapter: str = "process",
    ) -> None:
        self._engine = engine
        self._artifacts = artifacts
        self._snapshots = snapshots
        self._ci = ci
        self._default_adapter = default_adapter

    async def apply(
        self,
        document: Mapping[str, Any],
        *,
        tenant: str,
        by: str,
        attachments: Mapping[str, Attachment] | None = None,
        idempotency: IdempotencyRow | None = None,
    ) -> Applied:
        """Bring a plan into being, or find that this document did so before.

        Raises `TheoryError`: `ERR_PLAN_INVALID` with the place, `ERR_INPUTS` with the place,
        `ERR_NOT_FOUND` (processor, policy), `ERR_IMAGE_UNPINNED`, `ERR_CI_SAFETY`,
        `ERR_CONFLICT` (another document has this plan's name), `ERR_REGISTRY_MISMATCH` (it asks
        for another snapshot), and what the stores raise.
        """
        attached = dict(attachments or {})
        drafting = partial(self.draft, document, tenant=tenant, attached=attached)
        draft = await asyncio.to_thread(drafting) if _is_large(document) else drafting()
        outputs = [await self._attach(name, item) for name, item in sorted(attached.items())]
        stored = await self._artifacts.put(draft.body)
        for body in draft.planned.inputs.values():
            await self._artifacts.put(body)
        await self._snapshots.pin()
        command = cmd.CreatePlan(
            plan=draft.planned.plan,
            by=by,
            document=stored.cid,
            limit=draft.planned.limit,
            policy=draft.policy,
            lane=draft.document.lane,
            registry_snapshot=draft.snapshot.id,
            goal=draft.document.goal,
            invariants=draft.document.invariants,
            proposals=draft.planned.proposals,
            attachments=tuple(outputs),
        )
        answer = await self._engine.submit(command, idempotency=idempotency)
        return Applied(draft.planned.plan, bool(answer.events), answer.replayed)

    def draft(
        self, document: Mapping[str, Any], *, tenant: str, attached: Mapping[str, Attachment]
    ) -> Draft:
        """Check a document without any effect; raises what `apply` raises for its faults."""
        typed = read(document)
        snapshot = self._snapshots.current
        if typed.registry_snapshot not in {None, snapshot.id}:
            message = "the plan asks for another registry snapshot than the current one"
            raise TheoryError("ERR_REGISTRY_MISMATCH", message, {"snapshot": snapshot.id})
        for name in attached:
            _check_name(name)
        planned = resolve(
            typed,
            tenant=tenant,
            snapshot=snapshot,
            attached=attached,
            default_adapter=self._default_adapter,
        )
        self._guard_ci(typed)
        policy = snapshot.policy(typed.policy)
        for name, params in planned.params.items():
            spec = snapshot.processor(typed.transitions[name].processor_ref)
            filled = canonicalize({"schema": "v1", "params": substitute(params, stand_in)})
            try:
                spec.check_inputs(filled)
            except TheoryError as error:
                message = f"$.transitions.{name}.inputs: {error.message}"
                raise TheoryError(error.code, message, dict(error.detail)) from error
        digests = {name: digest(item.data) for name, item in sorted(attached.items())}
        body = canonicalize({"document": dict(document), "attachments": digests})
        if len(body) > LIMITS["request_body_bytes"]:
            raise TheoryError("ERR_TOO_LARGE", "the plan document is too large", {})
        return Draft(typed, planned, snapshot, policy, body)

    async def cancel(
        self, plan: str, *, by: str, reason: str, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        """Stop a plan; it is cancelled once every stop is confirmed. Again: no change."""
        command = cmd.CancelPlan(plan=plan, by=by, reason=reason)
        return await self._engine.submit(command, idempotency=idempotency)

    async def pause(self, plan: str, *, by: str, reason: str) -> Answer:
        """Admit nothing more until resumed; what runs goes on."""
        return await self._engine.submit(cmd.PausePlan(plan=plan, by=by, reason=reason))

    async def resume(self, plan: str, *, by: str, reason: str) -> Answer:
        """Admit again."""
        return await self._engine.submit(cmd.ResumePlan(plan=plan, by=by, reason=reason))

    async def topup(self, plan: str, *, by: str, amount: Mapping[str, int]) -> Answer:
        """Raise limits; clears a breach, and a plan that waits for budget goes on."""
        return await self._engine.submit(cmd.TopUp(plan=plan, by=by, amount=amount))

    async def control(
        self,
        plan: str,
        execution_id: str,
        op: ControlOp,
        *,
        by: str,
        reason: str,
        budget: Mapping[str, int] | None = None,
        idempotency: IdempotencyRow | None = None,
    ) -> Answer:
        """Steer one execution of a plan (spec: run.v1, Control); no change for one that has ended.

        Raises `TheoryError`: `ERR_CONFLICT` (its adapter cannot have it stand still; the budget
        would rise), `ERR_PLAN_INVALID` (a budget without its operation, or the other way round).
        """
        command = cmd.ControlExecution(
            plan=plan, by=by, reason=reason, execution_id=execution_id, op=op, budget=budget
        )
        return await self._engine.submit(command, idempotency=idempotency)

    def _guard_ci(self, document: PlanDocument) -> None:
        """Law: under CI nothing runs in mode real, and no adapter is asked."""
        if self._ci and any(entry.mode == "real" for entry in document.transitions.values()):
            raise TheoryError("ERR_CI_SAFETY", "Refusing to run mode=real in CI", {})

    async def _attach(self, name: str, item: Attachment) -> Output:
        blob = await self._artifacts.put(item.data)
        path = ATTACHMENTS + name
        return Output(path=path, cid=blob.cid, size_bytes=blob.size_bytes, mime=item.mime)


def _check_name(name: str) -> None:
    """An attachment's name is one canonical path segment."""
    try:
        path = WorldPath(ATTACHMENTS + name, root="/world/x/x")
    except TheoryError as error:
        message = f"an attachment cannot have this name: {error.message}"
        raise TheoryError(error.code, message, dict(error.detail)) from error
    if path.segments[-1] != name or len(path.segments) != 2:  # noqa: PLR2004
        message = "an attachment's name is one segment, in its canonical form"
        raise TheoryError("ERR_INPUTS", message, {"name": name[:64]})

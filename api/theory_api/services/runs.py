"""One-shot runs: an implicit plan of one transition, and its envelope exactly as it was stored."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from theory_api.domain.naming import RUN, RUN_PLAN
from theory_api.domain.registry import env_fingerprint
from theory_api.domain.values import Mode
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.registry import Snapshots
from theory_api.ports.truth import ReadModel
from theory_api.scheduler.proposing import AGAIN
from theory_api.services.plans import Attachment, PlanCommands
from theory_api.services.queries import Queries
from theory_core import TheoryError, error_envelope, is_name, loads_strict

TRANSITION: Final = RUN
"""The one transition of an implicit plan."""

_LONGEST_ID: Final = 59
"""So that `run-{execution_id}` is a plan's name."""

_LONGEST_REASON: Final = 768
"""Characters of a refusal's message that its envelope repeats."""

_POLICY: Final = "default@1"

_COSTS: Final = ("usd_micro", "tokens", "gpu_ms")
"""Dimensions that somebody pays for by the unit."""

_OWN: Final = frozenset({RUN, RUN + AGAIN})
"""Transitions of an implicit plan that are the run itself, not what it proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What one run asks for; None takes the default."""

    ref: str
    inputs: Mapping[str, Any]
    """The params, or `{"schema": "v1", "params": {…}}`."""
    mode: Mode = "mock"
    adapter: str | None = None
    lane: str = "build"
    execution_id: str | None = None
    write_prefix: str | None = None
    timeout_s: int | None = None
    attachments: Mapping[str, Attachment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    plan: str
    envelope: bytes
    """Canonical JSON (spec: envelope)."""
    status: Literal["success", "error"]
    error: TheoryError | None = None
    """The error of an error envelope, with its facts."""


class Runs:
    """Runs one processor under the tenant's default policy.

    Law: there is no way to an adapter past a plan: same admission, reservation, receipt, ledger.
    """

    def __init__(
        self,
        plans: PlanCommands,
        read: ReadModel,
        artifacts: ArtifactStore,
        snapshots: Snapshots,
        wait: Callable[[str], Awaitable[str]],
        *,
        ci: bool,
        platform: str,
    ) -> None:
        self._plans = plans
        self._read = read
        self._queries = Queries(read, artifacts)
        self._artifacts = artifacts
        self._snapshots = snapshots
        self._wait = wait
        self._ci = ci
        self._platform = platform

    async def run(self, request: RunRequest, *, tenant: str, by: str) -> RunOutcome:
        """Run to the end; a run that fails, or is refused, is an error envelope.

        The same execution id with the same request is the same run: it answers the stored
        envelope. Raises `TheoryError` only when the stores or the scheduler fail:
        `ERR_NOT_WRITER`, `ERR_UNAVAILABLE`, `ERR_STORAGE`, `ERR_INTERNAL`.
        """
        ident = request.execution_id or _fresh()
        plan = f"/world/{tenant}/{RUN_PLAN}{ident}"
        try:
            self._guard(request, ident)
            document = self._document(request, plan)
            await self._plans.apply(document, tenant=tenant, by=by, attachments=request.attachments)
        except TheoryError as error:
            if error.code in {"ERR_NOT_WRITER", "ERR_UNAVAILABLE", "ERR_STORAGE", "ERR_INTERNAL"}:
                raise
            return self._refused(request, plan, ident, error)
        await self._wait(plan)
        return await self._outcome(request, plan, ident)

    def _guard(self, request: RunRequest, ident: str) -> None:
        """Law: under CI nothing runs in mode real, and no adapter is asked."""
        if self._ci and request.mode == "real":
            raise TheoryError("ERR_CI_SAFETY", "Refusing to run mode=real in CI", {})
        if not is_name(ident) or len(ident) > _LONGEST_ID:
            message = (
                "invalid inputs payload: an execution id is [a-z0-9][a-z0-9._-]* without ..,"
                f" {_LONGEST_ID} characters at most"
            )
            raise TheoryError("ERR_INPUTS", message, {"reason": "execution_id"})

    def _document(self, request: RunRequest, plan: str) -> dict[str, Any]:
        """The implicit plan, under the budget of the default policy.

        Law: what costs and is not estimated is limited to nothing; a run that uses it all the same
        breaches its plan.
        """
        snapshot = self._snapshots.current
        spec = snapshot.processor(request.ref)
        allowed = snapshot.policy_spec(_POLICY).budget
        params = request.inputs
        if set(params) == {"schema", "params"} and params["schema"] == "v1":
            params = params["params"]
        if not isinstance(params, Mapping):
            message = "invalid inputs payload: inputs are an object of params"
            raise TheoryError("ERR_INPUTS", message, {"reason": "schema"})
        transition: dict[str, Any] = {
            "processor_ref": request.ref,
            "mode": request.mode,
            "inputs": dict(params),
        }
        optional = {
            "adapter": request.adapter,
            "write_prefix": request.write_prefix,
            "timeout_s": request.timeout_s,
        }
        transition |= {name: value for name, value in optional.items() if value is not None}
        return {
            "schema": "theory.plan.v1",
            "plan": plan,
            "lane": request.lane,
            "policy": _POLICY,
            "budget": dict.fromkeys(_COSTS, 0)
            | {name: allowed[name] for name in spec.estimate if name in allowed},
            "transitions": {TRANSITION: transition},
        }

    async def _outcome(self, request: RunRequest, plan: str, ident: str) -> RunOutcome:
        """The envelope of the run's newest attempt, or of the refusal that left none.

        Law: a run is a success if its plan is one: whatever it proposed belongs to it.
        """
        view = await self._queries.show(plan)
        own = [row for row in await self._read.executions(plan) if row.transition in _OWN]
        newest = max(own, key=lambda row: (row.transition, row.attempt)).envelope if own else None
        error = TheoryError("ERR_CANCELLED", "the run was cancelled", {})
        if view.error is not None:
            error = TheoryError(view.error.code, view.error.message, dict(view.error.detail))
        if not newest:
            return self._refused(request, plan, ident, error)
        envelope = await self._artifacts.get(newest)
        stored: Any = loads_strict(envelope)
        if stored["status"] == "success":
            if view.status == "completed":
                return RunOutcome(plan, envelope, "success")
            return self._refused(request, plan, ident, error)
        stated = stored["error"]
        return RunOutcome(
            plan, envelope, "error", TheoryError(stated["code"], stated["message"], {})
        )

    def _refused(
        self, request: RunRequest, plan: str, ident: str, error: TheoryError
    ) -> RunOutcome:
        """The envelope of work that never started."""
        envelope = error_envelope(
            ident if is_name(ident) else _fresh(),
            error.code,
            env_fingerprint=self._fingerprint(request),
            reason=" ".join(error.message.split())[:_LONGEST_REASON],
        )
        return RunOutcome(plan, envelope, "error", error)

    def _fingerprint(self, request: RunRequest) -> str:
        """The declared facts of a known processor; of an unknown one only the machine's."""
        try:
            spec = self._snapshots.current.processor(request.ref)
        except TheoryError:
            return f"cpu:unknown;memory:unknown;platform:{self._platform};runtime:unknown"
        return env_fingerprint(spec, platform=self._platform, mode=request.mode)


def _fresh() -> str:
    return f"x{uuid.uuid4().hex}"

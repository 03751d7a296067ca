"""One execution over HTTP: stop it, while its plan goes on."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, post
from litestar.params import FromPath, JSONBody

from theory_api.web.doors import InjectedDoors
from theory_api.web.idempotency import Key, row, stored
from theory_api.web.plans import owned
from theory_api.web.responses import WRITES

GOING_ON: Final = frozenset({"admitted", "running", "paused"})
"""Statuses of an execution that can still be stopped."""


class CancelExecution(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why an execution is stopped."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] = "cancelled over HTTP"


class ExecutionAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The execution stops; its transition is cancelled once the stop is confirmed."""

    plan: str
    execution_id: str
    status: str
    """`cancelling`, or how the execution had ended before: then nothing changes."""


class ExecutionController(Controller):
    """Executions of the caller's plans."""

    path = "/v1/plans/{tenant:str}/{plan:str}/executions/{execution_id:str}"
    tags = ("executions",)

    @post(
        "/cancel",
        operation_id="cancelExecution",
        summary="Stop one execution; its plan goes on",
        status_code=202,
        responses=WRITES,
    )
    async def cancel(
        self,
        request: Request[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        execution_id: FromPath[str],
        data: JSONBody[CancelExecution],
        doors: InjectedDoors,
        idempotency_key: Key = None,
    ) -> ExecutionAccepted:
        """Accepted; `transition.cancelled` follows when the stop is confirmed. Never retried."""
        path = owned(doors, tenant, plan)
        standing = await doors.watching.state(path, execution_id)
        status = "cancelling" if standing in GOING_ON else standing
        answer = ExecutionAccepted(plan=path, execution_id=execution_id, status=status)
        once = row(request, idempotency_key, doors, answer=msgspec.to_builtins(answer))
        decided = await doors.plans.control(
            path,
            execution_id,
            "cancel",
            by=doors.principal,
            reason=data.reason,
            idempotency=once,
        )
        if decided.replayed is not None:
            return msgspec.convert(stored(decided.replayed), ExecutionAccepted)
        return answer

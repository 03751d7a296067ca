"""Plans over HTTP: create, list, show, why, cancel."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from theory_api.domain.planning import plan_path
from theory_api.services.plans import Attachment
from theory_api.services.queries import address
from theory_api.services.views import PlanPage, PlanView, PlanWhy
from theory_api.web.doors import Doors, InjectedDoors
from theory_api.web.idempotency import Key, row, stored
from theory_api.web.openapi import PlanOperation
from theory_api.web.responses import READS, WRITES
from theory_core import TheoryError


class AttachmentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes handed over with a plan: exactly one of `base64` and `text`."""

    mime: Annotated[
        str, msgspec.Meta(pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+(; ?charset=utf-8)?$", max_length=127)
    ] = "application/octet-stream"
    base64: str | None = None
    text: str | None = None


class PlanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan document `theory.plan.v1` and what is attached to it."""

    document: dict[str, Any]
    attachments: dict[str, AttachmentBody] = {}


class PlanAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The plan that a document stands for."""

    plan: str
    created: bool
    """False when this very document had been applied before."""


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a plan is stopped."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] = "cancelled over HTTP"


class CancelAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The plan stops; it is cancelled once every stop is confirmed."""

    plan: str
    status: Literal["cancelling"] = "cancelling"


_CREATED_BEFORE: Final = ResponseSpec(
    PlanAccepted, description="This document had been applied before.", generate_examples=False
)


class PlanController(Controller):
    """Plans of the caller's tenant."""

    path = "/v1/plans"
    tags = ("plans",)

    @post(
        "/",
        operation_id="createPlan",
        summary="Create a plan, or find that this document did so before",
        operation_class=PlanOperation,
        responses={**WRITES, 200: _CREATED_BEFORE},
    )
    async def create(
        self,
        request: Request[Any, Any, Any],
        data: JSONBody[PlanRequest],
        doors: InjectedDoors,
        idempotency_key: Key = None,
    ) -> Response[PlanAccepted]:
        """201 for a new plan, 200 for one that this document created before."""
        attachments = {name: _bytes(name, item) for name, item in data.attachments.items()}
        expected = await _expected(data.document.get("plan"), doors)
        once = row(request, idempotency_key, doors, answer=msgspec.to_builtins(expected))
        applied = await doors.plans.apply(
            data.document,
            tenant=doors.tenant,
            by=doors.principal,
            attachments=attachments,
            idempotency=once,
        )
        answer = PlanAccepted(plan=applied.plan, created=applied.created)
        if applied.replayed is not None:
            answer = msgspec.convert(stored(applied.replayed), PlanAccepted)
        elif once is not None:
            answer = expected
        return Response(
            answer,
            status_code=201 if answer.created else 200,
            headers={"location": f"/v1/plans/{answer.plan.removeprefix('/world/')}"},
        )

    @get("/", operation_id="listPlans", summary="List plans", responses=READS)
    async def index(
        self,
        doors: InjectedDoors,
        after: Annotated[str | None, QueryParameter(description="`next` of a page")] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
        status: Annotated[str | None, QueryParameter(pattern=r"^[a-z]{1,16}$")] = None,
    ) -> PlanPage:
        """A page of the tenant's plans, ordered by path."""
        return await doors.queries.plans(
            tenant=doors.tenant, status=status, after=after, limit=limit
        )

    @get(
        "/{tenant:str}/{plan:str}",
        operation_id="showPlan",
        summary="A plan with its budget, transitions and outputs",
        responses=READS,
    )
    async def show(
        self, tenant: FromPath[str], plan: FromPath[str], doors: InjectedDoors
    ) -> PlanView:
        """The plan as it stands."""
        return await doors.queries.show(owned(doors, tenant, plan))

    @get(
        "/{tenant:str}/{plan:str}/why",
        operation_id="whyPlan",
        summary="Why transitions have not succeeded yet",
        responses=READS,
    )
    async def why(
        self, tenant: FromPath[str], plan: FromPath[str], doors: InjectedDoors
    ) -> PlanWhy:
        """The first failing condition of each transition that waits, in words."""
        return await doors.queries.why(owned(doors, tenant, plan))

    @post(
        "/{tenant:str}/{plan:str}/cancel",
        operation_id="cancelPlan",
        summary="Stop a plan",
        status_code=202,
        responses=WRITES,
    )
    async def cancel(
        self,
        request: Request[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        data: JSONBody[CancelRequest],
        doors: InjectedDoors,
        idempotency_key: Key = None,
    ) -> CancelAccepted:
        """Accepted; `plan.cancelled` follows when every stop is confirmed."""
        answer = CancelAccepted(plan=owned(doors, tenant, plan))
        once = row(request, idempotency_key, doors, answer=msgspec.to_builtins(answer))
        await doors.plans.cancel(
            answer.plan, by=doors.principal, reason=data.reason, idempotency=once
        )
        return answer


def owned(doors: Doors, tenant: str, plan: str) -> str:
    """The plan's path; a plan of another tenant is as if it were not there."""
    if tenant != doors.tenant:
        raise TheoryError("ERR_NOT_FOUND", "no such plan", {})
    return address(f"/world/{tenant}/{plan}")


async def _expected(name: object, doors: Doors) -> PlanAccepted:
    """What applying will answer, known before it commits: the answer a repetition gets, too."""
    plan = plan_path(name, doors.tenant) if isinstance(name, str) else ""
    try:
        await doors.queries.row(plan)
    except TheoryError as error:
        if error.code != "ERR_NOT_FOUND":
            raise
        return PlanAccepted(plan=plan, created=True)
    return PlanAccepted(plan=plan, created=False)


def _bytes(name: str, item: AttachmentBody) -> Attachment:
    if (item.base64 is None) == (item.text is None):
        message = "invalid inputs payload: an attachment has either base64 or text"
        raise TheoryError("ERR_INPUTS", message, {"attachment": name[:64]})
    if item.text is not None:
        return Attachment(item.text.encode(), item.mime)
    try:
        data = base64.b64decode(item.base64 or "", validate=True)
    except binascii.Error as error:
        message = "invalid inputs payload: an attachment's base64 cannot be decoded"
        raise TheoryError("ERR_INPUTS", message, {"attachment": name[:64]}) from error
    return Attachment(data, item.mime)

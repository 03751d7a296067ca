"""Whether this server can serve, and what it serves."""

from __future__ import annotations

import msgspec
from litestar import get

from theory_api.web.doors import Doors, InjectedDoors
from theory_api.web.responses import HEALTH, READY


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What a server that is ready serves."""

    ok: bool
    shards: list[str]
    """Parts of the ledger whose plans this process decides about; requests for all are taken."""
    faults: dict[str, str]
    """Shard -> code of what last kept this process from serving it."""
    aside: int
    """How many of its plans are refused: their ledgers are not what was written; the log and
    `theory ledger verify` name them."""
    verified_age_s: float | None
    """Seconds since the last walk ended that verified every ledger of its shards from the first
    byte; null before the first one has."""


@get(
    "/healthz",
    operation_id="health",
    summary="Whether the scheduler serves",
    tags=["health"],
    responses=HEALTH,
    security=[],
)
async def healthz(doors: InjectedDoors) -> dict[str, bool]:
    """`{"ok": true}`, or 503 with the reason."""
    _check(doors)
    return {"ok": True}


@get(
    "/readyz",
    operation_id="ready",
    summary="Which shards this process serves",
    tags=["health"],
    responses=READY,
)
async def readyz(doors: InjectedDoors) -> Ready:
    """The shards, or 503 with the reason."""
    _check(doors)
    served = doors.served()
    return Ready(
        ok=True,
        shards=list(served.shards),
        faults=dict(served.faults),
        aside=served.aside,
        verified_age_s=served.verified_age_s,
    )


def _check(doors: Doors) -> None:
    reason = doors.unready()
    if reason is not None:
        raise reason

"""Whether this server can serve."""

from __future__ import annotations

from litestar import get

from theory_api.web.doors import InjectedDoors
from theory_api.web.responses import HEALTH


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
    reason = doors.unready()
    if reason is not None:
        raise reason
    return {"ok": True}

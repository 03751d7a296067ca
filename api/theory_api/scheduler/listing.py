"""List what lies below a path, as a run is told of it: bounded, in the order of its paths."""

from __future__ import annotations

from typing import Any, Final

from theory_api.domain.values import Output
from theory_api.ports.truth import ArtifactRow
from theory_api.ports.world import World
from theory_core import LIMITS, TheoryError

MOST: Final = LIMITS["page_items"]
"""Artifacts that one reference lists."""

RECORDS: Final = "/artifacts/execution/"
"""What the orchestrator keeps of executions; a listing of what lies above leaves it out, or no two
listings of the same work would be the same."""

_LAST: Final = "\U0010ffff"
"""Behind every segment of the grammar, bytewise."""


async def listing(world: World, plan: str, prefix: str) -> list[dict[str, Any]]:
    """`{path, cid, size_bytes, mime}` of every artifact below `prefix`, ordered by path (bytewise).

    Raises `TheoryError` `ERR_TOO_LARGE` for more than `MOST`, and what the world raises.
    """
    rows: list[ArtifactRow] = []
    after, inside = "", prefix.startswith(RECORDS)
    while page := await world.artifacts(plan, prefix, after=after, limit=MOST):
        after = page[-1].path
        rows.extend(row for row in page if inside or not row.path.startswith(RECORDS))
        if not inside and after.startswith(RECORDS):
            after = RECORDS + _LAST
        if len(rows) > MOST:
            message = f"more than {MOST} artifacts lie below {prefix[:512]}: name a longer path"
            raise TheoryError("ERR_TOO_LARGE", message, {"path": prefix[:512], "limit": MOST})
    return [shape(row) for row in rows]


def shape(row: ArtifactRow | Output) -> dict[str, Any]:
    """An artifact as inputs name it."""
    return {"path": row.path, "cid": row.cid, "size_bytes": row.size_bytes, "mime": row.mime}

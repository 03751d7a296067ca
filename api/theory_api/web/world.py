"""The World over HTTP: what stands at any address of the caller's plans."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Controller, Request, get
from litestar.params import FromPath, QueryParameter

from theory_api.services.views import WorldView
from theory_api.web.doors import InjectedDoors
from theory_api.web.responses import READS
from theory_core import TheoryError, WorldPath

_MARK: Final = b"/v1/world/"


class WorldController(Controller):
    """Addresses of the World."""

    path = "/v1/world"
    tags = ("world",)

    @get(
        "/{path:path}",
        operation_id="getWorld",
        summary="What stands at an address: /{tenant}/{plan}/{facet}/…",
        responses=READS,
    )
    async def read(
        self,
        request: Request[Any, Any, Any],
        path: FromPath[str],  # noqa: ARG002 - decoded; the raw one is read
        doors: InjectedDoors,
        after: Annotated[str, QueryParameter(description="`next_after` of a page")] = "",
    ) -> WorldView:
        """A part of a plan, an event, an artifact or a stream; a list where the path ends in /."""
        asked = _asked(request)
        if WorldPath(asked).tenant != doors.tenant:
            raise TheoryError("ERR_NOT_FOUND", "nothing stands at this address", {})
        return await doors.worlds.at(asked, after=after)


def _asked(request: Request[Any, Any, Any]) -> str:
    """The absolute path as it came, still encoded: it is decoded once, by its grammar."""
    _, _, rest = request.scope["raw_path"].partition(_MARK)
    try:
        return "/world/" + rest.decode("ascii")
    except UnicodeDecodeError as error:
        message = "a path in an address is percent-encoded ASCII"
        raise TheoryError("ERR_PERCENT_DECODE", message, {}) from error

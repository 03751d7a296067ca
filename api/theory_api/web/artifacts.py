"""Artifacts over HTTP: bytes by path, named by their digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from litestar import Controller, MediaType, Request, Response, get, head
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from theory_api.services.queries import Content
from theory_api.services.views import ArtifactPage
from theory_api.web.doors import InjectedDoors
from theory_api.web.openapi import ArtifactOperation
from theory_api.web.plans import owned
from theory_api.web.responses import READS
from theory_core import TheoryError

_MARK: Final = b"/artifacts/"


class ArtifactController(Controller):
    """What a plan's executions wrote, and what was attached to it."""

    path = "/v1/plans/{tenant:str}/{plan:str}/artifacts"
    tags = ("artifacts",)

    @get("/", operation_id="listArtifacts", summary="All artifacts of a plan", responses=READS)
    async def index(
        self,
        tenant: FromPath[str],
        plan: FromPath[str],
        doors: InjectedDoors,
        after: Annotated[str, QueryParameter(description="`next_after` of a page")] = "",
    ) -> ArtifactPage:
        """A page of artifacts, ordered by path."""
        return await doors.queries.artifacts(owned(doors, tenant, plan), after=after)

    @get(
        "/{path:path}",
        operation_id="getArtifact",
        summary="The bytes of an artifact, or the list below a path that ends in /",
        operation_class=ArtifactOperation,
        responses=READS,
    )
    async def read(
        self,
        request: Request[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        path: FromPath[str],  # noqa: ARG002 - decoded; the raw one is read
        doors: InjectedDoors,
        after: Annotated[str, QueryParameter(description="`next_after` of a page")] = "",
    ) -> Stream | Response[ArtifactPage] | Response[bytes]:
        """The digest stands in `ETag`; what a browser gets is sandboxed."""
        address = owned(doors, tenant, plan)
        below = _asked(request)
        if below.endswith("/"):
            return Response(await doors.queries.artifacts(address, below, after=after))
        content = await doors.queries.artifact(address, below)
        if _unchanged(request, content.artifact.cid):
            return Response(b"", status_code=304, headers=_headers(content))
        pieces = content.stream(0, None)
        # Nothing is sent before the first piece is there: what fits one piece is verified by then.
        first = await anext(pieces, b"")
        return Stream(_chained(first, pieces), headers=_headers(content, whole=True))

    @head(
        "/{path:path}",
        operation_id="headArtifact",
        summary="Size, media type and digest of an artifact",
        responses=READS,
    )
    async def stat(
        self,
        request: Request[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        path: FromPath[str],  # noqa: ARG002 - decoded; the raw one is read
        doors: InjectedDoors,
    ) -> Response[None]:
        """The headers of the same GET."""
        content = await doors.queries.artifact(owned(doors, tenant, plan), _asked(request))
        return Response(None, media_type=MediaType.TEXT, headers=_headers(content, whole=True))


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _asked(request: Request[Any, Any, Any]) -> str:
    """The plan-relative path as it came, still encoded: it is decoded once, by its grammar."""
    raw = request.scope["raw_path"]
    _, mark, rest = raw.partition(_MARK)
    try:
        return "/artifacts/" + rest.decode("ascii") if mark else ""
    except UnicodeDecodeError as error:
        message = "a path in an address is percent-encoded ASCII"
        raise TheoryError("ERR_PERCENT_DECODE", message, {}) from error


def _unchanged(request: Request[Any, Any, Any], cid: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/") == f'"{cid}"' for tag in given.split(","))


def _headers(content: Content, *, whole: bool = False) -> dict[str, str]:
    """Headers of an artifact; with `whole` those of its bytes, the stored media type as it is."""
    headers = {
        "etag": f'"{content.artifact.cid}"',
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "accept-ranges": "none",
    }
    if whole:
        headers["content-type"] = content.artifact.mime
        headers["content-length"] = str(content.artifact.size_bytes)
    return headers

"""What the OpenAPI document cannot read from signatures: other media types and statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from litestar import Router
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

_DESCRIPTION: Final = """\
Plans, budgets and a ledger around containerised work.

Errors are RFC 9457 problem details with a stable `code`. A POST takes an `Idempotency-Key`: the
same key with the same request answers the first answer again. The events address of a plan is also
a WebSocket: one text frame `{event, hash}` an event after `?after=N`. Close codes: 1000 the plan
ended, 1008 the client sent something, 1011 the plan is set aside, 1012 the server stops, 1013 the
reader is too slow; after 1012 and 1013 connect again with the last seq.
"""


def config(version: str) -> OpenAPIConfig:
    """The document's frame; it is served at `/schema/openapi.json`."""
    return OpenAPIConfig(
        title="Theory",
        version=version,
        description=_DESCRIPTION,
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, guards=[_document_alone]
        ),
        render_plugins=[JsonRenderPlugin()],
        components=Components(
            security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}
        ),
        security=[{"key": []}],
        use_handler_docstrings=True,
    )


def _document_alone(connection: ASGIConnection[Any, Any, Any, Any], _handler: object) -> None:
    """The framework's pages beside the document are not served."""
    if connection.scope["path"] != "/schema/openapi.json":
        raise NotFoundException


@dataclass
class PlanOperation(Operation):
    """A plan document may come as YAML as well."""

    def __post_init__(self) -> None:
        """Add the second media type of the body."""
        if isinstance(self.request_body, RequestBody):
            yaml = Schema(type=OpenAPIType.STRING, description="The plan document alone, as YAML.")
            self.request_body.content["application/yaml"] = OpenAPIMediaType(schema=yaml)


@dataclass
class ArtifactOperation(Operation):
    """An artifact's own media type, a listing, or 304."""

    def __post_init__(self) -> None:
        """Describe the bytes beside the listing."""
        responses = self.responses or {}
        found = responses.get("200")
        if isinstance(found, OpenAPIResponse) and found.content is not None:
            found.description = "The bytes; a listing where the path ends in /."
            binary = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
            found.content["application/octet-stream"] = OpenAPIMediaType(schema=binary)
        responses["304"] = OpenAPIResponse(description="`If-None-Match` names its digest.")

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from theory_api.services.views import PlanPage
from theory_api.web.app import create_app, litestar
from theory_api.web.doors import Doors
from theory_core import ERROR_CODES, TheoryError, loads_strict

KEY = "0123456789abcdef0123456789abcdef"


class Failing:
    """A service whose every answer is the given exception, until it is None."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: dict[str, Any] = {}

    async def plans(self, **asked: object) -> PlanPage:
        self.asked = asked
        if self.error is not None:
            raise self.error
        return PlanPage(plans=[], next=None)


@pytest.fixture
def service() -> Failing:
    return Failing()


@pytest.fixture
def doors(service: Failing) -> Doors:
    stub: Any = service
    return Doors(
        plans=stub,
        queries=stub,
        ledgers=stub,
        worlds=stub,
        engine=stub,
        watching=stub,
        key=KEY,
        tenant="local",
        principal="local",
        unready=lambda: None if service.error is None else TheoryError("ERR_UNAVAILABLE", "no", {}),
        version="0.1.0",
    )


@pytest.fixture
async def client(doors: Doors) -> AsyncIterator[httpx.AsyncClient]:
    app: Any = create_app(doors)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:8000", headers=headers
    ) as opened:
        yield opened


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: Any = loads_strict(response.content)
    assert set(body) == {"type", "title", "status", "detail", "code", "remedy", "facts"}
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:theory:error:{body['code']}"
    return dict(body)


@pytest.mark.scenario(8, 97)
@pytest.mark.parametrize("code", sorted(ERROR_CODES))
async def test_every_code_has_its_one_status_over_http(
    client: httpx.AsyncClient, service: Failing, code: str
) -> None:
    service.error = TheoryError(code, "what happened", {"fact": 1})
    response = await client.get("/v1/plans")
    body = problem(response)
    assert response.status_code == ERROR_CODES[code].status
    assert ("retry-after" in response.headers) == (response.status_code in {429, 503})
    assert (body["code"], body["detail"], body["facts"]) == (code, "what happened", {"fact": 1})


@pytest.mark.scenario(95, 97)
async def test_a_fault_inside_tells_nothing_of_the_inside(
    client: httpx.AsyncClient, service: Failing
) -> None:
    service.error = RuntimeError("secret-canary at /srv/theory/theory.db")
    response = await client.get("/v1/plans")
    assert problem(response)["code"] == "ERR_INTERNAL"
    assert response.status_code == 500
    assert "canary" not in response.text
    assert "/srv" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.scenario(95)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/absent-canary",
        "/v1/plans/a/b/c/d",
        "/schema",
        "/schema/canary",
        "/schema/a/b",
    ],
)
async def test_an_unknown_address_is_404_and_is_not_repeated(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert problem(response)["code"] == "ERR_NOT_FOUND"
    assert "canary" not in response.text


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/plans"), ("PUT", "/healthz")])
async def test_a_wrong_method_is_405_and_names_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert problem(response)["facts"] == {"reason": "method"}
    assert "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=1001", "limit=1000000000", "limit=x", "limit=1.5"]
)
async def test_a_limit_out_of_range_is_400(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/v1/plans?{query}")
    assert response.status_code == 400
    assert problem(response)["code"] == "ERR_INPUTS"


@pytest.mark.scenario(49, 95)
@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({}, "document"),
        ({"document": []}, "object"),
        ({"document": {}, "canary-member": 1}, ""),
        ({"document": {}, "attachments": {"a": {"mime": "canary value"}}}, ""),
        ({"document": {}, "attachments": {"a": {}}}, "base64 or text"),
        ({"document": {}, "attachments": {"a": {"text": "x", "base64": ""}}}, "base64 or text"),
        ({"document": {}, "attachments": {"a": {"base64": "canary"}}}, "base64"),
        ([], "object"),
        ("canary", "object"),
    ],
)
async def test_a_body_that_does_not_fit_is_400_without_what_was_sent(
    client: httpx.AsyncClient, body: object, fragment: str
) -> None:
    response = await client.post("/v1/plans", json=body)
    found = problem(response)
    assert (response.status_code, found["code"]) == (400, "ERR_INPUTS")
    assert fragment in found["detail"]
    assert "canary" not in response.text


@pytest.mark.scenario(17)
async def test_health_says_ok_or_why_not(client: httpx.AsyncClient, service: Failing) -> None:
    response = await client.get("/healthz", headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, {"ok": True})
    service.error = RuntimeError()
    response = await client.get("/healthz")
    assert (response.status_code, problem(response)["code"]) == (503, "ERR_UNAVAILABLE")


async def test_who_has_the_key_is_told_what_is_served(client: httpx.AsyncClient) -> None:
    ready = {"ok": True, "shards": [], "faults": {}, "aside": 0, "verified_age_s": None}
    assert (await client.get("/readyz")).json() == ready
    assert (await client.get("/readyz", headers={"authorization": ""})).status_code == 401


async def test_the_openapi_document_is_served_to_who_has_the_key(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/schema/openapi.json")
    assert response.status_code == 200
    assert response.json()["openapi"].startswith("3.1")
    response = await client.get("/schema/openapi.json", headers={"authorization": ""})
    assert response.status_code == 401


def test_every_operation_is_named_tagged_and_declares_its_problems(doors: Doors) -> None:
    document = litestar(doors).openapi_schema.to_schema()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == 14
    for operation in operations:
        assert operation["tags"]
        assert operation["summary"]
        errors = {
            status: response
            for status, response in operation["responses"].items()
            if int(status) >= 400
        }
        assert "500" in errors
        for response in errors.values():
            assert set(response["content"]) == {"application/problem+json"}
            reference = response["content"]["application/problem+json"]["schema"]["$ref"]
            assert reference == "#/components/schemas/Problem"


def test_the_second_media_types_and_headers_are_declared(doors: Doors) -> None:
    paths = litestar(doors).openapi_schema.to_schema()["paths"]
    create = paths["/v1/plans"]["post"]
    assert set(create["requestBody"]["content"]) == {"application/json", "application/yaml"}
    assert "Idempotency-Key" in {item["name"] for item in create["parameters"]}
    read = paths["/v1/plans/{tenant}/{plan}/artifacts/{path}"]["get"]
    assert "application/octet-stream" in read["responses"]["200"]["content"]
    assert "304" in read["responses"]

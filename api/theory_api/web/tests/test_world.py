"""Addresses of the World over HTTP: handed on as they came, within the tenant of the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from theory_api.services.views import WorldView
from theory_api.web.app import create_app
from theory_api.web.doors import Doors
from theory_core import TheoryError, WorldPath

KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Asked:
    """Stands for the World and keeps what it was asked."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    async def at(self, path: str, *, after: str = "") -> WorldView:
        self.asked.append((path, after))
        world = WorldPath(path)
        if world.plan == "ghost":
            raise TheoryError("ERR_NOT_FOUND", "no such plan", {})
        value: dict[str, Any] = {"streams": [], "next_after": None}
        return WorldView(path=str(world), uri=world.uri, kind="streams", value=value)


@pytest.fixture
def world() -> Asked:
    return Asked()


@pytest.fixture
async def client(world: Asked) -> AsyncIterator[httpx.AsyncClient]:
    absent: Any = None
    stub: Any = world
    doors = Doors(
        plans=absent,
        queries=absent,
        ledgers=absent,
        worlds=stub,
        engine=absent,
        watching=absent,
        key=KEY,
        tenant="local",
        principal="local",
        unready=lambda: None,
        version="0.1.0",
    )
    app: Any = create_app(doors)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://127.0.0.1:8000",
        headers={"authorization": f"Bearer {KEY}"},
    ) as opened:
        yield opened


async def test_an_address_is_handed_on_as_it_came_and_decoded_once(
    client: httpx.AsyncClient, world: Asked
) -> None:
    answer = await client.get("/v1/world/local/p1/streams/caf%C3%A9/", params={"after": "7"})
    assert answer.status_code == 200
    assert answer.json() == {
        "path": "/world/local/p1/streams/café/",
        "uri": "world://local/p1/streams/café/",
        "kind": "streams",
        "value": {"streams": [], "next_after": None},
    }
    assert world.asked == [("/world/local/p1/streams/caf%C3%A9/", "7")]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("beta/p1/streams/a", 404, "ERR_NOT_FOUND"),
        ("local/ghost/plan", 404, "ERR_NOT_FOUND"),
        ("local/p1/nothing/a", 400, "ERR_BAD_FACET"),
        ("local/p1/streams/a%2Fb", 400, "ERR_DECODED_SLASH"),
        ("local/p1/streams/%252e", 400, "ERR_PERCENT_DECODE"),
        ("local/p1/streams/%2E%2E/plan", 400, "ERR_DOT_SEGMENTS"),
        ("local/p1", 400, "ERR_BAD_FACET"),
    ],
)
async def test_what_is_no_address_of_the_tenant_has_its_code(
    client: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await client.get(f"/v1/world/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_nobody_asks_without_the_key(client: httpx.AsyncClient, world: Asked) -> None:
    answer = await client.get("/v1/world/local/p1/plan", headers={"authorization": "Bearer x"})
    assert (answer.status_code, world.asked) == (401, [])

"""Gateways over TCP: who knows the name gets in, everybody else sees the same nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.doors import Door, Doors
from theory_api.adapters.run_v1.gateway import Gateway
from theory_api.ports.intake import InputArtifact
from theory_core import TheoryError, digest

INPUT = b"input" * 1000


@dataclass
class House:
    """Two executions with a door each, on one port."""

    doors: Doors
    intakes: MemoryIntakes
    one: Door
    other: Door
    client: httpx.AsyncClient

    def received(self, name: str) -> list[str]:
        return [object_.relpath for object_ in self.intakes.received(name)]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    blob = await artifacts.put(INPUT)
    declared = InputArtifact("/artifacts/in", blob.cid, blob.size_bytes, "text/plain")
    for name, inputs in (("x1", (declared,)), ("x2", ())):
        prefix = f"/artifacts/outputs/test-deeds-v1/{name}/"
        await intakes.open(
            name, plan="/world/acme/p1", write_prefix=prefix, inputs=inputs, max_bytes=1000
        )
    doors = await Doors.listen()
    made = House(
        doors,
        intakes,
        doors.open(Gateway("x1", intakes)),
        doors.open(Gateway("x2", intakes)),
        httpx.AsyncClient(trust_env=False),
    )
    yield made
    await made.client.aclose()
    await doors.close()
    await doors.close()


async def test_what_is_put_through_a_door_arrives_at_its_execution_alone(house: House) -> None:
    answer = await house.client.put(house.one.url + "outputs/a", content=b"a")
    assert (answer.status_code, answer.json()["cid"]) == (201, digest(b"a"))
    assert house.received("x1") == ["outputs/a"]
    assert house.received("x2") == []


async def test_an_input_is_read_by_whoever_declared_it(house: House) -> None:
    entry = {"path": "/artifacts/in", "cid": digest(INPUT), "size_bytes": 5000, "mime": "a/b"}
    document = {
        "schema": "v1",
        "params": {"deep": [{"file": {**entry, "url": f"/inputs/{digest(INPUT)}"}}], "n": 1},
    }
    led = house.one.inputs(document)
    artifact = led["params"]["deep"][0]["file"]
    assert {**artifact, "url": ""} == {**entry, "url": ""}
    assert (await house.client.get(artifact["url"])).content == INPUT
    elsewhere = house.other.inputs(document)["params"]["deep"][0]["file"]["url"]
    assert (await house.client.get(elsewhere)).status_code == 404
    assert document["params"]["deep"][0]["file"]["url"].startswith("/inputs/")  # type: ignore[index]


@pytest.mark.scenario(90)
async def test_without_the_name_there_is_nothing(house: House) -> None:
    base, _, token = house.one.base.rpartition("/")
    guesses = ["", "/objects/outputs/a", f"/{token[:-1]}/objects/outputs/a", f"/{token}"]
    answers = [await house.client.put(base + guess, content=b"x" * 9) for guess in guesses]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (404, answers[0].content)
    }
    assert house.received("x1") == []


@pytest.mark.scenario(63)
async def test_a_door_that_was_shut_takes_nothing_more(house: House) -> None:
    house.doors.shut(house.one)
    house.doors.shut(house.one)
    answer = await house.client.put(house.one.url + "outputs/a", content=b"a")
    assert answer.status_code == 404
    answer = await house.client.put(house.other.url + "outputs/a", content=b"a")
    assert answer.status_code == 201


async def test_names_are_long_and_never_the_same_and_not_shown(house: House) -> None:
    tokens = [
        house.doors.open(Gateway("x1", house.intakes)).base.rpartition("/")[2] for _ in range(50)
    ]
    assert len(set(tokens)) == 50
    assert min(map(len, tokens)) >= 43
    assert house.one.base not in repr(house.one)


async def test_a_door_can_be_reached_under_another_url(house: House) -> None:
    doors = await Doors.listen(public_url="https://theory.example/gateway/")
    door = doors.open(Gateway("x1", house.intakes))
    assert door.url.startswith("https://theory.example/gateway/")
    assert door.url.endswith("/objects/")
    await doors.close()


@pytest.mark.parametrize("url", ["ftp://host", "https://user:word@host", "host"])
async def test_another_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TheoryError) as caught:
        await Doors.listen(public_url=url)
    assert caught.value.code == "ERR_ADAPTER_INVOCATION"


async def test_a_port_that_is_taken_is_told(house: House) -> None:
    port = int(house.one.base.split(":")[2].split("/")[0])
    with pytest.raises(TheoryError) as caught:
        await Doors.listen(port=port)
    assert caught.value.code == "ERR_ADAPTER_INVOCATION"

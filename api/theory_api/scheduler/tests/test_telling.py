"""What a run is told of the world: what is there when it is admitted, stamped and bounded."""

# ruff: noqa: ANN401 - documents hold anything

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from theory_api.ports.truth import ArtifactRow
from theory_api.scheduler import listing as listings
from theory_api.scheduler.listing import MOST, RECORDS, listing
from theory_api.scheduler.tests.bench import House, data_of, settle, step
from theory_core import LIMITS, TheoryError, canonicalize, digest, inputs_hash

PLAN = "/world/acme/p1"
WORLD = {"$world": "/artifacts/"}
EXISTS = {"name": "artifact.exists@1", "params": {"path": "/artifacts/film/"}}
FILM = "/artifacts/film/{execution_id}/"


class Shelf:
    """A world of paths, which says how often it was asked."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = sorted(paths, key=str.encode)
        self.asked = 0

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        raise NotImplementedError((plan, path))

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        assert (plan, limit <= LIMITS["page_items"]) == (PLAN, True)
        self.asked += 1
        below = (path for path in self._paths if path.startswith(prefix))
        found = [path for path in below if path.encode() > after.encode()]
        return [
            ArtifactRow(path, digest(path.encode()), 1, "text/plain", None, 1)
            for path in found[:limit]
        ]


async def paths(shelf: Shelf, prefix: str = "/artifacts/") -> list[str]:
    return [entry["path"] for entry in await listing(shelf, PLAN, prefix)]


@pytest.mark.parametrize("count", [0, 1, MOST - 1, MOST])
async def test_a_list_holds_everything_below_a_path_in_bytewise_order(count: int) -> None:
    names = [f"/artifacts/a/{number:04d}-\u00e9" for number in range(count)]
    assert await paths(Shelf([*names, "/artifacts/b"]), "/artifacts/a/") == names


async def test_more_than_a_list_can_hold_is_refused() -> None:
    shelf = Shelf(f"/artifacts/a/{number}" for number in range(MOST + 1))
    with pytest.raises(TheoryError) as caught:
        await listing(shelf, PLAN, "/artifacts/a/")
    assert caught.value.code == "ERR_TOO_LARGE"
    assert caught.value.detail == {"path": "/artifacts/a/", "limit": MOST}


async def test_the_records_of_executions_are_listed_only_where_they_are_asked_for() -> None:
    records = [f"{RECORDS}x{number}/trace.jsonl" for number in range(3 * MOST)]
    others = ["/artifacts/attachments/a", "/artifacts/execution-like", "/artifacts/execution0"]
    shelf = Shelf([*records, *others])
    assert await paths(shelf) == sorted(others)
    assert shelf.asked <= 3, "records are jumped over, not read"
    assert await paths(shelf, f"{RECORDS}x7/") == [f"{RECORDS}x7/trace.jsonl"]


async def test_a_run_is_told_what_is_there_and_may_read_none_of_it() -> None:
    async with House() as house:
        given = {"text": {"$attach": "text"}, "there": WORLD, "goal": {"$verdict": EXISTS}}
        plan = await house.apply({"a": step(inputs=given)}, text=b"the text")
        assert await house.ended(plan) == "completed"
        (run,) = house.processors.runs.values()
        (started,) = await data_of(house, plan, "execution.started")
        (consumed,) = await data_of(house, plan, "artifact.consumed")
        stamps = await data_of(house, plan, "predicate.checked")
    path, cid = "/artifacts/attachments/text", digest(b"the text")
    text = {"path": path, "cid": cid, "size_bytes": 8, "mime": "text/plain"}
    told = EXISTS | {"verdict": "false", "reason": "0 of 1 below /artifacts/film/"}
    assert run.params["there"] == [text]
    assert run.params["goal"] == told
    assert run.params["text"] == text | {"url": f"/inputs/{cid}"}
    assert [entry["path"] for entry in consumed["inputs"]] == [path]
    seen = {"text": {"cid": cid}, "there": [text], "goal": told}
    assert started["inputs_hash"] == inputs_hash({"schema": "v1", "params": seen})
    assert {stamp["verdict"]["name"]: stamp["verdict"]["reason"] for stamp in stamps} == {
        "world.listed@1": f"1 below /artifacts/, {digest(canonicalize([text]))}",
        "world.judged@1": "artifact.exists@1 is false: 0 of 1 below /artifacts/film/",
    }


async def test_who_lists_a_world_alone_can_open_nothing_of_it() -> None:
    async with House() as house:
        plan = await house.apply({"a": step(inputs={"there": WORLD})}, text=b"the text")
        assert await house.ended(plan) == "completed"
        (run,) = house.processors.runs.values()
        kinds = await house.kinds(plan)
    assert len(run.params["there"]) == 1
    assert "artifact.consumed" not in kinds


async def test_two_places_that_look_the_same_have_their_own_answers() -> None:
    text = {"$attach": "text"}
    async with House() as house:
        given = {"a.b": WORLD, "a": {"b": text}, "c.d": text, "c": {"d": {"$verdict": EXISTS}}}
        plan = await house.apply({"a": step(inputs=given)}, text=b"the text")
        assert await house.ended(plan) == "completed"
        (run,) = house.processors.runs.values()
    read = run.params["a"]["b"]
    assert set(read) == {"path", "cid", "size_bytes", "mime", "url"}
    assert run.params["c.d"] == read
    assert ["url" in entry for entry in run.params["a.b"]] == [False]
    assert run.params["c"]["d"]["verdict"] == "false"


async def test_an_empty_world_holds_nobody_up() -> None:
    async with House() as house:
        plan = await house.apply({"a": step(inputs={"there": WORLD})})
        assert await house.ended(plan) == "completed"
        (run,) = house.processors.runs.values()
    assert run.params["there"] == []


async def test_a_world_that_is_too_large_refuses_the_transition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listings, "MOST", 1)
    async with House() as house:
        film = step(write_prefix=FILM)
        think = step(inputs={"there": WORLD}, depends_on=["film"])
        plan = await house.apply({"film": film, "think": think}, text=b"x")
        assert await house.ended(plan) == "failed"
        (refused,) = await data_of(house, plan, "transition.refused")
    assert (refused["transition"], refused["error"]["code"]) == ("think", "ERR_TOO_LARGE")


async def test_what_is_there_when_the_run_is_admitted_is_told_not_what_was_there_before() -> None:
    async with House() as house:
        film = step(write_prefix=FILM)
        think = step(inputs={"there": WORLD, "goal": {"$verdict": EXISTS}}, depends_on=["film"])
        plan = await house.apply({"film": film, "think": think})
        assert await house.ended(plan) == "completed"
        told = [run.params for run in house.processors.runs.values() if "there" in run.params]
    (params,) = told
    below = [entry["path"].split("/", 4)[4] for entry in params["there"]]
    assert below == ["outputs.json", "outputs/x"]
    assert params["goal"]["verdict"] == "true"


async def test_what_comes_between_reading_and_admission_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:
        read, answers = house.reads.artifacts, list[int]()

        async def between(plan: str, prefix: str, **more: Any) -> list[ArtifactRow]:
            """The first answer is given when it is old: the film was made meanwhile."""
            found = await read(plan, prefix, **more)
            answers.append(len(found))
            if len(answers) == 1:
                assert (await house.statuses(plan))["think"] == "pending"
                while "execution.succeeded" not in await house.kinds(plan):
                    await settle()
            return found

        monkeypatch.setattr(house.reads, "artifacts", between)
        think = step(inputs={"there": {"$world": "/artifacts/film/"}})
        plan = await house.apply({"film": step(write_prefix=FILM), "think": think})
        assert await house.ended(plan) == "completed"
        (told,) = [run.params for run in house.processors.runs.values() if "there" in run.params]
        stamps = await data_of(house, plan, "predicate.checked")
        kinds = await house.kinds(plan)
    assert (answers[0], len(told["there"])) == (0, 2), "the index and the output"
    (stamp,) = (entry["verdict"] for entry in stamps)
    assert stamp["at_seq"] >= kinds.index("artifact.produced") + 1

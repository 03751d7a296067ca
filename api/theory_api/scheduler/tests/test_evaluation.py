"""Predicates that read artifacts: the bytes come from the store, verified and capped."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.domain.facts import JSON_BYTES
from theory_api.domain.state import PlanState
from theory_api.domain.values import Output, Predicate, Verdict
from theory_api.ports.truth import ArtifactRow
from theory_api.ports.world import World
from theory_api.scheduler.evaluation import evaluate
from theory_core import TheoryError, canonicalize, digest

PLAN = "/world/local/p1"
FACTS = "/artifacts/facts.json"
LASTS = Predicate(name="media.duration_between@1", params={"path": FACTS, "min_ms": 1, "max_ms": 9})


class Shelf:
    """A world of a few artifacts."""

    def __init__(self, **cids: str) -> None:
        self._rows = {
            f"/artifacts/{name}.json": ArtifactRow(
                f"/artifacts/{name}.json", cid, 10, "application/json", None, 1
            )
            for name, cid in cids.items()
        }

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        assert plan == PLAN
        return self._rows.get(path)

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        raise NotImplementedError((plan, prefix, after, limit))


def facts(ms: int) -> bytes:
    return canonicalize({"schema": "theory.media.v1", "duration_ms": ms})


async def one(predicate: Predicate, shelf: World, store: Any, **given: Any) -> Verdict:  # noqa: ANN401
    (verdict,) = await evaluate((predicate,), PlanState(plan=PLAN), shelf, store, **given)
    return verdict


async def test_what_the_world_holds_is_read_by_its_digest() -> None:
    store = MemoryArtifacts()
    blob = await store.put(facts(5))
    assert (await one(LASTS, Shelf(facts=blob.cid), store)).verdict == "true"
    other = await store.put(facts(50))
    assert (await one(LASTS, Shelf(facts=other.cid), store)).verdict == "false"
    assert (await one(LASTS, Shelf(), store)).verdict == "false"


async def test_what_an_attempt_is_about_to_write_counts_before_what_is_there() -> None:
    store = MemoryArtifacts()
    old, new = await store.put(facts(50)), await store.put(facts(5))
    mine = Output(path=FACTS, cid=new.cid, size_bytes=10, mime="application/json")
    answer = await one(LASTS, Shelf(facts=old.cid), store, pending=(mine,), prefix="/artifacts/")
    assert answer.verdict == "true"


async def test_bytes_that_are_too_many_or_gone_are_an_error_with_its_code() -> None:
    store = MemoryArtifacts()
    large = await store.put(b" " * (JSON_BYTES + 1))
    answer = await one(LASTS, Shelf(facts=large.cid), store)
    assert (answer.verdict, answer.reason.partition(":")[0]) == ("error", "ERR_TOO_LARGE")
    answer = await one(LASTS, Shelf(facts=digest(b"never stored")), store)
    assert (answer.verdict, answer.reason.partition(":")[0]) == ("error", "ERR_NOT_FOUND")


async def test_a_store_that_is_away_says_nothing() -> None:
    class Away:
        async def get(self, cid: str, *, max_bytes: int = 0) -> bytes:
            raise TheoryError("ERR_STORAGE", "storage unavailable", {"cid": cid, "of": max_bytes})

    with pytest.raises(TheoryError, match="storage unavailable"):
        await one(LASTS, Shelf(facts=digest(b"")), Away())


async def test_a_size_is_compared_without_reading_a_byte() -> None:
    shelf, store = Shelf(facts=digest(b"never stored")), MemoryArtifacts()
    for size, expected in ((9, "true"), (10, "false")):
        params = {"path": FACTS, "size_bytes": size}
        answer = await one(Predicate(name="file.size_gt@1", params=params), shelf, store)
        assert answer.verdict == expected


class Folder:
    """A world of artifacts by path, told of in pages of two."""

    def __init__(self, **sizes: int) -> None:
        self.rows = {
            path: ArtifactRow(path, digest(path.encode()), size, "text/plain", None, 1)
            for path, size in sorted(sizes.items())
        }

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        assert plan == PLAN
        return self.rows.get(path)

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 2
    ) -> list[ArtifactRow]:
        assert plan == PLAN
        found = [row for path, row in self.rows.items() if path.startswith(prefix)]
        return [row for row in found if row.path > after][: min(limit, 2)]


def pending(path: str, size: int) -> Output:
    return Output(path=path, cid=digest(b""), size_bytes=size, mime="text/plain")


FEED = "/artifacts/feed/"


@pytest.mark.parametrize(
    ("names", "after", "mine", "expected"),
    [
        ((), "", (), "false"),
        (("0001",), "", (), "true"),
        (("0001", "0002"), "0002", (), "false"),
        (("0001", "0002"), "0001", (), "true"),
        (("0002/a", "0002/b", "0002/c"), "0002", (), "false"),
        (("0002/a", "0002/b", "0002/c", "0003"), "0002", (), "true"),
        (("0002-b",), "0002", (), "true"),
        (("0001",), "0002", ("0003",), "true"),
        (("0001",), "0003", ("0003",), "false"),
    ],
)
async def test_a_series_has_new_entries_if_a_name_comes_after_the_last_one(
    names: tuple[str, ...], after: str, mine: tuple[str, ...], expected: str
) -> None:
    world = Folder(**{FEED + name: 1 for name in names})
    params = {"path": FEED.rstrip("/"), "after": after}
    answer = await one(
        Predicate(name="series.has_new@1", params=params),
        world,
        MemoryArtifacts(),
        pending=tuple(pending(FEED + name, 1) for name in mine),
        prefix=FEED,
    )
    assert answer.verdict == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/streams/mouth/", "true"),
        ("/streams/mouth/audio", "true"),
        ("/streams/mouth/empty", "false"),
        ("/streams/eye/", "false"),
        ("/streams/eye", "false"),
        ("/streams/mine/", "true"),
        ("/streams/mine/said", "true"),
    ],
)
async def test_a_stream_has_data_if_something_of_it_has_bytes(path: str, expected: str) -> None:
    world = Folder(
        **{"/streams/eye/a": 0, "/streams/eye/b": 0, "/streams/eye/c": 0},
        **{"/streams/mouth/empty": 0, "/streams/mouth/audio": 7},
    )
    answer = await one(
        Predicate(name="stream.has_data@1", params={"path": path}),
        world,
        MemoryArtifacts(),
        pending=(pending("/streams/mine/said", 3),),
        prefix="/streams/mine/",
    )
    assert answer.verdict == expected


async def test_a_world_that_cannot_be_read_is_an_error_of_what_asked_it() -> None:
    class Broken:
        async def artifacts(self, *_: object, **_more: object) -> list[ArtifactRow]:
            raise TheoryError("ERR_INTERNAL", "internal error: no such table", {})

        artifact = artifacts

    for name in ("series.has_new@1", "stream.has_data@1"):
        predicate = Predicate(name=name, params={"path": "/streams/x/"})
        (answer,) = await evaluate(
            (predicate,),
            PlanState(plan=PLAN),
            Broken(),  # type: ignore[arg-type]
            MemoryArtifacts(),
        )
        assert answer.verdict == "error"


async def test_room_on_the_disk_is_asked_of_whoever_keeps_the_artifacts() -> None:
    store = MemoryArtifacts()
    store.free = 100
    for least, expected in ((100, "true"), (101, "false")):
        asked = Predicate(name="disk.space_available@1", params={"free_bytes": least})
        assert (await one(asked, Shelf(), store)).verdict == expected

    class Broken:
        async def free_bytes(self) -> int:
            raise TheoryError("ERR_INTERNAL", "internal error: no such folder", {})

    assert (await one(asked, Shelf(), Broken())).verdict == "error"

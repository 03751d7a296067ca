"""Predicates that read artifacts: the bytes come from the store, verified and capped."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.domain.facts import JSON_BYTES
from theory_api.domain.state import PlanState
from theory_api.domain.values import Output, Predicate, Verdict
from theory_api.ports.truth import ArtifactRow
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


async def one(predicate: Predicate, shelf: Shelf, store: Any, **given: Any) -> Verdict:  # noqa: ANN401
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

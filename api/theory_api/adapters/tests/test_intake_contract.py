"""What the intake of an execution promises, over every artifact store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from theory_api.adapters.files.artifacts import FileArtifacts
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.tests.conftest import refused
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.intake import InputArtifact, Intakes, Received
from theory_core import LIMITS, TheoryError, digest

PLAN = "/world/acme/p1"
PREFIX = "/artifacts/outputs/test-work-v1/x1/"


@pytest.fixture(params=["memory", "files"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return MemoryArtifacts() if request.param == "memory" else FileArtifacts(tmp_path)


@pytest.fixture
async def intakes(artifacts: ArtifactStore) -> MemoryIntakes:
    made = MemoryIntakes(artifacts)
    await begin(made)
    return made


async def begin(
    intakes: Intakes, name: str = "x1", *, inputs: tuple[InputArtifact, ...] = (), most: int = 1000
) -> None:
    await intakes.open(name, plan=PLAN, write_prefix=PREFIX, inputs=inputs, max_bytes=most)


async def sent(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def put(intakes: Intakes, relpath: str, data: bytes = b"x", name: str = "x1") -> Received:
    return await intakes.put(name, relpath, sent(data), mime="text/plain")


async def test_objects_arrive_are_listed_and_keep_their_bytes(
    intakes: Intakes, artifacts: ArtifactStore
) -> None:
    one = await put(intakes, "outputs/b.txt", b"bb")
    two = await put(intakes, "outputs/a/b/c.txt", b"c")
    index = await put(intakes, "outputs.json", b"{}")
    receipt = await put(intakes, "receipt.json", b"{}")
    assert one == Received("outputs/b.txt", digest(b"bb"), 2, "text/plain")
    assert await artifacts.get(one.cid) == b"bb"
    expected = (index, two, one, receipt)
    assert intakes.received("x1") == expected
    assert await intakes.close("x1") == expected
    assert await intakes.close("x1") == expected
    assert intakes.received("x1") == expected


@pytest.mark.scenario(50)
async def test_paths_are_canonical_on_arrival(intakes: Intakes) -> None:
    one = await put(intakes, "Outputs/%C3%89t%65%CC%81.TXT", b"x")
    assert one.relpath == "outputs/été.txt"
    await refused("ERR_OUTPUT_DUPLICATE", put(intakes, "outputs/été.txt", b"other"))


@pytest.mark.scenario(51, 55)
@pytest.mark.parametrize(
    "relpath",
    [
        "",
        "/outputs/a",
        "outputs",
        "outputs/",
        "outputs/a/",
        "outputs//a",
        "outputs/../../a",
        "outputs/%2e%2e/a",
        "outputs/a%2Fb",
        "outputs/a?b",
        "outputs/{x}",
        "outputs/.git/config",
        "outputs/a\\b",
        "outputs/\udcff",
        "other/a",
        "outputs.json/a",
        "receipt.json/",
        "determinism.json",
        "world://acme/p1/artifacts/a",
        "outputs/" + "a" * 256,
    ],
)
async def test_nothing_arrives_outside_its_place(intakes: Intakes, relpath: str) -> None:
    await refused("ERR_OUTPUT_PREFIX", put(intakes, relpath))
    assert intakes.received("x1") == ()


@pytest.mark.scenario(62)
async def test_the_same_bytes_again_answer_the_same(intakes: Intakes) -> None:
    first = await put(intakes, "outputs/a", b"x")
    assert await put(intakes, "outputs/a", b"x") == first
    await refused("ERR_OUTPUT_DUPLICATE", put(intakes, "outputs/a", b"y"))
    assert intakes.received("x1") == (first,)


async def test_no_path_lies_above_another(intakes: Intakes) -> None:
    await put(intakes, "outputs/a/b")
    await put(intakes, "outputs/ab")
    await refused("ERR_OUTPUT_DUPLICATE", put(intakes, "outputs/a"))
    await refused("ERR_OUTPUT_DUPLICATE", put(intakes, "outputs/a/b/c"))


async def test_only_the_receipt_follows_the_index(intakes: Intakes) -> None:
    await put(intakes, "outputs/a")
    await put(intakes, "outputs.json", b"{}")
    await refused("ERR_UPLOAD", put(intakes, "outputs/b"))
    assert (await put(intakes, "outputs.json", b"{}")).relpath == "outputs.json"
    assert (await put(intakes, "outputs/a")).relpath == "outputs/a"
    await put(intakes, "receipt.json", b"{}")


async def test_nothing_arrives_before_opening_or_after_closing(intakes: Intakes) -> None:
    await refused("ERR_UPLOAD", put(intakes, "outputs/a", name="x2"))
    await intakes.close("x1")
    await refused("ERR_UPLOAD", put(intakes, "outputs/a"))
    assert intakes.received("x2") == ()
    assert await intakes.close("x2") == ()


async def test_an_upload_under_way_at_closing_does_not_arrive(intakes: Intakes) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        started.set()
        await go.wait()
        yield b"rest"

    upload = asyncio.create_task(intakes.put("x1", "outputs/a", slow(), mime="text/plain"))
    await started.wait()
    assert await intakes.close("x1") == ()
    go.set()
    await refused("ERR_UPLOAD", upload)
    assert intakes.received("x1") == ()


async def test_an_upload_of_an_earlier_opening_does_not_arrive_in_the_next(
    intakes: Intakes,
) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        started.set()
        await go.wait()
        yield b"old"

    upload = asyncio.create_task(intakes.put("x1", "outputs/a", slow(), mime="text/plain"))
    await started.wait()
    await put(intakes, "outputs/b")
    await begin(intakes)
    go.set()
    await refused("ERR_UPLOAD", upload)
    assert intakes.received("x1") == ()


@pytest.mark.scenario(62)
async def test_of_two_uploads_to_one_path_the_first_complete_one_wins(intakes: Intakes) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        started.set()
        await go.wait()
        yield b"slow"

    upload = asyncio.create_task(intakes.put("x1", "outputs/a", slow(), mime="text/plain"))
    await started.wait()
    fast = await put(intakes, "outputs/a", b"fast")
    go.set()
    await refused("ERR_OUTPUT_DUPLICATE", upload)
    assert intakes.received("x1") == (fast,)


@pytest.mark.scenario(59)
async def test_the_sum_of_all_objects_is_bounded(intakes: Intakes) -> None:
    await begin(intakes, most=10)
    await put(intakes, "outputs/a", b"12345")
    await refused("ERR_TOO_LARGE", put(intakes, "outputs/b", b"123456"))
    await put(intakes, "outputs/b", b"67890")
    await put(intakes, "outputs/a", b"12345")
    await refused("ERR_TOO_LARGE", put(intakes, "receipt.json", b"{}"))


@pytest.mark.scenario(59)
async def test_the_number_of_outputs_is_bounded(intakes: MemoryIntakes) -> None:
    most = LIMITS["outputs_per_execution"]
    known = Received("", digest(b""), 0, "text/plain")
    objects = intakes._open["x1"].objects
    objects.update((f"outputs/{number}", known) for number in range(most - 1))
    await put(intakes, "outputs/last")
    await refused("ERR_TOO_LARGE", put(intakes, "outputs/one-more"))
    await put(intakes, "outputs.json", b"{}")
    await put(intakes, "receipt.json", b"{}")


@pytest.mark.parametrize("mime", ["", "a\nb", "text/é", "a" * 256, " x"])
async def test_a_media_type_is_short_printable_text(intakes: Intakes, mime: str) -> None:
    await refused("ERR_UPLOAD", intakes.put("x1", "outputs/a", sent(b"x"), mime=mime))


async def test_only_declared_inputs_can_be_read(intakes: Intakes, artifacts: ArtifactStore) -> None:
    declared, secret = await artifacts.put(b"declared"), await artifacts.put(b"secret")
    text = InputArtifact("/artifacts/a", declared.cid, declared.size_bytes, "text/plain")
    await begin(intakes, inputs=(text,))
    chunks = [chunk async for chunk in intakes.read_input("x1", declared.cid)]
    assert b"".join(chunks) == b"declared"

    async def read(name: str, cid: str) -> None:
        async for _ in intakes.read_input(name, cid):
            pass

    await refused("ERR_NOT_FOUND", read("x1", secret.cid))
    await refused("ERR_NOT_FOUND", read("x2", declared.cid))
    await intakes.close("x1")
    await refused("ERR_NOT_FOUND", read("x1", declared.cid))


async def test_a_prefix_without_a_slash_is_refused(intakes: Intakes) -> None:
    opening = intakes.open("x9", plan=PLAN, write_prefix=PREFIX.rstrip("/"), inputs=(), max_bytes=1)
    await refused("ERR_SELECTOR_KIND_MISMATCH", opening)


async def test_each_object_is_told_once_and_each_refusal_with_its_code() -> None:
    intakes = MemoryIntakes(MemoryArtifacts())

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    await intakes.open(
        "x1", plan="/world/acme/p1", write_prefix="/artifacts/o/x1/", inputs=(), max_bytes=9
    )
    with structlog.testing.capture_logs() as lines:
        await intakes.put("x1", "outputs/a", chunks(), mime="text/plain")
        with pytest.raises(TheoryError):
            await intakes.put("x1", "elsewhere", chunks(), mime="text/plain")
    told = [(line["event"], line["execution_id"], line.get("code")) for line in lines]
    assert told == [("storage.write", "x1", None), ("storage.error", "x1", "ERR_OUTPUT_PREFIX")]

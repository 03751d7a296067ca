"""Images by digest: pulled from a registry, confirmed by engine and runtime, or not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.tests.conftest import ARCH, REF, Bench
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.tests.engine import repository_of
from theory_api.tests.oci import forget, pushed, registry
from theory_core import loads_strict

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as place:
        yield place


@pytest.fixture
def pinned(bench: Bench, deeds: str, host: str) -> Iterator[str]:
    """The digest of an image that only the registry has under it."""
    place = f"{host}/{repository_of(REF)}"
    bench.adapter._images = Images(bench.adapter._engine, registry=host, platform=ARCH)
    digest = pushed(bench.client, deeds, place)
    forget(bench.client, place)
    yield digest
    forget(bench.client, place)


async def test_an_image_is_pulled_before_anything_is_reserved_for_its_run(
    bench: Bench, pinned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = bench.adapter
    said: list[str] = []
    image = f"{repository_of(REF)}@{pinned}"
    await adapter.prepare(ref=REF, mode="mock", pinned=image, on_progress=said.append)
    assert said == []

    async def refuses(*_given: object) -> None:
        raise AssertionError

    monkeypatch.setattr(adapter._engine, "pull", refuses)
    assert (await bench.run({"do": "echo"}, expected_oci=pinned))["status"] == "success"


async def test_an_image_that_cannot_be_pulled_is_told_and_left_to_the_run(
    bench: Bench, host: str
) -> None:
    nowhere = "sha256:" + "a" * 64
    bench.adapter._images = Images(bench.adapter._engine, registry=host, platform=ARCH)
    said: list[str] = []
    image = f"{repository_of(REF)}@{nowhere}"
    await bench.adapter.prepare(ref=REF, mode="mock", pinned=image, on_progress=said.append)
    assert len(said) == 1
    assert code(await bench.run({"do": "echo"}, expected_oci=nowhere)) == "ERR_IMAGE_NOT_FOUND"


@pytest.mark.scenario(76)
async def test_a_pinned_image_is_pulled_once_and_confirmed_everywhere(
    bench: Bench, pinned: str
) -> None:
    envelope = await bench.run({"do": "echo"}, expected_oci=pinned)
    assert envelope["status"] == "success", envelope
    assert envelope["meta"]["image_digest"] == pinned
    assert bench.frames[0]["content"]["image_digest"] == pinned
    receipt = loads_strict(await bench.body("receipt.json"))
    assert receipt["image_digest"] == pinned
    assert (await bench.run({"do": "echo"}, name="x2", expected_oci=pinned))["status"] == "success"


async def test_a_digest_that_the_registry_does_not_have_is_not_found(
    bench: Bench, pinned: str
) -> None:
    absent = "sha256:" + "0" * 64
    assert pinned != absent
    assert code(await bench.run({"do": "echo"}, expected_oci=absent)) == "ERR_IMAGE_NOT_FOUND"


async def test_a_registry_that_does_not_answer_is_a_failed_pull(bench: Bench) -> None:
    nobody = Images(bench.adapter._engine, registry="127.0.0.1:9", platform=ARCH)
    bench.adapter._images = nobody
    envelope = await bench.run({"do": "echo"}, expected_oci="sha256:" + "0" * 64)
    assert code(envelope) == "ERR_IMAGE_PULL"


@pytest.mark.scenario(76)
async def test_an_image_for_another_platform_is_a_mismatch(bench: Bench, pinned: str) -> None:
    other = "arm64" if ARCH == "amd64" else "amd64"
    bench.adapter._images.platform = other
    assert code(await bench.run({"do": "echo"}, expected_oci=pinned)) == "ERR_REGISTRY_MISMATCH"
    assert code(await bench.run({"do": "echo"}, name="x2")) == "ERR_REGISTRY_MISMATCH"


async def test_without_a_built_image_the_run_says_how_to_build_one(bench: Bench) -> None:
    place = repository_of(REF)
    bench.client.images.get(f"{place}:build").tag(place, "aside")
    bench.client.images.remove(f"{place}:build")
    try:
        envelope = await bench.run({"do": "echo"})
    finally:
        bench.client.images.get(f"{place}:aside").tag(place, "build")
        bench.client.images.remove(f"{place}:aside")
    assert code(envelope) == "ERR_IMAGE_NOT_FOUND"
    assert "theory image build" in envelope["error"]["message"]


@pytest.mark.scenario(76)
@pytest.mark.parametrize(
    ("start", "how"), [("other_digest", "unpinned"), ("listens", "other_image")]
)
async def test_a_runtime_that_says_another_digest_is_a_mismatch(
    bench: Bench, liar: Callable[[str], str], host: str, start: str, how: str
) -> None:
    """In the header of its health, or in its `Ack`."""
    place = f"{host}/{repository_of('test/liar@1')}"
    digest = pushed(bench.client, liar(start), place)
    bench.adapter._images = Images(bench.adapter._engine, registry=host, platform=ARCH)
    envelope = await bench.run({"how": how}, expected_oci=digest)
    assert code(envelope) == "ERR_REGISTRY_MISMATCH"
    forget(bench.client, place)

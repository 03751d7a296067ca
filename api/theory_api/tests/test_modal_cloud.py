"""The stand-in for Modal has teeth: what must not be sent is refused, and is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import modal
import pytest

from theory_api.tests.modal_cloud import ModalCloud, modal_cloud
from theory_api.tests.transports import modal_settings

DIGEST = "sha256:" + "e1" * 32
IMAGE = f"theory/any@{DIGEST}"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[ModalCloud]:
    async with modal_cloud(tmp_path) as made:
        made.images.add(IMAGE)
        with modal_settings(made):
            yield made


async def deploy(image: str, **facts: Any) -> None:  # noqa: ANN401
    """Deploy one plain function through the SDK."""

    def nothing() -> None:
        """Do nothing."""

    client = await modal.Client.from_credentials.aio("ak-test", "as-test")
    app = modal.App("any", include_source=False)
    told = {"name": "run", "serialized": True, "include_source": False, **facts}
    app.function(image=modal.Image.from_registry(image), **told)(nothing)
    try:
        await app.deploy.aio(environment_name="dev", client=client)
    finally:
        await client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("image", "facts", "fault"),
    [
        (IMAGE, {"retries": 3}, "3 retries"),
        ("theory/any:latest", {}, "without a digest"),
        (IMAGE, {"secrets": [modal.Secret.from_dict({"KEY": "value"})]}, "values of a secret"),
    ],
)
async def test_what_must_not_be_sent_is_a_fault(
    cloud: ModalCloud, image: str, facts: dict[str, Any], fault: str
) -> None:
    with pytest.raises(modal.exception.InvalidError):
        await deploy(image, **facts)
    assert [sentence for sentence in cloud.faults if fault in sentence]
    assert cloud.containers == {}


@pytest.mark.parametrize(
    ("image", "facts"),
    [
        ("theory/any@sha256:" + "0" * 64, {}),
        (IMAGE, {"secrets": [modal.Secret.from_name("absent", environment_name="dev")]}),
    ],
)
async def test_what_is_not_there_cannot_be_had(
    cloud: ModalCloud, image: str, facts: dict[str, Any]
) -> None:
    with pytest.raises(modal.exception.NotFoundError):
        await deploy(image, **facts)
    assert cloud.containers == {}


@pytest.mark.parametrize(
    ("app", "function", "environment"),
    [("other", "run", "dev"), ("any", "mock", "dev"), ("any", "run", "main")],
)
async def test_a_function_is_found_by_its_own_app_name_and_environment_alone(
    cloud: ModalCloud, app: str, function: str, environment: str
) -> None:
    """What is deployed is found: whoever asks for something else did not ask too early."""
    await deploy(IMAGE)
    client = await modal.Client.from_credentials.aio("ak-test", "as-test")
    here = modal.Function.from_name("any", "run", environment_name="dev", client=client)
    await here.hydrate.aio()
    there = modal.Function.from_name(app, function, environment_name=environment, client=client)
    with pytest.raises(modal.exception.NotFoundError):
        await there.hydrate.aio()
    assert cloud.faults == []
    await client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]


async def test_a_call_that_it_does_not_know_is_a_fault(cloud: ModalCloud) -> None:
    client = await modal.Client.from_credentials.aio("ak-test", "as-test")
    queue = modal.Queue.from_name("any", environment_name="dev", client=client)
    with pytest.raises(modal.exception.UnimplementedError):
        await queue.hydrate.aio()
    assert cloud.faults == ["nobody answers QueueGetOrCreate"]
    await client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]

"""What is deployed, through the SDK's own messages, and what of it really runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpclib
import httpx
import pytest
from modal_proto import api_pb2

from theory_api.adapters.modal.deployer import ModalDeployer
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.tests.modal_cloud import ModalCloud, modal_cloud
from theory_api.tests.transports import DIGEST, PROXY, deeds, free_ports, modal_settings
from theory_core import TheoryError


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[ModalCloud]:
    async with modal_cloud(tmp_path) as made:
        made.images.add(f"theory/test-deeds-v1@{DIGEST}")
        made.secrets["dev", "theory-openai-api-key"] = {"OPENAI_API_KEY": "canary-1234567890"}
        with modal_settings(made):
            yield made


async def deploy(cloud: ModalCloud, environment: str = "dev", **changes: object) -> ModalDeployer:
    deployment, layout = deeds(free_ports(2), **changes)
    deployer = ModalDeployer(ModalSdk(environment=environment), layout=layout)
    try:
        await deployer.deploy(deployment)
    except TheoryError:
        await deployer.close()
        raise
    assert cloud.faults == []
    return deployer


async def healthz(url: str) -> httpx.Response:
    """Asked patiently: the container has just been started."""
    transport = httpx.AsyncHTTPTransport()
    async with httpx.AsyncClient(transport=transport, timeout=40, headers=PROXY) as client:
        return await client.get(f"{url}/healthz")


async def test_both_functions_are_sent_as_the_contract_says(cloud: ModalCloud) -> None:
    deployer = await deploy(cloud)
    sent = {function.message.function_name: function for function in cloud.functions.values()}
    assert set(sent) == {"run", "mock"}
    for name, function in sent.items():
        message = function.message
        assert function.image == f"theory/test-deeds-v1@{DIGEST}"
        assert message.function_serialized
        assert message.definition_type == api_pb2.Function.DEFINITION_TYPE_SERIALIZED
        assert not message.HasField("retry_policy") or message.retry_policy.retries == 0
        assert message.webhook_config.type == api_pb2.WEBHOOK_TYPE_WEB_SERVER
        assert message.webhook_config.requires_proxy_auth
        assert message.timeout_secs == 180
        assert message.max_concurrent_inputs == 2 * 4 + 4
        assert message.autoscaler_settings.max_containers == 1
        assert message.resources.milli_cpu == message.resources.milli_cpu_max == 2000
        assert message.resources.memory_mb == message.resources.memory_mb_max == 1024
        assert message.untrusted
        assert len(message.secret_ids) == (1 if name == "run" else 0)
    (app,) = cloud.apps.values()
    assert (app.name, app.environment) == ("test-deeds-v1", "dev")
    await deployer.close()


async def test_what_was_sent_runs_without_us_and_names_its_image(cloud: ModalCloud) -> None:
    deployer = await deploy(cloud)
    found = await deployer.find("test-deeds-v1")
    assert set(found.urls) == {"run", "mock"}
    for url in found.urls.values():
        answer = await healthz(url)
        assert answer.content == b'{"ok":true}'
        assert answer.headers["Theory-Image-Digest"] == DIGEST
    lines = [line async for line in deployer.logs("test-deeds-v1", lines=10)]
    assert lines == []
    kept = [vault for one in cloud.containers.values() for vault in one.vaults()]
    assert sorted(file.name for vault in kept for file in vault.iterdir()) == ["OPENAI_API_KEY"]
    await deployer.stop("test-deeds-v1")
    assert len(kept) == 2
    assert not any(vault.exists() for vault in kept)
    await deployer.close()


async def test_nobody_comes_in_without_credentials(cloud: ModalCloud) -> None:
    deployer = await deploy(cloud)
    found = await deployer.find("test-deeds-v1")
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as client:
        for url in found.urls.values():
            assert (await client.get(f"{url}/healthz")).status_code == 401
    await deployer.close()


async def test_a_deployment_takes_the_place_of_the_one_before(cloud: ModalCloud) -> None:
    first = await deploy(cloud)
    before = dict(cloud.functions)
    second = await deploy(cloud)
    assert len(cloud.apps) == 1
    assert set(cloud.functions) == set(before)
    assert len(cloud.containers) == 2
    await second.stop("test-deeds-v1")
    assert cloud.containers == {}
    for deployer in (first, second):
        with pytest.raises(TheoryError) as refused:
            await deployer.find("test-deeds-v1")
        assert refused.value.code == "ERR_ENDPOINT_MISSING"
        await deployer.close()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"image": "theory/test-deeds-v1@sha256:" + "0" * 64}, "ERR_ENDPOINT_MISSING"),
        ({"image": "theory/test-deeds-v1:latest"}, "ERR_MODAL_INVOCATION"),
        ({"secrets_required": ("OTHER_KEY",)}, "ERR_ENDPOINT_MISSING"),
        ({"environment": "staging"}, "ERR_ENDPOINT_MISSING"),
    ],
)
async def test_what_is_not_there_cannot_be_deployed(
    cloud: ModalCloud, changes: dict[str, str], code: str
) -> None:
    environment = changes.pop("environment", "dev")
    with pytest.raises(TheoryError) as refused:
        await deploy(cloud, environment, **changes)
    assert refused.value.code == code
    assert cloud.containers == {}


@pytest.mark.parametrize("there", [("MORE_KEY",), ()])
async def test_an_optional_secret_is_attached_if_the_environment_has_it(
    cloud: ModalCloud, there: tuple[str, ...]
) -> None:
    for name in there:
        cloud.secrets["dev", "theory-more-key"] = {name: "more-0"}
    deployer = await deploy(cloud, secrets_optional=("MORE_KEY",))
    sent = {one.message.function_name: one.message for one in cloud.functions.values()}
    counted = {name: len(message.secret_ids) for name, message in sent.items()}
    assert counted == {"run": 1 + len(there), "mock": 0}
    await deployer.close()


async def test_a_secret_without_the_key_is_refused(cloud: ModalCloud) -> None:
    cloud.secrets["dev", "theory-openai-api-key"] = {"OTHER": "x"}
    with pytest.raises(TheoryError) as refused:
        await deploy(cloud)
    assert refused.value.code == "ERR_MODAL_INVOCATION"


async def test_an_app_that_is_not_there_has_no_logs_and_no_end(cloud: ModalCloud) -> None:
    assert cloud.apps == {}
    deployer = ModalDeployer(ModalSdk(environment="dev"))
    with pytest.raises(TheoryError) as refused:
        await deployer.stop("absent")
    assert refused.value.code == "ERR_ENDPOINT_MISSING"
    with pytest.raises(TheoryError) as refused:
        assert [line async for line in deployer.logs("absent", lines=1)] == []
    assert refused.value.code == "ERR_ENDPOINT_MISSING"
    await deployer.close()


@pytest.mark.parametrize("trouble", [grpclib.Status.PERMISSION_DENIED, 5.0])
async def test_a_control_plane_in_trouble_is_waited_for_no_longer_than_we_say(
    cloud: ModalCloud, trouble: grpclib.Status | float
) -> None:
    cloud.failing["FunctionGet"] = trouble
    deployer = ModalDeployer(ModalSdk(environment="dev", call_s=1))
    with pytest.raises(TheoryError) as refused:
        await deployer.find("test-deeds-v1")
    assert refused.value.code == "ERR_MODAL_INVOCATION"
    await deployer.close()


async def test_without_credentials_nobody_is_asked(
    cloud: ModalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "")
    deployer = ModalDeployer(ModalSdk(environment="dev"))
    with pytest.raises(TheoryError) as refused:
        await deployer.find("test-deeds-v1")
    assert refused.value.message == "modal invocation failed: no credentials"
    assert cloud.calls == []
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "wrong")
    with pytest.raises(TheoryError) as refused:
        await deployer.find("test-deeds-v1")
    assert refused.value.code == "ERR_MODAL_INVOCATION"
    await deployer.close()

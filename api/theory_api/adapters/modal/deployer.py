"""Deploys, finds and stops apps through Modal's SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from theory_api.adapters.modal.app import FUNCTIONS, Layout, build, read_marks, secret_name
from theory_api.adapters.modal.endpoints import address
from theory_api.adapters.modal.sdk import DEPLOY_S, ModalSdk
from theory_api.adapters.run_v1.calling import coded
from theory_api.domain.deployment import Deployment, Standing
from theory_api.ports.deployer import Deployed
from theory_core import TheoryError

LIST_S: Final = 60.0
"""For a list of all apps of an environment, each asked for its marks."""
AT_ONCE: Final = 8
"""Apps that are asked at the same time."""


class ModalDeployer:
    """See `theory_api.ports.deployer.Deployer`."""

    def __init__(self, sdk: ModalSdk, *, layout: Layout | None = None) -> None:
        self._sdk = sdk
        self._layout = layout

    async def deploy(self, deployment: Deployment) -> Deployed:
        """Deploy both functions under the app's name; of optional secrets those that are there."""
        environment = self._sdk.environment

        async def send(client: Any) -> None:  # noqa: ANN401 - the SDK's client
            wanted = deployment.secrets_optional
            there = [name for name in wanted if await self._has(name, client)]
            chosen = msgspec.structs.replace(deployment, secrets_optional=tuple(there))
            app = build(chosen, environment=environment, layout=self._layout)
            await app.deploy.aio(environment_name=environment, client=client)

        await self._sdk.call(deployment.app, send, within_s=DEPLOY_S)
        return await self.find(deployment.app)

    async def _has(self, name: str, client: Any) -> bool:  # noqa: ANN401 - the SDK's client
        """Whether the environment has the secret of a name."""
        from modal import Secret  # noqa: PLC0415 - a second of imports, for those who use it
        from modal.exception import NotFoundError  # noqa: PLC0415 - as above

        environment = self._sdk.environment
        there = Secret.from_name(
            secret_name(name), environment_name=environment, required_keys=[name]
        )
        try:
            await there.hydrate.aio(client)
        except NotFoundError:
            return False
        return True

    async def find(self, app: str) -> Deployed:
        """The app's functions that have an address."""
        urls = {}
        for function in FUNCTIONS:
            try:
                urls[function] = await address(self._sdk, app, function)
            except TheoryError as error:
                if error.code != "ERR_ENDPOINT_MISSING":
                    raise
        if not urls:
            raise coded("ERR_ENDPOINT_MISSING", app)
        return Deployed(app, self._sdk.environment, urls)

    async def standing(self) -> tuple[Standing, ...]:
        """Apps of the environment with our marks; each is asked for its own."""
        room = asyncio.Semaphore(AT_ONCE)

        async def look(app: Any, client: Any) -> Standing | None:  # noqa: ANN401 - the SDK's own
            from modal.exception import NotFoundError  # noqa: PLC0415 - as below

            async with room:
                try:
                    tags = await app.get_tags.aio(client=client)
                except NotFoundError:
                    return None  # stopped by somebody else in the meantime
            return read_marks(app.name or "", tags)

        async def listed(client: Any) -> list[Standing | None]:  # noqa: ANN401 - as above
            from modal import Environment  # noqa: PLC0415 - as below

            place = Environment.from_name(self._sdk.environment, client=client)
            apps = await place.apps.list.aio()
            return await asyncio.gather(*(look(app, client) for app in apps if app.name))

        found = await self._sdk.call(self._sdk.environment, listed, within_s=LIST_S)
        return tuple(one for one in found if one is not None)

    async def stop(self, app: str) -> None:
        """Stop the app; its containers end with it."""

        async def end(client: Any) -> None:  # noqa: ANN401 - the SDK's client
            found = await self._look_up(app, client)
            await found.stop.aio(client=client)

        await self._sdk.call(app, end)

    async def logs(self, app: str, *, lines: int) -> AsyncIterator[str]:
        """The last lines of all of its containers."""

        async def tail(client: Any) -> list[str]:  # noqa: ANN401 - the SDK's client
            found = await self._look_up(app, client)
            return [entry.message async for entry in found.logs.tail.aio(lines)]

        for text in await self._sdk.call(app, tail):
            for line in text.splitlines():
                yield line

    async def close(self) -> None:
        """Let go of the control plane."""
        await self._sdk.close()

    async def _look_up(self, app: str, client: Any) -> Any:  # noqa: ANN401 - the SDK's own
        from modal import App  # noqa: PLC0415 - a second of imports, for those who use it

        return await App.lookup.aio(app, environment_name=self._sdk.environment, client=client)

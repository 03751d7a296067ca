"""Keeps secrets of the registry as Modal Secrets, each with the one key that processors read."""

from __future__ import annotations

from typing import Any

from theory_api.adapters.modal.app import secret_name
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.ports.vault import Held


class ModalVault:
    """See `theory_api.ports.vault.Vault`."""

    def __init__(self, sdk: ModalSdk) -> None:
        self._sdk = sdk

    async def standing(self, name: str) -> Held:
        """Asked by name and key; the environment first, whose absence looks like the secret's."""
        environment = self._sdk.environment

        async def look(client: Any) -> Held:  # noqa: ANN401 - the SDK's client
            from modal import Environment, Secret, exception  # noqa: PLC0415 - a second of imports

            try:
                await Environment.from_name(environment, client=client).hydrate.aio()
            except exception.NotFoundError:
                return Held.NOWHERE
            found = Secret.from_name(
                secret_name(name),
                environment_name=environment,
                required_keys=[name],
                client=client,
            )
            try:
                await found.hydrate.aio()
            except exception.NotFoundError:
                return Held.MISSING
            except exception.InvalidError:
                return Held.KEYLESS
            return Held.THERE

        return await self._sdk.call(secret_name(name), look)

    async def put(self, name: str, value: str) -> bool:
        """Made if it is not there, else its key is given the value; other keys stay."""
        environment = self._sdk.environment

        async def send(client: Any) -> bool:  # noqa: ANN401 - the SDK's client
            from modal import Secret, exception  # noqa: PLC0415 - as above

            called, content = secret_name(name), {name: value}
            try:
                await Secret.objects.create.aio(
                    called, content, environment_name=environment, client=client
                )
            except exception.AlreadyExistsError:
                there = Secret.from_name(called, environment_name=environment, client=client)
                await there.update.aio(content)
                return False
            return True

        return await self._sdk.call(secret_name(name), send)

    async def close(self) -> None:
        """Let go of the control plane."""
        await self._sdk.close()

"""Finds the address of a deployed processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.domain.deployment import function_of


class ModalEndpoints:
    """`Endpoints` by the SDK's look-up, anew for each run: a deployment may have moved.

    `headers` are what Modal's door asks of everybody who comes: the proxy's credentials.
    """

    def __init__(
        self,
        sdk: ModalSdk,
        *,
        app: Callable[[str], str],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._sdk = sdk
        self._app = app
        self._headers = headers or {}

    async def of(self, ref: str, mode: str, *, where: str = "") -> Endpoint:
        """The server of a processor: the function `mock` has no secret, `run` has those of real.

        `where` is `environment/app`: under another branch or lane the app has another name.
        """
        environment, _, app = where.partition("/")
        app, environment = app or self._app(ref), environment or self._sdk.environment
        url = await address(self._sdk, app, function_of(mode), environment=environment)
        return replace(Endpoint.at(url, self._headers), where=f"{environment}/{app}")


async def address(sdk: ModalSdk, app: str, function: str, *, environment: str = "") -> str:
    """The web address of a function; raises `TheoryError` as `ModalSdk.call`."""
    there = environment or sdk.environment

    async def look(client: Any) -> str | None:  # noqa: ANN401 - the SDK's client
        from modal import Function  # noqa: PLC0415 - a second of imports, for those who use it

        found = Function.from_name(app, function, environment_name=there, client=client)
        return await found.get_web_url.aio()

    url = await sdk.call(f"{app}/{function}", look)
    if not url:
        raise coded("ERR_ENDPOINT_MISSING", f"{app}/{function} has no address")
    return url

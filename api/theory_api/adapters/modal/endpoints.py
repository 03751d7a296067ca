"""Finds the address of a deployed processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx

from theory_api.adapters.modal.sdk import CALL_S, ModalSdk
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.domain.deployment import function_of
from theory_core import TheoryError


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

        `where` is `environment/app url`: under another branch or lane the app has another name.
        Law: an app that is missing is gone only if nobody answers at its address either. Under the
        credentials of another workspace every app is missing, whatever runs.
        """
        place, _, before = where.partition(" ")
        environment, _, app = place.partition("/")
        app, environment = app or self._app(ref), environment or self._sdk.environment
        try:
            url = await address(self._sdk, app, function_of(mode), environment=environment)
        except TheoryError as error:
            if error.code != "ERR_ENDPOINT_MISSING" or not await _answers(before, self._headers):
                raise
            url = before
        return replace(Endpoint.at(url, self._headers), where=f"{environment}/{app} {url}")


async def _answers(url: str, headers: Mapping[str, str]) -> bool:
    """Whether a server, or a door before one, is still at an address that was found once."""
    if not url:
        return False
    try:
        async with httpx.AsyncClient(headers=headers, timeout=CALL_S, trust_env=False) as client:
            answer = await client.get(f"{url}/healthz")
    except httpx.ConnectError:
        return False
    except httpx.HTTPError:
        return True
    return answer.status_code != httpx.codes.NOT_FOUND


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

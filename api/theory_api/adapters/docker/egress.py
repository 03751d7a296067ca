"""The network of containers whose spec says egress; nobody else is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from theory_api.adapters.docker.engine import Engine
from theory_core import TheoryError

if TYPE_CHECKING:
    from docker import APIClient

log = structlog.get_logger(__name__)

NETWORK: Final = "theory-egress"
LABEL: Final = "theory.network"

_THERE: Final = 409


class Egress:
    """One bridge for all of them. Law: containers in it do not reach each other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._used = False

    async def network(self) -> str:
        """The network's id; it is made if it is not there.

        Two that are made at once may both be there: an id is never ambiguous, a name would be.
        """
        self._used = True
        return await self._engine.call(_ensure)

    async def close(self) -> None:
        """Remove the network, unless somebody else's containers are in it, or will be."""
        if not self._used:
            return
        try:
            await self._engine.call(_remove)
        except TheoryError as error:
            log.info("adapter.network.kept", code=error.code, reason=error.message)


def _ensure(client: APIClient) -> str:
    """The oldest network of the name; one that was made needlessly is removed again."""
    from docker.errors import APIError  # noqa: PLC0415 - only who uses an engine pays for it

    if found := _found(client):
        return str(found[0]["Id"])
    options = {"com.docker.network.bridge.enable_icc": "false"}
    mine = ""
    try:
        made = client.create_network(
            NETWORK, driver="bridge", options=options, check_duplicate=True, labels={LABEL: "1"}
        )
        mine = str(made["Id"])
    except APIError as error:
        if error.status_code != _THERE:
            raise
        # Somebody else made it since.
    oldest = str(_found(client)[0]["Id"])
    if mine not in {"", oldest}:
        client.remove_network(mine)
    return oldest


def _remove(client: APIClient) -> None:
    for network in _found(client):
        if not client.containers(all=True, filters={"network": network["Id"]}):
            client.remove_network(network["Id"])


def _found(client: APIClient) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = client.networks(names=[f"^{NETWORK}$"])
    return sorted(found, key=lambda network: (network["Created"], network["Id"]))

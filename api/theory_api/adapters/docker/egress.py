"""The network of containers whose spec says egress; nobody else is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from theory_api.adapters.docker.engine import Engine
from theory_core import TheoryError

if TYPE_CHECKING:
    from docker import APIClient

log = structlog.get_logger(__name__)

NETWORK: Final = "theory-egress"
LABEL: Final = "theory.network"


class Egress:
    """One bridge for all of them. Law: containers in it do not reach each other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._used = False

    async def network(self) -> str:
        """The network's name; it is made if it is not there."""
        self._used = True
        await self._engine.call(_ensure)
        return NETWORK

    async def close(self) -> None:
        """Remove the network, unless somebody else's containers are in it."""
        if not self._used:
            return
        try:
            await self._engine.call(lambda client: client.remove_network(NETWORK))
        except TheoryError as error:
            log.info("adapter.network.kept", code=error.code, reason=error.message)


def _ensure(client: APIClient) -> None:
    if client.networks(names=[f"^{NETWORK}$"]):
        return
    options = {"com.docker.network.bridge.enable_icc": "false"}
    client.create_network(
        NETWORK, driver="bridge", options=options, check_duplicate=True, labels={LABEL: "1"}
    )

"""Has a container for an execution, one that waits or a new one, and is rid of it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from theory_api.adapters.docker.container import Container
from theory_api.adapters.docker.egress import SOCKET, Egress
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Chosen, Images, absent
from theory_api.adapters.docker.remains import Remains
from theory_api.adapters.docker.sandbox import (
    LABEL_EXECUTION,
    LABEL_HOME,
    LABEL_REF,
    create_request,
)
from theory_api.adapters.docker.warm import Kind, Lent, Pool
from theory_api.adapters.run_v1.allowance import Allowance
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.gateway import Gateway, GatewayServer
from theory_api.adapters.run_v1.places import Places
from theory_api.observability.redaction import Redactor
from theory_api.ports.adapter import Measurement
from theory_core import TheoryError, digest

_ANYBODY: Final = 0o666


@dataclass(slots=True)
class Live:
    """An execution of this adapter, from its invocation to its release."""

    name: str
    container: Container | None = None
    image_id: str | None = None
    """The image that it runs in, where nobody pinned its digest."""
    lent: Lent | None = None
    sought: bool = False
    """Whether the engine was asked for a container of its own."""
    door: Gateway | None = None
    egress: Egress | None = None
    """Its way out, where it may have one."""
    hidden: tuple[str, ...] = ()
    connected: bool = False
    allowance: Allowance | None = None
    """Its time, once its container may be spoken with."""
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is cancelled."""
    told: bool = False
    """Whether its result came, so that nothing of it runs in a container that waits for more."""
    gone: bool = True
    tail: str = ""
    closing: asyncio.Task[None] | None = None
    """The end of its door and of its way out, which nobody waits for before the release."""
    cost: Measurement = field(default_factory=Measurement)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def socket(self) -> str:
        """Name of its door; where executions follow each other, each has one of its own."""
        if self.lent is None:
            return "io.sock"
        return f"io-{digest(self.name.encode())[3:11]}.sock"

    def check(self) -> None:
        """Raise `TheoryError` `ERR_CANCELLED` once it is to be stopped."""
        if self.halt.is_set():
            raise coded("ERR_CANCELLED")


class Lodging:
    """Law: what the engine was asked for is gone, or was given back, or counts as running."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        places: Places,
        pool: Pool,
        remains: Remains,
        *,
        home: str,
    ) -> None:
        self._engine = engine
        self._images = images
        self._places = places
        self._pool = pool
        self._remains = remains
        self._home = home

    async def enter(
        self, live: Live, kind: Kind, secrets: dict[str, str], tenant: str
    ) -> Container:
        """Have a container for an execution, which is marked before anything of it can run.

        Raises `TheoryError`: `ERR_CANCELLED`, `ERR_DOCKER`, `ERR_IMAGE_NOT_FOUND`, `ERR_STORAGE`.
        """
        live.image_id = kind.image.id if kind.image.digest is None else None
        if not secrets and not kind.egress:
            mark = partial(self._places.mark, live.name)
            live.lent = await self._pool.claim(kind, borrower=live.name, tenant=tenant, mark=mark)
        if live.lent is not None:
            live.check()
            live.container = live.lent.container
            live.container.begin()
            return live.container
        place = await asyncio.to_thread(self._places.make, live.name, secrets)
        live.check()
        request = create_request(
            image_id=kind.image.id,
            image_digest=kind.image.digest,
            folder=str(place.folder),
            secrets=str(place.secrets) if secrets else "",
            limits=kind.limits,
            labels={LABEL_HOME: self._home, LABEL_EXECUTION: live.name, LABEL_REF: kind.ref},
        )
        live.sought = True
        ident = await self._create(live.name, request, kind.image)
        live.container = Container(self._engine, ident, place.folder)
        return live.container

    async def _create(self, name: str, request: Mapping[str, Any], image: Chosen) -> str:
        try:
            return await self._engine.create(f"theory-{self._home}-{name}", request)
        except TheoryError as error:
            if not absent(error) or await self._engine.image(image.id) is not None:
                raise
            self._images.forget(image)
            raise coded("ERR_IMAGE_NOT_FOUND", image.digest or "") from error

    async def leave(self, live: Live) -> None:
        """Give the container back, or have it gone; may be asked again until it is."""
        container, lent = live.container, live.lent
        if container is None:
            if lent is not None:
                await self._pool.give_back(lent)
            if live.sought:
                # The engine may have made one, whatever it answered.
                live.gone = False
                live.gone = await self._remains.remove_own(live.name)
            return
        container.finish()
        live.cost, live.gone = container.measured(), False
        if lent is None:
            live.gone = await container.remove()
        elif live.told and not container.exited.done():
            await self._pool.give_back(lent)
            live.gone = True
        elif await container.remove() and await self._pool.discard(lent.name):
            lent.drop()
            live.gone = True


async def open_gateway(path: Path, gateway: Gateway) -> GatewayServer:
    """Listen where the container's user may connect; only its folder leads there."""
    try:
        return await GatewayServer.open(path, gateway, mode=_ANYBODY)
    except OSError as error:
        raise coded("ERR_ADAPTER_INVOCATION", "gateway") from error


async def open_egress(live: Live, folder: Path, reach: tuple[str, ...]) -> None:
    """Give an execution the way out that it may have, if it may have any."""
    if not reach:
        return
    # Hosts are in lower case when they are logged.
    redactor = Redactor(value.lower() for value in live.hidden)
    egress = Egress(reach, execution_id=live.name, redact=redactor.text)
    try:
        await egress.listen(folder / SOCKET)
    except OSError as error:
        raise coded("ERR_ADAPTER_INVOCATION", "egress") from error
    live.egress = egress


async def close_doors(gateway: GatewayServer, live: Live) -> None:
    """Shut both at once, and wait until nothing of them is left.

    Law: both are closed, whatever happens to one; what the container left in place of a socket is
    told, and goes with its folder.
    """
    try:
        if live.egress is not None:
            live.egress.shut()
            await live.egress.close()
    finally:
        await gateway.close()

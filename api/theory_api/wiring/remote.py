"""The adapters that reach processors that run elsewhere, and what they are told to reach them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from theory_api.adapters.http.transport import http
from theory_api.adapters.modal.endpoints import ModalEndpoints
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.adapters.modal.transport import ModalWsAdapter
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.remote import RemoteAdapter, RemotePace, websocket
from theory_api.adapters.run_v1.uploads import Gate, TcpUploads
from theory_api.domain.deployment import app_name
from theory_api.domain.processor import slug
from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.adapter import Adapter
from theory_api.ports.intake import Intakes
from theory_api.settings import VARIABLES, Settings

SLUG: Final = "{slug}"
BUILD: Final = "build"
DEVELOPMENT: Final = "dev"


def gate(settings: Settings) -> Gate:
    """The port where runs elsewhere deliver; nothing listens before one needs it."""
    host, port = settings.gateway_listen
    return Gate(host=host, port=port, public_url=settings.gateway_url)


def adapters(
    settings: Settings,
    snapshot: RegistrySnapshot,
    intakes: Intakes,
    home: Path,
    door: Gate,
    may_start: Callable[[], bool],
) -> tuple[Adapter, ...]:
    """`local-http`, `modal` and `modal-http`; each costs nothing until it is selected."""
    pace = RemotePace(health=HealthPace(budget_s=settings.health_s))
    local = RemoteAdapter(
        name="local-http",
        endpoints=_Local(settings.local_url),
        uploads=TcpUploads(door, intakes),
        speech=http(),
        home=home,
        may_start=may_start,
        pace=pace,
    )
    ways = (("modal", websocket), ("modal-http", http("ERR_MODAL_INVOCATION")))
    cloud = []
    for name, speech in ways:
        sdk = ModalSdk(environment=modal_environment(settings, snapshot))
        adapter = ModalWsAdapter(
            sdk=sdk,
            endpoints=ModalEndpoints(sdk, app=namer(settings), headers=credentials(settings)),
            uploads=TcpUploads(door, intakes, public=True),
            home=home,
            may_start=may_start,
            pace=pace,
            name=name,
            speech=speech,
        )
        cloud.append(adapter)
    return (local, *cloud)


def lane_environment(settings: Settings) -> str:
    """The environment of the registry that a lane deploys to; people build for `dev`."""
    return DEVELOPMENT if settings.lane == BUILD else settings.lane


def modal_environment(settings: Settings, snapshot: RegistrySnapshot) -> str:
    """What Modal calls that environment."""
    return str(snapshot.environments[lane_environment(settings)]["modal_environment"])


def credentials(settings: Settings) -> Mapping[str, str]:
    """What Modal's door asks for, as headers; none where they are not set."""
    told = {"Modal-Key": settings.modal_key, "Modal-Secret": settings.modal_secret}
    return told if all(told.values()) else {}


def namer(settings: Settings) -> Callable[[str], str]:
    """What the app of a processor is called."""
    return functools.partial(app_name, owner=settings.modal_owner)


class _Local:
    """Servers of this machine that somebody else started."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def of(self, ref: str, _mode: str, *, where: str = "") -> Endpoint:
        """The one address, or the processor's own."""
        address = where or self._address.replace(SLUG, slug(ref))
        if not address:
            raise coded("ERR_ENDPOINT_MISSING", f"{VARIABLES['local_url'][0]} is not set")
        return replace(Endpoint.at(address), where=address)

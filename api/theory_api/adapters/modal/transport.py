"""The adapters `modal` and `modal-http`: runs in containers of Modal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from theory_api.adapters.modal.endpoints import ModalEndpoints
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.adapters.run_v1.remote import RemoteAdapter, RemotePace, Speech, websocket
from theory_api.adapters.run_v1.uploads import Uploads


class ModalWsAdapter(RemoteAdapter):
    """The adapter `modal`: see `theory_api.ports.adapter.Adapter`.

    With another `speech` it is its legacy twin, under a `name` of its own.
    """

    def __init__(
        self,
        *,
        sdk: ModalSdk,
        endpoints: ModalEndpoints,
        uploads: Uploads,
        home: Path,
        may_start: Callable[[], bool] = lambda: True,
        pace: RemotePace | None = None,
        name: str = "modal",
        speech: Speech = websocket,
    ) -> None:
        super().__init__(
            name=name,
            endpoints=endpoints,
            uploads=uploads,
            speech=speech,
            home=home,
            may_start=may_start,
            pace=pace,
        )
        self._sdk = sdk

    async def close(self) -> None:
        """Stop every run of this adapter and let go of the control plane."""
        await super().close()
        await self._sdk.close()

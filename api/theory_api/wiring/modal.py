"""The deployment of processors to Modal, put together for the command line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from theory_api.adapters.modal.deployer import ModalDeployer
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.delivery.modal import ModalDelivery
from theory_api.delivery.snapshot import load_registry
from theory_api.settings import Settings
from theory_api.wiring import start_logging
from theory_api.wiring.remote import credentials, lane_environment, modal_environment, namer


@contextlib.asynccontextmanager
async def delivery(settings: Settings) -> AsyncIterator[ModalDelivery]:
    """What `theory modal` works with, until the block ends.

    Raises `TheoryError` `ERR_INPUTS` for a registry that does not fit.
    """
    headers = credentials(settings)
    start_logging(settings, headers.values())
    snapshot = load_registry(settings.registry)
    deployer = ModalDeployer(ModalSdk(environment=modal_environment(settings, snapshot)))
    try:
        yield ModalDelivery(
            deployer,
            snapshot,
            environment=lane_environment(settings),
            app=namer(settings),
            owner=settings.modal_owner,
            headers=headers,
        )
    finally:
        await deployer.close()

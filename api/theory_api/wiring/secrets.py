"""The delivery of secrets to Modal, put together for the command line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.adapters.modal.vault import ModalVault
from theory_api.delivery.secrets import SecretsDelivery, read_source
from theory_api.delivery.snapshot import load_registry
from theory_api.settings import Settings
from theory_api.wiring import start_logging


@contextlib.asynccontextmanager
async def secrets(
    settings: Settings, environments: Sequence[str], folder: Path | None
) -> AsyncIterator[SecretsDelivery]:
    """What `theory secrets` works with, until the block ends.

    Law: the log knows every value before anything else is done, and shows none. Raises
    `TheoryError` `ERR_INPUTS` for a registry or a source that does not fit.
    """
    snapshot = load_registry(settings.registry)
    source = await asyncio.to_thread(
        read_source, snapshot, environments, folder=folder, variables=settings.environment
    )
    start_logging(settings, source.all())
    vaults = {
        name: ModalVault(ModalSdk(environment=snapshot.environments[name]["modal_environment"]))
        for name in environments
    }
    try:
        yield SecretsDelivery(snapshot, source, vaults.__getitem__)
    finally:
        for vault in vaults.values():
            await vault.close()

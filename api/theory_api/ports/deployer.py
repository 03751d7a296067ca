"""A cloud that processors are deployed to, one app each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from theory_api.domain.deployment import Deployment, Standing


@dataclass(frozen=True, slots=True)
class Deployed:
    """An app that is there."""

    app: str
    environment: str
    urls: Mapping[str, str]
    """Function -> address; a function that is not there is left out."""


class Deployer(Protocol):
    """Deploys, finds and stops apps in one environment.

    All raise `TheoryError`: `ERR_ENDPOINT_MISSING` (no such app, function, environment or secret),
    `ERR_MODAL_INVOCATION` (it refuses, does not answer in time, or knows no such credentials).
    """

    async def deploy(self, deployment: Deployment) -> Deployed:
        """Deploy both functions, in the place of what was there under that name."""

    async def find(self, app: str) -> Deployed:
        """What is deployed under a name."""

    async def standing(self) -> tuple[Standing, ...]:
        """Every app that a deployment of ours left and that was not stopped.

        Law: what says nothing of who deployed it is left out.
        """

    async def stop(self, app: str) -> None:
        """Stop an app and all of its containers."""

    def logs(self, app: str, *, lines: int) -> AsyncIterator[str]:
        """The last lines that its containers wrote, oldest first."""

    async def close(self) -> None:
        """Let go of the connection; idempotent."""

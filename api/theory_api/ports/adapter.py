"""A way to reach a processor: transport only, no policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

FrameSink = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Receives each server frame of a run, validated, in order."""


SteeringOp = Literal["pause", "resume"]
"""What a run can be told while it goes on."""


class Standing(StrEnum):
    """What an adapter knows of an execution whose owner died."""

    ABSENT = "absent"
    """It certainly never started, and no earlier owner that sleeps can start it any more: what
    starts is marked first, and asks after that whether its shard is still held. Its hold may be
    voided."""
    RUNNING = "running"
    """Its work may still be going on; `cancel` ends it."""
    ATTACHABLE = "attachable"
    """It runs, or has ended with its result kept, and `invoke` takes it up again: with the same
    execution id it starts nothing, hands on what is still to come, and returns the envelope."""
    GONE = "gone"
    """It may have started, and nothing of it runs any more."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the adapter measured itself, outside the processor; an absent dimension is unknown."""

    usage: Mapping[str, int] = field(default_factory=dict)
    """Dimension -> amount so far, e.g. `{"cpu_ms": 120, "latency_ms": 480}`."""
    image_id: str | None = None
    """The image that it runs in, where the adapter chose one that nobody pinned."""


class Adapter(Protocol):
    """Reaches processors of one kind of place.

    Must: answer every `invoke` with exactly one envelope, also when the worker is killed; never
    retry by itself; never write a receipt. May: keep environments and connections warm.
    """

    @property
    def name(self) -> str:
        """The name that `--adapter` selects, e.g. `process`."""

    @property
    def enforced(self) -> frozenset[str]:
        """Budget dimensions measured outside the processor; the others are only reported."""

    @property
    def steers(self) -> frozenset[SteeringOp]:
        """What `steer` can tell a run here: both, or nothing."""

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        """Make whatever `invoke` needs that takes minutes (an environment, an image).

        `pinned` is the image that the run will ask for, `{repository}@{digest}`; None in lane
        build. Idempotent; costs nothing when all is there; `on_progress` gets sentences for people.
        Raises `TheoryError`: `ERR_NOT_FOUND` (no such processor here), `ERR_UNAVAILABLE`,
        `ERR_STORAGE`.
        """

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        """Run `payload` (the `RunOpen` payload plus `execution_id`) and return its envelope.

        `payload["upload"]` is filled in by the adapter; `tenant`, and `reach`, the origins that the
        run may connect to, are for it alone and do not travel. A run that fails is an error
        envelope; so is a transport that fails (`ERR_HEALTH`, `ERR_WS_*`, `ERR_TIMEOUT`,
        `ERR_ADAPTER_INVOCATION`, `ERR_OOM`, `ERR_CANCELLED`). Every server frame is handed to
        `on_frame`, in order, before the call returns.
        """

    async def cancel(self, execution_id: str) -> bool:
        """Stop the execution; True once nothing of it runs any more (5 s grace, then kill)."""

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Have a run stand still, or go on; idempotent, nothing for one that has ended.

        Returns once its runtime was told. While it stands still its own time does, and every
        deadline of this adapter; `measured` goes on. Raises `TheoryError`: `ERR_UNAVAILABLE` (not
        now: not there yet, or out of reach; ask again), `ERR_CONFLICT` (not in `steers`).
        """

    def measured(self, execution_id: str) -> Measurement:
        """What it used so far; final after `invoke` returned, until `release`."""

    async def standing(self, execution_id: str) -> Standing:
        """Where an execution of an earlier owner stands."""

    async def remembered(self) -> tuple[str, ...]:
        """Executions that something is kept for, those of earlier owners included."""

    async def release(self, execution_id: str) -> None:
        """Remove everything kept for the execution (folders, sockets); idempotent."""

    async def close(self) -> None:
        """Stop everything that this adapter started; afterwards nothing of it runs."""

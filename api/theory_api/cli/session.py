"""The services of one command, opened for it and closed behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from theory_api.cli.loop import run
from theory_api.cli.progress import Progress, progress
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.services.queries import event_view

if TYPE_CHECKING:
    from theory_api.cli.options import Told
    from theory_api.delivery.modal import ModalDelivery
    from theory_api.settings import Settings
    from theory_api.wiring import Reader, Services
    from theory_api.wiring.containers import Containers

Opened = TypeVar("Opened")
Answer = TypeVar("Answer")


def reader(settings: Settings) -> AbstractAsyncContextManager[Reader]:
    """What only looks: works beside a running writer."""
    # Stores and drivers take a second to import: `theory --help` does without them.
    from theory_api.wiring import open_reader  # noqa: PLC0415

    return open_reader(settings)


@asynccontextmanager
async def engine(
    told: Told, settings: Settings, *, admitting: bool = True
) -> AsyncIterator[tuple[Services, Progress]]:
    """A running scheduler and the progress that hears its notices.

    With `admitting` off nothing new starts: for commands that change a plan and leave.
    """
    from theory_api.wiring import open_engine  # noqa: PLC0415 - as above

    shown = progress(as_json=told.json)
    with shown:
        async with open_engine(settings, on_notice=shown.notice, admitting=admitting) as services:
            yield services, shown


async def follow(services: Services, plan: str, shown: Progress, *, fresh: bool = True) -> str:
    """Show a plan's events until it has ended; its terminal status.

    What happened before a plan is taken up again is taken in, not told again.
    """
    known = 0
    if not fresh:
        row = await services.queries.row(plan)
        known = row.head_seq
        ended = row.status in TERMINAL_PLAN
        after = "has ended before; nothing runs again" if ended else f"goes on after event {known}"
        shown.show(f"{plan} {after}")
    async for event in services.engine.subscribe(plan):
        shown.event(event.kind, event_view(event).event.data, known=event.seq <= known)
    status = (await services.queries.row(plan)).status
    # The stream of a plan ends early only when the scheduler does.
    return status if status in TERMINAL_PLAN else await services.engine.wait(plan)


def with_containers(settings: Settings, ask: Callable[[Containers], Awaitable[Answer]]) -> Answer:
    """What the containers of this machine answer, in a loop of this command's own."""
    from theory_api.wiring.containers import containers  # noqa: PLC0415 - as above

    return run(_asked(containers(settings), ask))


def with_cloud(settings: Settings, ask: Callable[[ModalDelivery], Awaitable[Answer]]) -> Answer:
    """What the cloud answers, in a loop of this command's own."""
    from theory_api.wiring.modal import delivery  # noqa: PLC0415 - as above

    return run(_asked(delivery(settings), ask))


async def _asked(
    opening: AbstractAsyncContextManager[Opened], ask: Callable[[Opened], Awaitable[Answer]]
) -> Answer:
    async with opening as opened:
        return await ask(opened)

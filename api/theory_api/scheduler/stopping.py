"""Stops work that may not answer: everything asked of an adapter has an end outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog

from theory_api.ports.adapter import Adapter
from theory_api.scheduler.context import Context
from theory_core import TheoryError

log = structlog.get_logger(__name__)


async def within(context: Context, seconds: float, *awaited: asyncio.Future[Any]) -> bool:
    """Wait until one of them is done, but no longer; whether one is."""
    timer = asyncio.ensure_future(context.clock.sleep(seconds))
    try:
        await asyncio.wait({timer, *awaited}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return any(future.done() for future in awaited)


async def ask_to_stop(
    context: Context, adapter: Adapter, name: str, *, seconds: float, until: asyncio.Future[Any]
) -> bool:
    """Ask once; True when the adapter confirms in time that nothing of the execution runs.

    Not waited for any longer once `until` is done. A refusal of the adapter counts as no.
    """
    asking = asyncio.ensure_future(adapter.cancel(name))
    asking.add_done_callback(retrieved)
    try:
        await within(context, seconds, asking, until)
        return asking.done() and asking.result()
    except TheoryError as error:
        log.warning("execution.unstopped", execution_id=name, code=error.code, reason=error.message)
        return False
    finally:
        asking.cancel()


async def stop(context: Context, adapter: Adapter, name: str, invoked: asyncio.Future[Any]) -> bool:
    """Have an invocation ended: asked for until it returns, or `stop_grace_s` is over.

    True when nothing of the execution runs any more. Once is not enough: an adapter that has not
    got round to the call has nothing to stop.
    """
    until = context.clock.monotonic() + context.pace.stop_grace_s
    confirmed = False
    while not invoked.done():
        rest = until - context.clock.monotonic()
        if rest <= 0:
            return confirmed
        confirmed = await ask_to_stop(context, adapter, name, seconds=rest, until=invoked)
        if not invoked.done():
            await within(context, context.pace.meter_s, invoked)
    return True


async def let_go(context: Context, tasks: Iterable[asyncio.Future[Any]], seconds: float) -> None:
    """Cancel tasks and wait for their ends; one that refuses to end is left to itself."""
    waiting = set()
    for task in tasks:
        if task.done():
            retrieved(task)
        else:
            waiting.add(task)
            task.add_done_callback(retrieved)
            task.cancel()
    if not waiting:
        return
    ended = asyncio.ensure_future(asyncio.wait(waiting))
    try:
        await within(context, seconds, ended)
    finally:
        ended.cancel()


def retrieved(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more."""
    if not future.cancelled():
        future.exception()

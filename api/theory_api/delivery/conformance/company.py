"""Cases: several connections to one run: who joins, who resumes, who controls, who dawdles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from theory_api.delivery.conformance.bench import Bench, Order, frame
from theory_api.delivery.conformance.report import (
    Case,
    Finding,
    failed,
    passed,
    skipped,
    verdict,
)
from theory_api.delivery.conformance.talk import Heard, parsed, talk

_PROTOCOL: Final = 1002
_INVALID: Final = 1008
_FAR: Final = 1_000_000
_LATE_S: Final = 0.3
_SOON_S: Final = 0.05


async def _observer(bench: Bench) -> Finding:
    async with bench.running() as (client, order), talk(bench.target) as observer:
        await observer.say(order.attaching("observer"))
        ack = await observer.next()
        bench.let_go(order)
        one, other = await asyncio.gather(
            client.rest(bench.pace.linger_s), observer.rest(bench.pace.linger_s)
        )
    content = ack.get("content")
    state = content.get("state") if isinstance(content, dict) else None
    if one.numbered != other.numbered:
        return failed(f"the client heard {len(one.raw)} frames, the observer {len(other.raw)}")
    return passed(f"state {state}, then the same {len(one.numbered)} frames")


async def _resume(bench: Bench) -> Finding:
    ran = await bench.plain()
    tried = sorted({0, 1, max(ran.heard.last // 2, 0)} & set(range(ran.heard.last)))
    for seen in tried:
        heard = await _attached(bench, ran.order, resume_from=seen)
        due = [raw for raw in ran.heard.numbered if _number(raw) > seen]
        if heard.numbered != due:
            return failed(f"from {seen}: {len(heard.numbered)} frames where {len(due)} follow")
    return passed(f"from {', '.join(map(str, tried))} of {ran.heard.last}: exactly what follows")


async def _beyond(bench: Bench) -> Finding:
    ran = await bench.plain()
    code = await bench.close_after(ran.order.attaching("observer", resume_from=_FAR))
    return verdict(None if code == _INVALID else f"{code}", f"from {_FAR}: 1008")


async def _stored(bench: Bench) -> Finding:
    ran = await bench.run(bench.order())
    before = len(ran.shelf.offered)
    async with asyncio.timeout(bench.pace.run_s), talk(bench.target) as again:
        await again.say(ran.order.opening())
        heard = await again.rest(bench.pace.linger_s)
    if heard.result != ran.heard.result or not heard.result:
        return failed(f"another answer: {heard.told}")
    more = len(ran.shelf.offered) - before
    return verdict(f"{more} objects were put again" if more else None, "the stored result")


async def _twice(bench: Bench) -> Finding:
    async with bench.running() as (client, order):
        await client.say(order.opening())
        code = await bench.close_of(client)
    return verdict(None if code == _PROTOCOL else f"{code}", "1002")


async def _control_of_observer(bench: Bench) -> Finding:
    return await _refused_control(bench, "observer", frame("Control", op="cancel"))


async def _unknown_op(bench: Bench) -> Finding:
    return await _refused_control(bench, "controller", frame("Control", op="dance"))


async def _refused_control(bench: Bench, role: str, control: str) -> Finding:
    """A control that is refused with 1008, and the run goes on."""
    async with bench.running() as (client, order):
        code = await bench.close_after(order.attaching(role), control)
        bench.let_go(order)
        heard = await client.rest(bench.pace.linger_s)
    if code != _INVALID:
        return failed(f"closed with {code}")
    status = heard.result.get("status")
    return verdict(None if status == "success" else heard.told, "1008, and the run went on")


async def _cancel(bench: Bench) -> Finding:
    heard, spent, _late = await _cancelled(bench)
    seen = f"{heard.told}, after {spent:.1f} s"
    kept = heard.code == "ERR_CANCELLED" and spent <= bench.pace.cancel_s
    return verdict(None if kept else seen, seen)


async def _cancel_stops(bench: Bench) -> Finding:
    heard, _spent, late = await _cancelled(bench)
    if not heard.result:
        return failed("the run did not end")
    return verdict(f"{late} was put after the result" if late else None, "nothing was put any more")


async def _cancelled(bench: Bench) -> tuple[Heard, float, str]:
    """A run that is cancelled: what was heard, how long it took, what it still put."""
    loop = asyncio.get_running_loop()
    async with bench.running() as (client, order), talk(bench.target) as controller:
        await controller.say(order.attaching("controller"))
        await controller.until("Ack")
        began = loop.time()
        # As a gateway does: after a cancel nothing more is taken.
        order.shelf.refuse = True
        await controller.say(frame("Control", op="cancel"))
        try:
            async with asyncio.timeout(bench.pace.cancel_s):
                await client.until("RunResult")
        except TimeoutError:
            return client.heard, loop.time() - began, ""
        spent, before = loop.time() - began, len(order.shelf.offered)
        bench.let_go(order)
        await client.rest(bench.pace.linger_s)
        await asyncio.sleep(_LATE_S)
        late = order.shelf.offered[before:]
    return client.heard, spent, late[0] if late else ""


async def _pause(bench: Bench) -> Finding:
    async with bench.running() as (client, order), talk(bench.target) as controller:
        await controller.say(order.attaching("controller"))
        await controller.until("Ack")
        seen = []
        for op, state in (("pause", "paused"), ("resume", "running")):
            await controller.say(frame("Control", op=op))
            seen.append(await _state(bench, order, state))
        await controller.say(frame("Control", op="set_budget", budget={"tokens": 2**53 - 1}))
        bench.let_go(order)
        heard = await client.rest(bench.pace.linger_s)
    if heard.result.get("status") != "success":
        return failed(heard.told)
    told = f"state {seen[0]} after pause, {seen[1]} after resume"
    return verdict(None if seen == ["paused", "running"] else told, f"{told}, and it succeeded")


async def _state(bench: Bench, order: Order, due: str) -> str:
    """The state that an `Ack` tells: the one that is due, or the last one told in time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + bench.pace.answer_s
    while True:
        async with talk(bench.target) as observer:
            await observer.say(order.attaching("observer"))
            content = (await observer.until("Ack")).get("content")
        state = str(content.get("state")) if isinstance(content, dict) else "unknown"
        if state == due or loop.time() >= until:
            return state
        await asyncio.sleep(_SOON_S)


async def _leaver(bench: Bench) -> Finding:
    async with bench.running() as (client, order):
        client.connection.transport.abort()
        await asyncio.sleep(0)
        async with talk(bench.target) as observer:
            await observer.say(order.attaching("observer"))
            await observer.next()
            bench.let_go(order)
            heard = await observer.rest(bench.pace.linger_s)
    status = heard.result.get("status")
    return verdict(None if status == "success" else heard.told, "the run went on to its success")


async def _gap(bench: Bench) -> Finding:
    if bench.sample.flood is None:
        return skipped("the sample names no flood")
    ran = await bench.run(bench.order(bench.sample.flood))
    heard = await _attached(bench, ran.order)
    here, gone = {_number(raw) for raw in heard.numbered}, _announced(heard)
    silent = sorted({_number(raw) for raw in ran.heard.numbered} - here - gone)
    if silent:
        return failed(f"{len(silent)} frames are gone without a Gap, the first is {silent[0]}")
    return passed(f"{ran.heard.last} frames, {len(gone - here)} of them gone and announced")


def _number(raw: str | bytes) -> int:
    seq = parsed(raw).get("seq")
    return seq if type(seq) is int else 0


def _announced(heard: Heard) -> set[int]:
    """The numbers that Gaps stand for."""
    numbers: set[int] = set()
    for item in heard.frames:
        content = item.get("content")
        if item.get("kind") == "Gap" and isinstance(content, dict):
            first, last = content.get("from"), content.get("to")
            if type(first) is int and type(last) is int:
                numbers.update(range(first, min(last, heard.last) + 1))
    return numbers


async def _slow(bench: Bench) -> Finding:
    if bench.sample.flood is None:
        return skipped("the sample names no flood")
    order = bench.order(bench.sample.flood)
    async with (
        asyncio.timeout(bench.pace.run_s),
        talk(bench.target) as client,
        talk(bench.target) as lazy,
    ):
        await client.say(order.opening())
        await client.until("Ack")
        await lazy.say(order.attaching("observer"))
        transport: Any = lazy.connection.transport
        transport.pause_reading()
        try:
            async with asyncio.timeout(bench.pace.run_s / 2):
                await client.rest(bench.pace.linger_s)
        except TimeoutError:
            return failed("the run did not end while one viewer did not read")
        finally:
            transport.resume_reading()
        heard = await lazy.rest(bench.pace.linger_s)
    wrong = None if heard.result == client.heard.result else f"it was told: {heard.told}"
    return verdict(wrong, f"{client.heard.last} frames; the slow viewer has the result too")


async def _attached(bench: Bench, order: Order, **more: int) -> Heard:
    """What an observer hears who joins now."""
    async with asyncio.timeout(bench.pace.run_s), talk(bench.target) as observer:
        await observer.say(order.attaching("observer", **more))
        return await observer.rest(bench.pace.linger_s)


def _all() -> Iterator[Case]:
    yield Case("open.twice", "RV-14", "a second RunOpen on a connection: 1002", _twice)
    yield Case("attach.observer", "§9.1", "an observer hears what the client hears", _observer)
    yield Case("attach.resume", "§9.2", "resume_from n: n + 1 and what follows", _resume)
    yield Case("attach.beyond", "§9.2", "resume_from beyond the last frame: 1008", _beyond)
    yield Case("attach.stored", "§9.1", "a settled run answers with its result", _stored)
    yield Case("attach.gap", "§9.2", "frames that are gone are announced by Gap", _gap)
    yield Case("control.observer", "RV-18", "only controllers control", _control_of_observer)
    yield Case("control.op", "RV-10", "an unknown op: 1008", _unknown_op)
    yield Case("control.pause", "§9.1", "a run is paused and resumed", _pause)
    yield Case("control.cancel", "§9.4", "cancel ends it: ERR_CANCELLED in 5 s", _cancel)
    yield Case("control.dead", "§9.4", "a cancelled run does nothing any more", _cancel_stops)
    yield Case("viewers.leave", "§9.5", "a client that leaves changes nothing", _leaver)
    yield Case("viewers.slow", "§9.5", "a viewer that does not read changes nothing", _slow)


CASES: Final = tuple(_all())

"""Evaluate predicates on the world as it is, stamped with the seq that it was read at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from theory_api.domain import facts
from theory_api.domain.predicates import JUDGED, LISTED, MACHINE, STATE, inner, judge, where
from theory_api.domain.state import PlanState
from theory_api.domain.values import Output, Predicate, Verdict, Verdict3
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.truth import ArtifactRow
from theory_api.ports.world import World
from theory_api.scheduler.context import PASSING
from theory_api.scheduler.listing import listing, shape
from theory_core import TheoryError, canonicalize, digest

AT_ONCE_BYTES = 4 * 1024
"""Of an artifact that is judged where it is read; a larger one has a thread."""
_REASON_CAP = 1024


async def evaluate(
    predicates: Iterable[Predicate],
    state: PlanState,
    world: World,
    artifacts: ArtifactStore,
    *,
    at_seq: int | None = None,
    own: str | None = None,
    pending: Sequence[Output] = (),
    prefix: str | None = None,
) -> tuple[Verdict, ...]:
    """Verdicts in the order of `predicates`.

    `at_seq` is what `world` shows at least; where the state is ahead of it, an answer stamped with
    the state's seq would count as newer than it is.
    `own` is the transition they belong to; `pending` are artifacts that its running attempt, which
    writes below `prefix`, is about to bring into the world. An error counts as false and says why;
    a world that cannot be read for the moment says nothing: raises `TheoryError` of `PASSING`.
    """
    verdicts: list[Verdict] = []
    for predicate in predicates:
        stamp = state.seq if at_seq is None else at_seq
        verdict, reason = await _answer(predicate, state, world, artifacts, own, pending, prefix)
        verdicts.append(
            Verdict(
                name=predicate.name,
                params=predicate.params,
                verdict=verdict,
                reason=reason[:_REASON_CAP],
                at_seq=stamp,
            )
        )
    return tuple(verdicts)


async def _answer(
    predicate: Predicate,
    state: PlanState,
    world: World,
    artifacts: ArtifactStore,
    own: str | None,
    pending: Sequence[Output],
    prefix: str | None,
) -> tuple[Verdict3, str]:
    try:
        if predicate.name == JUDGED:
            asked = inner(predicate)
            found = await _answer(asked, state, world, artifacts, own, pending, prefix)
            return "true", f"{asked.name} is {found[0]}: {found[1]}"
        return await _one(predicate, state, world, artifacts, own, pending, prefix)
    except TheoryError as error:
        if error.code in PASSING:
            raise
        return "error", f"{error.code}: {error.message}"


async def _one(
    predicate: Predicate,
    state: PlanState,
    world: World,
    artifacts: ArtifactStore,
    own: str | None,
    pending: Sequence[Output],
    prefix: str | None,
) -> tuple[Verdict3, str]:
    if predicate.name in STATE:
        return judge(predicate, state, own)
    if predicate.name in MACHINE:
        return _room(await artifacts.free_bytes(), int(predicate.params["free_bytes"]))
    path = where(predicate, state, own)
    if path is None:
        return "false", "nothing has been written there yet"
    mine = pending if prefix is not None and path.startswith(prefix) else ()
    if predicate.name in _SURVEYS:
        return await _SURVEYS[predicate.name](path, predicate, state, world, mine)
    found = await _find(path, state, world, mine)
    if found is None:
        return "false", f"{path} is not there"
    if predicate.name == "file.size_gt@1":
        return _larger(found, predicate)
    most = facts.READ_BYTES.get(predicate.name)
    if most is None:
        return "error", f"{predicate.name} is not known here"
    return await _judged(predicate, await artifacts.get(found.cid, max_bytes=most))


async def _judged(predicate: Predicate, body: bytes) -> tuple[Verdict3, str]:
    if len(body) <= AT_ONCE_BYTES:
        return facts.judge(predicate, body)
    return await asyncio.to_thread(facts.judge, predicate, body)


async def _find(
    path: str, state: PlanState, world: World, mine: Sequence[Output]
) -> Output | ArtifactRow | None:
    """The artifact at a path: what is about to be there before what is."""
    for output in mine:
        if output.path == path:
            return output
    return await world.artifact(state.plan, path)


def _larger(found: Output | ArtifactRow, predicate: Predicate) -> tuple[Verdict3, str]:
    least = predicate.params["size_bytes"]
    larger = found.size_bytes > least
    reason = f"{found.path} has {found.size_bytes} bytes; more than {least} are asked"
    return ("true" if larger else "false"), reason


async def _exists(
    path: str, _asked: Predicate, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    if path.endswith("/"):
        return await _at_least(1, path, state, world, mine)
    found = await _find(path, state, world, mine)
    return ("false", f"{path} is not there") if found is None else ("true", f"{path} is there")


async def _count(
    path: str, asked: Predicate, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    return await _at_least(int(asked.params["count"]), path, state, world, mine)


async def _at_least(
    minimum: int, path: str, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    prefix = path if path.endswith("/") else path + "/"
    found = {output.path for output in mine if output.path.startswith(prefix)}
    after = ""
    while len(found) < minimum:
        rows = await world.artifacts(state.plan, prefix, after=after)
        if not rows:
            break
        found.update(row.path for row in rows)
        after = rows[-1].path
    enough = len(found) >= minimum
    return ("true" if enough else "false"), f"{len(found)} of {minimum} below {prefix}"


async def _below(
    prefix: str, state: PlanState, world: World, mine: Sequence[Output], *, after: str = ""
) -> AsyncGenerator[Output | ArtifactRow, None]:
    """What lies below a prefix behind a path: first what is about to be there, then what is."""
    for output in mine:
        if output.path.startswith(prefix) and output.path > after:
            yield output
    while rows := await world.artifacts(state.plan, prefix, after=after):
        for row in rows:
            yield row
        after = rows[-1].path


async def _listed(
    path: str, _asked: Predicate, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    """Always true; the reason holds the digest of the list, by which what was told is found."""
    told = {entry["path"]: entry for entry in await listing(world, state.plan, path)}
    told |= {output.path: shape(output) for output in mine if output.path.startswith(path)}
    entries = [entry for _, entry in sorted(told.items())]
    return "true", f"{len(entries)} below {path}, {digest(canonicalize(entries))}"


async def _newer(
    path: str, asked: Predicate, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    """What lies below the name itself is the old, not a new entry of the series."""
    after = asked.params.get("after", "")
    known = f"{path}{after}" if after else ""
    async with aclosing(_below(path, state, world, mine, after=known)) as entries:
        async for found in entries:
            if not known or not found.path.startswith(f"{known}/"):
                return "true", f"{found.path} is new"
    return "false", f"nothing below {path} comes after {after}" if after else f"{path} is empty"


async def _filled(
    path: str, _asked: Predicate, state: PlanState, world: World, mine: Sequence[Output]
) -> tuple[Verdict3, str]:
    if not path.endswith("/"):
        found = await _find(path, state, world, mine)
        has = found is not None and found.size_bytes > 0
        return ("true", f"{path} has data") if has else ("false", f"{path} has no data")
    async with aclosing(_below(path, state, world, mine)) as entries:
        async for below in entries:
            if below.size_bytes > 0:
                return "true", f"{below.path} has data"
    return "false", f"nothing below {path} has data"


def _room(free: int, asked: int) -> tuple[Verdict3, str]:
    reason = f"{free} bytes are free; {asked} are asked"
    return ("true" if free >= asked else "false"), reason


Survey = Callable[
    [str, Predicate, PlanState, World, Sequence[Output]], Awaitable[tuple[Verdict3, str]]
]
_SURVEYS: Final[Mapping[str, Survey]] = {
    "artifact.exists@1": _exists,
    "file.count_min@1": _count,
    "series.has_new@1": _newer,
    "stream.has_data@1": _filled,
    LISTED: _listed,
}
"""Predicates that are answered by which artifacts there are."""

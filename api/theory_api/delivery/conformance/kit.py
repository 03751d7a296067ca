"""Examines a processor: every case, in order, whatever the one before found."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import httpx
from websockets.exceptions import WebSocketException

from theory_api.delivery.conformance import company, evidence, frames, opening, outputs
from theory_api.delivery.conformance.bench import Bench, Pace
from theory_api.delivery.conformance.door import Door
from theory_api.delivery.conformance.report import Case, Finding, Report, Verdict, failed
from theory_api.delivery.conformance.sample import Sample
from theory_api.delivery.conformance.talk import Target
from theory_core import ERROR_CODES, TheoryError

CASES: Final[Sequence[Case]] = (
    *opening.CASES,
    *frames.CASES,
    *outputs.CASES,
    *evidence.CASES,
    *company.CASES,
)


@contextlib.asynccontextmanager
async def _bench(
    target: Target, sample: Sample, pace: Pace, folder: Path | None, seen_as: str | None
) -> AsyncIterator[Bench]:
    with contextlib.ExitStack() as stack:
        place = folder
        if place is None:
            # Short, as the path of a socket has to be.
            made = tempfile.TemporaryDirectory(prefix="theory-kit-", dir="/tmp")
            place = Path(stack.enter_context(made))
        door = Door(place, sample.files, seen_as=seen_as)
        async with door.open():
            yield Bench(target, sample, door, pace)


async def examine(
    target: Target,
    sample: Sample,
    *,
    folder: Path | None = None,
    seen_as: str | None = None,
    pace: Pace | None = None,
    only: Sequence[str] = (),
    on_verdict: Callable[[Verdict], None] = lambda _verdict: None,
) -> Report:
    """Try every case, or those of `only`, against what listens at `target`.

    The examiner's door for outputs is `io.sock` in `folder`, else in a folder of its own;
    `seen_as` is how the processor sees that folder, where a container has it elsewhere. Raises
    `TheoryError`: `ERR_HEALTH` if nothing answers there at all, `ERR_NOT_FOUND` for an unknown
    case.
    """
    chosen = [case for case in CASES if not only or case.id in only]
    for name in only:
        if name not in {case.id for case in CASES}:
            raise TheoryError("ERR_NOT_FOUND", f"not found: no case {name}", {"kind": "case"})
    verdicts = []
    async with _bench(target, sample, Pace() if pace is None else pace, folder, seen_as) as bench:
        await _reach(target)
        for case in chosen:
            found = await _judge(case, bench)
            verdict = Verdict(case.id, case.section, case.rule, found.standing, found.seen)
            verdicts.append(verdict)
            on_verdict(verdict)
    return Report(sample.ref, target.text, verdicts)


async def _reach(target: Target) -> None:
    """Law: a processor that is not there has not failed; nothing was examined."""
    try:
        await target.health()
    except httpx.TransportError as error:
        message = f"{ERROR_CODES['ERR_HEALTH'].summary}: nothing answers at the target"
        raise TheoryError("ERR_HEALTH", message, {"reason": type(error).__name__}) from error


async def _judge(case: Case, bench: Bench) -> Finding:
    """What a case finds; whatever a server does to a connection is a finding too."""
    try:
        return await case.judge(bench)
    except TimeoutError:
        return failed("nothing came for too long")
    except (OSError, EOFError, WebSocketException, httpx.HTTPError) as error:
        return failed(f"the connection failed: {type(error).__name__}")


def sections() -> list[tuple[str, str, str]]:
    """Every case as id, section and rule: the table of the documentation."""
    return [(case.id, case.section, case.rule) for case in CASES]

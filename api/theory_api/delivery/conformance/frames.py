"""Cases: what a run says, from its Ack to its close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from theory_api.delivery.conformance.bench import Bench
from theory_api.delivery.conformance.report import Case, Finding, failed, verdict
from theory_api.delivery.conformance.talk import OWN_FRAMES, parsed
from theory_api.domain.naming import names_stream
from theory_core import TheoryError, canonicalize_json, validate_frame

_NORMAL: Final = 1000
_SOME_PLAN: Final = "/world/any/plan"


async def _ack(bench: Bench) -> Finding:
    ran = await bench.plain()
    first = ran.heard.frames[0] if ran.heard.raw else {}
    content = first.get("content")
    told = content if isinstance(content, dict) else {}
    acks = sum(frame.get("kind") == "Ack" for frame in ran.heard.frames)
    seen = f"first {first.get('kind')} with seq {first.get('seq')}, {acks} in all"
    kept = (
        first.get("kind") == "Ack"
        and first.get("seq") == 0
        and told.get("execution_id") == ran.order.execution_id
        and isinstance(told.get("state"), str)
        and acks == 1
    )
    return verdict(None if kept else seen, seen)


async def _seq(bench: Bench) -> Finding:
    ran = await bench.plain()
    wrong = holes(ran.heard.frames, 0)
    return verdict(wrong, f"1 to {ran.heard.last}")


async def _terminal(bench: Bench) -> Finding:
    ran = await bench.plain()
    kinds = [frame.get("kind") for frame in ran.heard.frames]
    results = kinds.count("RunResult")
    seen = f"{results} RunResult among {len(kinds)} frames, the last is {(kinds or ['none'])[-1]}"
    return verdict(None if results == 1 and kinds[-1] == "RunResult" else seen, seen)


async def _close(bench: Bench) -> Finding:
    ran = await bench.plain()
    seen = f"closed with {ran.heard.close}"
    return verdict(None if ran.heard.close == _NORMAL else seen, seen)


async def _success(bench: Bench) -> Finding:
    ran = await bench.plain()
    status = ran.heard.result.get("status")
    return verdict(None if status == "success" else ran.heard.told, ran.heard.told)


async def _shapes(bench: Bench) -> Finding:
    ran = await bench.plain()
    for raw in ran.heard.raw:
        kind = parsed(raw).get("kind")
        if kind == "RunResult":
            continue
        try:
            validate_frame(raw, "server")
        except TheoryError as error:
            return failed(f"{kind}: {error.message} {dict(error.detail)}")
        if kind == "Frame" and not names_stream(parsed(raw)["content"]["stream"], _SOME_PLAN):
            return failed("Frame: its stream is not the path of one")
    return verdict(None, f"{len(ran.heard.raw)} frames")


async def _canonical(bench: Bench) -> Finding:
    ran = await bench.plain()
    others = [raw for raw in ran.heard.raw if parsed(raw).get("kind") != "RunResult"]
    return verdict(not_canonical(others), f"{len(others)} frames")


def holes(frames: Sequence[dict[str, Any]], seen: int) -> str | None:
    """Where the numbers break off after `seen`, Gaps counted as what they stand for."""
    due = seen + 1
    for frame in frames:
        kind, first, last = frame.get("kind"), frame.get("seq"), frame.get("seq")
        if kind in OWN_FRAMES:
            if kind != "Gap":
                continue
            content = frame.get("content")
            span = content if isinstance(content, dict) else {}
            first, last = span.get("from"), span.get("to")
        if first != due or type(last) is not int:
            return f"{kind} has number {first} where {due} is due"
        due = last + 1
    return None


def not_canonical(messages: Sequence[str | bytes]) -> str | None:
    """The first message whose text is not canonical JSON."""
    for number, raw in enumerate(messages):
        try:
            text = canonicalize_json(raw)
        except TheoryError as error:
            return f"message {number}: {error.code}"
        if text != (raw.encode() if isinstance(raw, str) else raw):
            return f"message {number} ({parsed(raw).get('kind')}) is not in canonical form"
    return None


def _all() -> Iterator[Case]:
    yield Case("run.ack", "RV-15", "the first frame is one Ack with seq 0", _ack)
    yield Case("run.seq", "RV-16", "numbered frames count from 1 without holes", _seq)
    yield Case("run.terminal", "RV-17", "one RunResult, and nothing after it", _terminal)
    yield Case("run.close", "§9.3", "after the result: 1000", _close)
    yield Case("run.success", "§7", "the sample's run succeeds", _success)
    yield Case("run.shapes", "RV-11", "every frame has the members of its kind", _shapes)
    yield Case("run.canonical", "RV-1", "frames are written canonical", _canonical)


CASES: Final = tuple(_all())

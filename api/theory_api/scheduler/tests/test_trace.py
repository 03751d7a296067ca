"""A trace keeps its beginning and its end, and says what lies between them no more."""

from __future__ import annotations

from typing import Any

from theory_api.scheduler.trace import CAP, Trace
from theory_core import LIMITS, canonicalize, digest, loads_strict


def lines(trace: Trace) -> list[Any]:
    return [loads_strict(line) for line in trace.encode().splitlines()]


def test_a_short_trace_is_whole_and_in_order() -> None:
    trace = Trace()
    trace.event("invoke", attempt=1)
    trace.frame({"kind": "Token", "seq": 1, "content": {"text": "hush"}})
    trace.event("outcome", status="success")
    assert lines(trace) == [
        {"event": "invoke", "attempt": 1},
        {"frame": "Token", "seq": 1, "content": {"digest": digest(b"hush"), "size_bytes": 4}},
        {"event": "outcome", "status": "success"},
    ]


def test_a_trace_beyond_its_cap_has_its_first_and_last_lines_and_says_what_was_cut() -> None:
    trace, sent = Trace(), 60_000
    trace.event("invoke", attempt=1)
    for seq in range(1, sent + 1):
        trace.frame({"kind": "Token", "seq": seq, "content": {"text": "word"}})
    result = {"status": "success", "execution_id": "x1"}
    trace.frame({"kind": "RunResult", "seq": sent + 1, "content": result})
    trace.event("outcome", status="success")
    found = lines(trace)
    assert found[0] == {"event": "invoke", "attempt": 1}
    assert found[-2]["content"] == {"digest": digest(canonicalize(result))}
    assert found[-1] == {"event": "outcome", "status": "success"}
    (place,) = (at for at, line in enumerate(found) if line.get("event") == "trace.cut")
    cut = found[place]
    assert (found[place - 1]["seq"] + cut["lines"] + 1, len(found) + cut["lines"]) == (
        found[place + 1]["seq"],
        sent + 4,
    )
    whole = len(trace.encode()) + cut["size_bytes"]
    assert len(trace.encode()) <= CAP < whole


def test_a_line_that_is_too_long_is_told_by_its_digest() -> None:
    trace, content = Trace(), {"phase": "x" * LIMITS["line_bytes"]}
    trace.frame({"kind": "Event", "seq": 1, "content": content})
    body = canonicalize(content)
    told = {"digest": digest(body), "size_bytes": len(body)}
    assert lines(trace) == [{"frame": "Event", "seq": 1, "content": told}]

"""The same run behind every transport: on disk and in the ledger the same, but for what may differ.

Each transport has an engine of its own, as `theory` has it, and in the pinned lane the same image:
a container is held against the cloud with nothing left out. Slow: a hundred runs, one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from theory_api.tests.kept import AROUND, Event, Ground, Kept, ground, keep
from theory_api.tests.transports import short_folder
from theory_core import canonicalize, loads_strict, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Params = Mapping[str, Any]
Keeping = Callable[[str], dict[str, Kept]]

SUCCESSES: Mapping[str, Params] = {
    "one": {"do": "returned", "what": "pair"},
    "many": {"do": "many", "count": 40},
    "stream": {"do": "tokens", "count": 20},
    "environment": {"do": "media_type", "mime": "text/plain; charset=utf-8"},
}
FAILURES: Mapping[str, tuple[Params, str]] = {
    "inputs": ({"do": "refuse", "code": "ERR_INPUTS"}, "ERR_INPUTS"),
    "provider": ({"do": "refuse", "code": "ERR_PROVIDER"}, "ERR_PROVIDER"),
    "secret": ({"do": "tell_secret", "name": "OPENAI_API_KEY"}, "ERR_MISSING_SECRET"),
    "crash": ({"do": "crash", "kind": "value"}, "ERR_INTERNAL"),
    "memory": ({"do": "crash", "kind": "memory"}, "ERR_OOM"),
    "exit": ({"do": "leave", "code": 3}, "ERR_INTERNAL"),
    "signal": ({"do": "kill", "signal": 9}, "ERR_INTERNAL"),
    "runtime": ({"do": "killparent"}, "ERR_INTERNAL"),
    "prefix": ({"do": "paths", "paths": ["elsewhere/a"]}, "ERR_OUTPUT_PREFIX"),
    "duplicate": ({"do": "paths", "paths": ["outputs/a", "outputs/A"]}, "ERR_OUTPUT_DUPLICATE"),
    "link": ({"do": "file", "kind": "symlink"}, "ERR_OUTPUT_PREFIX"),
    "frame": ({"do": "bad_frame", "kind": "Shout", "content": {}}, "ERR_INTERNAL"),
    "nothing": ({"do": "returned", "what": "none"}, "ERR_INTERNAL"),
    "cancelled": ({"do": "tokens", "count": 20, "then_s": 600}, "ERR_CANCELLED"),
    "late": ({"do": "tokens", "count": 20, "then_s": 600}, "ERR_TIMEOUT"),
}
CANCELLED = frozenset({"cancelled"})
"""What an operator cancels while it streams."""
TIMEOUTS = {"late": 5}
"""Seconds of what runs into its timeout, enough to say all that it streams before."""
DEEDS: Mapping[str, Params] = {
    **SUCCESSES,
    **{name: params for name, (params, _) in FAILURES.items()},
}

PLAIN = "process"
"""Runs in no image, and so in the lane that pins none: the others are compared with it."""
CONTAINER = "local"
"""Runs in the image that was built, pushed and pulled: what the cloud says it runs, too."""

MEASURED = frozenset({"duration_ms", "actual", "basis", "spent"})
"""Members of events that somebody measured, or that say whether somebody could."""
CHOSEN = frozenset({"adapter", "document", "owner"})
"""Members of events that name the transport, the plan that names it, and who ran it."""
UNPINNED = frozenset({"lane", "image_digest"})
"""Members of events that a transport without an image cannot have alike."""
RECEIPT = frozenset({"duration_ms", "timestamp_utc", "usage", "image_id"})
"""Members of a receipt that may differ; an image id is for images that nobody pinned."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("ground")) as made:
        yield made


@pytest.fixture(scope="module")
def kept(place: Ground) -> Keeping:
    """What a transport's engine keeps of all deeds, done once."""
    found: dict[str, dict[str, Kept]] = {}

    def of(transport: str) -> dict[str, Kept]:
        if transport not in found:
            with short_folder() as home:
                told: Any = {"cancelled": CANCELLED, "timeouts": TIMEOUTS}
                found[transport] = asyncio.run(keep(transport, place, home, DEEDS, **told))
        return found[transport]

    return of


every = pytest.mark.parametrize("transport", sorted(AROUND))
others = pytest.mark.parametrize("transport", sorted({*AROUND} - {PLAIN}))
beside = pytest.mark.parametrize("transport", sorted({*AROUND} - {PLAIN, CONTAINER}))


def delivered(kept: Kept) -> dict[str, bytes]:
    """What the processor delivered, by its path: the stored bytes."""
    found = kept.objects()
    return {path: found[path] for path in found if not path.startswith("/artifacts/execution/")}


def pruned(envelope: Mapping[str, Any], *, image: bool) -> dict[str, Any]:
    """An envelope without the end of stderr, and without `image` without that too."""
    away = {"stderr_tail"} if image else {"stderr_tail", "image_digest"}
    meta = {name: value for name, value in envelope["meta"].items() if name not in away}
    return {**envelope, "meta": meta}


def told(kept: Kept, *, image: bool) -> list[bytes]:
    """A ledger's events without what may differ; bytes that hold such are there as they are."""
    away = MEASURED | CHOSEN | (frozenset() if image else UNPINNED)
    return [canonicalize(_event(kept, event, away, image=image)) for event in kept.events]


def _event(kept: Kept, event: Event, away: frozenset[str], *, image: bool) -> dict[str, Any]:
    data = {name: value for name, value in event["data"].items() if name not in away}
    for name in {"envelope", "receipt", "trace"} & data.keys():
        data[name] = _record(name, kept.bodies[data[name]], image=image)
    if event["kind"] == "artifact.produced":
        data["outputs"] = [_output(output) for output in data["outputs"]]
    return {"kind": event["kind"], "plan": event["plan"], "seq": event["seq"], "data": data}


def _output(output: Mapping[str, Any]) -> dict[str, Any]:
    """Law: what a processor delivered is alike to the byte; records of its run have figures."""
    record = output["path"].startswith("/artifacts/execution/")
    return {k: v for k, v in output.items() if not (record and k in {"cid", "size_bytes"})}


def _record(name: str, body: bytes, *, image: bool) -> Any:  # noqa: ANN401 - JSON
    if name == "trace":
        return [_span(loads_strict(line), image=image) for line in body.splitlines()]
    found = loads_strict(body)
    if name == "envelope":
        return pruned(found, image=image)
    away = RECEIPT if image else RECEIPT | {"image_digest"}
    return {member: value for member, value in found.items() if member not in away}


def _span(line: Mapping[str, Any], *, image: bool) -> dict[str, Any]:
    """A line of a trace; the envelope that a result is the digest of is compared itself."""
    content = dict(line.get("content", {}))
    if line.get("frame") == "RunResult":
        del content["digest"]
    if not image:
        content.pop("image_digest", None)
    return {**line, "adapter": "", "content": content}


def frames(kept: Kept) -> list[bytes]:
    """The numbered frames up to each result."""
    return [canonicalize(one) for one in kept.frames if one["kind"] not in {"Ack", "RunResult"}]


@every
def test_what_is_kept_of_each_run_satisfies_every_law(transport: str, kept: Keeping) -> None:
    for name, run in kept(transport).items():
        assert verify(run.export, laws=True).fault is None, name
        kinds = [event["kind"] for event in run.events]
        assert kinds.count("budget.reserved") == kinds.count("budget.settled") > 0, name
        ends = [event for event in run.events if "envelope" in event["data"]]
        assert len(ends) == kinds.count("execution.started") > 0, name
        assert run.bodies[ends[-1]["data"]["envelope"]] == run.envelope, name
        results = [frame for frame in run.frames if frame["kind"] == "RunResult"]
        sent = [canonicalize(frame["content"]) for frame in results]
        if name in SUCCESSES:
            assert sent == [run.envelope], name
        error = loads_strict(run.envelope).get("error", {"code": "success"})
        assert error["code"] == (FAILURES[name][1] if name in FAILURES else "success"), name


@others
def test_whatever_happens_is_on_disk_and_in_the_ledger_as_a_child_process_leaves_it(
    transport: str, kept: Keeping
) -> None:
    ours, theirs = kept(PLAIN), kept(transport)
    for name in DEEDS:
        assert told(theirs[name], image=False) == told(ours[name], image=False), name
        assert delivered(theirs[name]) == delivered(ours[name]), name
        assert frames(theirs[name]) == frames(ours[name]), name


@beside
def test_pinned_containers_leave_the_same_with_nothing_left_out(
    transport: str, kept: Keeping, place: Ground
) -> None:
    """The envelope of a success is compared as it is: every byte that was stored of it."""
    ours, theirs = kept(CONTAINER), kept(transport)
    for name in DEEDS:
        assert told(theirs[name], image=True) == told(ours[name], image=True), name
    for name in SUCCESSES:
        assert theirs[name].envelope == ours[name].envelope, name
        assert loads_strict(ours[name].envelope)["meta"]["image_digest"] == place.digest, name

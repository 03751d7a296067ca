"""Commands survive the way to another scheduler, or are refused there."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_api.domain import commands as cmd
from theory_api.domain import values as val
from theory_api.domain.codec import COMMANDS, decode, encode
from theory_core import TheoryError

text = st.text(max_size=12)
count = st.integers(0, 2**53 - 1)
vector = st.dictionaries(st.sampled_from(["usd_micro", "tokens"]), count)
mode = st.sampled_from(["mock", "real"])
params = st.dictionaries(text, st.integers(-9, 9) | st.floats(-1, 1) | text | st.lists(text))
predicate = st.builds(val.Predicate, name=text, params=params)
selector = st.builds(val.SelectorSpec, kind=st.sampled_from(["exact", "prefix"]), path=text)
output = st.builds(val.Output, path=text, cid=text, size_bytes=count, mime=text)
fault = st.builds(
    val.Fault, code=text, message=text, detail=st.dictionaries(text, text | st.integers(-9, 9))
)
verdict = st.builds(
    val.Verdict,
    name=text,
    params=params,
    verdict=st.sampled_from(["true", "false", "error"]),
    reason=text,
    at_seq=count,
)
retry = st.builds(
    val.Retry,
    max_attempts=count,
    backoff_ms=st.lists(count, max_size=2).map(tuple),
    jitter_permille=count,
    retry_on=st.lists(text, max_size=2).map(tuple),
)
policy = st.builds(
    val.Policy,
    ref=text,
    on_refused=st.sampled_from(["fail", "pause"]),
    on_breach=st.sampled_from(["fail", "pause"]),
    lease_ms=count,
    retry=retry,
)


def many(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, max_size=2).map(tuple)


def maybe(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | one


proposal = st.builds(
    cmd.Proposal,
    transition=text,
    processor_ref=text,
    mode=mode,
    inputs=text,
    depends_on=many(text),
    write_prefix=text,
    write_set=many(selector),
    admission=many(predicate),
    success=many(predicate),
    hold=vector,
    timeout_ms=count,
    adapter=maybe(text),
)
usage = st.builds(cmd.Usage, measured=vector, reported=vector)
seal = st.builds(val.StreamSeal, path=text, digest=text, count=count, bytes=count)
input_bytes = st.builds(val.InputBytes, path=text, cid=text, size_bytes=count)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "str": text,
    "str | None": maybe(text),
    "int": count,
    "Mode": mode,
    "Lane": st.sampled_from(["build", "dev", "staging", "main"]),
    "Policy": policy,
    "Proposal": proposal,
    "Usage": usage,
    "Fault": fault,
    "Fault | None": maybe(fault),
    "Mapping[str, int]": vector,
    "Mapping[str, int] | None": maybe(vector),
    "ControlOp": st.sampled_from(["cancel", "pause", "resume", "set_budget"]),
    "tuple[str, ...]": many(text),
    "tuple[Predicate, ...]": many(predicate),
    "tuple[Proposal, ...]": many(proposal),
    "tuple[Output, ...]": many(output),
    "tuple[InputBytes, ...]": many(input_bytes),
    "tuple[SelectorSpec, ...]": many(selector),
    "tuple[Verdict, ...]": many(verdict),
    "tuple[StreamSeal, ...]": many(seal),
}
"""Type of a command's field -> what it may hold; a new type has to be added here."""


def commands(kind: type[cmd.Command]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{one.name: FIELDS[str(one.type)] for one in dataclasses.fields(kind)})


def test_every_command_has_a_name_to_travel_under() -> None:
    assert set(COMMANDS) == {kind.__name__ for kind in cmd.Command.__subclasses__()}
    assert {kind.__name__ for kind in COMMANDS.values()} == set(COMMANDS)


@given(st.one_of(*(commands(kind) for kind in COMMANDS.values())))
def test_a_command_is_read_as_it_was_written(command: cmd.Command) -> None:
    """Law: `decode(encode(c)) == c`."""
    read = decode(encode(command))
    assert type(read) is type(command)
    assert read == command


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"v":"theory.command.v1","command":"PausePlan","body":{"plan":"p"}}',
        b'{"v":"theory.command.v1","command":"Command","body":{"plan":"p"}}',
        b'{"v":"theory.command.v2","command":"TopUp","body":{"amount":{},"by":"b","plan":"p"}}',
        encode(cmd.TopUp(plan="p", by="b", amount={})).replace(b'"by"', b'"m":1,"by"'),
        encode(cmd.TopUp(plan="p", by="b", amount={})).replace(b'"by"', b' "by"'),
    ],
)
def test_what_this_version_would_not_have_written_is_refused(data: bytes) -> None:
    with pytest.raises(TheoryError, match="another version") as caught:
        decode(data)
    assert caught.value.code == "ERR_INPUTS"


def test_a_known_command_is_written_in_a_known_way() -> None:
    command = cmd.TopUp(plan="p", by="b", amount={"tokens": 1})
    assert msgspec.json.decode(encode(command)) == {
        "v": "theory.command.v1",
        "command": "TopUp",
        "body": {"amount": {"tokens": 1}, "by": "b", "plan": "p"},
    }


def test_text_that_is_no_unicode_does_not_travel() -> None:
    with pytest.raises(TheoryError) as caught:
        encode(cmd.PausePlan(plan="p", by="b", reason="\ud800"))
    assert caught.value.code == "ERR_INPUTS"

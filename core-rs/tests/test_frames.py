"""Frames and conversations of `theory.run.v1`."""

import json
from pathlib import Path
from typing import Any

import pytest

from theory_core import (
    LIMITS,
    RUN_SUBPROTOCOL,
    RunProtocol,
    TheoryError,
    canonicalize,
    encode_frame,
    validate_frame,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "frames"
FACTS = ("close", "place", "problem", "reason")


def cases(file: str) -> pytest.MarkDecorator:
    document = json.loads((VECTORS / file).read_text(encoding="ascii"))
    tests = [case for group in document["testGroups"] for case in group["tests"]]
    ids = [f"{file}-{case['tcId']}" for case in tests]
    return pytest.mark.parametrize("case", tests, ids=ids)


def check(case: dict[str, Any], refusal: pytest.ExceptionInfo[TheoryError]) -> None:
    assert refusal.value.code == case["code"]
    expected = {fact: case[fact] for fact in FACTS if fact in case}
    assert {fact: refusal.value.detail.get(fact) for fact in expected} == expected


@cases("wire.json")
def test_a_frame_is_accepted_or_refused(case: dict[str, Any]) -> None:
    for text in (case["text"], case["text"].encode()):
        if case["result"] == "invalid":
            with pytest.raises(TheoryError) as refusal:
                validate_frame(text, case["direction"])
            check(case, refusal)
        else:
            assert validate_frame(text, direction=case["direction"]) == case["frame"]


@cases("wire.json")
def test_a_frame_has_one_text(case: dict[str, Any]) -> None:
    if case["result"] == "invalid":
        assert case["code"] in {
            "ERR_WS_PROTOCOL",
            "ERR_ADAPTER_INVOCATION",
            "ERR_OUTPUT_PREFIX",
        }
        return
    frame = case["frame"]
    written = encode_frame(frame["kind"], frame["content"], seq=frame.get("seq"))
    assert written == canonicalize(frame)


@cases("conversation.json")
def test_a_conversation_is_legal_for_both_ends_or_for_neither(case: dict[str, Any]) -> None:
    ends = {"client": RunProtocol("client"), "server": RunProtocol("server")}
    other = {"client": "server", "server": "client"}
    last = len(case["steps"]) - 1
    for index, (side, frame) in enumerate(case["steps"]):
        speaker, listener = ends[side], ends[other[side]]
        said = (frame["kind"], frame["content"])
        if case["result"] == "invalid" and index == last:
            before = (listener.phase, listener.next_seq)
            with pytest.raises(TheoryError) as refusal:
                speaker.send(*said, seq=frame.get("seq"))
            check(case, refusal)
            with pytest.raises(TheoryError) as refusal:
                listener.receive(canonicalize(frame))
            check(case, refusal)
            assert (listener.phase, listener.next_seq) == before
        else:
            text = speaker.send(*said, seq=frame.get("seq"))
            assert listener.receive(text.decode()) == frame
    assert {end.phase for end in ends.values()} == {ends["client"].phase}
    if case["result"] == "valid":
        assert ends["client"].phase == case["phase"]


def test_a_frame_has_at_most_8_mib() -> None:
    room = LIMITS["frame_bytes"] - len(encode_frame("Token", {"text": ""}, seq=1))
    largest = encode_frame("Token", {"text": "x" * room}, seq=1)
    assert len(largest) == 8 << 20
    assert validate_frame(largest, "server")["seq"] == 1
    for text in (largest + b" ", b"x" * (64 << 20)):
        with pytest.raises(TheoryError) as refusal:
            validate_frame(text, "server")
        assert (refusal.value.code, refusal.value.detail["close"]) == ("ERR_TOO_LARGE", 1009)
    with pytest.raises(TheoryError) as refusal:
        encode_frame("Token", {"text": "x" * (room + 1)}, seq=1)
    assert refusal.value.code == "ERR_TOO_LARGE"


def test_a_log_message_has_at_most_64_kib() -> None:
    limit = LIMITS["line_bytes"]
    encode_frame("Log", {"level": "info", "message": "x" * limit}, seq=1)
    with pytest.raises(TheoryError) as refusal:
        encode_frame("Log", {"level": "info", "message": "x" * (limit + 1)}, seq=1)
    assert refusal.value.detail["place"] == "message"


def test_inputs_have_at_most_the_depth_of_documents() -> None:
    document = json.loads((VECTORS / "wire.json").read_text(encoding="ascii"))
    frame = document["testGroups"][0]["tests"][0]["frame"]
    params: dict[str, Any] = {}
    for _ in range(LIMITS["document_depth"] - 2):
        params = {"a": params}
    frame["content"]["payload"]["inputs"]["params"] = params
    encode_frame("RunOpen", frame["content"])
    frame["content"]["payload"]["inputs"]["params"] = {"a": params}
    with pytest.raises(TheoryError) as refusal:
        encode_frame("RunOpen", frame["content"])
    assert refusal.value.detail["place"] == "payload.inputs"


def test_an_end_sends_the_kinds_of_its_side_alone() -> None:
    with pytest.raises(TheoryError) as refusal:
        RunProtocol("client").send("Ack", {"execution_id": "x1", "state": "running"}, seq=0)
    assert refusal.value.code == "ERR_WS_PROTOCOL"


@pytest.mark.parametrize(
    ("kind", "content", "seq"),
    [
        ("Ping", {}, None),
        (7, {}, None),
        ("Token", {"text": "a"}, -1),
        ("Token", {"text": "a"}, "1"),
        ("Token", {"text": "a"}, 2**53),
        ("Token", {"text": b"a"}, 1),
        ("Token", "a", 1),
        ("Token", {"text": "a"}, None),
        ("RunOpen", {"role": "client", "execution_id": "x1"}, 1),
    ],
)
def test_what_is_no_frame_is_not_encoded(kind: Any, content: Any, seq: Any) -> None:  # noqa: ANN401 - wrong on purpose
    with pytest.raises(TheoryError):
        encode_frame(kind, content, seq=seq)


@pytest.mark.parametrize(("frame", "side"), [(7, "client"), ("\ud800", "client"), ("{}", "both")])
def test_what_is_no_text_of_a_side_is_refused(frame: Any, side: Any) -> None:  # noqa: ANN401 - wrong on purpose
    with pytest.raises(TheoryError) as refusal:
        validate_frame(frame, side)
    assert refusal.value.code == "ERR_INPUTS"


def test_the_subprotocol_has_the_name_of_the_specification() -> None:
    assert RUN_SUBPROTOCOL == "theory.run.v1"

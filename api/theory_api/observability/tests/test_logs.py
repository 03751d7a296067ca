from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from theory_api.observability.logs import LINE_CAP, Line, configure
from theory_api.observability.redaction import MASK, Redactor


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    out = io.StringIO()
    before = structlog.get_config()
    handlers = list(logging.getLogger().handlers)
    configure(level="info", version="0.1.0", secrets=["hunter2-hunter2"], stream=out)
    yield out
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_object_that_begins_with_time_level_event_and_version(
    stream: io.StringIO,
) -> None:
    structlog.get_logger().info("execution.start", execution_id="x1", elapsed_ms=12)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert list(json.loads(text)) == [
        "ts", "level", "event", "version", "execution_id", "elapsed_ms",
    ]  # fmt: skip
    assert lines(stream)[0]["ts"].endswith("Z")


def test_levels_below_the_configured_one_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger().debug("quiet")
    assert stream.getvalue() == ""


def test_the_standard_logging_of_libraries_arrives_as_events(stream: io.StringIO) -> None:
    logging.getLogger("some.library").warning("it is %s", "late")
    line = lines(stream)[0]
    assert (line["event"], line["logger"], line["message"]) == (
        "library.log",
        "some.library",
        "it is late",
    )


@pytest.mark.scenario(96)
@pytest.mark.parametrize(
    "text",
    [
        "a\r\nb",
        "\x1b[31mred\x1b[0m",
        "\u2028x\u2029",
        "nul\x00",
        "lone \ud800 surrogate",
        "\x9b31m",
    ],
)
def test_control_text_is_escaped_and_reads_back_as_it_was(stream: io.StringIO, text: str) -> None:
    structlog.get_logger().info("note", text=text)
    raw = stream.getvalue()
    assert raw.count("\n") == 1
    assert raw.rstrip("\n").isascii()
    assert raw.rstrip("\n").isprintable()
    assert lines(stream)[0]["text"] == text


@pytest.mark.scenario(96)
@pytest.mark.parametrize(
    "facts",
    [
        {"text": "é" * 1_000_000},
        {f"name{index}": "z" * 10_000 for index in range(40)},
        {"nested": [{"deep": "y" * 9_000} for _ in range(50)]},
        {"k" * 70_000: 1},
    ],
)
def test_no_line_is_longer_than_the_cap(stream: io.StringIO, facts: dict[str, Any]) -> None:
    structlog.get_logger().info("note", **facts)
    raw = stream.getvalue()
    assert len(raw.encode()) <= LINE_CAP
    assert lines(stream)[0]["event"] == "note"


@pytest.mark.scenario(95)
def test_an_exception_is_told_with_its_secrets_removed(stream: io.StringIO) -> None:
    def fail() -> None:
        message = "call failed with Authorization: Bearer abcdef123456 and hunter2-hunter2"
        raise RuntimeError(message)

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("error.ERR_INTERNAL")
    raw = stream.getvalue()
    assert "abcdef123456" not in raw
    assert "hunter2-hunter2" not in raw
    assert "RuntimeError" in lines(stream)[0]["exception"]


@pytest.mark.scenario(95)
@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ({"authorization": "Bearer zzzz9999"}, "zzzz9999"),
        ({"outer": {"apiKey": "zzzz9999"}}, "zzzz9999"),
        ({"headers": [{"X-Api-Key": "zzzz9999"}]}, "zzzz9999"),
        ({"client_secret": ["zzzz9999"]}, "zzzz9999"),
        ({"url": "https://user:zzzz9999@example.test/x"}, "zzzz9999"),
        ({"note": "token=zzzz9999; path=/"}, "zzzz9999"),
        ({"note": '{"password": "zzzz9999"}'}, "zzzz9999"),
        ({"note": "the key sk-abcdefghijkl is here"}, "sk-abcdefghijkl"),
        ({"note": "x hunter2-hunter2 y"}, "hunter2-hunter2"),
        ({"hunter2-hunter2": 1}, "hunter2-hunter2"),
        ({"raw": b"zzzz9999"}, "zzzz9999"),
        ({"error": ValueError("password=zzzz9999")}, "zzzz9999"),
        ({"pem": "-----BEGIN PRIVATE KEY-----\nzzzz9999\n-----END PRIVATE KEY-----"}, "zzzz9999"),
    ],
)
def test_secrets_are_removed_wherever_they_stand(value: dict[str, Any], hidden: str) -> None:
    clean = Redactor(["hunter2-hunter2"]).mapping(value)
    assert hidden not in json.dumps(clean)


def test_what_is_no_secret_stays_readable() -> None:
    digest = "b3:" + "ab" * 32
    oci = "sha256:" + "cd" * 32
    facts = {
        "cid": digest,
        "secret_digest": oci,
        "tokens": 512,
        "note": f"stored {digest} for {oci}",
        "processor_ref": "llm/litellm@1",
        "token_count": 3,
    }
    assert Redactor().mapping(facts) == facts


def test_an_unknown_object_shows_its_type_only() -> None:
    class Opaque:
        def __repr__(self) -> str:
            return "password zzzz9999"

    assert Redactor().mapping({"thing": Opaque()}) == {"thing": "<Opaque>"}


def test_deep_and_cyclic_values_end() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    line = Line(version="0", redactor=Redactor())(None, "info", {"event": "e", "loop": loop})
    assert json.loads(line)["event"] == "e"


def test_masked_values_are_masked_once() -> None:
    redactor = Redactor()
    once = redactor.text("password=abc Bearer abcdefgh")
    assert redactor.text(once) == once
    assert MASK in once


@pytest.mark.parametrize(
    "piece", ["a.", "token ", "x:", "bearer ", "http://", "sk-", '"', "-----BEGIN "]
)
def test_redaction_takes_time_in_proportion_to_the_text(piece: str) -> None:
    started = time.perf_counter()
    Redactor(["hunter2-hunter2"]).text(piece * (400_000 // len(piece)))
    assert time.perf_counter() - started < 5

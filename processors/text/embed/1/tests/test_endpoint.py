"""In mode real an endpoint makes the vectors; its failures are coded, and the key stays inside."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from theory_core import TheoryError
from theory_runtime import Config

REF = "text/embed@1"
KEY = "sk-canary-0123456789abcdef"
CORPUS = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
GOOD = {
    "data": [
        {"index": 1, "embedding": [0.5, -0.25, 1e-7]},
        {"index": 0, "embedding": [1, 0.1234565, 0.0]},
    ],
    "usage": {"prompt_tokens": 150, "total_tokens": 150},
}
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def saying(status: int, body: bytes) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """A server whose answer a test chooses; it keeps what it was asked."""
    state = SimpleNamespace(answer=saying(200, json.dumps(GOOD).encode()), asked=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append((self.path, dict(self.headers), json.loads(body)))
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{served.server_port}/v1/"
        yield state
        served.shutdown()
        thread.join()


@pytest.fixture
def ask(bench: Any, endpoint: Any) -> Any:
    def start(**params: Any) -> Any:
        given = {"corpus": CORPUS, "endpoint": endpoint.url, **params}
        return bench(REF, given, mode="real", secrets={"OPENAI_API_KEY": KEY})

    return start


def test_the_vectors_come_in_the_order_of_the_texts(ask: Any, endpoint: Any) -> None:
    ran = ask(model="vendor/m", price={"input": 20_000, "output": 0})
    document = json.loads(ran.outputs["outputs/vectors.json"])
    assert [entry["values"] for entry in document["vectors"]] == [
        [1_000_000, 123_456, 0],
        [500_000, -250_000, 0],
    ]
    assert ran.usage == {"tokens": 150, "usd_micro": 3}
    ((path, headers, question),) = endpoint.asked
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert question == {"model": "m", "input": ["one", "two"], "encoding_format": "float"}


def test_what_was_not_counted_is_unknown_and_not_zero(ask: Any, endpoint: Any) -> None:
    assert ask().usage == {"tokens": 150}
    endpoint.answer = saying(200, json.dumps({"data": GOOD["data"]}).encode())
    assert ask(price={"input": 1, "output": 0}).usage == {}


def refusal(ask: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(TheoryError) as caught:
        ask(**params)
    assert KEY not in json.dumps(caught.value.detail)
    assert "echo" not in json.dumps(caught.value.detail)
    return caught.value.code, caught.value.message.rpartition(": ")[2]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (saying(500, f"echo {KEY}".encode()), "status_500"),
        (saying(401, f'{{"error":"echo {KEY}"}}'.encode()), "status_401"),
        (saying(302, b""), "status_302"),
        (saying(200, b"{"), "answer_invalid"),
        (saying(200, b"[]"), "answer_invalid"),
        (saying(200, b'{"data":[]}'), "answer_invalid"),
        (saying(200, b'{"data":[{"index":0,"embedding":[]},1]}'), "answer_invalid"),
        (saying(200, json.dumps({"data": [GOOD["data"][0]] * 2}).encode()), "answer_invalid"),  # type: ignore[index]
        (saying(200, b'{"data":[{"index":0,"embedding":[NaN]}]}'), "answer_invalid"),
        (lambda handler: handler.wfile.write(b"echo"), "unreachable"),
        (lambda _: None, "unreachable"),
    ],
)
def test_a_failure_of_the_endpoint_is_coded_and_tells_nothing_of_it(
    ask: Any, endpoint: Any, answer: Answer, reason: str
) -> None:
    endpoint.answer = answer
    assert refusal(ask) == ("ERR_PROVIDER", reason)
    assert len(endpoint.asked) == 1, "never asked twice"


def test_an_endpoint_that_hangs_is_a_timeout(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch, providers: Any
) -> None:
    provider = providers(REF)
    monkeypatch.setattr(provider, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(provider, "secret", lambda _: KEY)
    endpoint.answer = lambda _: time.sleep(2)
    config = Config(REF, "real", "x1", Path(), lambda *_: None)
    with pytest.raises(TheoryError) as caught:
        provider.make_runner(config)({"corpus": CORPUS, "endpoint": endpoint.url})
    assert (caught.value.code, caught.value.detail) == ("ERR_PROVIDER", {"reason": "timeout"})


def test_nothing_of_a_run_holds_the_key(ask: Any) -> None:
    ran = ask()
    assert KEY not in ran.info
    assert all(KEY.encode() not in body for body in ran.outputs.values())


def test_without_a_key_or_with_too_much_nothing_is_asked(
    bench: Any, ask: Any, endpoint: Any
) -> None:
    with pytest.raises(TheoryError, match="missing required secret"):
        bench(REF, {"corpus": CORPUS, "endpoint": endpoint.url}, mode="real")
    long = [{"id": "a", "text": "x" * 64_001}]
    assert refusal(ask, corpus=long) == ("ERR_INPUTS", "corpus_too_long_for_model")
    assert refusal(ask, corpus=[{"id": "a", "text": " "}]) == ("ERR_INPUTS", "text_empty")
    assert endpoint.asked == []


def test_mock_reads_no_key_and_asks_nobody(bench: Any, endpoint: Any) -> None:
    given = {"corpus": CORPUS, "endpoint": endpoint.url}
    ran = bench(REF, given, mode="mock", secrets={"OPENAI_API_KEY": KEY})
    assert endpoint.asked == []
    assert all(KEY.encode() not in body for body in ran.outputs.values())

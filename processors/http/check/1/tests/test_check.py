"""What a server answers is stated as facts; what it does not answer, too, and in time."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from theory_core import TheoryError, digest

REF = "http/check@1"
BODY = b'{"ok":true}'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; counts who asks."""

    asked: list[str] = []  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/ok")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(3 * 1024 * 1024))
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"too little")
        else:
            self.send_response(200 if self.path == "/ok" else 500)
            self.send_header("Content-Type", "Application/JSON; charset=utf-8")
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(BODY)

    do_HEAD = do_GET  # noqa: N815 - the library's names

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


@pytest.fixture
def facts(run: Any) -> Any:
    def ask(url: str, mode: str = "real", **params: Any) -> dict[str, Any]:
        ran = run(REF, {"url": url, **params}, mode=mode)
        stated: dict[str, Any] = json.loads(ran.outputs["outputs/facts.json"])
        assert (stated["schema"], stated["url"]) == ("theory.http.v1", url)
        return stated

    return ask


def test_an_answer_is_stated_by_status_type_and_digest(facts: Any, server: str) -> None:
    stated = facts(f"{server}/ok")
    assert (stated["status"], stated["method"], stated["fault"]) == (200, "GET", None)
    assert stated["media_type"] == "application/json"
    assert stated["body"] == {"cid": digest(BODY), "size_bytes": 11, "truncated": False}


def test_a_failure_of_the_server_is_a_fact(facts: Any, server: str) -> None:
    assert facts(f"{server}/broken")["status"] == 500


def test_a_head_has_no_body(facts: Any, server: str) -> None:
    stated = facts(f"{server}/ok", method="HEAD")
    assert (stated["status"], stated["method"]) == (200, "HEAD")
    assert stated["body"]["size_bytes"] == 0


@pytest.mark.scenario(98)
def test_nobody_goes_where_a_redirect_points(facts: Any, server: str) -> None:
    assert facts(f"{server}/moved")["status"] == 302
    assert Handler.asked == ["/moved"]


def test_a_long_answer_is_read_to_its_cap(facts: Any, server: str) -> None:
    body = facts(f"{server}/large")["body"]
    assert body == {"cid": digest(bytes(2**20)), "size_bytes": 2**20, "truncated": True}


def test_an_answer_that_breaks_off_is_no_answer(facts: Any, server: str) -> None:
    stated = facts(f"{server}/short")
    assert stated["status"] is None or stated["body"]["truncated"]


def test_a_server_that_drips_is_cut_off_in_time(facts: Any, server: str) -> None:
    assert facts(f"{server}/drip", timeout_ms=700)["fault"] == "timeout"


def test_how_long_it_took_is_told_and_not_written(run: Any, server: str) -> None:
    first, again = (run(REF, {"url": f"{server}/ok"}, mode="real") for _ in range(2))
    assert first.outputs == again.outputs
    ((kind, content),) = first.frames
    assert kind == "Log"
    assert content["message"].endswith(" ms")


def test_a_port_where_nobody_listens_refuses(facts: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert facts(f"http://127.0.0.1:{port}/")["fault"] == "refused"


@pytest.mark.parametrize(
    ("said", "fault"), [(b"SSH-2.0-x\r\n", "protocol"), (b"", "protocol"), (None, "timeout")]
)
def test_a_server_of_another_kind_is_a_fault(facts: Any, said: bytes | None, fault: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = threading.Event()

        def speak() -> None:
            end, _ = listening.accept()
            with end:
                if said is None:
                    gone.wait(30)
                else:
                    end.recv(4096)
                    end.sendall(said)

        thread = threading.Thread(target=speak)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        try:
            assert facts(url, timeout_ms=1500)["fault"] == fault
        finally:
            gone.set()
            thread.join()


def test_a_server_without_tls_is_a_fault_of_tls(facts: Any, server: str) -> None:
    assert facts(f"{server.replace('http:', 'https:')}/ok")["fault"] == "tls"


def test_mock_connects_to_nothing_and_is_always_the_same(
    facts: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    url = "https://api.example.org/"
    assert facts(url, mode="mock")["status"] == 200
    assert run(REF, {"url": url}).outputs == run(REF, {"url": url}).outputs


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://a@b/", None, "http://a\n/"])
def test_what_is_no_address_is_refused(run: Any, url: str | None) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"url": url}, mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "uri_invalid")


@pytest.mark.scenario(98)
def test_a_name_that_leads_inside_is_refused(run: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"url": "http://localhost/"}, mode="real")
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "address_private")

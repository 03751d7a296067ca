"""From inside a container: what is listed answers, whoever asks for it; nothing else does."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from theory_api.adapters.docker.egress import SOCKET
from theory_api.adapters.docker.tests.conftest import Bench, Registry
from theory_api.adapters.docker.tests.test_runs import code
from theory_core import loads_strict

pytestmark = pytest.mark.timeout(180)

METADATA = "http://169.254.169.254"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the host that it was asked for."""

    def do_GET(self) -> None:
        body = self.headers.get("Host", "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def listening(address: str) -> Iterator[int]:
    with http.server.ThreadingHTTPServer((address, 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served.server_port
        finally:
            served.shutdown()
            thread.join()


@pytest.fixture
def control_plane() -> Iterator[int]:
    """A server of this machine that listens wherever it can be reached."""
    with listening("0.0.0.0") as port:  # noqa: S104 - that nobody gets there is what is tested
        yield port


@pytest.fixture
def neighbour(bench: Bench, deeds: str) -> Iterator[str]:
    """The address of another container, which has a network and serves on it."""
    labels = {"theory.home": "neighbour"}
    serve = ["--serve", "/tmp", "--listen", "0.0.0.0:8080"]  # noqa: S108 - in a container
    made: Any = bench.client.containers.run(deeds, serve, detach=True, labels=labels)
    try:
        until = time.monotonic() + 30
        while not (address := made.attrs["NetworkSettings"]["IPAddress"]):
            assert time.monotonic() < until
            time.sleep(0.05)
            made.reload()
        yield address
    finally:
        made.remove(force=True)


async def reached(bench: Bench, *uris: str, mode: str = "real") -> dict[str, dict[str, str]]:
    """What a container of a spec with egress reaches, by address and way."""
    bench.adapter._snapshots = Registry(network="egress")
    envelope = await bench.run({"do": "reach", "uris": list(uris)}, mode=mode)
    assert envelope["status"] == "success", envelope
    told: dict[str, Any] = loads_strict(await bench.body("outputs/reach.json"))
    assert told["interfaces"] == ["lo"]
    found: dict[str, dict[str, str]] = told["found"]
    return found


def nowhere(tried: str) -> bool:
    """Whether there was no route, nobody on a loopback of its own, or nobody who knows names."""
    signs = ("Network is unreachable", "Connection refused", "name resolution")
    return any(sign in tried for sign in signs)


@pytest.mark.scenario(82)
async def test_nothing_that_is_not_listed_can_be_reached(
    bench: Bench, control_plane: int, neighbour: str
) -> None:
    """The metadata service, the control plane by each of its addresses, a container, the world."""
    gateway = neighbour.rpartition(".")[0] + ".1"
    unlisted = [
        METADATA,
        f"http://127.0.0.1:{control_plane}",
        f"http://{gateway}:{control_plane}",
        f"http://{neighbour}:8080",
        "http://1.1.1.1",
        "http://example.org",
    ]
    bench.reach = ("https://api.example.org", f"http://127.0.0.1:{control_plane + 1}")
    with capture_logs() as logged:
        found = await reached(bench, *unlisted)
    for uri in unlisted:
        own = "127.0.0.1" in uri or "example.org" in uri
        assert nowhere(found[uri]["itself"]), (uri, found[uri])
        assert own or "Network is unreachable" in found[uri]["itself"]
        assert found[uri]["runtime"] == "ERR_INPUTS uri"
        assert "HTTP Error 403" in found[uri]["library"]
    refused = [line for line in logged if line["event"] == "adapter.egress.refused"]
    assert {line["reason"] for line in refused} == {"not_listed"}
    assert {line["execution_id"] for line in refused} == {"x1"}
    assert {"169.254.169.254", gateway, neighbour} <= {line["host"] for line in refused}
    assert len(refused) == 2 * len(unlisted)


@pytest.mark.scenario(82, 98)
async def test_a_listed_name_that_leads_inside_is_refused(bench: Bench, control_plane: int) -> None:
    uri = f"http://localhost:{control_plane}"
    bench.reach = (uri,)
    found = (await reached(bench, uri))[uri]
    assert nowhere(found["itself"])
    assert found["runtime"] == "ERR_INPUTS address_private"
    assert "HTTP Error 403" in found["library"]


@pytest.mark.scenario(82)
async def test_what_is_listed_answers_clients_that_know_of_a_proxy(bench: Bench) -> None:
    with listening("127.0.0.1") as port, capture_logs() as logged:
        uri = f"http://127.0.0.1:{port}"
        bench.reach = (uri,)
        found = (await reached(bench, uri))[uri]
    assert nowhere(found["itself"])
    assert found["runtime"] == found["library"] == f"127.0.0.1:{port}"
    through = [line for line in logged if line["event"] == "adapter.egress.closed"]
    assert [(line["host"], line["port"]) for line in through] == [("127.0.0.1", port)] * 2
    assert all(line["sent_bytes"] and line["received_bytes"] for line in through)


@pytest.mark.scenario(82)
@pytest.mark.parametrize("mode", ["mock", "real"])
async def test_without_a_list_or_in_mode_mock_there_is_no_way_out(bench: Bench, mode: str) -> None:
    with listening("127.0.0.1") as port:
        uri = f"http://127.0.0.1:{port}"
        bench.reach = (uri,) if mode == "mock" else ()
        found = (await reached(bench, uri, METADATA, mode=mode))[uri]
    assert all(map(nowhere, found.values())), found


async def test_the_environment_names_the_way_out_and_no_exception(bench: Bench) -> None:
    bench.adapter._snapshots = Registry(network="egress")
    bench.reach = ("http://127.0.0.1:9",)
    await bench.run({"do": "environment"}, mode="real")
    told = loads_strict(await bench.body("outputs/environment.json"))
    url = "http://" + told["THEORY_EGRESS"]
    assert url.startswith("http://127.0.0.1:")
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy")
    assert [told[name] for name in names] == [url, url, url, url, "", ""]


async def test_a_way_out_ends_with_its_run(bench: Bench) -> None:
    bench.adapter._snapshots = Registry(network="egress")
    bench.reach = ("http://127.0.0.1:9",)
    assert code(await bench.run({"do": "kill", "signal": 9}, mode="real")) == "ERR_INTERNAL"
    live = bench.adapter._live["x1"]
    assert live.closing is not None
    await live.closing
    assert live.egress is not None
    assert not live.egress._tasks
    assert not (bench.adapter._places.of("x1").folder / SOCKET).exists()

"""A connection goes to the address that was checked, whatever its name leads to afterwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from theory_core import TheoryError
from theory_runtime import pinned
from theory_runtime.egress import Spot, connection, is_public, locate
from theory_runtime.tests.echoing import echoing


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    asked: list[str] = []

    def answer(host: str, port: int, **_: Any) -> list[Any]:  # noqa: ANN401
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def reason(uri: object) -> tuple[str, object]:
    with pytest.raises(TheoryError) as caught:
        locate(uri)
    return caught.value.code, caught.value.detail["reason"]


def test_an_address_that_is_written_out_is_taken_as_it_is() -> None:
    spot = locate("http://127.0.0.1:8080?x=1")
    assert (spot.address, spot.port, spot.target) == ("127.0.0.1", 8080, "/?x=1")
    assert spot.authority == "127.0.0.1:8080"
    assert locate("http://[::1]/a").authority == "[::1]"


def test_a_name_is_resolved_once_and_has_to_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, "93.184.215.14", "2606:2800:21f::1")
    spot = locate("https://api.example.org/v1")
    assert (spot.address, spot.authority, asked) == (
        "93.184.215.14",
        "api.example.org",
        ["api.example.org"],
    )


@pytest.mark.scenario(98)
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - that it is refused
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "::169.254.169.254",
        "fec0::1",
        "64:ff9b::7f00:1",
        "nonsense",
    ],
)
def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert not is_public(address)
    resolving(monkeypatch, "93.184.215.14", address)
    assert reason("http://rebound.example/") == ("ERR_INPUTS", "address_private")


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e"]
)
def test_a_public_address_is_one_however_it_is_written(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "uri",
    [None, 7, "", "ftp://a/", "http://u@a/", "http://A/", "http://a:70000/", "http://a/#x", "a"],
)
def test_what_is_no_address_is_refused(uri: object) -> None:
    assert reason(uri) == ("ERR_INPUTS", "uri_invalid")


def test_a_host_that_is_nowhere_is_the_providers_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch)
    assert reason("http://nowhere.example/") == ("ERR_PROVIDER", "host_unknown")


@pytest.fixture
def server() -> Iterator[int]:
    with echoing() as port:
        yield port


def test_the_connection_goes_to_the_address_and_names_the_host(
    monkeypatch: pytest.MonkeyPatch, server: int
) -> None:
    spot = locate(f"http://127.0.0.1:{server}/")
    named = type(spot)("http", "api.example.org", server, "/", "127.0.0.1")
    resolve, asked = socket.getaddrinfo, []

    def record(host: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        asked.append(host)
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    wire = connection(named, timeout_s=10)
    try:
        wire.request("GET", named.target, headers={"Host": named.authority})
        assert wire.getresponse().read() == f"api.example.org:{server}".encode()
    finally:
        wire.close()
    assert set(asked) <= {"127.0.0.1"}


@pytest.mark.scenario(98)
def test_a_library_connects_to_the_address_that_was_checked_and_to_no_other(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    spot = Spot("http", "api.example.org", server, "/", "127.0.0.1")
    with pinned.client(spot) as wire:
        assert wire.get(f"http://api.example.org:{server}/v1").text == f"api.example.org:{server}"
        for url in (f"http://127.0.0.1:{server}/", "https://api.example.org/", "http://a.example/"):
            with pytest.raises(httpx.ConnectError, match="another address"):
                wire.get(url)

"""What counts as an address of the internet, here and where processors connect themselves."""

from __future__ import annotations

import pytest

from theory_api.domain import addresses, uris
from theory_runtime import egress

PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - that it is none
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::169.254.169.254",
    "::ffff:127.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "fe80::1%eth0",
    "fd00::1",
    "fec0::1",
    "ff0e::1",
    "nonsense",
    "",
]
PUBLIC = [
    "93.184.215.14",
    "2606:2800:21f::1",
    "::ffff:93.184.215.14",
    "2002:5db8:d70e::1",
    "64:ff9b::5db8:d70e",
]


@pytest.mark.scenario(82, 98)
@pytest.mark.parametrize("address", PRIVATE + PUBLIC)
def test_both_sides_take_the_same_addresses_for_public_ones(address: str) -> None:
    expected = address in PUBLIC
    assert (addresses.is_public(address), egress.is_public(address)) == (expected, expected)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("api.example.org", None),
        # Spellings that only a resolver understands are names, and have to lead to the internet.
        *((host, None) for host in ("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost")),
    ],
)
def test_an_address_is_one_as_it_is_written(host: str, expected: str | None) -> None:
    assert addresses.literal(host) == expected


@pytest.mark.parametrize(
    "uri", ["http://a", "https://a:1/x", "http://[::1]:80/", "http://A", "ftp://a", "http://u@a"]
)
def test_both_sides_read_the_same_addresses(uri: str) -> None:
    assert (egress._URI.fullmatch(uri) is None) == (uris.origin(uri) is None)

"""Connections of a processor: to the address that was checked, and to no other.

The control plane has let a URI through that its plan's policy lists (spec: limits). A name on that
list may still lead anywhere; so a name is resolved once, every address that it has must be a
public one, and the connection goes to the first of them. An address that is itself on the list,
private or not, is what the list means. Where the run has a way out (see `outlet`), the control
plane resolves and checks at its other end, and connections go through it. Nothing here follows a
redirect.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from theory_runtime.fault import fault

_URI: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::([1-9][0-9]{0,4}))?([/?][!-\[\]-~]*)?"
)
"""As the control plane reads it (theory_api.domain.uris); a test holds the two together."""
_OF_A_SITE: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b:1::/48", "fec0::/10")))
"""Networks that mean something else in every place, whatever the standard library thinks."""
WAY_OUT: Final = "THEORY_EGRESS"
"""Environment name of the way out of a run, `host:port` of a proxy; set by its supervisor alone."""
REFUSED: Final = "Theory-Refused"
"""The header of an answer that is the way out's own: why there is no connection."""
_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a URI leads: what it says, and the address that stands for its host."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they are asked for."""
    address: str
    """The name itself where the way out resolves it."""

    @property
    def authority(self) -> str:
        """Host, and the port if it is not the scheme's own: what the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def at(self, target: str) -> Spot:
        """Another path of the same server, at the same address."""
        return Spot(self.scheme, self.host, self.port, target, self.address)


def locate(uri: object) -> Spot:
    """Resolve the host of a URI, once.

    Raises `TheoryError`: `ERR_INPUTS` with `detail.reason` `uri_invalid` or `address_private`
    (a name that leads to a machine which is not a public one), `ERR_PROVIDER` `host_unknown`.
    """
    match = _URI.fullmatch(uri) if isinstance(uri, str) and "#" not in uri else None
    if match is None:
        raise fault("ERR_INPUTS", "uri_invalid")
    scheme, host = match[1], match[2].strip("[]")
    port = int(match[3] or _PORTS[scheme])
    if port > _MAX_PORT:
        raise fault("ERR_INPUTS", "uri_invalid")
    target = match[4] or "/"
    if target.startswith("?"):
        target = f"/{target}"
    return Spot(scheme, host, port, target, _address(host, port))


def way_out() -> tuple[str, int] | None:
    """Host and port of the proxy that this run has to use, or None where it connects itself."""
    host, colon, port = os.environ.get(WAY_OUT, "").rpartition(":")
    return (host, int(port)) if colon else None


def _address(host: str, port: int) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if way_out() is not None:
        return host
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise fault("ERR_PROVIDER", "host_unknown") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses:
        raise fault("ERR_PROVIDER", "host_unknown")
    if not all(map(is_public, addresses)):
        raise fault("ERR_INPUTS", "address_private")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether anybody on the internet means the same machine by it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    meant = _meant(parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
    return meant.is_global and not meant.is_multicast


def _meant(
    address: ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one carries to a translator, or the address itself.

    0.0.0.0 for one that only its own site understands.
    """
    if any(address in network for network in _OF_A_SITE):
        return ipaddress.IPv4Address(0)
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


class _Plain(http.client.HTTPConnection):
    """HTTP to an address, for the name that it stands for."""

    def __init__(self, spot: Spot, timeout_s: float) -> None:
        super().__init__(spot.host, spot.port, timeout=timeout_s)
        self._spot = spot

    def connect(self) -> None:
        """Connect to the address; no name is resolved a second time."""
        place = (self._spot.address, self._spot.port)
        through = way_out()
        self.sock = socket.create_connection(through or place, self.timeout)
        if through is not None:
            try:
                _tunnel(self.sock, *place)
            except BaseException:
                self.close()
                raise


class _Secure(_Plain):
    """HTTPS to an address; the certificate has to be the name's."""

    def connect(self) -> None:
        """Connect, and let the server prove that it is who the name says."""
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self._spot.host)


def _tunnel(wire: socket.socket, host: str, port: int) -> None:
    """Have a proxy lead a connection on; raises `TheoryError` and `OSError` as `refusal` does."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(wire, method="CONNECT")
    try:
        answer.begin()
        if answer.status != http.HTTPStatus.OK:
            raise refusal(answer.getheader(REFUSED) or f"status_{answer.status}")
    finally:
        answer.close()


def refusal(reason: str) -> Exception:
    """Why the way out leads nowhere: what was asked for is refused, or nobody is there.

    `ERR_INPUTS` with `detail.reason` `uri` (no list names it) or `address_private`, `ERR_PROVIDER`
    `host_unknown`; for the rest the `OSError` that a connection of one's own would have had.
    """
    if reason in {"not_listed", "address_private"}:
        return fault("ERR_INPUTS", "uri" if reason == "not_listed" else reason)
    if reason == "host_unknown":
        return fault("ERR_PROVIDER", reason)
    kinds = {"refused": ConnectionRefusedError, "timeout": TimeoutError}
    return kinds.get(reason, OSError)(f"the way out: {reason}")


def connection(spot: Spot, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection that is not open yet; every wait on it ends after `timeout_s`."""
    return (_Secure if spot.scheme == "https" else _Plain)(spot, timeout_s)

"""Which addresses anybody on the internet means the same machine by: no others stand for a name.

Source of the rule: spec, limits (`uri_allow`). The runtime of processors has the same rule for
connections that it makes itself; a test holds the two together.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_OF_A_SITE: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b:1::/48", "fec0::/10")))
"""Networks that mean something else in every place, whatever the standard library thinks."""
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4: Final = 0xFFFF_FFFF


def literal(host: str) -> str | None:
    """The address that a host is, as URIs write it (`127.0.0.1`, `[::1]`), or None for a name."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an address, with or without a zone, is one of the internet's and of one machine."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    meant: ipaddress.IPv4Address | ipaddress.IPv6Address = parsed
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in _OF_A_SITE):
            return False
        if parsed in _TRANSLATED:
            meant = ipaddress.IPv4Address(int(parsed) & _IPV4)
        else:
            meant = parsed.ipv4_mapped or parsed.sixtofour or parsed
    return meant.is_global and not meant.is_multicast

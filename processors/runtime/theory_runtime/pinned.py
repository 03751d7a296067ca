"""An httpx client for libraries: to the address that was checked, and to no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory_runtime.egress import Spot

if TYPE_CHECKING:
    import httpx


def client(spot: Spot) -> httpx.Client:
    """A client that connects to the spot's address alone, and follows no redirect.

    A certificate has to be that of the spot's name. A request to anywhere else, whoever makes it,
    raises `httpx.ConnectError`. httpx is the processor's: this runtime does not bring it.
    """
    import httpx  # noqa: PLC0415 - as above

    class Pinned(httpx.HTTPTransport):
        """HTTP to an address, for the name that it stands for."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url
            port = url.port or (443 if url.scheme == "https" else 80)
            if (url.scheme, url.host, port) != (spot.scheme, spot.host, spot.port):
                message = "another address than the one that was checked"
                raise httpx.ConnectError(message, request=request)
            request.url = url.copy_with(host=spot.address)
            request.extensions = {**request.extensions, "sni_hostname": spot.host}
            return super().handle_request(request)

    return httpx.Client(transport=Pinned(trust_env=False), follow_redirects=False, trust_env=False)

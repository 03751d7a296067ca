"""An httpx client for libraries: to the address that was checked, and to no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory_runtime.egress import REFUSED, Spot, way_out

if TYPE_CHECKING:
    import httpx


def client(spot: Spot) -> httpx.Client:
    """A client that connects to the spot's address alone, and follows no redirect.

    A certificate has to be that of the spot's name. A request to anywhere else, whoever makes it,
    raises `httpx.ConnectError`; so does one that the run's way out refuses. httpx is the
    processor's: this runtime does not bring it.
    """
    import httpx  # noqa: PLC0415 - as above

    through = way_out()

    class Pinned(httpx.HTTPTransport):
        """HTTP to an address, for the name that it stands for."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = request.url
            port = url.port or (443 if url.scheme == "https" else 80)
            if (url.scheme, url.host, port) != (spot.scheme, spot.host, spot.port):
                message = "another address than the one that was checked"
                raise httpx.ConnectError(message, request=request)
            if through is not None:
                return self._led(request)
            request.url = url.copy_with(host=spot.address)
            request.extensions = {**request.extensions, "sni_hostname": spot.host}
            return super().handle_request(request)

        def _led(self, request: httpx.Request) -> httpx.Response:
            """Through the way out, which resolves the name itself."""
            try:
                response = super().handle_request(request)
            except httpx.ProxyError as error:
                raise httpx.ConnectError(str(error), request=request) from error
            reason = response.headers.get(REFUSED)
            if reason is not None:
                response.close()
                raise httpx.ConnectError(f"the way out: {reason}", request=request)
            return response

    proxy = None if through is None else f"http://{through[0]}:{through[1]}"
    transport = Pinned(trust_env=False, proxy=proxy)
    return httpx.Client(transport=transport, follow_redirects=False, trust_env=False)

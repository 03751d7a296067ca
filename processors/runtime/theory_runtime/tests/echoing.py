"""A server on loopback that answers each request with the host that it was asked for."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the host that it was asked for."""

    def do_GET(self) -> None:
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def echoing() -> Iterator[int]:
    """Its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served.server_port
        finally:
            served.shutdown()
            thread.join()

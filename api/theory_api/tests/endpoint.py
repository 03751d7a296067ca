"""A server on loopback that stands in for one elsewhere, and the settings of who lists it."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from theory_api import settings as configuration
from theory_api.settings import Settings, assets


@contextlib.contextmanager
def listening(
    handler: type[http.server.BaseHTTPRequestHandler], address: str = "127.0.0.1"
) -> Iterator[int]:
    """The port of a server whose requests are the handler's."""
    with http.server.ThreadingHTTPServer((address, 0), handler) as served:
        served.daemon_threads = True
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served.server_port
        finally:
            served.shutdown()
            thread.join()


def told(tmp_path: Path, origin: str, *, key: str, log: str = "error") -> Settings:
    """Settings of a person outside CI with a key, whose registry lists the origin."""
    registry = tmp_path / "registry"
    shutil.copytree(assets("registry"), registry)
    policy = registry / "policies" / "default.yaml"
    policy.write_text(policy.read_text().replace("uri_allow: []", f'uri_allow: ["{origin}"]'))
    environment = {
        "THEORY_LOG": log,
        "THEORY_REGISTRY": str(registry),
        "THEORY_CACHE": os.environ.get("THEORY_CACHE") or str(tmp_path / "cache"),
        "OPENAI_API_KEY": key,
    }
    for name in ("THEORY_WHEELS", "DOCKER_HOST"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return configuration.read(environment, home=tmp_path / "home")

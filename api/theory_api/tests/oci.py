"""A registry of images on this machine, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

_CONFIGURATION: Final = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
_CLOSED: Final = "auth: {{htpasswd: {{realm: tests, path: {folder}/nobody}}}}\n"
"""Nobody is in the file: whoever comes is refused."""


@contextlib.contextmanager
def registry(folder: Path, *, closed: bool = False) -> Iterator[str]:
    """`host:port` of a registry that keeps its images in a folder; never skipped in CI."""
    if shutil.which("docker-registry") is None:
        if os.environ.get("CI"):
            pytest.fail("docker-registry is not installed: .ci/run installs it")
        pytest.skip("docker-registry is not installed: no pinned image was pulled here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = folder / "registry.yml"
    text = _CONFIGURATION + (_CLOSED if closed else "")
    (folder / "nobody").touch()
    told.write_text(text.format(folder=folder, port=port), encoding="ascii")
    process = subprocess.Popen(
        ["docker-registry", "serve", str(told)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while not _listens(port):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def pushed(client: Any, image: str, place: str, tag: str = "pinned") -> str:  # noqa: ANN401
    """Push an image and answer the digest under which it can be pulled."""
    client.images.get(image).tag(place, tag)
    for line in client.api.push(place, tag=tag, stream=True, decode=True):
        assert "error" not in line, line
        if "Digest" in line.get("aux", {}):
            found = str(line["aux"]["Digest"])
    return found


def forget(client: Any, place: str) -> None:  # noqa: ANN401
    """Have the engine forget a repository's names of its images."""
    import docker  # noqa: PLC0415 - only these tests need it

    for image in client.images.list(name=place):
        for name in [*image.tags, *image.attrs["RepoDigests"]]:
            if name.startswith(place):
                with contextlib.suppress(docker.errors.ImageNotFound):
                    # The last tag took its digests with it.
                    client.images.remove(name)

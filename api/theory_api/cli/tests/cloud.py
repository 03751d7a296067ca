"""The stand-in of Modal's cloud beside a command line: each has a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import sys
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from theory_api.adapters.modal import app
from theory_api.tests.modal_cloud import ModalCloud, modal_cloud
from theory_api.tests.transports import PROCESSORS, free_ports

REF = "llm/litellm@1"
DIGEST = "sha256:" + "c4" * 32
OTHER = "sha256:" + "c5" * 32
IMAGE = f"theory/llm-litellm-v1@{DIGEST}"


@dataclass
class Running:
    """A cloud in a thread of its own: the command line has a loop of its own too."""

    cloud: ModalCloud
    registry: Path
    loop: asyncio.AbstractEventLoop

    def does(self, work: Coroutine[object, object, None]) -> None:
        """Have something done in its loop."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


def pins(registry: Path, digest: str) -> None:
    """Pin the processor's image in every environment."""
    text = f"schema: theory.pins.v1\npins:\n  {REF}: {{amd64: '{digest}', arm64: '{digest}'}}\n"
    for name in ("dev", "staging", "main"):
        (registry / "pins" / f"{name}.yaml").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def running_cloud(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A cloud, the settings that lead to it, and a registry whose pins it has."""
    loop, ready, ending = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[ModalCloud] = []

    async def serve() -> None:
        place = folder / "cloud"
        place.mkdir()
        async with modal_cloud(place) as cloud:
            found.append(cloud)
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    (cloud,) = found
    cloud.images.add(IMAGE)
    cloud.secrets["dev", "theory-openai-api-key"] = {"OPENAI_API_KEY": "canary-1234567890"}
    cloud.secrets["main", "theory-openai-api-key"] = {"OPENAI_API_KEY": "canary-1234567890"}
    registry = folder / "registry"
    shutil.copytree(PROCESSORS.parent / "registry", registry)
    pins(registry, DIGEST)
    (port,) = free_ports(1)
    told = {
        "MODAL_SERVER_URL": cloud.url,
        "MODAL_TOKEN_ID": "ak-test",
        "MODAL_TOKEN_SECRET": "as-test",
        "MODAL_CONFIG_PATH": str(folder / "none.toml"),
        "THEORY_REGISTRY": str(registry),
        "THEORY_MODAL_OWNER": "ada-main",
        "THEORY_MODAL_KEY": "wk-test",
        "THEORY_MODAL_SECRET": "ws-test",
        "THEORY_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "THEORY_GATEWAY_URL": f"http://127.0.0.1:{port}",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    ports = dict(zip((app.RUN, app.MOCK), free_ports(2), strict=True))
    place = {"root": str(PROCESSORS), "python": sys.executable, "host": "127.0.0.1"}
    monkeypatch.setattr(app, "Layout", functools.partial(app.Layout, **place, ports=ports))
    yield Running(cloud, registry, loop)
    loop.call_soon_threadsafe(ending.set)
    thread.join(30)
    loop.close()
    assert cloud.faults == []

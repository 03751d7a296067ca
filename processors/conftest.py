"""Run a processor: its provider directly, or its `main.py` in a process of its own."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from theory_core import TheoryError, digest
from theory_runtime import Config

HERE = Path(__file__).resolve().parent


@dataclass
class Ran:
    """What a run left behind: outputs by relative path, usage, and what watchers were told."""

    outputs: dict[str, bytes]
    mimes: dict[str, str]
    usage: Mapping[str, int]
    info: str
    frames: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    transitions: Sequence[Mapping[str, Any]] = ()


Artifact = Callable[[str, bytes], dict[str, Any]]
Run = Callable[..., Ran]


def load(ref: str) -> ModuleType:
    """The provider module of `ns/name@N`."""
    spec = importlib.util.spec_from_file_location(
        "provider_of_" + ref.replace("/", "_").replace("@", "_"),
        HERE / ref.replace("@", "/") / "provider.py",
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: no test of a provider, in mode real or mock, connects beyond this machine."""
    connect = socket.socket.connect

    def near(end: socket.socket, address: Any) -> None:  # noqa: ANN401 - as sockets take it
        inet = end.family in {socket.AF_INET, socket.AF_INET6}
        if inet and not ipaddress.ip_address(address[0]).is_loopback:
            message = "a test of a processor connects to this machine alone"
            raise AssertionError(message)
        connect(end, address)

    monkeypatch.setattr(socket.socket, "connect", near)


@pytest.fixture(scope="session")
def providers() -> Callable[[str], ModuleType]:
    return load


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Make an artifact as a runner sees it: described, and there as a file."""

    def make(path: str, body: bytes) -> dict[str, Any]:
        file = tmp_path_factory.mktemp("artifact") / "body"
        file.write_bytes(body)
        return {
            "path": path,
            "cid": digest(body),
            "size_bytes": len(body),
            "mime": "application/octet-stream",
            "local_path": str(file),
        }

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `ref` with `params` in a mode, in a work folder of its own."""

    def start(ref: str, params: dict[str, Any], mode: str = "mock") -> Ran:
        frames: list[tuple[str, Mapping[str, Any]]] = []
        config = Config(
            ref=ref,
            mode=mode,
            execution_id="x1",
            work_dir=tmp_path_factory.mktemp("work"),
            progress=lambda kind, content: frames.append((kind, content)),
        )
        result = load(ref).make_runner(config)(params)
        bodies = {
            item.relpath: item.body if isinstance(item.body, bytes) else item.body.read_bytes()
            for item in result.outputs
        }
        mimes = {item.relpath: item.mime for item in result.outputs}
        assert len(bodies) == len(result.outputs)
        return Ran(bodies, mimes, result.usage, result.processor_info, frames, result.transitions)

    return start


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `ref` through its command line; secrets by name are files that it may read.

    The envelope of a failure is raised as the error that it tells; `Ran.info` is all of stderr.
    """

    def start(
        ref: str,
        params: dict[str, Any],
        mode: str = "mock",
        secrets: Mapping[str, str] | None = None,
    ) -> Ran:
        folder = tmp_path_factory.mktemp("bench")
        vault, out, payload = folder / "secrets", folder / "out", folder / "payload.json"
        vault.mkdir()
        for name, value in (secrets or {}).items():
            (vault / name).write_text(value)
        inputs = {"schema": "v1", "params": params}
        payload.write_text(json.dumps({"inputs": inputs, "secrets": sorted(secrets or {})}))
        main = HERE / ref.replace("@", "/") / "main.py"
        command = [sys.executable, str(main), "--payload", str(payload), "--out", str(out)]
        command += ["--mode", mode, "--secrets", str(vault)]
        done = subprocess.run(  # noqa: S603 - our own interpreter and program
            command, check=False, capture_output=True, text=True
        )
        assert done.stdout, done.stderr
        envelope = json.loads(done.stdout)
        if envelope["status"] == "error":
            raise TheoryError(envelope["error"]["code"], envelope["error"]["message"], envelope)
        frames = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        for frame in frames:
            if "data" in frame["content"]:
                frame["content"]["data"] = base64.b64decode(frame["content"]["data"])
        receipt = json.loads((out / "receipt.json").read_bytes())
        return Ran(
            {
                str(file.relative_to(out)): file.read_bytes()
                for file in sorted((out / "outputs").rglob("*"))
                if file.is_file()
            },
            {},
            receipt["usage"],
            done.stderr,
            [(frame["kind"], frame["content"]) for frame in frames],
        )

    return start

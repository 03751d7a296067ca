"""Viewers of one run: how many frames reach them, how late, and whether each hears the result.

    python -m benchmarks.watching --viewers 100 --tokens-per-s 1000 --seconds 10

A child process of `theory serve` makes the tokens, by the runtime, its socket, the adapter and the
scheduler; the served relay hands them to viewers, all of whom are in a third process. A token is as
late as it is from where it was made to its viewer. A viewer that falls behind is told what it
missed; a result that is not the stored envelope fails.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.measure import percentile, report
from theory_api import settings as configuration
from theory_api.asgi import serve
from theory_core import RUN_SUBPROTOCOL, canonicalize, digest, encode_frame, loads_strict

_REF: Final = "bench/tokens@1"
_PLAN: Final = "/v1/plans/local/watched"
_SPEC: Final = """\
schema: theory.processor.v1
ref: bench/tokens@1
summary: Streams tokens at a steady pace.
image: theory/bench-tokens-v1
runtime:
  cpu: "1"
  memory: 512Mi
  timeout_s: 900
  python: "3"
  gpu: 0
  concurrency: 1
  watts: {cpu: 15, gpu: 0}
secrets: {required: [], optional: []}
inputs: {type: object}
outputs: [{path: outputs/count, mime: text/plain}]
network: none
estimate: {fixed: {cpu_ms: 600000, latency_ms: 1000000, io_bytes: 1048576}}
memo: {modes: [], salt: "1"}
max_output_bytes: 1024
"""
_MASK: Final = b"\0\0\0\0"
_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 60.0
_PIECE_BYTES: Final = 1 << 16
_MEDIUM, _LARGE = 126, 127
_TEXT, _MASKED = 0x81, 0x80
_RESULT: Final = b'"kind":"RunResult"'
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Watched:
    """The run that is watched, and how viewers come to it."""

    port: int
    key: str
    execution_id: str


@dataclass(slots=True)
class Heard:
    """What one viewer got."""

    tokens: int = 0
    missed: int = 0
    delays_ms: list[float] = field(default_factory=list)
    last: bytes = b""

    def take(self, text: bytes) -> None:
        """Count a frame; every 16th token is asked for its age."""
        self.last = text
        if b'"kind":"Token"' in text:
            self.tokens += 1
            if self.tokens % 16 == 0:
                sent = float(json.loads(text)["content"]["text"].split()[0])
                self.delays_ms.append((time.time() - sent) * 1000)
        elif b'"kind":"Gap"' in text:
            gap = json.loads(text)["content"]
            self.missed += gap["to"] - gap["from"] + 1


async def view(watched: Watched, greeted: Callable[[], None]) -> Heard:
    """Watch to the end, reading frames off the socket as cheaply as this language can."""
    heard = Heard()
    reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {_PLAN}/executions/{watched.execution_id}/run HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {watched.key}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {RUN_SUBPROTOCOL}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    asked = {"role": "observer", "execution_id": watched.execution_id}
    opening = encode_frame("RunOpen", asked)
    writer.write(bytes((_TEXT, _MASKED | len(opening))) + _MASK + opening)
    data = b""
    while _RESULT not in heard.last and (piece := await reader.read(_PIECE_BYTES)):
        before = heard.last
        data = _frames(data + piece, heard)
        if not before and heard.last:
            greeted()
    writer.close()
    return heard


def _frames(data: bytes, heard: Heard) -> bytes:
    """Take every whole frame of a server; what is left of the last one comes back."""
    at = 0
    while len(data) - at >= 2:  # noqa: PLR2004 - opcode and length
        size, head = data[at + 1], 2
        if size == _MEDIUM:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == _LARGE:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        if len(data) - at < head + size:
            break
        if data[at] & 15 == 1:
            heard.take(data[at + head : at + head + size])
        at += head + size
    return data[at:]


def watch_all(watched: Watched, viewers: int, ready: Any, results: Any) -> None:  # noqa: ANN401 - of multiprocessing
    """The process of the viewers; `ready` once each was greeted."""
    greeted = 0

    def one_more() -> None:
        nonlocal greeted
        greeted += 1
        if greeted == viewers:
            ready.set()

    async def all_of_them() -> list[Heard]:
        return await asyncio.gather(*(view(watched, one_more) for _ in range(viewers)))

    for heard in asyncio.run(all_of_them()):
        results.put((heard.tokens, heard.missed, heard.delays_ms, heard.last))


class _Interpreter:
    """The processor runs under this script's own interpreter: no environment has to be made."""

    async def python_for(self, _folder: Path, _mode: str, _progress: Callable[[str], None]) -> Path:
        return Path(sys.executable)


def _serve(home: Path) -> None:
    """The process of the server: `theory serve`, which says its address."""
    settings = configuration.read(home=home)
    told: Callable[[str], None] = lambda url: print(url, flush=True)  # noqa: E731, T201 - protocol
    asyncio.run(serve(settings, port=0, on_ready=told, environments=_Interpreter()))


def _establish(folder: Path) -> dict[str, str]:
    """A registry with the processor that streams; what the server is told of it."""
    shutil.copytree(configuration.assets("registry"), folder / "registry")
    spec = folder / "registry" / "processors" / "bench" / "tokens" / "1.yaml"
    spec.parent.mkdir(parents=True)
    spec.write_text(_SPEC, encoding="utf-8")
    source = Path(__file__).with_name("tokens")
    shutil.copytree(source, folder / "processors" / "bench" / "tokens" / "1")
    return {
        "THEORY_LOG": "error",
        "THEORY_REGISTRY": str(folder / "registry"),
        "THEORY_PROCESSORS": str(folder / "processors"),
    }


@contextlib.asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[tuple[psutil.Process, str]]:
    """A server of a home in the folder, and its address."""
    command = [sys.executable, "-m", "benchmarks.watching", "--serve", str(folder / "home")]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **_establish(folder)}, stdout=asyncio.subprocess.PIPE
    )
    try:
        said = process.stdout
        url = "" if said is None else (await said.readline()).decode().strip()
        yield psutil.Process(process.pid), url
    finally:
        process.terminate()
        await process.wait()


async def _run(client: httpx.AsyncClient, given: argparse.Namespace, go: Path) -> str:
    """Have the run started; its execution's id, once it is there."""
    count = int(given.tokens_per_s * given.seconds)
    inputs = {"go": str(go), "rate": given.tokens_per_s, "count": count}
    step = {"processor_ref": _REF, "mode": "mock", "inputs": inputs}
    document = {
        "schema": "theory.plan.v1",
        "plan": "watched",
        "lane": "build",
        "budget": {},
        "transitions": {"stream": step},
    }
    answer = await client.post(
        "/v1/plans", json={"document": document}, headers={"Idempotency-Key": "watched"}
    )
    answer.raise_for_status()
    return str((await _execution(client, lambda _status: True))["execution_id"])


async def _execution(client: httpx.AsyncClient, enough: Callable[[str], bool]) -> dict[str, Any]:
    """The run, once it is there and the plan's status is enough."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            answer = await client.get(_PLAN)
            answer.raise_for_status()
            shown = answer.json()
            executions: list[dict[str, Any]] = shown["transitions"][0]["executions"]
            if executions and enough(shown["status"]):
                return executions[-1]
            await asyncio.sleep(_LOOK_S)


async def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Serve, run and watch until every viewer heard the end."""
    go = folder / "go"
    results: Any = multiprocessing.Queue()
    ready = multiprocessing.Event()
    async with _serving(folder) as (server, url):
        key = (folder / "home" / "api-key").read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            execution_id = await _run(client, given, go)
            watched = Watched(int(url.rpartition(":")[2]), key, execution_id)
            viewers = multiprocessing.Process(
                target=watch_all, args=(watched, given.viewers, ready, results)
            )
            viewers.start()
            if not await asyncio.to_thread(ready.wait, _PATIENCE_S):
                sys.exit("not every viewer was greeted")
            before, began = _busy_s(server), time.perf_counter()
            go.touch()
            heard = [await asyncio.to_thread(results.get) for _ in range(given.viewers)]
            took_s, busy_s = time.perf_counter() - began, _busy_s(server) - before
            viewers.join()
            execution = await _execution(client, _ENDED.__contains__)
    return _row(given, str(execution["envelope"]), heard, took_s, busy_s)


def _busy_s(server: psutil.Process) -> float:
    """Processor time of the server itself: the run is a process of its own."""
    times = server.cpu_times()
    return float(times.user + times.system)


def _row(
    given: argparse.Namespace, envelope: str, heard: list[Any], took_s: float, busy_s: float
) -> dict[str, Any]:
    delays = [delay for one in heard for delay in one[2]]
    count = int(given.tokens_per_s * given.seconds)
    results = [loads_strict(one[3])["content"] for one in heard]
    return {
        "viewers": given.viewers,
        "tokens/s": given.tokens_per_s,
        "made": count,
        "results": sum(digest(canonicalize(result)) == envelope for result in results),
        "succeeded": all(result.get("status") == "success" for result in results),
        "tokens heard": sum(one[0] for one in heard) / (count * given.viewers),
        "unaccounted": sum(count - one[0] - one[1] for one in heard),
        "p50 ms": percentile(delays, 0.5),
        "p99 ms": percentile(delays, 0.99),
        "all heard after s": took_s,
        "CPU s": busy_s,
        "CPU us a frame": busy_s * 1e6 / (count * given.viewers),
    }


def main() -> None:
    """Measure as the command line says; exit 1 if a viewer missed the result or a number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--tokens-per-s", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        _serve(given.serve)
        return
    with tempfile.TemporaryDirectory(prefix="thb-", dir="/tmp") as folder:  # sockets need it short
        row = asyncio.run(measure(Path(folder), given))
    report("watching", [row], given.out)
    whole = row["results"] == given.viewers and row["succeeded"] and row["unaccounted"] == 0
    sys.exit(int(not whole))


if __name__ == "__main__":
    main()

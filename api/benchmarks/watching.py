"""Viewers of one run: how many frames reach them, how late, and whether each hears the result.

    python -m benchmarks.watching --viewers 100 --tokens-per-s 1000 --seconds 10

One process publishes and serves, by the web application and the server of `theory serve`, another
one holds all viewers. A viewer that falls behind is told what it missed; a result that is not the
stored envelope fails.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import structlog
import uvicorn

from benchmarks.measure import percentile, report
from theory_api.adapters.memory.streams import MemoryStreams
from theory_api.asgi import server_config
from theory_api.web.app import create_app
from theory_api.web.doors import Doors
from theory_core import RUN_SUBPROTOCOL, encode_frame, error_envelope

ENVELOPE: Final = error_envelope(
    "x1", "ERR_CANCELLED", env_fingerprint="cpu:1;memory:1Gi;platform:amd64;runtime:python3"
)
_PATH: Final = "/v1/plans/local/p1/executions/x1/run"
_KEY: Final = "0123456789abcdef0123456789abcdef"
_MASK: Final = b"\0\0\0\0"
_TICK_S: Final = 0.001
_PIECE_BYTES: Final = 1 << 16
_MEDIUM, _LARGE = 126, 127
_TEXT, _MASKED = 0x81, 0x80
_RESULT: Final = b'"kind":"RunResult"'


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


async def view(port: int) -> Heard:
    """Watch to the end, reading frames off the socket as cheaply as this language can."""
    heard = Heard()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {_KEY}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {RUN_SUBPROTOCOL}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    opening = encode_frame("RunOpen", {"role": "observer", "execution_id": "x1"})
    writer.write(bytes((_TEXT, _MASKED | len(opening))) + _MASK + opening)
    data = b""
    while _RESULT not in heard.last and (piece := await reader.read(_PIECE_BYTES)):
        data = _frames(data + piece, heard)
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


def watch_all(port: int, viewers: int, results: Any) -> None:  # noqa: ANN401 - a queue
    """The process of the viewers."""

    async def all_of_them() -> list[Heard]:
        return await asyncio.gather(*(view(port) for _ in range(viewers)))

    for heard in asyncio.run(all_of_them()):
        results.put((heard.tokens, heard.missed, heard.delays_ms, heard.last))


async def publish(bus: MemoryStreams, rate: int, seconds: float) -> int:
    """Publish at a steady pace whatever the viewers do; how many tokens."""
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        while count < elapsed * rate:
            count += 1
            text = f"{time.time():.6f} a token"
            bus.publish("x1", {"kind": "Token", "seq": count, "content": {"text": text}})
        await asyncio.sleep(_TICK_S)
    bus.finish("x1", ENVELOPE)
    return count


class Watched:
    """The one run that is watched; stands for the scheduler's side."""

    def __init__(self, bus: MemoryStreams, viewers: int) -> None:
        self.everybody = asyncio.Event()
        self._bus = bus
        self._awaited = viewers

    async def state(self, _plan: str, _execution_id: str) -> str:
        """It runs."""
        return "running"

    def frames(self, _plan: str, execution_id: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        """The frames of the run, for one more viewer."""
        self._awaited -= 1
        if self._awaited == 0:
            self.everybody.set()
        return self._bus.watch(execution_id, after=after)


def doors(watched: Watched) -> Doors:
    """A web application that has nothing but a run to watch."""
    absent: Any = None
    return Doors(
        plans=absent,
        queries=absent,
        ledgers=absent,
        worlds=absent,
        engine=absent,
        watching=cast("Any", watched),
        key=_KEY,
        tenant="local",
        principal="local",
        unready=lambda: None,
        version="0.1.0",
    )


async def serve(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Publish and serve until every viewer heard the end."""
    bus = MemoryStreams(folder)
    bus.open("x1")
    watched = Watched(bus, given.viewers)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(create_app(doors(watched))))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    results: Any = multiprocessing.Queue()
    process = multiprocessing.Process(
        target=watch_all, args=(listener.getsockname()[1], given.viewers, results)
    )
    process.start()
    await watched.everybody.wait()
    before = time.process_time()
    count = await publish(bus, given.tokens_per_s, given.seconds)
    ended = time.perf_counter()
    heard = [await asyncio.to_thread(results.get) for _ in range(given.viewers)]
    late_s, busy_s = time.perf_counter() - ended, time.process_time() - before
    process.join()
    server.should_exit = True
    await serving
    await bus.close()
    return _row(given, count, heard, late_s, busy_s)


def _row(
    given: argparse.Namespace, count: int, heard: list[Any], late_s: float, busy_s: float
) -> dict[str, Any]:
    delays = [delay for one in heard for delay in one[2]]
    return {
        "viewers": given.viewers,
        "tokens/s": given.tokens_per_s,
        "published": count,
        "results": sum(ENVELOPE in one[3] for one in heard),
        "tokens heard": sum(one[0] for one in heard) / (count * given.viewers),
        "unaccounted": sum(count - one[0] - one[1] for one in heard),
        "p50 ms": percentile(delays, 0.5),
        "p99 ms": percentile(delays, 0.99),
        "last result s": late_s,
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
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        row = asyncio.run(serve(Path(folder), given))
    report("watching", [row], given.out)
    sys.exit(int(row["results"] != given.viewers or row["unaccounted"] != 0))


if __name__ == "__main__":
    main()

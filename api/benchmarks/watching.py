"""Viewers of one run: how many frames reach them, how late, and whether each hears the result.

    python -m benchmarks.watching --viewers 100 --tokens-per-s 1000 --seconds 10

One process publishes and serves WebSockets over a unix socket, another one holds all viewers. A
viewer that falls behind is told what it missed; a result that is not the stored envelope fails.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.typing import Subprotocol

from benchmarks.measure import percentile, report
from theory_api.adapters.memory.streams import MemoryStreams
from theory_core import RUN_SUBPROTOCOL, error_envelope

ENVELOPE: Final = error_envelope(
    "x1", "ERR_CANCELLED", env_fingerprint="cpu:1;memory:1Gi;platform:amd64;runtime:python3"
)
_PATH: Final = "run.sock"
_TICK_S: Final = 0.001
_PIECE_BYTES: Final = 1 << 16
_MEDIUM, _LARGE = 126, 127


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


async def view(path: str) -> Heard:
    """Watch to the end, reading frames off the socket as cheaply as this language can."""
    heard = Heard()
    reader, writer = await asyncio.open_unix_connection(path)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /run HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {RUN_SUBPROTOCOL}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    data = b""
    while piece := await reader.read(_PIECE_BYTES):
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


def watch_all(path: str, viewers: int, results: Any) -> None:  # noqa: ANN401 - a queue
    """The process of the viewers."""

    async def all_of_them() -> list[Heard]:
        return await asyncio.gather(*(view(path) for _ in range(viewers)))

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


async def serve(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Publish and serve until every viewer heard the end."""
    bus, path = MemoryStreams(folder), str(folder / _PATH)
    bus.open("x1")
    arrived, everybody = 0, asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == given.viewers:
            everybody.set()
        async for text in bus.watch("x1"):
            await connection.send(text, text=True)

    select = [Subprotocol(RUN_SUBPROTOCOL)]
    results: Any = multiprocessing.Queue()
    async with unix_serve(handle, path, subprotocols=select, compression=None, close_timeout=0.1):
        process = multiprocessing.Process(target=watch_all, args=(path, given.viewers, results))
        process.start()
        await everybody.wait()
        before = time.process_time()
        count = await publish(bus, given.tokens_per_s, given.seconds)
        ended = time.perf_counter()
        heard = [await asyncio.to_thread(results.get) for _ in range(given.viewers)]
        late_s, busy_s = time.perf_counter() - ended, time.process_time() - before
        process.join()
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
    with tempfile.TemporaryDirectory() as folder:
        row = asyncio.run(serve(Path(folder), given))
    report("watching", [row], given.out)
    sys.exit(int(row["results"] != given.viewers or row["unaccounted"] != 0))


if __name__ == "__main__":
    main()

"""A server elsewhere that keeps no rule, over WebSocket and over legacy HTTP alike.

Whoever asks after a run is told that it was cancelled: nothing of it is left to run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.http11 import Request, Response

LIFELINE = int(sys.argv[sys.argv.index("--lifeline") + 1])
IMAGE = sys.argv[sys.argv.index("--image-digest") + 1]
PLACE = Path(sys.argv[sys.argv.index("--serve") + 1])
HOST, PORT = sys.argv[sys.argv.index("--listen") + 1].split(":")
PRINT = "cpu:1;memory:512Mi;platform:amd64;runtime:python3"
FOREVER_S = 600
MUCH = "canary " * (9 << 20 >> 3) * 2
HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    f"Theory-Image-Digest: {IMAGE}\r\n\r\n"
).encode()


def frame(kind: str, content: object, seq: int) -> str:
    """One frame as text."""
    return json.dumps({"kind": kind, "content": content, "seq": seq})


def success(opening: dict[str, Any], **changes: object) -> dict[str, Any]:
    """A success without outputs, of which nothing was delivered."""
    payload = opening["payload"]
    return {
        "status": "success",
        "execution_id": opening["execution_id"],
        "outputs": [],
        "index_path": payload["write_prefix"] + "outputs.json",
        "meta": {"env_fingerprint": payload["env_fingerprint"], "image_digest": IMAGE},
    } | changes


def failure(opening: dict[str, Any], code: str) -> dict[str, Any]:
    """A failure as it should be."""
    return {
        "status": "error",
        "execution_id": opening["execution_id"],
        "error": {"code": code, "message": "invalid inputs payload"},
        "meta": {"env_fingerprint": opening.get("payload", {}).get("env_fingerprint", PRINT)},
    }


async def said(opening: dict[str, Any], how: str) -> AsyncIterator[str | bytes]:
    """Frames, and what is none, in the order in which they are sent."""
    unpinned = {"env_fingerprint": opening["payload"]["env_fingerprint"]}
    entry = {"cid": "b3:" + "0" * 64, "size_bytes": 1, "mime": "text/plain"}
    inside = opening["payload"]["write_prefix"] + "outputs/x"
    results: dict[str, list[dict[str, Any]]] = {
        "other_id": [success(opening, execution_id="other")],
        "extra": [success(opening, surprise="canary")],
        "both": [success(opening, error={"code": "ERR_INPUTS", "message": "canary"})],
        "size_text": [success(opening, outputs=[entry | {"path": inside, "size_bytes": "canary"}])],
        "outputs_object": [success(opening, outputs={"canary": entry})],
        "meta_text": [success(opening, meta="canary")],
        "outside": [success(opening, outputs=[entry | {"path": "/artifacts/elsewhere/outputs/x"}])],
        "invented": [success(opening, outputs=[entry | {"path": inside}])],
        "other_index": [success(opening, index_path="/artifacts/x")],
        "unpinned": [success(opening, meta=unpinned)],
        "undelivered": [success(opening)],
        "twice": [failure(opening, "ERR_INPUTS"), success(opening)],
    }
    plain: dict[str, list[str | bytes]] = {
        "nonsense": ["canary, no frame"],
        "bytes": [b"\x00\xff canary"],
        "wrong_kind": [frame("RunOpen", opening, 1)],
        "wrong_seq": [frame("Token", {"text": "a"}, 7)],
        "too_large": [frame("Token", {"text": MUCH}, 1)],
    }
    for number, result in enumerate(results.get(how, []), 1):
        yield frame("RunResult", result, number)
    for text in plain.get(how, []):
        yield text
    number = 0
    while how == "floods":
        number += 1
        yield frame("Token", {"text": "flood " * 100}, number)
        # Whoever asks meanwhile is answered, too.
        await asyncio.sleep(0)
    if how == "leaves":
        return
    await asyncio.sleep(FOREVER_S)


async def over_websocket(connection: ServerConnection) -> None:
    """Behave as the run asks for; who asks after one hears of its end."""
    opening = json.loads(await connection.recv())["content"]
    ack = {"execution_id": opening["execution_id"], "state": "running", "image_digest": IMAGE}
    if opening["role"] != "client":
        await connection.send(frame("Ack", ack | {"state": "cancelled"}, 0))
        ended = failure(opening, "ERR_CANCELLED")
        await connection.send(frame("RunResult", ended, opening.get("resume_from", 0) + 1))
        return
    how = opening["payload"]["inputs"]["params"]["how"]
    await connection.send(frame("Ack", ack, 0))
    async for one in said(opening, how):
        await connection.send(one)


async def over_http(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """The same as events."""
    lines = head.decode("latin-1").lower().split("\r\n")
    (size,) = [int(line.split(":")[1]) for line in lines if line.startswith("content-length:")]
    opening = json.loads(await reader.readexactly(size))
    writer.write(HEAD)
    async for one in said(opening, opening["payload"]["inputs"]["params"]["how"]):
        text = one if isinstance(one, bytes) else one.encode()
        name = b"progress"
        if b'"RunResult"' in text:
            name, text = b"done", json.dumps(json.loads(text)["content"]).encode()
        writer.write(b"event: " + name + b"\ndata: " + text + b"\n\n")
        await writer.drain()


async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand a connection to whom it is for."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /run-stream"):
            await over_http(head, reader, writer)
            return
        inside, outside = await asyncio.open_unix_connection(str(PLACE / "inner.sock"))
        outside.write(head)
        await asyncio.gather(pump(reader, outside), pump(inside, writer))
    except (OSError, EOFError):
        pass
    finally:
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand bytes on."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def healthy(connection: ServerConnection, request: Request) -> Response | None:
    """Say that all is well."""
    if request.path == "/run":
        return None
    response = connection.respond(HTTPStatus.OK, '{"ok":true}')
    response.headers["Theory-Image-Digest"] = IMAGE
    return response


async def main() -> None:
    """Listen until whoever started this is gone."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(LIFELINE, ended.set)
    inner = str(PLACE / "inner.sock")
    async with unix_serve(
        over_websocket, inner, process_request=healthy, subprotocols=["theory.run.v1"]
    ):
        await asyncio.start_server(enter, HOST, int(PORT))
        await ended.wait()
        os._exit(0)


asyncio.run(main())

"""A processor that keeps no rule: it speaks the protocol by hand, and wrongly on purpose."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.http11 import Request, Response

PLACE = Path(sys.argv[sys.argv.index("--serve") + 1])
START = Path(__file__).with_name("start.txt").read_text(encoding="ascii").strip()


ERROR = {"code": "ERR_INPUTS", "message": "canary"}


def frame(kind: str, content: object, seq: int | None) -> str:
    """One frame as text; no `seq` for what a client would send."""
    said = {"kind": kind, "content": content}
    return json.dumps(said if seq is None else said | {"seq": seq})


def envelope(opening: dict[str, Any], **changes: object) -> dict[str, Any]:
    """A success without outputs."""
    payload = opening["payload"]
    return {
        "status": "success",
        "execution_id": opening["execution_id"],
        "outputs": [],
        "index_path": payload["write_prefix"] + "outputs.json",
        "meta": {"env_fingerprint": payload["env_fingerprint"]},
    } | changes


async def handle(connection: ServerConnection) -> None:
    """Behave as the run asks for."""
    if START == "speaks_first":
        await connection.send(frame("Token", {"text": "me first"}, 1))
    opening = json.loads(await connection.recv())["content"]
    how = opening["payload"]["inputs"]["params"]["how"]
    ack: dict[str, Any] = {"execution_id": opening["execution_id"], "state": "running"}
    if how == "other_image":
        ack["image_digest"] = "sha256:" + "0" * 64
    await connection.send(frame("Ack", ack, 0))
    path = opening["payload"]["write_prefix"] + "outputs/x"
    entry = {"path": path, "cid": "b3:" + "0" * 64, "size_bytes": 1, "mime": "text/plain"}
    answers: dict[str, list[str | bytes]] = {
        "nonsense": ["canary, no frame"],
        "binary": [b"\x00\x01"],
        "wrong_kind": [frame("RunOpen", opening, 1)],
        "wrong_seq": [frame("Token", {"text": "a"}, 7)],
        "too_large": [frame("Token", {"text": "a" * (9 << 20)}, 1)],
        "other_id": [frame("RunResult", envelope(opening, execution_id="other"), 1)],
        "extra": [frame("RunResult", envelope(opening, surprise=1), 1)],
        "both": [frame("RunResult", envelope(opening, error=ERROR), 1)],
        "size_text": [
            frame("RunResult", envelope(opening, outputs=[entry | {"size_bytes": "canary"}]), 1)
        ],
        "outputs_object": [frame("RunResult", envelope(opening, outputs={"canary": entry}), 1)],
        "meta_text": [frame("RunResult", envelope(opening, meta="canary"), 1)],
        "outside": [
            frame(
                "RunResult",
                envelope(opening, outputs=[entry | {"path": "/artifacts/elsewhere/outputs/x"}]),
                1,
            )
        ],
        "other_index": [frame("RunResult", envelope(opening, index_path="/artifacts/x"), 1)],
        "twice": [frame("RunResult", envelope(opening), seq) for seq in (1, 2)],
        "unpinned": [frame("RunResult", envelope(opening), 1)],
        "other_image": [],
    }
    for said in answers.get(how, []):
        await connection.send(said)
    if how in DEEDS:
        DEEDS[how]()
    await asyncio.sleep(600)


def fork_bomb() -> None:
    """As many processes as there may be, and all of them busy."""
    while True:
        try:
            if os.fork() == 0:
                while True:
                    pass
        except OSError:
            time.sleep(0.05)


def eat_memory() -> None:
    """More than the container has."""
    kept = []
    while True:
        room = mmap.mmap(-1, 16 << 20)
        room.write(b"x" * (16 << 20))
        kept.append(room)


def fill_disk() -> None:
    """All that can be written, then the end."""
    piece = b"x" * (1 << 20)
    written = 0
    for place in (PLACE, PLACE / "work", Path(os.environ["HOME"]), Path("/"), Path("/opt/theory")):
        try:
            with (place / "filler").open("wb") as file:
                while True:
                    file.write(piece)
                    written += len(piece)
        except OSError as error:
            os.write(2, f"{place} {error}\n".encode())
    os._exit(9 if written < 1 << 30 else 8)


NOISE = b"noise " * 170 + b"\n"
END = b"OPENAI_API_KEY=canary-0123456789 the end\n"


def flood_log() -> None:
    """Twenty megabytes on stdout and stderr, twenty times what is kept."""
    for _ in range(10 << 10):
        os.write(1, NOISE)
        os.write(2, NOISE)
    os.write(2, END)
    os._exit(3)


def talk_on() -> None:
    """The end on stderr, and then almost as much on stdout as a log holds before it is full."""
    os.write(2, END)
    for _ in range(400):
        os.write(1, NOISE)
    os._exit(3)


def reach_out() -> None:
    """Whether anything outside can be reached; the exit code tells."""
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    found = 0
    for address in (("169.254.169.254", 80), ("172.17.0.1", 22), ("1.1.1.1", 53)):
        try:
            socket.create_connection(address, timeout=2).close()
            found += 1
        except OSError:
            pass
    sockets = [p for p in ("/var/run/docker.sock", "/run/docker.sock") if Path(p).exists()]
    os._exit(20 + len(names) + found + len(sockets))


def privileges() -> None:
    """Whether this is root, has a capability, may gain one, or is not filtered."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    facts = (
        os.getuid() != 0,
        int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0,
        status["NoNewPrivs"].strip() == "1",
        status["Seccomp"].strip() == "2",
        not os.access("/", os.W_OK),
        os.getpid() < 50,
    )
    os._exit(30 + sum(not fact for fact in facts))


DEEDS: dict[str, Callable[[], object]] = {
    "fork_bomb": fork_bomb,
    "eat_memory": eat_memory,
    "fill_disk": fill_disk,
    "flood_log": flood_log,
    "talk_on": talk_on,
    "reach_out": reach_out,
    "privileges": privileges,
    "leave": lambda: os._exit(7),
}


def answer(_connection: ServerConnection, request: Request) -> Response | None:
    """Say that all is well."""
    if request.path == "/run":
        return None
    response = _connection.respond(HTTPStatus.OK, '{"ok":true}')
    if "--image-digest" in sys.argv:
        told = sys.argv[sys.argv.index("--image-digest") + 1]
        response.headers["Theory-Image-Digest"] = (
            "sha256:" + "1" * 64 if START == "other_digest" else told
        )
    return response


async def main() -> None:
    """Listen, or do what keeps others from connecting."""
    if START == "never_listens":
        await asyncio.sleep(600)
    if START == "dies":
        sys.exit(5)
    if START == "plants_a_link":
        (PLACE / "run.sock").symlink_to("/var/run/docker.sock")
        await asyncio.sleep(600)
    if START in {"keeps_a_folder", "keeps_secrets"}:
        (PLACE / START.removeprefix("keeps_")).mkdir()
    if START == "keeps_a_file":
        (PLACE / "io.sock").unlink()
        (PLACE / "io.sock").write_bytes(b"x")
    if START == "socket_is_a_folder":
        (PLACE / "io.sock").unlink()
        (PLACE / "io.sock" / "more").mkdir(parents=True)
    async with unix_serve(
        handle, str(PLACE / "run.sock"), process_request=answer, subprotocols=["theory.run.v1"]
    ):
        await asyncio.sleep(600)


asyncio.run(main())

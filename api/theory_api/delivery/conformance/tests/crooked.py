"""A processor in this process that keeps the contract, but for the one case it is told to break."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from theory_api.delivery.conformance.sample import Sample
from theory_api.delivery.conformance.tests import crooked_papers as papers
from theory_api.delivery.conformance.tests.crooked_rules import judged, never_pong
from theory_core import (
    LIMITS,
    RUN_SUBPROTOCOL,
    TheoryError,
    canonicalize,
    digest,
)

KEPT = 64
SAMPLE = Sample(
    ref=papers.REF,
    fingerprint=papers.FINGERPRINT,
    params={"say": "the quick brown fox"},
    refused={"say": 5},
    flood={"say": "x" * 4000, "times": 400},
    timeout_s=30,
)


@dataclass
class Told:
    seq: int
    kind: str
    text: str


@dataclass
class Life:
    """One run."""

    name: str
    payload: Mapping[str, Any]
    kept: list[Told] = field(default_factory=list)
    last: int = 0
    done: bool = False
    state: str = "running"
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    viewers: dict[ServerConnection, int] = field(default_factory=dict)
    """What each connection was sent last."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)


class Crooked:
    """Serves `run.sock` in a folder; `fault` is the id of the case that it breaks."""

    def __init__(self, folder: Path, fault: str = "", *, silence_s: float = 0.8) -> None:
        self.socket = folder / "run.sock"
        self.fault = fault
        self.silence_s = silence_s
        self.first = 2 if fault == "run.seq" else 1
        self.lives: dict[str, Life] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.clients: dict[str | None, httpx.AsyncClient] = {}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with unix_serve(
            self._converse,
            str(self.socket),
            process_request=self._answer,
            select_subprotocol=self._select,
            compression=None,
            max_size=None if self.fault == "open.large" else LIMITS["frame_bytes"],
            ping_interval=None,
            close_timeout=0.5,
        ):
            yield
            for task in [*self.tasks]:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            for client in self.clients.values():
                await client.aclose()

    def _answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/run":
            return None
        body = b'{"ok": true}' if self.fault == "health.exact" else b'{"ok":true}'
        headers = {"Content-Length": str(len(body))}
        if self.fault != "nameless":
            headers["Theory-Image-Digest"] = papers.IMAGE
        return Response(200, "OK", Headers(headers), body)

    def _select(
        self, _connection: ServerConnection, offered: list[Subprotocol]
    ) -> Subprotocol | None:
        agreed = RUN_SUBPROTOCOL in offered and self.fault != "handshake.agreed"
        return Subprotocol(RUN_SUBPROTOCOL) if agreed else None

    # -- one connection

    async def _converse(self, connection: ServerConnection) -> None:
        if self.fault == "handshake.pong":
            never_pong(connection)
        with contextlib.suppress(ConnectionClosed):
            code = await self._session(connection)
            await connection.close(code)

    async def _session(self, connection: ServerConnection) -> int:
        request = connection.request
        offered = "" if request is None else request.headers.get("Sec-WebSocket-Protocol", "")
        if offered != RUN_SUBPROTOCOL and self.fault != "handshake.required":
            return 1002
        patience = None if self.fault == "open.silence" else self.silence_s
        try:
            async with asyncio.timeout(patience):
                message = await self._first(connection)
        except TimeoutError:
            return 1008
        code, opening = self._judge(message, first=True)
        if code is not None:
            return await self._end(connection, code)
        content = opening["content"]
        life, code = self._find(content)
        if life is None:
            if self.fault == "open.no-run":
                await connection.wait_closed()
            return code
        seen = content.get("resume_from", 0)
        if self.fault == "attach.resume" and seen <= life.last:
            seen = 0
        if seen > life.last:
            if self.fault == "attach.beyond":
                await connection.wait_closed()
            return 1008
        if self.fault == "attach.observer" and content["role"] == "observer" and not life.done:
            seen = life.last
        return await self._serve(connection, life, content["role"], seen)

    async def _serve(self, connection: ServerConnection, life: Life, role: str, seen: int) -> int:
        life.viewers[connection] = seen
        sending = asyncio.create_task(self._send(connection, life, seen))
        hearing = asyncio.create_task(self._hear(connection, life, role))
        try:
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is None:
                return 1001 if self.fault == "run.close" else 1000
            return await hearing
        except ConnectionClosed:
            if self.fault == "viewers.leave" and role == "client" and life.task is not None:
                life.task.cancel()
            raise
        finally:
            del life.viewers[connection]
            life.moved.set()
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)

    async def _first(self, connection: ServerConnection) -> str | bytes:
        if self.fault != "open.fragments":
            return await connection.recv()
        parts = [part async for part in connection.recv_streaming()]
        if len(parts) > 1:
            return "fragments"
        return parts[0]

    async def _end(self, connection: ServerConnection, code: int) -> int:
        """Close; code 0 stands for a refusal that this server forgets."""
        if code == 0:
            await connection.wait_closed()
        return code

    def _judge(self, message: str | bytes, *, first: bool) -> tuple[int | None, dict[str, Any]]:
        """The close code of a message, 0 for one that is wrongly let pass, and the frame."""
        found, code, frame = judged(message, first=first)
        if found == "open.duplicate" and self.fault == found:
            return None, json.loads(message)
        if found and found == self.fault:
            return 0, frame
        return code, frame

    def _find(self, content: Mapping[str, Any]) -> tuple[Life | None, int]:
        name, payload = content["execution_id"], content.get("payload")
        life = self.lives.get(name)
        again = self.fault == "attach.stored" and life is not None and life.done
        if payload is not None and (life is None or again):
            life = self.lives[name] = Life(name, payload)
            life.task = asyncio.create_task(self._live(life))
            self.tasks.add(life.task)
            life.task.add_done_callback(self.tasks.discard)
        return life, 1008

    async def _send(self, connection: ServerConnection, life: Life, seen: int) -> None:
        ack = papers.ack(self.fault, life.name, life.state)
        late = self.fault == "run.ack"
        if not late:
            await connection.send(ack)
        while True:
            told = next((item for item in life.kept if item.seq > seen), None)
            if told is None:
                if life.done:
                    await connection.wait_closed()
                life.news.clear()
                await life.news.wait()
                continue
            if told.seq > max(seen + 1, self.first) and self.fault != "attach.gap":
                gap = {"from": seen + 1, "to": told.seq - 1}
                await connection.send(
                    canonicalize({"kind": "Gap", "seq": 0, "content": gap}).decode()
                )
            await connection.send(told.text)
            if late:
                await connection.send(ack)
                late = False
            seen = life.viewers[connection] = told.seq
            life.moved.set()
            if told.kind == "RunResult" and seen == life.last and life.done:
                return

    async def _hear(self, connection: ServerConnection, life: Life, role: str) -> int:
        while True:
            code, frame = self._judge(await connection.recv(), first=False)
            if code is None and role != "controller":
                code = 0 if self.fault == "control.observer" else 1008
            if code == 0:
                continue
            if code is not None:
                return code
            self._control(life, frame["content"]["op"])

    def _control(self, life: Life, op: str) -> None:
        stops = op == "cancel" or (op == "pause" and self.fault == "control.pause")
        if life.task is None or life.done or self.fault == "deaf":
            return
        if op in {"pause", "resume"} and not stops:
            life.state = "paused" if op == "pause" else "running"
        if not stops:
            return
        if self.fault == "control.dead":
            self._finish(life, papers.failure(self.fault, life.name, life.payload, "ERR_CANCELLED"))
            return
        life.task.cancel()

    # -- one run

    async def _live(self, life: Life) -> None:
        try:
            envelope = await self._work(life)
        except TheoryError as error:
            if self.fault != "doors.url" or error.code != "ERR_UPLOAD":
                await self._put_receipt(life, None)
            envelope = papers.failure(self.fault, life.name, life.payload, error.code)
        except asyncio.CancelledError:
            wrong = self.fault == "control.cancel"
            envelope = papers.failure(
                self.fault, life.name, life.payload, "ERR_INTERNAL" if wrong else "ERR_CANCELLED"
            )
        self._finish(life, envelope)

    async def _work(self, life: Life) -> dict[str, Any]:
        payload, params = life.payload, life.payload["inputs"]["params"]
        strange = "riscv64" in payload["env_fingerprint"]
        if strange and self.fault != "environment.platform":
            raise TheoryError("ERR_REGISTRY_MISMATCH", "")
        other = payload.get("expected_oci") not in {None, papers.IMAGE}
        if other and self.fault != "environment.image":
            raise TheoryError("ERR_REGISTRY_MISMATCH", "")
        if self.fault == "run.success":
            raise TheoryError("ERR_INTERNAL", "")
        if not isinstance(params["say"], str):
            raise TheoryError("ERR_INTERNAL" if self.fault == "errors.inputs" else "ERR_INPUTS", "")
        for _ in range(params.get("times", 1)):
            for word in params["say"].split():
                await self._say(life, word)
        return await self._deliver(life, self._outputs(payload, params["say"]))

    async def _say(self, life: Life, word: str) -> None:
        content = {"txt": word} if self.fault == "run.shapes" else {"text": word}
        self._tell(life, "Token", content)
        if self.fault == "viewers.slow":
            await self._all_have(life)
        await asyncio.sleep(0)

    async def _all_have(self, life: Life) -> None:
        """Wait for the slowest viewer."""
        for viewer in [*life.viewers]:
            while viewer in life.viewers and life.viewers[viewer] < life.last:
                life.moved.clear()
                await life.moved.wait()

    def _outputs(self, payload: Mapping[str, Any], text: str) -> dict[str, bytes]:
        if self.fault == "barren":
            return {}
        outputs = {"outputs/a.txt": text.encode(), "outputs/b.txt": text.upper().encode()}
        if self.fault == "doors.same" and "socket" not in payload["upload"]:
            outputs["outputs/a.txt"] += b"!"
        if self.fault == "mock.same" and "elsewhere" in payload["write_prefix"]:
            outputs["outputs/a.txt"] += b"!"
        if self.fault == "mode.real" and payload["mode"] == "real":
            outputs["outputs/a.txt"] += b"!"
        return outputs

    async def _deliver(self, life: Life, outputs: dict[str, bytes]) -> dict[str, Any]:
        prefix = life.payload["write_prefix"]
        entries: list[dict[str, Any]] = []
        for relpath, body in outputs.items():
            cid = digest(b"other" if self.fault == "outputs.delivered" else body)
            mime = "text/plain"
            entries.append(
                {"path": prefix + relpath, "cid": cid, "size_bytes": len(body), "mime": mime}
            )
        if self.fault == "outputs.prefix":
            entries.insert(0, {**entries[0], "path": "/artifacts/a/outputs/a.txt"})
        if self.fault == "doors.url" and "socket" not in life.payload["upload"]:
            raise TheoryError("ERR_UPLOAD", "")
        listed = entries[1:] if self.fault == "index.same" else entries
        index = canonicalize({"outputs": listed})
        puts = [*outputs.items(), ("outputs.json", index)]
        if self.fault == "index.last":
            puts.insert(0, puts.pop())
        if self.fault == "outputs.listed":
            puts.insert(0, ("stray.txt", b"stray"))
        if self.fault == "unindexed":
            puts = [item for item in puts if item[0] != "outputs.json"]
        for relpath, body in puts:
            mime = "application/json" if relpath == "outputs.json" else "text/plain"
            await self._put(life, relpath, body, mime)
        await self._put_receipt(life, index)
        return papers.success(self.fault, life.name, life.payload, entries)

    async def _put(self, life: Life, relpath: str, body: bytes, mime: str) -> None:
        upload = life.payload["upload"]
        way = None if self.fault == "doors.socket" else upload.get("socket")
        headers = {} if self.fault == "doors.headers" else upload["headers"]
        try:
            answer = await self._client(way).put(
                upload["url"] + relpath, content=body, headers={**headers, "Content-Type": mime}
            )
        except httpx.HTTPError as error:
            raise TheoryError("ERR_UPLOAD", "") from error
        if answer.status_code != httpx.codes.CREATED:
            # A cancelled run of `control.dead` finds its door shut and tries the next object.
            if self.fault == "control.dead" and life.done:
                return
            wrong = self.fault == "doors.shut"
            raise TheoryError("ERR_INTERNAL" if wrong else "ERR_UPLOAD", "")

    def _client(self, way: str | None) -> httpx.AsyncClient:
        if way not in self.clients:
            transport = httpx.AsyncHTTPTransport(uds=way, verify=False)
            self.clients[way] = httpx.AsyncClient(transport=transport, timeout=60)
        return self.clients[way]

    async def _put_receipt(self, life: Life, index: bytes | None) -> None:
        fields = papers.receipt(self.fault, life.name, life.payload, index)
        text = canonicalize(fields)
        if self.fault == "receipt.there":
            text = json.dumps(fields).encode()
        if self.fault == "receipt.measures":
            text = text.replace(b'"usage":{}', b'"usage":{"tokens":0.5}')
        with contextlib.suppress(TheoryError):
            await self._put(life, "receipt.json", text, "application/json")

    def _finish(self, life: Life, envelope: dict[str, Any]) -> None:
        if life.done:
            return
        if self.fault == "run.terminal":
            self._tell(life, "RunResult", envelope)
        self._tell(life, "RunResult", envelope)
        status = envelope["status"]
        life.state = "succeeded" if status == "success" else "failed"
        life.done = True
        life.news.set()

    def _tell(self, life: Life, kind: str, content: dict[str, Any]) -> None:
        if life.done:
            return
        life.last = life.last + 1 if life.last else self.first
        frame = {"kind": kind, "seq": life.last, "content": content}
        result = kind == "RunResult"
        loose = self.fault == ("envelope.canonical" if result else "run.canonical")
        text = json.dumps(frame) if loose else canonicalize(frame).decode()
        life.kept.append(Told(life.last, kind, text))
        del life.kept[:-KEPT]
        life.news.set()

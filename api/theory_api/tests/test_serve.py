from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from theory_api import settings as configuration
from theory_api.asgi import serve
from theory_api.domain.naming import attempt_id
from theory_api.settings import Settings
from theory_api.wiring import open_reader
from theory_core import (
    RUN_SUBPROTOCOL,
    TheoryError,
    digest,
    encode_frame,
    loads_strict,
    verify,
)

TEXT = "Boats go down the river. The river goes to the sea. Nobody is in a hurry."


class OwnInterpreter:
    """Processors run under the tests' own interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        assert (folder.name, mode) == ("1", "mock")
        on_progress("nothing to make")
        return Path(sys.executable)


@dataclass(frozen=True, slots=True)
class Server:
    """A server in this process, and what its owner knows of it."""

    url: str
    key: str
    task: asyncio.Task[None]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=30)


def settings(home: Path, **environment: str) -> Settings:
    return configuration.read({"THEORY_LOG": "error"} | environment, home=home)


@contextlib.asynccontextmanager
async def served(home: Path, **environment: str) -> AsyncIterator[Server]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    told = settings(home, **environment)
    task = asyncio.create_task(
        serve(told, port=0, on_ready=ready.set_result, environments=OwnInterpreter())
    )
    both: set[asyncio.Future[Any]] = {task, ready}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield Server(ready.result(), (home / "api-key").read_text().strip(), task)
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await task


def document(name: str = "film") -> dict[str, Any]:
    return {
        "schema": "theory.plan.v1",
        "plan": name,
        "budget": {"cpu_ms": 200_000, "latency_ms": 900_000},
        "goal": [
            {
                "name": "artifact.exists@1",
                "params": {"transition": "plan-shots", "path": "outputs/shotlist.json"},
            }
        ],
        "transitions": {
            "write": {
                "processor_ref": "llm/litellm@1",
                "mode": "mock",
                "inputs": {"task": "script", "text": {"$attach": "text"}},
            },
            "plan-shots": {
                "processor_ref": "media/shotlist@1",
                "mode": "mock",
                "inputs": {
                    "script": {"$output": {"transition": "write", "path": "outputs/script.json"}}
                },
            },
        },
    }


def request(name: str = "film") -> dict[str, Any]:
    return {
        "document": document(name),
        "attachments": {"text": {"text": TEXT, "mime": "text/plain"}},
    }


def waiting() -> dict[str, Any]:
    """A plan whose first step waits for what never comes."""
    held = request()
    never = {"name": "artifact.exists@1", "params": {"path": "/artifacts/attachments/never"}}
    held["document"]["transitions"]["write"]["predicates"] = {"admission": [never]}
    return held


async def follow(server: Server, path: str, after: int = 0) -> list[str]:
    """Every frame of a plan's stream after a seq, to its end with 1000."""
    address = f"{server.url.replace('http', 'ws', 1)}{path}/events?after={after}"
    async with connect(address, additional_headers=server.headers) as stream:
        frames = [str(frame) async for frame in stream]
        assert stream.close_code == 1000
    return frames


async def exhaust(stream: ClientConnection) -> None:
    while True:
        await stream.recv()


def kinds(frames: list[str]) -> list[str]:
    return [loads_strict(frame)["event"]["kind"] for frame in frames]


def settles(frames: list[str]) -> list[dict[str, Any]]:
    """Data of the settles, in order."""
    events: list[Any] = [loads_strict(frame)["event"] for frame in frames]
    return [event["data"] for event in events if event["kind"] == "budget.settled"]


async def test_a_plan_is_driven_to_its_end_through_http_and_websocket_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        created = await client.post("/v1/plans", json=request())
        assert created.status_code == 201
        assert created.json() == {"plan": "/world/local/film", "created": True}
        path = created.headers["location"]
        frames = await follow(server, path)
        assert kinds(frames)[-1] == "plan.completed"
        head = (await client.get(f"{path}/ledger/head")).json()
        report = verify(
            [frame.encode() for frame in frames],
            expect_head=(head["seq"], head["hash"]),
            laws=True,
        )
        assert (report.fault, report.anchored) == (None, True)
        assert await follow(server, path, after=len(frames) - 2) == frames[-2:]

        shown = (await client.get(path)).json()
        assert shown["status"] == "completed"
        assert {line["reserved"] for line in shown["budget"]} == {0}
        spent = {line["dimension"]: line["spent"] for line in shown["budget"]}
        assert spent["cpu_ms"] == sum(item["actual"]["cpu_ms"] for item in settles(frames)) > 0
        assert (await client.get(f"{path}/why")).json()["waiting"] == []

        shotlist = next(o for o in shown["outputs"] if o["path"].endswith("/shotlist.json"))
        fetched = await client.get(path + shotlist["path"])
        assert digest(fetched.content) == shotlist["cid"]
        assert fetched.headers["etag"] == f'"{shotlist["cid"]}"'
        assert fetched.headers["content-type"].startswith("application/json")
        assert fetched.headers["x-content-type-options"] == "nosniff"
        assert len(loads_strict(fetched.content)["shots"]) > 0


@pytest.mark.scenario(88)
async def test_the_same_key_answers_the_first_answer_again_and_runs_nothing_twice(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as server, server.client() as client:
        once = {"Idempotency-Key": '"make-film"'}
        first = await client.post("/v1/plans", json=request(), headers=once)
        again = await client.post("/v1/plans", json=request(), headers=once)
        bare = await client.post(
            "/v1/plans", json=request(), headers={"Idempotency-Key": "make-film"}
        )
        assert (first.status_code, first.content) == (201, again.content)
        assert (again.status_code, bare.status_code) == (201, 201)
        other = await client.post("/v1/plans", json=request("other"), headers=once)
        assert (other.status_code, other.json()["code"]) == (422, "ERR_IDEMPOTENCY_MISMATCH")
        assert (await client.get("/v1/plans/local/other")).status_code == 404
        without = await client.post("/v1/plans", json=request())
        assert (without.status_code, without.json()["created"]) == (200, False)
        frames = await follow(server, "/v1/plans/local/film")
        assert (kinds(frames).count("plan.created"), len(settles(frames))) == (1, 2)


@pytest.mark.scenario(88)
async def test_a_refused_request_does_not_use_up_its_key(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        once = {"Idempotency-Key": "k1"}
        wrong = request()
        wrong["document"]["transitions"]["write"]["processor_ref"] = "no/such@1"
        refused = await client.post("/v1/plans", json=wrong, headers=once)
        assert (refused.status_code, refused.json()["code"]) == (404, "ERR_NOT_FOUND")
        assert "transitions.write" in refused.json()["detail"]
        taken = await client.post("/v1/plans", json=request(), headers=once)
        assert taken.status_code == 201
        await follow(server, taken.headers["location"])


async def test_a_cancelled_plan_ends_and_a_second_cancel_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        held = waiting()
        path = (await client.post("/v1/plans", json=held)).headers["location"]
        (first, second) = (await client.get(f"{path}/why")).json()["waiting"]
        assert (first["condition"], second["condition"]) == (
            "artifact.exists@1",
            "dependency.satisfied",
        )
        answer = await client.post(f"{path}/cancel", json={"reason": "enough"})
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
        frames = await follow(server, path)
        again = await client.post(f"{path}/cancel", headers={"Idempotency-Key": "c1"})
        assert again.status_code == 202
        assert (await client.get(path)).json()["status"] == "cancelled"
        assert await follow(server, path) == frames
        absent = await client.post("/v1/plans/local/absent/cancel")
        assert (absent.status_code, absent.json()["code"]) == (404, "ERR_NOT_FOUND")


async def test_a_plan_comes_as_yaml_and_a_mistake_in_it_names_its_line(tmp_path: Path) -> None:
    text = (
        "schema: theory.plan.v1\nplan: notes\nbudget: {}\ntransitions:\n  write:\n"
        "    processor_ref: llm/litellm@1\n    mode: mock\n"
        "    inputs: {task: script, text: One line. Another line.}\n"
    )
    yaml = {"Content-Type": "application/yaml"}
    async with served(tmp_path) as server, server.client() as client:
        created = await client.post("/v1/plans", content=text, headers=yaml)
        assert (created.status_code, created.json()["plan"]) == (201, "/world/local/notes")
        broken = text.replace("mode: mock", "mode: mock\n    mode: real")
        refused = await client.post("/v1/plans", content=broken, headers=yaml)
        assert refused.json()["code"] == "ERR_PLAN_INVALID"
        assert refused.json()["facts"]["line"] == 8
        await follow(server, "/v1/plans/local/notes")


@pytest.mark.scenario(51)
async def test_artifacts_answer_by_digest_as_lists_and_never_from_elsewhere(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    held = request()
    held["attachments"]["blob"] = {"base64": base64.b64encode(data).decode()}
    held["attachments"]["page"] = {"text": "<script>alert(1)</script>", "mime": "text/html"}
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=held)).headers["location"]
        blob = f"{path}/artifacts/attachments/blob"
        got = await client.get(blob)
        assert got.content == data
        assert got.headers["content-length"] == str(len(data))
        head = await client.head(blob)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(data))
        assert head.headers["etag"] == got.headers["etag"] == f'"{digest(data)}"'
        same = await client.get(blob, headers={"If-None-Match": got.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        page = await client.get(f"{path}/artifacts/attachments/page")
        assert page.headers["content-security-policy"] == "sandbox; default-src 'none'"
        listed = (await client.get(f"{path}/artifacts/attachments/")).json()
        assert [item["path"] for item in listed["artifacts"]] == [
            f"/artifacts/attachments/{name}" for name in ("blob", "page", "text")
        ]
        everything = (await client.get(f"{path}/artifacts/")).json()
        assert len(everything["artifacts"]) >= 3
        for wrong, status in {
            "attachments/absent": 404,
            "attachments/%2e%2e/%2e%2e/api-key": 400,
            "attachments/..%2f..%2fapi-key": 400,
            "attachments/%zz": 400,
            "attachments/%00": 400,
            "attachments": 404,
        }.items():
            found = await client.get(f"{path}/artifacts/{wrong}")
            assert (wrong, found.status_code) == (wrong, status)
            assert found.headers["content-type"] == "application/problem+json"
        await follow(server, path)


@pytest.mark.scenario(61)
async def test_bytes_that_rotted_on_disk_are_refused_and_not_served(tmp_path: Path) -> None:
    held = request()
    held["attachments"]["blob"] = {"text": "the bytes as they were"}
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=held)).headers["location"]
        await follow(server, path)
    (pack,) = (tmp_path / "artifacts" / "packs").glob("*.pack")
    packed = pack.read_bytes()
    assert packed.count(b"the bytes as they were") == 1
    pack.write_bytes(packed.replace(b"the bytes as they were", b"the bytes as they rot!"))
    async with served(tmp_path) as server, server.client() as client:
        got = await client.get(f"{path}/artifacts/attachments/blob")
        assert (got.status_code, got.json()["code"]) == (500, "ERR_ARTIFACT_DIGEST")


@pytest.mark.scenario(46)
async def test_a_body_above_the_cap_is_413_and_others_are_served_on(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * (1 << 20)

    json = {"Content-Type": "application/json"}
    async with served(tmp_path) as server, server.client() as client:
        for content in (pieces(), b" " * (9 << 20)):
            with contextlib.suppress(httpx.WriteError, httpx.ReadError):
                # A server that stops reading may close before the client has sent all.
                refused = await client.post("/v1/plans", content=content, headers=json)
                assert (refused.status_code, refused.json()["code"]) == (413, "ERR_TOO_LARGE")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json()["shards"] == ["main"]


@pytest.mark.scenario(15)
async def test_a_stopping_server_tells_its_readers_to_come_again(tmp_path: Path) -> None:
    held = waiting()
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=held)).headers["location"]
        address = f"{server.url.replace('http', 'ws', 1)}{path}/events"
        async with connect(address, additional_headers=server.headers) as stream:
            await stream.recv()
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                await exhaust(stream)
            assert stream.close_code == 1012
        await asyncio.wait_for(server.task, timeout=20)


@pytest.mark.scenario(5)
async def test_a_second_server_on_the_same_home_is_refused_and_reading_beside_works(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as server, server.client() as client:
        with pytest.raises(TheoryError) as caught:
            await serve(settings(tmp_path), port=0)
        assert caught.value.code == "ERR_NOT_WRITER"
        path = (await client.post("/v1/plans", json=request())).headers["location"]
        frames = await follow(server, path)
        async with open_reader(settings(tmp_path)) as reader:
            assert (await reader.queries.show("/world/local/film")).status == "completed"
            verdict = await reader.ledgers.verify("/world/local/film", laws=True)
            assert (verdict.count, verdict.fault) == (len(frames), None)


async def test_a_home_without_state_is_not_found_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(TheoryError) as caught:
        async with open_reader(settings(tmp_path / "absent")):
            pass
    assert caught.value.code == "ERR_NOT_FOUND"
    assert not (tmp_path / "absent").exists()


async def take_over(home: Path) -> None:
    """Raise the epoch behind a server's back, and see its next write refused."""
    async with served(home) as server, server.client() as client:
        with contextlib.closing(sqlite3.connect(home / "theory.db")) as thief:
            thief.execute("UPDATE shard SET epoch = epoch + 1")
            thief.commit()
        refused = await client.post("/v1/plans", json=request())
        assert (refused.status_code, refused.json()["code"]) == (409, "ERR_NOT_WRITER")
        await asyncio.wait({server.task}, timeout=20)
        assert server.task.done()


@pytest.mark.scenario(6)
async def test_a_server_whose_home_another_took_over_stops_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(TheoryError) as caught:
        await take_over(tmp_path)
    assert caught.value.code == "ERR_NOT_WRITER"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.test"])  # noqa: S104
async def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(TheoryError) as caught:
        await serve(settings(tmp_path), host=host, port=0)
    assert caught.value.code == "ERR_INPUTS"
    assert not (tmp_path / "theory.db").exists()


async def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TheoryError) as caught:
        await serve(settings(tmp_path), port=taken.getsockname()[1])
    assert caught.value.code == "ERR_CONFLICT"
    assert "--port" in caught.value.message


@pytest.mark.scenario(15, 92)
async def test_a_stopped_server_resumes_what_was_unfinished(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=request())).headers["location"]
    async with served(tmp_path) as server, server.client() as client:
        frames = await follow(server, path)
        events: list[Any] = [loads_strict(frame) for frame in frames]
        kinds = [event["event"]["kind"] for event in events]
        assert kinds[-1] == "plan.completed"
        settled = [
            e["event"]["data"]["execution_id"]
            for e in events
            if e["event"]["kind"] == "budget.settled"
        ]
        assert len(settled) == len(set(settled))
        assert (await client.get("/healthz")).json() == {"ok": True}


async def watched(server: Server, path: str) -> tuple[list[bytes], int]:
    """Every frame that an observer of an execution hears, and the close code."""
    spoken = Subprotocol(RUN_SUBPROTOCOL)
    name = path.rpartition("/executions/")[2].removesuffix("/run")
    frames: list[bytes] = []
    url = server.url.replace("http", "ws") + path
    async with connect(url, additional_headers=server.headers, subprotocols=[spoken]) as ws:
        content = {"role": "observer", "execution_id": name}
        await ws.send(encode_frame("RunOpen", content).decode())
        try:
            while True:
                frames.append(str(await ws.recv()).encode())
        except ConnectionClosed as closed:
            return frames, closed.rcvd.code if closed.rcvd else 1006


async def attempts(client: httpx.AsyncClient) -> list[Any]:
    """Attempts of the film's first step."""
    shown = (await client.get("/v1/plans/local/film")).json()
    found: list[Any] = shown["transitions"][0]["executions"]
    return found


async def test_a_run_is_watched_live_and_later_and_ends_with_its_stored_envelope(
    tmp_path: Path,
) -> None:
    name = attempt_id("/world/local/film", "write", 1)
    path = f"/v1/plans/local/film/executions/{name}/run"
    async with served(tmp_path) as server, server.client() as client:
        await client.post("/v1/plans", json=request())
        async with asyncio.timeout(60):
            while not await attempts(client):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.02)
        live, code = await watched(server, path)
        later, again = await watched(server, path)
        await follow(server, "/v1/plans/local/film")
    async with served(tmp_path) as server:
        old, last = await watched(server, path)
    async with open_reader(settings(tmp_path)) as reader:
        (attempt,) = (await reader.queries.show("/world/local/film")).transitions[0].executions
        assert attempt.envelope is not None
        stored = await reader.queries.document(attempt.envelope)
    assert (code, again, last) == (1000, 1000, 1000)
    assert stored in live[-1]
    assert [frame for frame in later if b'"Gap"' not in frame][-1] == live[-1]
    assert stored in old[-1]
    assert len(old) == 2

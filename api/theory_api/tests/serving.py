"""Real servers over one database, to be killed, stopped and cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from theory_api.scheduler.shards import shard_of, shards
from theory_core import canonicalize, verify

COUNT = 8
RETRIED = frozenset({"ERR_UNAVAILABLE", "ERR_NOT_WRITER", "ERR_IDEMPOTENCY_IN_FLIGHT"})


def kept() -> dict[str, str]:
    """What a server is told by its environment."""
    names = ("PATH", "HOME", "PYTHONPATH", "THEORY_CACHE", "THEORY_WHEELS")
    return {name: os.environ[name] for name in names if name in os.environ} | {"LANG": "C.UTF-8"}


@dataclass
class Node:
    """One `theory serve`."""

    home: Path
    database: str
    number: int
    process: Process
    url: str
    key: str
    client: httpx.AsyncClient
    log: Path

    @classmethod
    async def start(cls, home: Path, database: str, number: int) -> Node:
        words = ("--home", str(home), "--database-url", database, "serve", "--port", "0", "--json")
        log = home.with_name(f"{home.name}-{number}.log")
        with log.open("ab") as err:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "theory_api.cli.main", *words),
                env=kept(),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=err,
            )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, log.read_text()[-4000:]
        told = json.loads(line)
        key = (home / "api-key").read_text().strip()
        client = httpx.AsyncClient(
            base_url=told["url"], headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        return cls(home, database, number, process, told["url"], key, client, log)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the process, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
            self.send(number)
        code = await asyncio.wait_for(self.process.wait(), 60)
        await self.client.aclose()
        return code

    async def post(self, path: str, body: dict[str, Any], key: str) -> httpx.Response:
        headers = {"Idempotency-Key": f'"{key}"'}
        return await self.client.post(path, json=body, headers=headers)

    async def persist(self, path: str, body: dict[str, Any], key: str) -> httpx.Response:
        """Ask again, with the same key, for as long as the answer is that it may work later."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.post(path, body, key)
                if answer.status_code < 400 or answer.json().get("code") not in RETRIED:
                    return answer
            await asyncio.sleep(0.1)


@dataclass
class Grid:
    """A database, one home, and the servers that share them."""

    home: Path
    database: str
    admin: asyncpg.Connection
    nodes: list[Node] = field(default_factory=list)
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    """Plan -> kinds of events that clients were told of."""
    drawn: int = 0

    async def add(self, database: str | None = None) -> Node:
        self.drawn += 1
        node = await Node.start(self.home, database or self.database, self.drawn)
        self.nodes.append(node)
        return node

    async def owners(self) -> dict[str, int]:
        """Shard -> process in the server that appends to it; as leases say."""
        rows = await self.admin.fetch(
            "SELECT shard, owner FROM shard_lease"
            " WHERE renewed_at >= clock_timestamp() - interval '5 s'"
        )
        return {row["shard"]: row["owner"] for row in rows}

    async def settled(self, count: int) -> dict[str, Any]:
        """Owners, once so many of them share all shards."""
        async with asyncio.timeout(90):
            while True:
                owners = await self.owners()
                if len(owners) == COUNT and len(set(owners.values())) == count:
                    return owners
                await asyncio.sleep(0.1)

    def owner_of(self, node: Node) -> str:
        """The name under which a server owns shards, as its log says."""
        for line in node.log.read_text().splitlines():
            record = json.loads(line)
            if record["event"] == "replica.joined":
                return str(record["owner"])
        raise AssertionError(node.log)

    def fresh(self, shard: str) -> str:
        """The name of a new plan on a shard."""
        while True:
            self.drawn += 1
            name = f"p{self.drawn}"
            if shard_of(f"/world/local/{name}", shards(COUNT)) == shard:
                return name

    async def hold(self, node: Node, name: str) -> None:
        """Create a plan whose one step waits for what never comes."""
        answer = await node.persist("/v1/plans/", waiting(name), f"create {name}")
        assert answer.status_code == 201, answer.text
        self.acknowledged.setdefault(name, []).append("plan.created")

    async def cancel(self, node: Node, name: str) -> None:
        path = f"/v1/plans/local/{name}/cancel"
        answer = await node.persist(path, {"reason": "enough"}, f"cancel {name}")
        assert answer.status_code == 202, answer.text
        self.acknowledged.setdefault(name, []).append("plan.cancel_requested")

    async def commit_times(self, node: Node, lost: list[str], began: float) -> list[float]:
        """Seconds from `began` to the first commit on each lost shard, asked of another server."""

        async def one(shard: str) -> float:
            await self.hold(node, self.fresh(shard))
            return time.monotonic() - began

        return list(await asyncio.gather(*(one(shard) for shard in lost)))

    async def anomalies(self) -> list[str]:
        """What an outsider would object to, over all ledgers."""
        found: list[str] = []
        rows = await self.admin.fetch("SELECT plan FROM plan ORDER BY plan")
        for (plan,) in rows:
            events = await self.admin.fetch(
                "SELECT kind, hash, body FROM ledger_event WHERE plan = $1 ORDER BY seq", plan
            )
            lines = b"".join(
                b'{"event":%b,"hash":%b}\n' % (body, canonicalize("b3:" + hashed.hex()))
                for _, hashed, body in events
            )
            report = verify(lines, laws=True)
            if report.fault is not None:
                found.append(f"{plan}: {report.fault}")
            kinds = [event["kind"] for event in events]
            told = self.acknowledged.get(plan.rsplit("/", 1)[1], [])
            found += [
                f"{plan}: {kinds.count(kind)} x {kind}" for kind in told if kinds.count(kind) != 1
            ]
        lost = set(self.acknowledged) - {plan.rsplit("/", 1)[1] for (plan,) in rows}
        return found + [f"{name}: lost" for name in sorted(lost)]


def waiting(name: str) -> dict[str, Any]:
    never = {"name": "artifact.exists@1", "params": {"path": "/artifacts/attachments/never"}}
    step = {
        "processor_ref": "llm/litellm@1",
        "mode": "mock",
        "inputs": {"task": "script", "text": {"$attach": "text"}},
        "predicates": {"admission": [never]},
    }
    document = {
        "schema": "theory.plan.v1",
        "plan": name,
        "budget": {"cpu_ms": 200_000, "latency_ms": 900_000},
        "transitions": {"wait": step},
    }
    return {
        "document": document,
        "attachments": {"text": {"text": "A lamp.", "mime": "text/plain"}},
    }


@contextlib.asynccontextmanager
async def grid(home: Path, database: str) -> AsyncIterator[Grid]:
    """No server yet; every one that is added is ended."""
    made = Grid(home, database, await asyncpg.connect(database))
    try:
        yield made
    finally:
        for node in made.nodes:
            if node.process.returncode is None:
                await node.end()
        await made.admin.close()

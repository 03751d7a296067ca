"""`theory serve`, except that it kills itself with SIGKILL in a window that its owner names.

Arguments: home, address of the database (`-`: the home's own), `inside` or `process` for where
processors run. A line on stdin, `WINDOW N`, arms the N-th arrival at a window from then on; it is
answered by `armed`. The first line on stdout is the server's URL. The end of stdin stops it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from theory_api import settings as configuration
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home
from theory_api.adapters.files.journal import SUFFIX
from theory_api.adapters.files.overlay import Rotation
from theory_api.adapters.files.packs import SUFFIX as PACK
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.sql.truth import SqliteTruth, connect
from theory_api.asgi import serve
from theory_api.ports.adapter import Adapter, FrameSink, Standing
from theory_api.ports.intake import Intakes
from theory_api.ports.truth import Append, IdempotencyRow, TruthStore
from theory_api.scheduler.tests.processors import Processors, Run
from theory_api.settings import PostgresUrl, Settings
from theory_api.wiring.site import Seams, Store

_TABLE: Final = re.compile(r'(INSERT INTO|UPDATE) "?(\w+)"?', re.IGNORECASE)
_COMMIT_S: Final = 0.002
"""About as long as a commit takes: a kill at a random moment of it."""

_ROTATION: Final = Rotation(after_s=0.2)
"""So often that packs are made, and merged, while a plan runs."""


class Fuse:
    """Burns down by one at each arrival at the armed window; at its end the process is dead."""

    def __init__(self) -> None:
        self._window = ""
        self._left = 0
        self._lock = threading.Lock()

    def arm(self, window: str, left: int) -> None:
        with self._lock:
            self._window, self._left = window, left

    def burnt(self, window: str) -> bool:
        """Whether this arrival is the one."""
        with self._lock:
            if window != self._window:
                return False
            self._left -= 1
            return self._left == 0

    def reached(self, window: str) -> None:
        if self.burnt(window):
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DoomedConnection:
    """The writer's connection: dies between the statements of an append, or around its COMMIT."""

    def __init__(self, inner: sqlite3.Connection, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse
        self._told = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:  # noqa: ANN401 - the driver's own
        if sql != "COMMIT":
            return self._inner.execute(sql, *given)
        told, self._told = self._told, ""
        for window, kind in (("commit", "budget.reserved"), ("settle", "budget.settled")):
            if kind in told and self._fuse.burnt(f"{window}-sent"):
                threading.Thread(target=_die_within, args=(_COMMIT_S,), daemon=True).start()
        done = self._inner.execute(sql, *given)
        for window, kind in (("commit", "budget.reserved"), ("settle", "budget.settled")):
            if kind in told:
                self._fuse.reached(f"{window}-done")
        return done

    def executemany(self, sql: str, rows: Sequence[Any]) -> sqlite3.Cursor:
        done = self._inner.executemany(sql, rows)
        found = _TABLE.match(sql.strip())
        what = () if found is None else (found[1].upper(), found[2])
        if what == ("INSERT INTO", "ledger_event"):
            self._told = repr(rows)
        if what == ("UPDATE", "plan"):
            self._fuse.reached("moved")
        if what == ("UPDATE", "balance") and "budget.reserved" in self._told:
            self._fuse.reached("reserved")
        return done


def _die_within(seconds: float) -> None:
    time.sleep(seconds * (time.perf_counter_ns() % 997) / 997)
    die()


class DoomedTruth:
    """A store whose owner dies before it writes, or once it has written."""

    def __init__(self, inner: TruthStore, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        row = await self._inner.idempotency(scope, key)
        self._fuse.reached("key-read")
        return row

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        await self._inner.append(batch, shard=shard, epoch=epoch, idempotency=idempotency)
        kinds = {event.kind for append in batch for event in append.events}
        if idempotency:
            self._fuse.reached("created")
        if "budget.settled" in kinds:
            self._fuse.reached("settled")


class DoomedDisk(Disk):
    """A disk whose owner dies before a file has all its bytes, or its name, or once it has both.

    Of a pack the index has its name first: `unpacked` is in between.
    """

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse
        self._paths: dict[int, Path] = {}
        self._noted: set[int] = set()

    def create(self, path: Path, mode: int = 0o600) -> int:
        handle = super().create(path, mode)
        self._paths[handle] = path
        return handle

    def write(self, handle: int, data: bytes) -> None:
        if self._fuse.burnt("half-written"):
            super().write(handle, data[: len(data) // 2])
            die()
        super().write(handle, data)
        if self._journal(handle):
            self._fuse.reached("unsynced")
            if b'"measured":' in data:
                self._noted.add(handle)
        else:
            self._fuse.reached("unnamed")

    def sync(self, handle: int) -> None:
        super().sync(handle)
        if handle in self._noted:
            self._noted.discard(handle)
            self._fuse.reached("noted")

    def replace(self, part: Path, path: Path) -> None:
        if path.suffix == PACK:
            self._fuse.reached("unpacked")
        super().replace(part, path)
        if path.suffix == ".note":
            self._fuse.reached("noted")
        if path.suffix == PACK:
            self._fuse.reached("packed")

    def close(self, handle: int) -> None:
        self._paths.pop(handle, None)
        super().close(handle)

    def _journal(self, handle: int) -> bool:
        """Whether what is written there is appended; everything else gets its name when whole."""
        return handle in self._paths and self._paths[handle].suffix == SUFFIX


class DoomedAdapter:
    """An adapter whose owner dies while it waits for what a processor tells."""

    def __init__(self, inner: Adapter, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        async def watched(frame: Mapping[str, Any]) -> None:
            if frame["kind"] == "Ack":
                self._fuse.reached("dispatched")
            if frame["kind"] == "RunResult":
                self._fuse.reached("written")
            if on_frame is not None:
                await on_frame(frame)

        envelope = await self._inner.invoke(
            ref=ref,
            payload=payload,
            timeout_s=timeout_s,
            expected_oci=expected_oci,
            on_frame=watched,
        )
        self._fuse.reached("returned")
        return envelope


class Inside(Processors):
    """Processors in this process: they die with it, whatever they had begun."""

    def __init__(self, intakes: MemoryIntakes) -> None:
        super().__init__(intakes)
        self.behaviours["None"] = [fine]

    async def standing(self, execution_id: str) -> Standing:
        del execution_id
        return Standing.GONE


async def fine(run: Run) -> dict[str, Any]:
    """Deliver what the processor of the tests delivers as a process."""
    await run.frame("Ack")
    await asyncio.sleep(float(run.params.get("seconds", 0)))
    envelope = await run.succeed({"fine.txt": b"bytes"})
    await run.frame("RunResult")
    return envelope


class OwnInterpreter:
    """Processors run under this interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        del folder, mode, on_progress
        return Path(sys.executable)


def seams(settings: Settings, fuse: Fuse, *, inside: bool) -> Seams:
    """The windows of this server."""

    def truth(store: Store) -> Store:
        if not isinstance(settings.database, PostgresUrl):
            lock = Home(settings.home).lock(settings.database)

            def opening(database: Path) -> sqlite3.Connection:
                return cast("sqlite3.Connection", DoomedConnection(connect(database), fuse))

            store = SqliteTruth(settings.database, lock, opening=opening)
        return cast("Store", DoomedTruth(store, fuse))

    def adapter(process: Adapter, intakes: Intakes) -> Adapter:
        if process.name != "process":
            return process
        if inside:
            return cast("Adapter", DoomedAdapter(Inside(cast("MemoryIntakes", intakes)), fuse))
        return cast("Adapter", DoomedAdapter(process, fuse))

    return Seams(truth=truth, adapter=adapter, disk=DoomedDisk(fuse), rotation=_ROTATION)


def obey(fuse: Fuse) -> None:
    """Arm what stdin says; whoever owned it is gone when it ends."""
    for line in sys.stdin:
        window, left = line.split()
        fuse.arm(window, int(left))
        print("armed", flush=True)  # noqa: T201
    os.kill(os.getpid(), signal.SIGTERM)


def main(home: str, database: str, place: str) -> None:
    """Serve until killed."""
    url = None if database == "-" else database
    settings = configuration.read(home=home, database_url=url)
    fuse = Fuse()
    threading.Thread(target=obey, args=(fuse,), daemon=True).start()
    asyncio.run(
        serve(
            settings,
            port=0,
            on_ready=lambda address: print(address, flush=True),  # noqa: T201
            environments=OwnInterpreter(),
            seams=seams(settings, fuse, inside=place == "inside"),
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

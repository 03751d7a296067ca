"""Containers that wait for work: started by people, lent to one execution at a time."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from theory_api.adapters.docker import held
from theory_api.adapters.docker.container import Container
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Chosen
from theory_api.adapters.docker.loans import Loans, Mark, Taken
from theory_api.adapters.docker.sandbox import (
    LABEL_HOME,
    LABEL_REF,
    LABEL_WARM,
    Limits,
    create_request,
)
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.places import home_name, make_private, runtime_root
from theory_core import TheoryError

log = structlog.get_logger(__name__)

_STILL: Final = frozenset({"created", "exited", "dead"})
"""States, in the engine's words, in which nothing of a container can go on."""
_STARTER: Final = "-"
"""The borrower of a container that is not healthy yet; no execution is called that."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a waiting container can stand in for."""

    ref: str
    image: Chosen
    limits: Limits
    egress: bool = False
    """Whether its run has a way out of its container: it shares none then."""

    def facts(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "ref": self.ref,
            "image": self.image.id,
            "digest": self.image.digest or "",
            "cpu": self.limits.cpu,
            "memory": self.limits.memory,
        }


@dataclass(slots=True)
class Lent:
    """A waiting container in the hands of one execution, and the lock that says so."""

    container: Container
    name: str
    lock: int | None

    def drop(self) -> None:
        """Let go of it as it is; idempotent. Who borrowed it stays written down."""
        self.container.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class Pool:
    """The waiting containers of a home; what is written about them lies where none of them reads.

    Laws: one execution at a time in each, so that what it uses is its own; one tenant in each, the
    first that it worked for. How many run at once is how many were started. None ever holds a
    secret or has a way out. A lock dies with its holder and the holder's run does not: who
    borrows is written down before anything of it runs, and erased only once nothing of it does.
    """

    def __init__(self, engine: Engine, *, root: Path, home: str) -> None:
        self._engine = engine
        self._root = root
        self._home = home
        self._loans = Loans(root)

    def folder(self, name: str) -> Path:
        """What a waiting container sees as `/run/theory`."""
        return self._root / name

    # -- for executions -----------------------------------------------------------------------

    async def claim(
        self, kind: Kind, *, borrower: str, tenant: str, mark: Mark = lambda _name: None
    ) -> Lent | None:
        """A waiting container of a kind that nobody has, or None; it is the borrower's from now on.

        One that its borrower died with is removed: its run may go on in it. `mark` is called in a
        thread with the container's name once that is written down; what it raises is raised, and
        the container is nobody's again.
        """
        while True:
            taking = asyncio.to_thread(self._loans.take, kind.facts(), borrower, tenant, mark)
            taken = await held.finished(taking, _let_go)
            if taken is None:
                return None
            lent: Lent | None = None
            try:
                ident, folder = taken.facts["container"], self.folder(taken.name)
                container = Container(self._engine, ident, folder)
                if taken.free:
                    await container.attend(taken.facts["pid"])
                    if not container.exited.done():
                        lent = Lent(container, taken.name, taken.lock)
                        return lent
                container.close()
                if not await self.discard(taken.name):
                    return None
            finally:
                if lent is None:
                    os.close(taken.lock)

    async def give_back(self, lent: Lent) -> None:
        """Let the next execution have it. Law: only when nothing of this one runs in it."""
        if lent.lock is None:
            return
        await asyncio.to_thread(self._loans.take_back, lent.name)
        lent.drop()

    async def works_for(self, name: str, borrower: str) -> bool:
        """Whether a waiting container is there, runs, and is that borrower's."""
        facts = await asyncio.to_thread(self._loans.read, name)
        return facts.get("borrower", borrower) == borrower and await self._runs(name)

    async def _runs(self, name: str) -> bool:
        """Whether the engine has one of that name that runs; what is known of it may be lost."""
        found = await self._engine.containers({LABEL_HOME: self._home, LABEL_WARM: name})
        return any(one["State"] not in _STILL for one in found)

    async def abandoned(self, name: str, borrower: str) -> bool:
        """Remove a container that its borrower died with; whether nothing of that runs.

        One with another borrower, or none, was given back by this one. Law: a lock that somebody
        holds says nothing about what runs.
        """
        facts = await asyncio.to_thread(self._loans.read, name)
        if facts.get("borrower", borrower) != borrower:
            return True
        return await self.discard(name)

    async def discard(self, name: str) -> bool:
        """Remove a container and what is known of it; whether it is gone."""
        facts = await asyncio.to_thread(self._loans.read, name)
        try:
            found = await self._engine.containers({LABEL_HOME: self._home, LABEL_WARM: name})
            idents = {facts.get("container", ""), *(one["Id"] for one in found)} - {""}
            for ident in idents:
                await self._engine.remove(ident)
                state = await self._engine.state(ident)
                if state is not None and state.running:
                    return False
        except TheoryError as error:
            log.warning("adapter.container.unstopped", code=error.code, reason=error.message)
            return False
        await asyncio.to_thread(self._loans.forget, name)
        return True

    # -- for people ---------------------------------------------------------------------------

    async def start(self, kind: Kind, *, pace: HealthPace) -> str:
        """Start one more container of a kind and answer its name; it stays until it is stopped.

        Law: it is written down before the engine hears of it, so that who dies in between leaves
        nothing that cannot be found. Raises `TheoryError`: `ERR_DOCKER`, `ERR_HEALTH`,
        `ERR_REGISTRY_MISMATCH`, `ERR_STORAGE`.
        """
        placing = asyncio.to_thread(self._place, kind)
        name, lock = await held.finished(placing, lambda placed: os.close(placed[1]))
        container: Container | None = None
        try:
            container = await self._started(name, kind, pace)
        except BaseException:
            await asyncio.shield(self.discard(name))
            raise
        finally:
            os.close(lock)
            if container is not None:
                container.close()
        return name

    async def _started(self, name: str, kind: Kind, pace: HealthPace) -> Container:
        folder = self.folder(name)
        request = create_request(
            image_id=kind.image.id,
            image_digest=kind.image.digest,
            folder=str(folder),
            limits=kind.limits,
            labels={LABEL_HOME: self._home, LABEL_WARM: name, LABEL_REF: kind.ref},
            reused=True,
        )
        ident = await self._engine.create(f"theory-warm-{self._home}-{name}", request)
        facts = {**_new(kind), "container": ident}
        await asyncio.to_thread(self._loans.write, name, facts)
        container = Container(self._engine, ident, folder)
        try:
            await container.start()
            await container.healthy(pace, expected=kind.image.digest)
            state = await container.state()
            facts |= {"pid": state.pid if state else 0}
            await asyncio.to_thread(self._loans.write, name, facts)
            await asyncio.to_thread(self._loans.take_back, name)
        except BaseException:
            container.close()
            raise
        return container

    async def sweep(self) -> None:
        """Remove what nobody can use: containers that nothing is known of, and those that ended."""
        found = await self._engine.containers({LABEL_HOME: self._home, LABEL_WARM: ""})
        running = {one["Labels"][LABEL_WARM]: one["State"] not in _STILL for one in found}
        known = set(await asyncio.to_thread(self._loans.names))
        for name in sorted(running.keys() | known):
            if running.get(name) and name in known:
                continue
            # Who starts one, or works in it, has the lock.
            lock = await asyncio.to_thread(self._loans.lock, name)
            if lock is None and name in await asyncio.to_thread(self._loans.names):
                continue
            try:
                known_now = name in await asyncio.to_thread(self._loans.names)
                if not (known_now and await self._runs(name)):
                    log.warning("adapter.container.reaped", container=name)
                    await self.discard(name)
            finally:
                if lock is not None:
                    os.close(lock)

    async def listed(self, ref: str = "") -> list[dict[str, Any]]:
        """The waiting containers, of one processor or of all: `name, ref, container, busy`.

        One that runs no more is removed first, as far as the engine says so.
        """
        await self.sweep()
        return await asyncio.to_thread(self._listed, ref)

    def _listed(self, ref: str) -> list[dict[str, Any]]:
        found = []
        for name in self._loans.names():
            facts = self._loans.read(name)
            if facts and ref in {"", facts["ref"]}:
                found.append({**facts, "name": name, "busy": facts["borrower"] != ""})
        return found

    async def said(self, container: str, *, lines: int) -> bytes:
        """What a container wrote last."""
        return await self._engine.tail(container, lines=lines)

    def _place(self, kind: Kind) -> tuple[str, int]:
        """A name, its lock, and a folder which the container may write to until it is healthy."""
        try:
            make_private(self._root)
            for number in range(1, 1000):
                folder = self._root / f"w{number}"
                try:
                    folder.mkdir(mode=0o700)
                except FileExistsError:
                    continue
                lock = self._loans.lock(folder.name, make=True)
                if lock is None:
                    folder.rmdir()
                    continue
                folder.chmod(0o777)
                self._loans.lend(folder.name, _STARTER)
                self._loans.write(folder.name, _new(kind))
                return folder.name, lock
        except OSError as error:
            raise coded("ERR_STORAGE", "the folder of a container cannot be made") from error
        raise coded("ERR_STORAGE", "too many containers")


def pool(engine: Engine, home: Path) -> Pool:
    """The containers of a home that wait for work."""
    return Pool(engine, root=runtime_root(home, "w"), home=home_name(home))


def _new(kind: Kind) -> dict[str, Any]:
    """What is known of a container before the engine hears of it."""
    return {**kind.facts(), "container": "", "pid": 0, "tenant": ""}


def _let_go(taken: Taken | None) -> None:
    if taken is not None:
        os.close(taken.lock)

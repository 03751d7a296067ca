"""Containers that wait for work: started by people, lent to one execution at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from theory_api.adapters.docker.container import Container
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Chosen
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
from theory_core import TheoryError, canonicalize, loads_strict

log = structlog.get_logger(__name__)

_FACTS: Final = ".json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a waiting container can stand in for."""

    ref: str
    image: Chosen
    limits: Limits

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
    """A waiting container in the hands of one execution."""

    container: Container
    name: str
    lock: int | None

    def back(self) -> None:
        """Let the next execution have it; idempotent."""
        self.container.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class Pool:
    """The waiting containers of a home; what is written about them lies where none of them reads.

    Law: one execution at a time in each, so that what it uses is its own; how many run at once is
    how many were started. None ever holds a secret, none has a network.
    """

    def __init__(self, engine: Engine, *, root: Path, home: str) -> None:
        self._engine = engine
        self._root = root
        self._home = home

    # -- for executions -----------------------------------------------------------------------

    async def claim(self, kind: Kind) -> Lent | None:
        """A waiting container of a kind that nobody has, or None."""
        wanted = kind.facts()
        for name, lock, facts in await asyncio.to_thread(self._take, wanted):
            container = Container(self._engine, facts["container"], self._root / name)
            await container.attend(facts["pid"])
            if not container.exited.done():
                return Lent(container, name, lock)
            os.close(lock)
            await self.discard(name, facts["container"])
        return None

    def _take(self, wanted: Mapping[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
        """The first free container of a kind, locked; the lock dies with its holder."""
        for file in sorted(self._root.glob(f"*{_FACTS}")):
            facts = _read(file)
            if any(facts.get(key) != value for key, value in wanted.items()):
                continue
            name = file.name.removesuffix(_FACTS)
            lock = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return [(name, lock, facts)]
        return []

    async def running(self, name: str) -> bool:
        """Whether a waiting container is there and runs."""
        facts = await asyncio.to_thread(_read, self._root / f"{name}{_FACTS}")
        if not facts:
            return False
        state = await self._engine.state(facts["container"])
        return state is not None and state.running

    async def abandoned(self, name: str) -> bool:
        """Remove a container that its borrower died with; whether nothing of that runs.

        One that somebody else has by now ended its last execution before.
        """
        if await asyncio.to_thread(_is_held, self._root / f"{name}{_FACTS}"):
            return True
        return await self.discard(name)

    async def discard(self, name: str, container: str = "") -> bool:
        """Remove a container and what is known of it; whether it is gone."""
        file = self._root / f"{name}{_FACTS}"
        ident = container or (await asyncio.to_thread(_read, file)).get("container", "")
        if ident:
            try:
                await self._engine.remove(ident)
            except TheoryError as error:
                log.warning("adapter.container.unstopped", code=error.code, reason=error.message)
                return False
        await asyncio.to_thread(self._forget, name)
        return True

    def _forget(self, name: str) -> None:
        (self._root / f"{name}{_FACTS}").unlink(missing_ok=True)
        shutil.rmtree(self._root / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Others may be in it.
            self._root.rmdir()

    # -- for people ---------------------------------------------------------------------------

    async def start(self, kind: Kind, *, pace: HealthPace) -> str:
        """Start one more container of a kind and answer its name; it stays until it is stopped.

        Raises `TheoryError`: `ERR_DOCKER`, `ERR_HEALTH`, `ERR_REGISTRY_MISMATCH`, `ERR_STORAGE`.
        """
        name = await asyncio.to_thread(self._place)
        container: Container | None = None
        try:
            request = create_request(
                image_id=kind.image.id,
                image_digest=kind.image.digest,
                folder=str(self._root / name),
                limits=kind.limits,
                labels={LABEL_HOME: self._home, LABEL_WARM: name, LABEL_REF: kind.ref},
                network="none",
            )
            ident = await self._engine.create(f"theory-warm-{self._home}-{name}", request)
            container = Container(self._engine, ident, self._root / name)
            await container.start()
            await container.healthy(pace, expected=kind.image.digest)
            state = await container.state()
            facts = {**kind.facts(), "container": ident, "pid": state.pid if state else 0}
            await asyncio.to_thread(_write, self._root / f"{name}{_FACTS}", facts)
        except BaseException:
            if container is not None:
                await container.remove()
            await asyncio.to_thread(self._forget, name)
            raise
        container.close()
        return name

    def folder(self, name: str) -> Path:
        """What a waiting container sees as `/run/theory`."""
        return self._root / name

    async def listed(self, ref: str = "") -> list[dict[str, Any]]:
        """The waiting containers, of one processor or of all: `name, ref, container, busy`."""
        return await asyncio.to_thread(self._listed, ref)

    def _listed(self, ref: str) -> list[dict[str, Any]]:
        found = []
        for file in sorted(self._root.glob(f"*{_FACTS}")):
            facts = _read(file)
            if facts and ref in {"", facts["ref"]}:
                name = file.name.removesuffix(_FACTS)
                found.append({"name": name, "busy": _is_held(file), **facts})
        return found

    async def said(self, container: str, *, lines: int) -> bytes:
        """What a container wrote last."""
        return await self._engine.tail(container, lines=lines)

    def _place(self) -> str:
        """A folder of its own, which the container may write to until it is healthy."""
        try:
            make_private(self._root)
            for number in range(1, 1000):
                folder = self._root / f"w{number}"
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                    folder.chmod(0o777)
                    return folder.name
        except OSError as error:
            raise coded("ERR_STORAGE", "the folder of a container cannot be made") from error
        raise coded("ERR_STORAGE", "too many containers")


def pool(engine: Engine, home: Path) -> Pool:
    """The containers of a home that wait for work."""
    return Pool(engine, root=runtime_root(home, "w"), home=home_name(home))


def _read(file: Path) -> dict[str, Any]:
    """What is known of a container; nothing where it is being removed."""
    try:
        facts: dict[str, Any] = loads_strict(file.read_bytes())
    except (OSError, TheoryError):
        return {}
    return facts


def _write(file: Path, facts: Mapping[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(canonicalize(dict(facts)))
    part.rename(file)


def _is_held(file: Path) -> bool:
    try:
        lock = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False

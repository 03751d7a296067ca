"""Makes the environment of a processor once, from its own lock, and never uses half of one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from theory_api.observability.redaction import Redactor
from theory_core import TheoryError, canonicalize, digest, digest_file

LOCK: Final = "requirements.txt"
REAL_LOCK: Final = "requirements-real.txt"
"""What mode real needs besides, where a processor has such a file: an environment of its own."""
WHEELS: Final = ("theory_core", "theory_runtime")

_READ_BYTES: Final = 4096
_TAIL_BYTES: Final = 1500
_POLL_S: Final = 0.1

Progress = Callable[[str], None]


class Environments:
    """Environments under `root`, each named by the digest of what it is made of.

    An environment is made in a folder beside its place and renamed when it is complete; a file lock
    keeps two processes from making the same one. One that is there costs no network and no time.
    """

    def __init__(self, root: Path, wheels: Path, *, python: Path | None = None) -> None:
        self._root = root
        self._wheels = wheels
        self._python = Path(sys.executable) if python is None else python

    async def python_for(self, folder: Path, mode: str, on_progress: Progress) -> Path:
        """The interpreter for a processor in a mode; made first if it is not there.

        Raises `TheoryError`: `ERR_UNAVAILABLE` (`detail.log` has pip's last lines), `ERR_STORAGE`.
        """
        lock = _lock_of(folder, mode)
        wheels = await asyncio.to_thread(self._find_wheels)
        key = await asyncio.to_thread(self._key, lock, wheels)
        target = self._root / key
        if await asyncio.to_thread(_is_whole, target):
            return _interpreter(target)
        name = "/".join(folder.parts[-3:])
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _storage(error) from error
        async with _locked(self._root / f"{key}.lock"):
            if not await asyncio.to_thread(_is_whole, target):
                await self._make(target, lock, wheels, name, on_progress)
        return _interpreter(target)

    def _find_wheels(self) -> list[Path]:
        found = []
        for name in WHEELS:
            candidates = sorted(self._wheels.glob(f"{name}-*.whl"))
            if len(candidates) != 1:
                message = f"unavailable: {len(candidates)} wheels of {name} where one is expected"
                remedy = "Run `make setup`, or name a folder with one wheel each (THEORY_WHEELS)."
                raise TheoryError("ERR_UNAVAILABLE", message, {"remedy": remedy})
            found.append(candidates[0])
        return found

    def _key(self, lock: Path, wheels: list[Path]) -> str:
        try:
            parts = {
                "lock": digest(lock.read_bytes()),
                "wheels": [digest_file(wheel) for wheel in wheels],
                "python": [sys.version, str(self._python.resolve())],
            }
        except OSError as error:
            message = f"unavailable: the processor has no readable {lock.name}"
            raise TheoryError("ERR_UNAVAILABLE", message) from error
        return digest(canonicalize(parts)).removeprefix("b3:")[:32]

    async def _make(
        self, target: Path, lock: Path, wheels: list[Path], name: str, on_progress: Progress
    ) -> None:
        """Make an environment beside its place; nobody else does at this time."""
        building = target.with_name(f"{target.name}.part")
        try:
            for leftover in (building, target):
                if leftover.exists():
                    await asyncio.to_thread(shutil.rmtree, leftover)
            on_progress(f"Making the environment of {name} (first time only)")
            python = await self._venv(building)
            on_progress(f"Installing what {name} needs")
            pip = self._pip(building)
            await _run([*pip, "install", "--require-hashes", "-r", str(lock)])
            local = ["--no-deps", "--no-index", *map(str, wheels)]
            await _run([*pip, "install", *local])
            await _run([str(python), "-c", "import theory_runtime, theory_runtime.service"])
            await asyncio.to_thread(building.rename, target)
        except OSError as error:
            raise _storage(error) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, building, ignore_errors=True)
        on_progress(f"The environment of {name} is ready")

    async def _venv(self, folder: Path) -> Path:
        bare = [] if importlib.util.find_spec("pip") is None else ["--without-pip"]
        await _run([str(self._python), "-m", "venv", *bare, str(folder)])
        return _interpreter(folder)

    def _pip(self, folder: Path) -> list[str]:
        """Our own pip if there is one, else the one that the environment was made with."""
        options = ["--disable-pip-version-check", "--no-input", "--quiet"]
        inner = str(_interpreter(folder))
        if importlib.util.find_spec("pip") is None:
            return [inner, "-m", "pip", *options]
        return [sys.executable, "-m", "pip", "--python", inner, *options]


def _lock_of(folder: Path, mode: str) -> Path:
    real = folder / REAL_LOCK
    return real if mode == "real" and real.is_file() else folder / LOCK


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_whole(folder: Path) -> bool:
    """Whether an environment is there and the interpreter that it leads to still is."""
    return _interpreter(folder).exists()


@contextlib.asynccontextmanager
async def _locked(file: Path) -> AsyncIterator[None]:
    """Hold a lock that dies with this process, waiting for it without blocking the loop."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _storage(error) from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


async def _run(command: list[str]) -> None:
    """Run one step of the making; raises `TheoryError` `ERR_UNAVAILABLE` with its last lines."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = b""
    try:
        while process.stdout is not None and (piece := await process.stdout.read(_READ_BYTES)):
            said = (said + piece)[-_TAIL_BYTES:]
        code = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if code != 0:
        log = Redactor().text(said.decode("utf-8", "replace")).strip()
        message = f"unavailable: making a processor's environment failed: {log[-800:]}"
        remedy = "Check the network and the disk, then run it again; nothing of it was kept."
        raise TheoryError("ERR_UNAVAILABLE", message, {"log": log, "remedy": remedy})


def _storage(error: OSError) -> TheoryError:
    message = f"storage unavailable: a processor's environment cannot be made: {error.strerror}"
    return TheoryError("ERR_STORAGE", message)

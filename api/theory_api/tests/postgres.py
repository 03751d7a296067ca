"""A PostgreSQL of its own for tests: a private cluster in a folder, ended with the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_USER = "postgres"
_FAST = ("-c", "fsync=off", "-c", "full_page_writes=off")


def binaries() -> Path | None:
    """Where the server's programs lie; Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return None if named is None else Path(named).resolve().parent


class Cluster:
    """A server on loopback with default settings; as root it runs as `postgres`."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        bin_folder = binaries()
        assert bin_folder is not None, "PostgreSQL's server is not installed"
        self._bin = bin_folder
        self._folder = folder
        self._data = folder / "data"
        self._durable = durable
        self._server: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def create(self) -> None:
        """Make the cluster's files."""
        if os.getuid() == 0:
            account = pwd.getpwnam(_USER)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        command = ["initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "--no-sync"]
        self._run(*command, "-E", "UTF8", "--locale=C.UTF-8")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = ["-p", str(self.port), "-k", str(self._folder), "-h", "127.0.0.1"]
        fast = () if self._durable else _FAST
        command = self._as_user(str(self._bin / "postgres"), "-D", str(self._data), *options, *fast)
        log = (self._folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not self._answers():
            assert self._server.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < until, "PostgreSQL does not answer"
            time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server: cut sessions and shut down, or as a crash would."""
        server, self._server = self._server, None
        if server is None:
            return
        number = signal.SIGQUIT if kill else signal.SIGINT
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            os.kill(int((self._data / "postmaster.pid").read_text().split("\n")[0]), number)
        server.wait(timeout=60)

    def database(self) -> str:
        """The address of a new, empty database."""
        name = "t" + uuid.uuid4().hex
        self._run(*self._client("createdb"), name)
        return self.url(name)

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _client(self, program: str) -> list[str]:
        return [program, "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER]

    def _run(self, program: str, *options: str) -> None:
        command = self._as_user(str(self._bin / program), *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _as_user(*command: str) -> list[str]:
        """As `postgres` where we are root: the server refuses to run as root."""
        if os.getuid() != 0:
            return list(command)
        return ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups", "--", *command]


@contextlib.contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A running server; `durable` keeps fsync on."""
    folder = Path(tempfile.mkdtemp(prefix="theory-pg-"))
    made = Cluster(folder, durable=durable)
    try:
        made.create()
        made.start()
        yield made
    finally:
        made.stop(kill=True)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

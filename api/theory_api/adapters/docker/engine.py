"""The Docker engine behind its official SDK: calls in threads, each with an end, errors by code."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import structlog

from theory_api.adapters.docker.ask import ask
from theory_api.adapters.docker.confinement import confined, require
from theory_api.adapters.run_v1.calling import coded
from theory_core import TheoryError

if TYPE_CHECKING:
    from docker import APIClient

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

ANSWER_S: Final = 30.0
"""For an engine to answer; a stop or a pull says its own."""
PULL_S: Final = 600.0
USUAL: Final = "unix:///var/run/docker.sock"
"""Where an engine listens unless it was told otherwise."""
_FROM_THE_END: Final = 1000
"""Lines of both streams that are read where a reading of all of them came to nothing."""

_LATE_S: Final = 5.0
_SHORT_S: Final = 2.0
"""For an answer by the short way, before the SDK is asked."""
_THREADS: Final = 8
_LONG: Final = "docker-images"
_ABSENT: Final = 404
_GONE: Final = frozenset({304, 404, 409})
_DENIED: Final = ("authentication", "credentials", "denied", "unauthorized")
"""Words of registries that want to know who asks, or do not like the answer."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has."""

    id: str
    """`sha256:…` of its configuration."""
    platform: str
    digests: tuple[str, ...]
    """`sha256:…` of every manifest under which it was pulled or pushed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container stands."""

    running: bool
    code: int
    out_of_memory: bool
    pid: int


class Engine:
    """One engine. Nothing is imported and nothing connected before the first call.

    `host` is its address, empty for the socket where an engine usually listens (`USUAL`); raises
    `TheoryError` `ERR_DOCKER` from every method when there is no answer or a refusal.
    `runtime` is the name of a container runtime that the engine has to have, e.g. `runsc`.
    """

    def __init__(self, host: str = "", *, runtime: str = "") -> None:
        self._host = host
        self._runtime = runtime
        self._required = False
        self._client: APIClient | None = None
        self._making = threading.Lock()
        self._threads: dict[str, ThreadPoolExecutor] = {}

    async def call(
        self,
        work: Callable[[APIClient], Answer],
        *,
        within_s: float = ANSWER_S,
        threads: str = "docker",
    ) -> Answer:
        """Do something with the client in a thread; the thread's own end comes a little later.

        What takes minutes has `threads` of its own, so that nothing else waits for it.
        """
        if threads not in self._threads:
            self._threads[threads] = ThreadPoolExecutor(_THREADS, thread_name_prefix=threads)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._threads[threads], self._guarded, work)
        try:
            async with asyncio.timeout(within_s + _LATE_S):
                return await done
        except TimeoutError as error:
            raise coded("ERR_DOCKER", "the engine does not answer") from error

    def _guarded(self, work: Callable[[APIClient], Answer]) -> Answer:
        """The one place where the SDK's exceptions become codes."""
        import docker.errors  # noqa: PLC0415 - only who uses an engine pays for its client
        from requests import RequestException  # noqa: PLC0415 - as above

        try:
            return work(self._connected())
        except docker.errors.APIError as error:
            raise refused(error.status_code, str(error.explanation or "")) from error
        except (docker.errors.DockerException, RequestException, OSError) as error:
            raise coded("ERR_DOCKER", "no engine answers") from error

    def _connected(self) -> APIClient:
        from docker import APIClient  # noqa: PLC0415 - as above

        with self._making:
            if self._client is None:
                knock(self._host)
                host = self._host or USUAL
                self._client = APIClient(base_url=host, version="auto", timeout=int(ANSWER_S))
            return self._client

    def close(self) -> None:
        """Let go of the engine; calls under way end by themselves, a later one connects again."""
        while self._threads:
            self._threads.popitem()[1].shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- images -----------------------------------------------------------------------------

    async def image(self, reference: str) -> Image | None:
        """The image of a reference, if the engine has it."""
        found = await self._image(reference)
        if found is None:
            return None
        digests = tuple(name.rpartition("@")[2] for name in found.get("RepoDigests") or ())
        return Image(found["Id"], found["Architecture"], digests)

    async def _image(self, reference: str) -> Mapping[str, Any] | None:
        """What the engine says of it: by the short way first: lane build asks before each run."""
        path = socket_of(self._host)
        if path:
            target = f"/images/{quote(reference, safe='/:@')}/json"
            found: Mapping[str, Any] | None = await ask(path, target, within_s=_SHORT_S)
            if found is not None:
                return found
        try:
            return await self.call(lambda client: client.inspect_image(reference))  # type: ignore[no-untyped-call]
        except TheoryError as error:
            if error.detail.get("status") == _ABSENT:
                return None
            raise

    async def pull(self, repository: str, digest: str) -> None:
        """Get an image by its digest; raises `ERR_IMAGE_NOT_FOUND` or `ERR_IMAGE_PULL`."""

        def work(client: APIClient) -> list[Mapping[str, Any]]:
            return list(client.pull(repository, tag=digest, stream=True, decode=True))

        try:
            said = await self.call(work, within_s=PULL_S, threads=_LONG)
        except TheoryError as error:
            absent = error.detail.get("status") == _ABSENT
            code = "ERR_IMAGE_NOT_FOUND" if absent else "ERR_IMAGE_PULL"
            raise coded(code, digest) from error
        told = " ".join(str(line["error"]) for line in said if "error" in line)
        if told:
            absent = "not found" in told or "manifest unknown" in told
            raise coded("ERR_IMAGE_NOT_FOUND" if absent else "ERR_IMAGE_PULL", digest)

    async def push(self, image: str, repository: str, tag: str) -> str:
        """Have a registry take an image under a tag, and answer the digest that it has there.

        Whose credentials: those of `docker login`. Raises `ERR_IMAGE_NOT_FOUND` (the engine has no
        such image), `ERR_UPLOAD` (the registry does not take it).
        """

        def work(client: APIClient) -> list[Mapping[str, Any]]:
            client.tag(image, repository, tag)
            return list(client.push(repository, tag=tag, stream=True, decode=True))

        try:
            said = await self.call(work, within_s=PULL_S, threads=_LONG)
        except TheoryError as error:
            if error.detail.get("status") == _ABSENT:
                raise coded("ERR_IMAGE_NOT_FOUND", image) from error
            raise
        told = " ".join(str(line["error"]) for line in said if "error" in line)
        digests = [line["aux"]["Digest"] for line in said if "Digest" in line.get("aux", {})]
        if told or not digests:
            # The registry's words name hosts, and may name more.
            log.warning("error.ERR_UPLOAD", repository=repository, reason=told[:500])
            denied = any(word in told for word in _DENIED)
            why = "the registry knows no such credentials" if denied else "the registry refuses it"
            raise coded("ERR_UPLOAD", why)
        return str(digests[-1])

    async def load(self, archive: Path) -> None:
        """Have the engine take an archive in."""

        def work(client: APIClient) -> None:
            with archive.open("rb") as stream:
                for line in client.load_image(stream):  # type: ignore[no-untyped-call]
                    if "error" in line:
                        raise coded("ERR_DOCKER", "the archive was not taken")

        await self.call(work, within_s=PULL_S, threads=_LONG)

    # -- containers ---------------------------------------------------------------------------

    async def create(self, name: str, request: Mapping[str, Any]) -> str:
        """Create a container and answer its id; one that comes too late for that is removed.

        Law: none is made by an engine that does not confine it.
        """
        if not self._required:
            require(await self.call(lambda client: client.info()), runtime=self._runtime)
            self._required = True
        settling, given_up, answered = threading.Lock(), False, False

        def work(client: APIClient) -> str:
            nonlocal answered
            made: Mapping[str, Any] = client.create_container_from_config(
                confined(request, runtime=self._runtime), name
            )  # type: ignore[no-untyped-call]
            with settling:
                answered = not given_up
            if not answered:
                log.warning("adapter.container.late", container=made["Id"][:12])
                client.remove_container(made["Id"], v=True, force=True)
            return str(made["Id"])

        try:
            return await self.call(work)
        except BaseException:
            with settling:
                given_up = True
            if answered:
                # It came in the same moment.
                await asyncio.shield(self._unless_gone(_removal(name)))
            raise

    async def start(self, container: str) -> None:
        """Start a container."""
        await self.call(lambda client: client.start(container))

    async def state(self, container: str) -> Ended | None:
        """How a container stands; None if there is none."""
        try:
            found = await self.call(lambda client: client.inspect_container(container))
        except TheoryError as error:
            if error.detail.get("status") == _ABSENT:
                return None
            raise
        state = found["State"]
        return Ended(state["Running"], state["ExitCode"], state["OOMKilled"], state["Pid"])

    async def stop(self, container: str, *, grace_s: int) -> None:
        """Ask a container to end, and kill it after the grace; one that is gone has ended."""
        await self._unless_gone(
            lambda client: client.stop(container, timeout=grace_s), within_s=grace_s + ANSWER_S
        )

    async def remove(self, container: str) -> None:
        """Kill and remove a container with everything of it; idempotent."""
        await self._unless_gone(_removal(container))

    async def _unless_gone(
        self, work: Callable[[APIClient], object], *, within_s: float = ANSWER_S
    ) -> None:
        try:
            await self.call(work, within_s=within_s)
        except TheoryError as error:
            if error.detail.get("status") not in _GONE:
                raise

    async def containers(self, labels: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        """Containers with these labels, those that ended included."""
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        return await self.call(
            lambda client: client.containers(all=True, filters={"label": wanted})
        )

    async def tail(self, container: str, *, lines: int) -> bytes:
        """The last lines of a container's stderr; nothing where the engine does not say.

        All of it is asked for, which the log's bound keeps small: the engine counts lines of both
        streams, and would answer nothing where the last ones are on stdout.
        """

        def work(client: APIClient) -> bytes:
            said: bytes = client.logs(container, stdout=False, stderr=True)
            if not said:
                # An engine may stop at a line that a full file cut: then from the end.
                said = client.logs(container, stdout=False, stderr=True, tail=_FROM_THE_END)
            return b"".join(said.splitlines(keepends=True)[-lines:])

        try:
            return await self.call(work)
        except TheoryError as error:
            log.warning("adapter.container.log", code=error.code, reason=error.message)
            return b""

    async def cpu_ms(self, container: str) -> int | None:
        """Processor time of a running container, by the engine's own account."""

        def work(client: APIClient) -> int | None:
            stats = client.stats(container, stream=False, one_shot=True)
            used = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0)
            return int(used) // 1_000_000 or None

        return await self.call(work)


def _removal(container: str) -> Callable[[APIClient], object]:
    return lambda client: client.remove_container(container, v=True, force=True)


def socket_of(host: str) -> str:
    """Path of the unix socket that an address names; empty for any other address."""
    path = (host or USUAL).removeprefix("unix://")
    return path if path.startswith("/") else ""


def knock(host: str) -> None:
    """Raise `OSError` where nobody listens; the SDK would leave its socket open."""
    path = socket_of(host)
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_LATE_S)
            probe.connect(path)


def refused(status: int | None, explanation: str) -> TheoryError:
    """What the engine's refusal is; its words are about this machine and stay in the log."""
    if status not in _GONE:
        log.warning("error.ERR_DOCKER", status=status, reason=explanation[:500])
    error = coded("ERR_DOCKER", f"refused with {status}")
    return TheoryError(error.code, error.message, {"status": status or 0})

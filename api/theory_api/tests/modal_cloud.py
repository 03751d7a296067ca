"""A stand-in for Modal's control plane and its containers, on loopback.

It knows Modal's protocol buffers and nothing of this project: it keeps what is deployed, starts a
container (a process) for each function, unpickles in it what was sent, calls it, and lets nobody in
who has no proxy credentials where the function asks for them. What a client must not send is kept
in `faults` and refused.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpclib
import grpclib.server
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from modal_proto import api_grpc, api_pb2

from theory_api.tests.modal_door import Door

CONTAINER = Path(__file__).with_name("modal_container.py")
PINNED = re.compile(r"FROM (?P<image>\S+)@(?P<digest>sha256:[0-9a-f]{64})")
STDERR = api_pb2.FILE_DESCRIPTOR_STDERR
OK = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS

Stream = Any
Request = Any
Message = Any
Handler = Callable[["ModalCloud", Stream, Any], Awaitable[None]]


@dataclass
class Container:
    """One function at work."""

    process: asyncio.subprocess.Process
    door: Door
    log: Path
    place: Path
    """Its folder for what is temporary; short, since sockets lie in it."""
    held: bool = False
    """Whether what ended stays away."""
    keeping: asyncio.Task[None] | None = None

    def vaults(self) -> list[Path]:
        """Its folders in this machine's memory, which a true container takes with it."""
        return [link.readlink() for link in self.place.glob("*/secrets")]


@dataclass
class Function:
    """A function as it was sent."""

    message: api_pb2.Function
    image: str
    secrets: tuple[str, ...]


@dataclass
class App:
    """An app and what was published of it."""

    ident: str
    name: str
    environment: str
    functions: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class ModalCloud:
    """All that the stand-in knows; tests read it, and set what is there before."""

    folder: Path
    images: set[str] = field(default_factory=set)
    """Images that a registry has: `repository@sha256:…`."""
    secrets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(environment, name) -> what the secret holds."""
    environments: tuple[str, ...] = ("dev", "main")
    tokens: dict[str, str] = field(default_factory=lambda: {"ak-test": "as-test"})
    proxies: dict[str, str] = field(default_factory=lambda: {"wk-test": "ws-test"})
    apps: dict[str, App] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What a request held that it must not."""
    failing: dict[str, grpclib.Status | float] = field(default_factory=dict)
    """Calls that fail with a status, or answer after so many seconds."""
    url: str = ""
    _images: dict[str, str] = field(default_factory=dict)
    _named: dict[str, tuple[str, str]] = field(default_factory=dict)
    _number: int = 0

    def ident(self, kind: str) -> str:
        """A new id."""
        self._number += 1
        return f"{kind}-{self._number:022d}"

    def app(self, name: str, environment: str) -> App | None:
        """The app under a name that is deployed."""
        for app in self.apps.values():
            if (app.name, app.environment, app.stopped) == (name, environment, False):
                return app
        return None

    def refuse(self, sentence: str) -> grpclib.GRPCError:
        """Keep a fault, and refuse the request for it."""
        self.faults.append(sentence)
        return grpclib.GRPCError(grpclib.Status.INVALID_ARGUMENT, f"stand-in: {sentence}")

    # -- containers -----------------------------------------------------------------------------

    async def start(self, ident: str) -> None:
        """Start the container of a function, and the door before it."""
        await self.end(ident)
        message = self.functions[ident].message
        door = await Door.open(
            port=message.webhook_config.web_server_port,
            allowed=self.proxies if message.webhook_config.requires_proxy_auth else None,
        )
        log = self.folder / f"{ident}.log"
        place = Path(tempfile.mkdtemp(prefix="thm-", dir="/tmp"))
        process = await self._process(ident, log, place)
        self.containers[ident] = Container(process, door, log, place)
        self._keep(ident)

    def _keep(self, ident: str) -> None:
        """A container that ends by itself is replaced by a new one."""

        async def keep(container: Container) -> None:
            while not container.held:
                await container.process.wait()
                if not container.held:
                    container.process = await self._process(ident, container.log, container.place)

        container = self.containers[ident]
        container.keeping = asyncio.create_task(keep(container))

    async def _process(self, ident: str, log: Path, place: Path) -> asyncio.subprocess.Process:
        function = self.functions[ident]
        sent = self.folder / f"{ident}.function"
        sent.write_bytes(function.message.function_serialized)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(place),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self.ident("ta"),
        }
        for name in function.secrets:
            environment |= self.secrets[self._named[name]]
        with log.open("ab") as said:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(CONTAINER), str(sent)),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    async def preempt(self, ident: str) -> None:
        """Kill a container; its function and its address stay."""
        container = self.containers[ident]
        container.held = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(container.process.pid, signal.SIGKILL)
        await container.process.wait()
        if container.keeping is not None:
            await container.keeping

    async def again(self, ident: str) -> None:
        """Start a container anew behind the same address."""
        container = self.containers[ident]
        container.process = await self._process(ident, container.log, container.place)
        container.held = False
        self._keep(ident)

    async def end(self, ident: str) -> None:
        """End the container of a function and all that it started, and remove what it kept."""
        if ident in self.containers:
            await self.containers[ident].door.close()
            await self.preempt(ident)
            container = self.containers.pop(ident)
            for folder in (*container.vaults(), container.place):
                await asyncio.to_thread(_remove, folder)

    async def close(self) -> None:
        """End every container."""
        for ident in list(self.containers):
            await self.end(ident)

    def web_url(self, ident: str) -> str:
        """The address of a function; empty without one."""
        container = self.containers.get(ident)
        return "" if container is None else container.door.url


def _remove(folder: Path) -> None:
    """Remove a folder in which a worker that was just killed may still write."""
    until = time.monotonic() + 10
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


HANDLERS: dict[str, Handler] = {}


def rpc(handler: Handler) -> Handler:
    """Answer the call that the function is named after."""
    HANDLERS["".join(part.title() for part in handler.__name__.split("_"))] = handler
    return handler


@rpc
async def client_hello(_cloud: ModalCloud, stream: Stream, _request: Request) -> None:
    await stream.send_message(api_pb2.ClientHelloResponse())


@rpc
async def auth_token_get(_cloud: ModalCloud, stream: Stream, _request: Request) -> None:
    def part(content: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    token = f"{part({'alg': 'none'})}.{part({'exp': int(time.time()) + 3600})}.x"
    await stream.send_message(api_pb2.AuthTokenGetResponse(token=token))


@rpc
async def environment_get_or_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    name = request.deployment_name
    if name not in cloud.environments:
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no environment {name}")
    settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
    metadata = api_pb2.EnvironmentMetadata(name=name, settings=settings)
    answer = api_pb2.EnvironmentGetOrCreateResponse(environment_id=f"en-{name}", metadata=metadata)
    await stream.send_message(answer)


@rpc
async def app_get_by_deployment_name(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    app = cloud.app(request.name, request.environment_name)
    answer = api_pb2.AppGetByDeploymentNameResponse(
        app_id=app.ident if app else "", environment_name=request.environment_name
    )
    await stream.send_message(answer)


@rpc
async def app_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    if request.environment_name not in cloud.environments:
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, "no such environment")
    ident = cloud.ident("ap")
    cloud.apps[ident] = App(ident, request.description, request.environment_name)
    cloud.apps[ident].tags = dict(request.tags)
    await stream.send_message(api_pb2.AppCreateResponse(app_id=ident, app_page_url="stand-in"))


@rpc
async def app_get_or_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    app = cloud.app(request.app_name, request.environment_name)
    if app is None:
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no app {request.app_name}")
    await stream.send_message(api_pb2.AppGetOrCreateResponse(app_id=app.ident))


@rpc
async def app_get_layout(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    layout = api_pb2.AppLayout(function_ids=cloud.apps[request.app_id].functions)
    await stream.send_message(api_pb2.AppGetLayoutResponse(app_layout=layout))


@rpc
async def app_client_disconnect(_cloud: ModalCloud, stream: Stream, _request: Request) -> None:
    await stream.send_message(Empty())


@rpc
async def app_heartbeat(_cloud: ModalCloud, stream: Stream, _request: Request) -> None:
    await stream.send_message(Empty())


@rpc
async def app_publish(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    app = cloud.apps[request.app_id]
    for ident in set(app.functions.values()) - set(request.function_ids.values()):
        await cloud.end(ident)
    app.name, app.functions = request.name, dict(request.function_ids)
    app.tags = dict(request.tags)
    for ident in app.functions.values():
        await cloud.start(ident)
    await stream.send_message(api_pb2.AppPublishResponse(url=f"stand-in:{app.name}"))


@rpc
async def app_stop(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    app = cloud.apps[request.app_id]
    app.stopped = True
    for ident in app.functions.values():
        await cloud.end(ident)
    await stream.send_message(Empty())


@rpc
async def app_list(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    stopped, deployed = api_pb2.APP_STATE_STOPPED, api_pb2.APP_STATE_DEPLOYED
    items = [
        api_pb2.AppListResponse.AppListItem(
            app_id=app.ident, name=app.name, state=stopped if app.stopped else deployed
        )
        for app in cloud.apps.values()
        if app.environment == request.environment_name
    ]
    await stream.send_message(api_pb2.AppListResponse(apps=items))


@rpc
async def app_get_tags(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    await stream.send_message(api_pb2.AppGetTagsResponse(tags=cloud.apps[request.app_id].tags))


@rpc
async def app_fetch_logs(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    items = []
    for ident in cloud.apps[request.app_id].functions.values():
        if ident in cloud.containers:
            text = cloud.containers[ident].log.read_text(encoding="utf-8", errors="replace")
            items += [
                api_pb2.TaskLogs(data=f"{line}\n", timestamp=time.time(), file_descriptor=STDERR)
                for line in text.splitlines()
            ]
    batch = api_pb2.TaskLogsBatch(task_id="ta-1", items=items[-request.limit :])
    await stream.send_message(api_pb2.AppFetchLogsResponse(batches=[batch]))


@rpc
async def image_get_or_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    """Law: an image is there by its digest, or it is no image."""
    ident = "im-" + hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()
    commands = list(request.image.dockerfile_commands)
    found = [match for line in commands if (match := PINNED.match(line))]
    parents = [base.image_id for base in request.image.base_images]
    if found:
        name = f"{found[0]['image']}@{found[0]['digest']}"
        if name not in cloud.images:
            raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no image {name}")
    elif parents and parents[0] in cloud._images:
        name = cloud._images[parents[0]]
    else:
        raise cloud.refuse(f"an image without a digest: {commands}")
    cloud._images[ident] = name
    result = api_pb2.GenericResult(status=OK)
    metadata = api_pb2.ImageMetadata(image_builder_version=request.builder_version)
    answer = api_pb2.ImageGetOrCreateResponse(image_id=ident, result=result, metadata=metadata)
    await stream.send_message(answer)


@rpc
async def mount_get_or_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    if request.files:
        raise cloud.refuse("files of this machine in a mount")
    handle = api_pb2.MountHandleMetadata(content_checksum_sha256_hex="00")
    answer = api_pb2.MountGetOrCreateResponse(mount_id=cloud.ident("mo"), handle_metadata=handle)
    await stream.send_message(answer)


@rpc
async def secret_get_or_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    """Laws: what a deployment sends of a secret is its name; who makes one says that it is new."""
    key = (request.environment_name, request.deployment_name)
    if key[0] not in cloud.environments:
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, "no such environment")
    held = cloud.secrets.get(key)
    if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
        if held is not None:
            raise grpclib.GRPCError(grpclib.Status.ALREADY_EXISTS, f"secret {key[1]} is there")
        held = cloud.secrets[key] = dict(request.env_dict)
    elif request.env_dict:
        raise cloud.refuse("values of a secret in a deployment")
    if held is None:
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, f"no secret {key[1]}")
    missing = set(request.required_keys) - set(held)
    if missing:
        raise grpclib.GRPCError(grpclib.Status.INVALID_ARGUMENT, f"{key[1]} lacks {missing}")
    ident = cloud.ident("st")
    cloud._named[ident] = key
    metadata = api_pb2.SecretMetadata(name=key[1])
    await stream.send_message(api_pb2.SecretGetOrCreateResponse(secret_id=ident, metadata=metadata))


@rpc
async def secret_update(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    held = cloud.secrets[cloud._named[request.secret_id]]
    held.update({update.key: update.value for update in request.updates})
    await stream.send_message(Empty())


def _handle(cloud: ModalCloud, ident: str, name: str, kind: int) -> Message:
    return api_pb2.FunctionHandleMetadata(
        function_name=name,
        function_type=kind,  # type: ignore[arg-type]
        web_url=cloud.web_url(ident),
    )


def _data(function: api_pb2.Function) -> Message:
    ranked = api_pb2.FunctionData.RankedFunction(rank=0, function=function)
    return api_pb2.FunctionData(function_name=function.function_name, ranked_functions=[ranked])


@rpc
async def function_precreate(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    ident = request.existing_function_id or cloud.ident("fu")
    handle = _handle(cloud, ident, request.function_name, request.function_type)
    answer = api_pb2.FunctionPrecreateResponse(function_id=ident, handle_metadata=handle)
    await stream.send_message(answer)


@rpc
async def function_create(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    """Law: what would be retried, or is not sent as it is, is not taken."""
    sent = request.function
    if sent.retry_policy.retries:
        raise cloud.refuse(f"{sent.function_name}: {sent.retry_policy.retries} retries")
    if not sent.function_serialized:
        raise cloud.refuse(f"{sent.function_name}: not serialized")
    if sent.image_id not in cloud._images:
        raise cloud.refuse(f"{sent.function_name}: no such image")
    unknown = set(sent.secret_ids) - set(cloud._named)
    if unknown:
        raise cloud.refuse(f"{sent.function_name}: no such secrets {unknown}")
    ident = request.existing_function_id or cloud.ident("fu")
    image = cloud._images[sent.image_id]
    cloud.functions[ident] = Function(sent, image, tuple(sent.secret_ids))
    handle = _handle(cloud, ident, sent.function_name, sent.function_type)
    answer = api_pb2.FunctionCreateResponse(
        function_id=ident, function=sent, function_data=_data(sent), handle_metadata=handle
    )
    await stream.send_message(answer)


@rpc
async def function_get(cloud: ModalCloud, stream: Stream, request: Request) -> None:
    app = cloud.app(request.app_name, request.environment_name)
    ident = None if app is None else app.functions.get(request.object_tag)
    if ident is None:
        sentence = f"no function {request.app_name}/{request.object_tag}"
        raise grpclib.GRPCError(grpclib.Status.NOT_FOUND, sentence)
    sent = cloud.functions[ident].message
    handle = _handle(cloud, ident, sent.function_name, sent.function_type)
    answer = api_pb2.FunctionGetResponse(
        function_id=ident, function=_data(sent), handle_metadata=handle
    )
    await stream.send_message(answer)


def _method(cloud: ModalCloud, name: str) -> Callable[[Any, Stream], Awaitable[None]]:
    async def answer(_self: object, stream: Stream) -> None:
        cloud.calls.append(name)
        request = await stream.recv_message()
        ident = str(stream.metadata.get("x-modal-token-id", ""))
        if cloud.tokens.get(ident) != stream.metadata.get("x-modal-token-secret"):
            raise grpclib.GRPCError(grpclib.Status.UNAUTHENTICATED, "stand-in: who are you")
        failing = cloud.failing.get(name)
        if isinstance(failing, grpclib.Status):
            raise grpclib.GRPCError(failing, f"stand-in: {name} is set to fail")
        if failing is not None:
            await asyncio.sleep(failing)
        handler = HANDLERS.get(name)
        if handler is None:
            cloud.faults.append(f"nobody answers {name}")
            raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, f"stand-in: {name}")
        await handler(cloud, stream, request)

    return answer


@contextlib.asynccontextmanager
async def modal_cloud(folder: Path) -> AsyncIterator[ModalCloud]:
    """Serve a cloud on loopback until the block ends; all of its containers end with it."""
    cloud = ModalCloud(folder)
    methods = {name: _method(cloud, name) for name in api_grpc.ModalClientBase.__abstractmethods__}
    plane: Any = type("Plane", (api_grpc.ModalClientBase,), methods)()
    server = grpclib.server.Server([plane])
    await server.start("127.0.0.1", 0)
    sockets = server._server.sockets  # type: ignore[union-attr]
    cloud.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield cloud
    finally:
        await cloud.close()
        server.close()
        await server.wait_closed()

"""The process of one run: inputs in, provider called, outputs delivered, result told."""

import base64
import importlib.util
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from theory_core import (
    LIMITS,
    TheoryError,
    WorldPath,
    encode_frame,
    error_envelope,
    success_envelope,
)
from theory_runtime import guard, inputs, machine, outputs, receipt, vault
from theory_runtime.channel import Channel
from theory_runtime.config import Config
from theory_runtime.door import FolderDoor, HttpDoor, open_door
from theory_runtime.fault import fault, from_provider, reason_of
from theory_runtime.order import Order
from theory_runtime.redaction import holds, mask, redact, tells
from theory_runtime.result import ProcessorResult, settle

FRAME_KINDS: Final = frozenset({"Token", "Frame", "Log", "Event"})
"""What a provider may send."""

_THOUSAND: Final = 1000
_FRAME_ROOM: Final = 1024
"""What a frame needs around its envelope."""
_MARK_ROOM: Final = 64
"""What the mark of a message that was cut may take."""
_SOME_PLAN: Final = "/world/any/plan"


@dataclass(frozen=True, slots=True)
class Job:
    """An order with the places of this machine that belong to it."""

    order: Order
    inputs_hash: str
    work_dir: Path
    secrets_dir: Path | None
    processor_info: str
    """What a receipt calls a processor that says nothing of itself."""
    verbose: bool
    """Whether tracebacks go to stderr: for those who write providers, on their own terminal."""
    image_id: str | None = None
    """The image that this runs in, where nobody pinned one."""

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Job":
        """The job of a supervisor's message."""
        secrets_dir = message["secrets_dir"]
        return cls(
            Order(message["execution_id"], message["payload"]),
            message["inputs_hash"],
            Path(message["work_dir"]),
            None if secrets_dir is None else Path(secrets_dir),
            message["processor_info"],
            message["verbose"],
            message["image_id"],
        )

    def message(self) -> dict[str, Any]:
        """The message that `of` reads."""
        return {
            "execution_id": self.order.execution_id,
            "payload": dict(self.order.payload),
            "inputs_hash": self.inputs_hash,
            "work_dir": str(self.work_dir),
            "secrets_dir": None if self.secrets_dir is None else str(self.secrets_dir),
            "processor_info": self.processor_info,
            "verbose": self.verbose,
            "image_id": self.image_id,
        }


def main(main_file: Path, channel_fd: int, lifeline_fd: int) -> NoReturn:
    """Do the one job that comes over the channel, and end without waiting for anybody's threads."""
    parent = os.getppid()
    guard.stand_guard(lifeline_fd)
    if os.getppid() != parent:
        os._exit(1)
    os.set_inheritable(channel_fd, False)  # noqa: FBT003 - positional only
    channel = Channel(socket.socket(fileno=channel_fd))
    channel.send({"guarded": True})
    job = Job.of(channel.receive())
    _settle(job.work_dir)
    _limit(job.order)
    channel.send({"result": _Work(main_file, job, channel).envelope()})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _settle(work_dir: Path) -> None:
    """Be at home in the run's own folder."""
    os.chdir(work_dir)
    os.environ["HOME"] = os.environ["TMPDIR"] = str(work_dir)


def _limit(order: Order) -> None:
    """Bounds that the kernel holds: no core files, no endless file, the declared memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, LIMITS["output_bytes"])
    memory = machine.memory_bytes(order.fingerprint)
    if memory is not None:
        _lower(resource.RLIMIT_DATA, memory)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(kind, (value, value))


class _Work:
    """One run from its inputs to its receipt."""

    def __init__(self, main_file: Path, job: Job, channel: Channel) -> None:
        self._provider = main_file.with_name("provider.py")
        self._job = job
        self._order = job.order
        self._channel = channel
        self._hidden: tuple[str, ...] = ()
        self._door: HttpDoor | FolderDoor = open_door(job.order.payload["upload"])
        self._began = time.monotonic()

    def envelope(self) -> str:
        """The run's envelope as canonical text; its receipt was delivered before."""
        order = self._order
        try:
            return self._run().decode()
        except TheoryError as error:
            self._receipt()
            reason = self._discreet(reason_of(error))
            return error_envelope(
                order.execution_id, error.code, env_fingerprint=order.fingerprint, reason=reason
            ).decode()
        finally:
            self._door.close()

    def _run(self) -> bytes:
        params = inputs.localize(self._order.params, self._door, self._job.work_dir / "inputs")
        result = self._provide(params)
        if tells(result.processor_info, self._hidden):
            raise fault("ERR_INTERNAL", "secret_in_processor_info")
        delivered = outputs.deliver(
            result.outputs,
            self._door,
            write_prefix=self._order.write_prefix,
            work_dir=self._job.work_dir,
            max_bytes=self._order.max_bytes,
            hidden=self._hidden,
        )
        envelope = self._success(delivered)
        self._receipt(result, delivered)
        return envelope

    def _discreet(self, reason: str | None) -> str | None:
        """Law: no envelope holds a secret, whatever a provider raises (spec: envelope)."""
        return "redacted" if tells(reason, self._hidden) else reason

    def _success(self, delivered: outputs.Delivered) -> bytes:
        try:
            envelope = success_envelope(
                self._order.execution_id,
                [dict(entry) for entry in delivered.entries],
                write_prefix=self._order.write_prefix,
                env_fingerprint=self._order.fingerprint,
                image_digest=self._order.expected_oci,
            )
        except TheoryError as error:
            # What the provider said of its outputs, a media type for one, is not what it may say.
            raise fault("ERR_INTERNAL", reason_of(error)) from error
        if len(envelope) > LIMITS["frame_bytes"] - _FRAME_ROOM:
            raise fault("ERR_TOO_LARGE", "envelope")
        return envelope

    def _provide(self, params: dict[str, Any]) -> ProcessorResult:
        """Call the provider: the one place where foreign code runs, and any exception may come."""
        try:
            secrets = vault.Vault(self._job.secrets_dir, self._order.secrets)
            self._hidden = secrets.values()
            vault.grant(secrets)
            value = _load(self._provider)(self._config())(params)
        except TheoryError as error:
            self._complain(error)
            raise from_provider(error) from error
        except MemoryError as error:
            raise fault("ERR_OOM") from error
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self._complain(error)
            raise fault("ERR_INTERNAL", type(error).__name__) from error
        return settle(value)

    def _config(self) -> Config:
        order = self._order
        return Config(order.ref, order.mode, order.execution_id, self._job.work_dir, self._tell)

    def _tell(self, kind: str, content: Mapping[str, Any]) -> None:
        """Send a frame of the provider, once its shape is right."""
        if kind not in FRAME_KINDS:
            raise fault("ERR_INTERNAL", "frame_kind")
        said = _said(kind, content, self._hidden)
        try:
            encode_frame(kind, said, seq=1)
        except TheoryError as error:
            raise fault("ERR_INTERNAL", f"frame_{kind}") from error
        if kind == "Frame" and not _names_stream(said["stream"]):
            raise fault("ERR_INTERNAL", "frame_stream")
        self._channel.send({"frame": {"kind": kind, "content": said}})

    def _receipt(
        self, result: ProcessorResult | None = None, delivered: outputs.Delivered | None = None
    ) -> None:
        """Deliver the receipt; without a result it is that of a failure."""
        stated = "" if result is None else result.processor_info
        body = receipt.build(
            self._order,
            inputs_hash=self._job.inputs_hash,
            written_by=receipt.BY_PROCESSOR,
            duration_ms=int((time.monotonic() - self._began) * _THOUSAND),
            processor_info=stated or self._job.processor_info,
            usage=None if result is None else result.usage,
            outputs_index=None if delivered is None else delivered.index_cid,
            image_id=self._job.image_id,
        )
        try:
            outputs.send_bytes(self._door, outputs.RECEIPT, body, outputs.JSON)
        except TheoryError:
            # A failure is told without its receipt too: whoever reads the envelope then writes one.
            if delivered is not None:
                raise

    def _complain(self, error: BaseException) -> None:
        """Say on stderr what happened and where, without the text of the exception."""
        if self._job.verbose:
            traceback.print_exception(error)
            return
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename) == self._provider]
        place = f" at line {own[-1].lineno} of provider.py" if own else ""
        code = f" {error.code}" if isinstance(error, TheoryError) else ""
        print(f"provider raised {type(error).__name__}{code}{place}", file=sys.stderr)  # noqa: T201


def _load(provider: Path) -> Callable[[Config], Callable[[dict[str, Any]], object]]:
    """`make_runner` of the provider's file."""
    spec = importlib.util.spec_from_file_location("provider", provider)
    if spec is None or spec.loader is None:
        raise fault("ERR_INTERNAL", "provider_missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules["provider"] = module
    spec.loader.exec_module(module)
    make_runner: Callable[[Config], Callable[[dict[str, Any]], object]] = module.make_runner
    return make_runner


def _said(kind: str, content: Mapping[str, Any], hidden: tuple[str, ...]) -> dict[str, Any]:
    """The content as it travels: bytes as base64, thousandths of progress as a share.

    Law: no frame holds a secret, whoever wrote it (spec: logs). Raises `ERR_INTERNAL` for data with
    one; bytes cannot be masked.
    """
    said: dict[str, Any] = mask(dict(content), hidden)
    if kind == "Frame" and isinstance(said.get("data"), bytes):
        if holds(said["data"], hidden):
            raise fault("ERR_INTERNAL", "secret_in_frame")
        said["data"] = base64.b64encode(said["data"]).decode("ascii")
    progress = said.get("progress")
    if kind == "Event" and type(progress) is int:
        said["progress"] = progress / _THOUSAND
    if kind == "Log" and isinstance(said.get("message"), str):
        said["message"] = _cut(redact(said["message"], hidden))
    return said


def _names_stream(text: str) -> bool:
    """Whether a text is the canonical address of a stream in some plan (spec: run.v1, conduct)."""
    try:
        path = WorldPath(text, root=_SOME_PLAN)
    except TheoryError:
        return False
    is_one = path.facet == "streams" and bool(path.segments) and not path.is_prefix
    return is_one and path.relative == text


def _cut(message: str) -> str:
    """A message of at most the length of a line; one that is longer says what it lost."""
    # Lone surrogates are refused by the frame; here they must only not be in the way.
    data = message.encode("utf-8", "surrogatepass")
    if len(data) <= LIMITS["line_bytes"]:
        return message
    kept = data[: LIMITS["line_bytes"] - _MARK_ROOM].decode("utf-8", "ignore")
    return f"{kept} [cut: {len(data)} bytes]"

"""The doors of running executions: state in memory, bytes in whatever artifact store there is."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.intake import InputArtifact, Received
from theory_core import LIMITS, TheoryError, WorldPath

log = structlog.get_logger(__name__)

INDEX: Final = "outputs.json"
RECEIPT: Final = "receipt.json"

_RECORDS: Final = frozenset({INDEX, RECEIPT})
_MIME: Final = re.compile(r"[!-~][ -~]{0,254}")
_KEPT: Final = 256
"""Closed intakes that still answer `received`."""


@dataclass(slots=True)
class _Intake:
    """What one execution declared and delivered."""

    prefix: WorldPath
    inputs: frozenset[str]
    max_bytes: int
    objects: dict[str, Received] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    """Every proper ancestor of a received path."""
    total_bytes: int = 0
    open: bool = True

    def relpath(self, given: str) -> str:
        """The canonical path below the prefix; `ERR_OUTPUT_PREFIX` for one that is not allowed."""
        try:
            path = self.prefix.join(given)
        except TheoryError as error:
            message = "an output's path does not follow the rules of segments"
            raise TheoryError("ERR_OUTPUT_PREFIX", message, {"reason": error.code}) from error
        inside = path.segments[len(self.prefix.segments) :]
        output = len(inside) > 1 and inside[0] == "outputs" and not path.is_prefix
        record = len(inside) == 1 and inside[0] in _RECORDS and not path.is_prefix
        if not self.prefix.contains(path) or not (output or record):
            message = "an execution delivers outputs/…, outputs.json and receipt.json, nothing else"
            raise TheoryError("ERR_OUTPUT_PREFIX", message, {"reason": "place"})
        return "/".join(inside)

    def admit(self, relpath: str) -> None:
        """That this path may still arrive, whatever its bytes."""
        if not self.open:
            raise _shut()
        if relpath in self.objects:
            return
        if INDEX in self.objects and relpath != RECEIPT:
            message = "nothing but the receipt follows the index"
            raise TheoryError("ERR_UPLOAD", message, {"reason": "index"})
        if relpath in self.folders or any(above in self.objects for above in _ancestors(relpath)):
            message = "duplicate output after canonicalization: one path lies above another"
            raise TheoryError("ERR_OUTPUT_DUPLICATE", message, {"reason": "ancestor"})
        most = LIMITS["outputs_per_execution"]
        outputs = len(self.objects) - len(self.objects.keys() & _RECORDS)
        if relpath not in _RECORDS and outputs >= most:
            message = f"more than the {most} outputs that an execution may have"
            raise TheoryError("ERR_TOO_LARGE", message, {"max_outputs": most})

    def register(self, arrived: Received) -> Received:
        """Take an object that is stored; the same bytes again answer the same."""
        self.admit(arrived.relpath)
        known = self.objects.get(arrived.relpath)
        if known is not None:
            if known.cid != arrived.cid:
                message = "duplicate output after canonicalization: the same path, other bytes"
                raise TheoryError("ERR_OUTPUT_DUPLICATE", message, {"reason": "bytes"})
            return known
        if self.total_bytes + arrived.size_bytes > self.max_bytes:
            message = f"more than the {self.max_bytes} bytes that this execution may deliver"
            raise TheoryError("ERR_TOO_LARGE", message, {"max_bytes": self.max_bytes})
        self.total_bytes += arrived.size_bytes
        self.objects[arrived.relpath] = arrived
        self.folders.update(_ancestors(arrived.relpath))
        return arrived

    def listed(self) -> tuple[Received, ...]:
        """What arrived, sorted by the bytes of its relpath."""
        return tuple(sorted(self.objects.values(), key=lambda one: one.relpath.encode()))


class MemoryIntakes:
    """Implements `theory_api.ports.intake.Intakes` over an artifact store.

    `max_bytes` bounds the sum of an execution's objects, its index and receipt included.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._open: dict[str, _Intake] = {}
        self._closed: OrderedDict[str, _Intake] = OrderedDict()

    async def open(
        self,
        execution_id: str,
        *,
        plan: str,
        write_prefix: str,
        inputs: Sequence[InputArtifact],
        max_bytes: int,
    ) -> None:
        """Begin; what an earlier opening still receives is refused from here on."""
        prefix = WorldPath(write_prefix, root=plan)
        if not prefix.is_prefix:
            message = "a write prefix ends in a slash"
            raise TheoryError("ERR_SELECTOR_KIND_MISMATCH", message)
        earlier = self._open.pop(execution_id, None)
        if earlier is not None:
            earlier.open = False
        self._closed.pop(execution_id, None)
        declared = frozenset(artifact.cid for artifact in inputs)
        self._open[execution_id] = _Intake(prefix, declared, max_bytes)

    async def put(
        self, execution_id: str, relpath: str, chunks: AsyncIterator[bytes], *, mime: str
    ) -> Received:
        """Store one object under the write prefix, put-if-absent."""
        try:
            received = await self._put(execution_id, relpath, chunks, mime)
        except TheoryError as error:
            log.warning("storage.error", execution_id=execution_id, code=error.code)
            raise
        facts = {"cid": received.cid, "size_bytes": received.size_bytes}
        log.info("storage.write", execution_id=execution_id, **facts)
        return received

    async def _put(
        self, execution_id: str, relpath: str, chunks: AsyncIterator[bytes], mime: str
    ) -> Received:
        intake = self._open.get(execution_id)
        if intake is None:
            raise _shut()
        inside = intake.relpath(relpath)
        if not _MIME.fullmatch(mime):
            message = "a media type is printable ASCII, at most 255 bytes"
            raise TheoryError("ERR_UPLOAD", message, {"reason": "mime"})
        intake.admit(inside)
        known = intake.objects.get(inside)
        room = intake.max_bytes - intake.total_bytes + (known.size_bytes if known else 0)
        blob = await self._artifacts.put_stream(chunks, max_bytes=room)
        return intake.register(Received(inside, blob.cid, blob.size_bytes, mime))

    def read_input(self, execution_id: str, cid: str) -> AsyncIterator[bytes]:
        """Stream a declared input, verified; `ERR_NOT_FOUND` at once for anything else."""
        intake = self._open.get(execution_id)
        if intake is None or cid not in intake.inputs:
            message = "this execution declared no such input"
            raise TheoryError("ERR_NOT_FOUND", message, {"cid": cid[:80]})
        return self._artifacts.stream(cid)

    def received(self, execution_id: str) -> tuple[Received, ...]:
        """All objects so far, sorted by relpath; none for an execution that never opened."""
        intake = self._open.get(execution_id) or self._closed.get(execution_id)
        return () if intake is None else intake.listed()

    async def close(self, execution_id: str) -> tuple[Received, ...]:
        """End the intake and return what it holds; idempotent."""
        intake = self._open.pop(execution_id, None)
        if intake is not None:
            intake.open = False
            self._closed[execution_id] = intake
            while len(self._closed) > _KEPT:
                self._closed.popitem(last=False)
        return self.received(execution_id)


def _ancestors(relpath: str) -> list[str]:
    """Proper ancestors, e.g. `outputs/a` and `outputs` of `outputs/a/b`."""
    parts = relpath.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _shut() -> TheoryError:
    message = "this execution takes no uploads: it has not opened, or has ended"
    return TheoryError("ERR_UPLOAD", message, {"reason": "closed"})

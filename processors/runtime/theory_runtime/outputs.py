"""Outputs of a run: judged all at once, then sent one by one, digested as they are sent."""

import io
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from theory_core import LIMITS, Hasher, TheoryError, WorldPath, canonicalize, resolve_outputs
from theory_runtime.fault import fault
from theory_runtime.redaction import holds, tells
from theory_runtime.result import OutputItem

FOLDER: Final = "outputs/"
INDEX: Final = "outputs.json"
RECEIPT: Final = "receipt.json"
JSON: Final = "application/json"

SEARCHED_BYTES: Final = 1 << 20
"""An output that is larger is not searched for secrets."""

_ANY_PLAN: Final = "/world/any/any"
_PIECE_BYTES: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Door(Protocol):
    """Where outputs go."""

    def put(self, relpath: str, body: "Reader", mime: str) -> str:
        """Deliver all of `body`, put-if-absent; returns the cid over there.

        Raises `TheoryError`: `ERR_UPLOAD` and what the other side answers.
        """


class Reader:
    """Reads a body and knows the digest of what it handed out, so that the two cannot differ."""

    def __init__(self, body: BinaryIO, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._body = body
        self._left = size_bytes
        self._hasher = Hasher()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes of what was announced; a file that shrank is `ERR_STORAGE`."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._body.read(wanted)
        if len(data) < wanted:
            raise fault("ERR_STORAGE", "output_changed")
        self._left -= len(data)
        self._hasher.update(data)
        return data

    def rewind(self) -> None:
        """Begin again, with a new digest."""
        self._body.seek(0)
        self._left = self.size_bytes
        self._hasher = Hasher()

    def digest(self) -> str:
        """The digest of all bytes; what nobody asked for is read first."""
        while self._left:
            self.read(_PIECE_BYTES)
        return self._hasher.digest()


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a run delivered."""

    entries: tuple[Mapping[str, Any], ...]
    """`{path, cid, size_bytes, mime}`, sorted by path."""
    index_cid: str


def deliver(
    items: Sequence[OutputItem],
    door: Door,
    *,
    write_prefix: str,
    work_dir: Path,
    max_bytes: int,
    hidden: Sequence[str] = (),
) -> Delivered:
    """Send all outputs and, last, their index.

    Nothing is sent unless every path is good, and none that tells what is `hidden`. Raises
    `TheoryError`: `ERR_OUTPUT_DUPLICATE`, `ERR_OUTPUT_PREFIX`, `ERR_TOO_LARGE`, `ERR_UPLOAD`,
    `ERR_STORAGE`, `ERR_INTERNAL`.
    """
    paths = _paths(items, write_prefix)
    if any(tells(path, hidden) for path in paths):
        raise fault("ERR_INTERNAL", "secret_in_path")
    if any(tells(item.mime, hidden) for item in items):
        raise fault("ERR_INTERNAL", "secret_in_mime")
    root = work_dir.resolve()
    entries, room = [], max_bytes
    for path, item in sorted(zip(paths, items, strict=True), key=lambda pair: pair[0]):
        with _open(item, root) as body:
            size = _size(body)
            room -= size
            if room < 0:
                raise fault("ERR_TOO_LARGE", "outputs", limit=max_bytes)
            if hidden and size <= SEARCHED_BYTES:
                if holds(body.read(size), hidden):
                    raise fault("ERR_INTERNAL", "secret_in_output")
                body.seek(0)
            cid = send(door, path.removeprefix(write_prefix), body, size, item.mime)
        entries.append({"path": path, "cid": cid, "size_bytes": size, "mime": item.mime})
    index = canonicalize({"outputs": entries})
    return Delivered(tuple(entries), send_bytes(door, INDEX, index, JSON))


def send_bytes(door: Door, relpath: str, data: bytes, mime: str) -> str:
    """Send bytes that are in memory; returns their cid."""
    return send(door, relpath, io.BytesIO(data), len(data), mime)


def send(door: Door, relpath: str, body: BinaryIO, size: int, mime: str) -> str:
    """Law: the cid of an output is that of the bytes that were sent, and the other side agrees."""
    reader = Reader(body, size)
    theirs = door.put(relpath, reader, mime)
    if reader.digest() != theirs:
        raise fault("ERR_UPLOAD", "digest")
    return theirs


def _paths(items: Sequence[OutputItem], write_prefix: str) -> list[str]:
    if len(items) > LIMITS["outputs_per_execution"]:
        raise fault("ERR_TOO_LARGE", "outputs", limit=LIMITS["outputs_per_execution"])
    prefix = WorldPath(write_prefix, _ANY_PLAN)
    try:
        paths = resolve_outputs(prefix, [item.relpath for item in items])
    except TheoryError as error:
        if error.code == "ERR_OUTPUT_DUPLICATE":
            raise
        raise fault("ERR_OUTPUT_PREFIX", error.code) from error
    texts = [path.relative for path in paths]
    if not all(text.startswith(f"{write_prefix}{FOLDER}") for text in texts):
        raise fault("ERR_OUTPUT_PREFIX")
    return texts


def _open(item: OutputItem, root: Path) -> BinaryIO:
    """The body of an output; a file must be a plain one inside the work folder, with one name."""
    if isinstance(item.body, bytes):
        return io.BytesIO(item.body)
    *folders, name = _inside(item.body, root)
    try:
        descriptor = _descend(root, folders)
        try:
            file = os.open(name, _READ | os.O_NONBLOCK, dir_fd=descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise fault("ERR_OUTPUT_PREFIX", "file_not_plain") from error
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(file)
        raise fault("ERR_OUTPUT_PREFIX", "file_not_plain")
    return os.fdopen(file, "rb")


def _inside(file: Path, root: Path) -> tuple[str, ...]:
    """The file's place below the work folder, by its name alone."""
    try:
        parts = (root / file).relative_to(root).parts
    except ValueError as error:
        raise fault("ERR_OUTPUT_PREFIX", "file_outside_work_dir") from error
    if not parts or ".." in parts:
        raise fault("ERR_OUTPUT_PREFIX", "file_outside_work_dir")
    return parts


def _descend(root: Path, folders: Sequence[str]) -> int:
    """Law: no link is followed on the way to an output, whenever it may have appeared."""
    descriptor = os.open(root, _READ | os.O_DIRECTORY)
    for folder in folders:
        try:
            inner = os.open(folder, _READ | os.O_DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _size(body: BinaryIO) -> int:
    if isinstance(body, io.BytesIO):
        return body.getbuffer().nbytes
    return os.fstat(body.fileno()).st_size

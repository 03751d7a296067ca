"""Artifacts among the parameters: their place in the inputs' hash, and their bytes on this disk."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from theory_core import Hasher, inputs_hash
from theory_runtime.fault import fault

ARTIFACT: Final = frozenset({"path", "cid", "size_bytes", "mime", "url"})
"""Members of a resolved artifact (spec: inputs)."""


class Source(Protocol):
    """Where the bytes of declared inputs are fetched."""

    def fetch(self, url: str, take: Callable[[bytes], object]) -> None:
        """Hand all bytes of `url` to `take`, in pieces; raises `TheoryError`."""


def is_artifact(value: object) -> bool:
    """Whether a parameter is a resolved artifact."""
    return isinstance(value, Mapping) and value.keys() == ARTIFACT


def replace(value: Any, change: Callable[[Mapping[str, Any]], Any]) -> Any:  # noqa: ANN401
    """The same parameters with every artifact changed."""
    if is_artifact(value):
        return change(value)
    if isinstance(value, Mapping):
        return {name: replace(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [replace(item, change) for item in value]
    return value


def hash_of(inputs: Mapping[str, Any]) -> str:
    """The inputs' hash: an artifact counts as its cid alone, never as where it was found."""
    return inputs_hash(replace(inputs, lambda artifact: {"cid": artifact["cid"]}))


def localize(params: Mapping[str, Any], source: Source, folder: Path) -> dict[str, Any]:
    """The parameters with `local_path` in every artifact: a file whose bytes match its cid.

    Raises `TheoryError`: `ERR_ARTIFACT_DIGEST`, `ERR_STORAGE`, `ERR_INPUTS`, and what the source
    raises.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    there: dict[str, str] = {}

    def local(artifact: Mapping[str, Any]) -> dict[str, Any]:
        cid, size = artifact["cid"], artifact["size_bytes"]
        if (
            not isinstance(cid, str)
            or type(size) is not int
            or not isinstance(artifact["url"], str)
        ):
            raise fault("ERR_INPUTS", "artifact_invalid")
        if cid not in there:
            target = folder / f"{len(there):06d}"
            _download(artifact, source, target)
            there[cid] = str(target)
        return {**artifact, "local_path": there[cid]}

    localized = replace(params, local)
    return dict(localized)


def _download(artifact: Mapping[str, Any], source: Source, target: Path) -> None:
    """Law: no byte of an input reaches a provider before all of them matched their digest."""
    hasher, room = Hasher(), artifact["size_bytes"]
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with os.fdopen(descriptor, "wb") as file:

            def take(piece: bytes) -> None:
                nonlocal room
                room -= len(piece)
                if room < 0:
                    raise fault("ERR_ARTIFACT_DIGEST", "size")
                hasher.update(piece)
                file.write(piece)

            source.fetch(artifact["url"], take)
    except OSError as error:
        raise fault("ERR_STORAGE", "input") from error
    if room != 0 or hasher.digest() != artifact["cid"]:
        raise fault("ERR_ARTIFACT_DIGEST")

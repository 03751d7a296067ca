"""What is deployed of a processor elsewhere: the names, and the facts that a deployment states."""

from __future__ import annotations

import re
from typing import Final

from theory_api.domain.processor import ProcessorSpec, slug
from theory_api.domain.values import Mode, Value
from theory_core import TheoryError, digest

NAME_LENGTH: Final = 63
"""Longest name of an app that every part of a cloud takes."""

_TAIL: Final = 8
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_POWERS: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}
_MEMORY: Final = re.compile(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti)?")
_MIB: Final = 20


class Deployment(Value, frozen=True):
    """One processor as it is deployed: two functions, `run` and `mock`, of one image."""

    app: str
    ref: str
    image: str
    """`repository@sha256:…`."""
    image_digest: str
    cpu_milli: int
    memory_mib: int
    gpu: int
    timeout_s: int
    concurrency: int
    secrets_required: tuple[str, ...]
    secrets_optional: tuple[str, ...]


def owner_of(user: str, branch: str) -> str:
    """`<user>-<branch>` before the names of a person's apps, reduced to letters and digits."""
    parts = (_plain(user) or "somebody", _plain(branch) or "detached")
    return "-".join(parts)


def app_name(ref: str, owner: str = "") -> str:
    """`ns-name-vN`, or `<owner>-ns-name-vN` for a person (spec: adapters).

    One that would be too long is cut, and ends in the first characters of its digest.
    """
    whole = f"{owner}-{slug(ref)}" if owner else slug(ref)
    if len(whole) <= NAME_LENGTH:
        return whole
    tail = digest(f"{owner}/{slug(ref)}".encode()).removeprefix("b3:")[:_TAIL]
    return f"{whole[: NAME_LENGTH - _TAIL - 1].rstrip('-')}-{tail}"


def function_of(mode: Mode | str) -> str:
    """The function that a mode runs in: the one without any secret for `mock`."""
    return "run" if mode == "real" else "mock"


def deployment(spec: ProcessorSpec, *, app: str, image_digest: str | None) -> Deployment:
    """What is deployed for a processor.

    Raises `TheoryError`: `ERR_IMAGE_UNPINNED` without a digest; `ERR_INPUTS` for an image that no
    registry can have, or a size that is none.
    """
    if image_digest is None or _DIGEST.fullmatch(image_digest) is None:
        message = f"image not pinned: {spec.ref} has no digest for amd64 in this environment"
        raise TheoryError("ERR_IMAGE_UNPINNED", message, {"ref": spec.ref})
    runtime = spec.runtime
    return Deployment(
        app=app,
        ref=spec.ref,
        image=f"{spec.image}@{image_digest}",
        image_digest=image_digest,
        cpu_milli=_milli(runtime.cpu),
        memory_mib=_mib(runtime.memory),
        gpu=runtime.gpu,
        timeout_s=runtime.timeout_s,
        concurrency=runtime.concurrency,
        secrets_required=spec.secrets_required,
        secrets_optional=spec.secrets_optional,
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _milli(text: str) -> int:
    whole, _, tenths = text.partition(".")
    if not (whole.isdigit() and (tenths or "0").isdigit() and len(tenths) <= 1):
        raise _bad("cpu")
    return int(whole) * 1000 + int(tenths or "0") * 100


def _mib(text: str) -> int:
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise _bad("memory")
    size = int(match[1]) << _POWERS.get(match[2] or "", 0)
    return max(1, -(-size >> _MIB))


def _bad(member: str) -> TheoryError:
    message = f"invalid inputs payload: runtime.{member} is no size"
    return TheoryError("ERR_INPUTS", message, {"reason": member})

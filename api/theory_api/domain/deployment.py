"""What is deployed of a processor elsewhere: the names, and the facts that a deployment states."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Final

from theory_api.domain.processor import ProcessorSpec, slug
from theory_api.domain.values import Mode, Value
from theory_core import TheoryError, digest

NAME_LENGTH: Final = 63
"""Longest name of an app that every part of a cloud takes."""

NOBODY: Final = "."
"""Mark of what CI deploys: no person is called so."""

_TAIL: Final = 8
_MARK: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}")
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
    owner: str = NOBODY
    """Whose it is, as `owner_mark` has it."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of all that the function of mode real is given."""
        return (*self.secrets_required, *self.secrets_optional)


class Standing(Value, frozen=True):
    """An app that a deployment of ours left, by what it wrote on it."""

    app: str
    ref: str
    owner: str
    """As `owner_mark` has it."""


def stale(
    apps: Iterable[Standing], known: Container[str], *, owner: str
) -> tuple[tuple[Standing, str], ...]:
    """Apps of an owner that nothing here deploys any more, each with the reason; by name.

    Either the registry does not know the processor, or a newer version of it that it knows is
    deployed beside it. Law: what another owner deployed, or what is not called as its marks say, is
    nobody's to stop; nor is the only version that runs.
    """
    mark = owner_mark(owner)
    mine = [one for one in apps if one.owner == mark and one.app == app_name(one.ref, owner)]
    newest: dict[str, int] = {}
    for one in mine:
        name, version = _versioned(one.ref)
        if one.ref in known:
            newest[name] = max(newest.get(name, 0), version)
    found = []
    for one in sorted(mine, key=lambda each: each.app):
        name, version = _versioned(one.ref)
        if one.ref not in known:
            found.append((one, "not in the registry"))
        elif version < newest[name]:
            found.append((one, f"{name}@{newest[name]} is deployed"))
    return tuple(found)


def _versioned(ref: str) -> tuple[str, int]:
    name, _, version = ref.partition("@")
    return name, int(version)


def owner_of(user: str, branch: str) -> str:
    """`<user>-<branch>` before the names of a person's apps, reduced to letters and digits."""
    parts = (_plain(user) or "somebody", _plain(branch) or "detached")
    return "-".join(parts)


def owner_mark(owner: str) -> str:
    """An owner in 63 characters that every cloud takes; one that does not fit, by its digest.

    An app's name alone does not say whose it is: a branch may be called like a processor.
    """
    if _MARK.fullmatch(owner):
        return owner
    return digest(owner.encode()).removeprefix("b3:")[:NAME_LENGTH] if owner else NOBODY


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


def deployment(
    spec: ProcessorSpec, *, app: str, image_digest: str | None, owner: str = ""
) -> Deployment:
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
        owner=owner_mark(owner),
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

"""Resolve an inputs document at admission: references become artifacts, named by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from theory_api.domain.references import (
    TOLD,
    Reference,
    find,
    plain,
    substitute,
    travelling,
    verdict_told,
)
from theory_api.domain.state import PlanState
from theory_api.domain.values import InputBytes, Predicate
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.intake import InputArtifact
from theory_api.ports.truth import ArtifactRow
from theory_api.ports.world import World
from theory_api.scheduler.evaluation import evaluate
from theory_api.scheduler.listing import listing, shape
from theory_core import TheoryError, canonicalize, digest, inputs_hash, loads_strict

REMEMBERED: Final = 1024
"""Inputs documents that are kept in memory."""

_SMALL: Final = 16 * 1024
"""Bytes of an inputs document that may be kept."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an attempt will read."""

    document: bytes
    """Canonical `{"schema":"v1","params":…}`; artifacts as `{path, cid, size_bytes, mime}`, what is
    told of the world under its mark."""
    inputs_hash: str
    """Digest in which an artifact counts as its `{cid}` alone, and what is told in full."""
    artifacts: tuple[InputArtifact, ...]

    @property
    def plain(self) -> bytes:
        """The document as the processor's schema judges it: without the marks."""
        if not any(f'{{"{mark}":'.encode() in self.document for mark in TOLD):
            return self.document
        return canonicalize(plain(loads_strict(self.document)))

    @property
    def consumed(self) -> tuple[InputBytes, ...]:
        """As the ledger lists it."""
        return tuple(
            InputBytes(path=item.path, cid=item.cid, size_bytes=item.size_bytes)
            for item in self.artifacts
        )


class InputDocuments:
    """Inputs documents of an artifact store, those of small size remembered by their digest.

    Law: a document that was read or stored here was verified then, and its bytes cannot change.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._known: OrderedDict[str, bytes] = OrderedDict()

    async def get(self, cid: str) -> bytes:
        """The document; raises what the store raises."""
        known = self._known.get(cid)
        return known if known is not None else self._keep(cid, await self._artifacts.get(cid))

    async def put(self, document: bytes) -> str:
        """Its cid, once it is durable; raises what the store raises."""
        cid = digest(document)
        if cid not in self._known:
            cid = (await self._artifacts.put(document)).cid
            self._keep(cid, document)
        return cid

    def _keep(self, cid: str, document: bytes) -> bytes:
        if len(document) <= _SMALL:
            self._known[cid] = document
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return document


class MissingInputError(Exception):
    """An artifact that inputs name is not in the world yet."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


async def resolve(
    state: PlanState,
    transition: str,
    world: World,
    document: Callable[[str], Awaitable[bytes]],
    artifacts: ArtifactStore,
) -> Resolved:
    """Look every reference of a candidate up; `document` answers the inputs document of a cid.

    Law: what is told of the world is read after the seq that the admission's predicates are stamped
    with, one of which answers for it; what touches it between reading and admission refuses both.
    Raises `MissingInputError`, and `TheoryError` from the stores.
    """
    body = await document(state.transitions[transition].proposed.inputs)
    params: Any = loads_strict(body)["params"]
    found = [await _find(reference, state, world, artifacts) for reference in find(params)]
    read = {row.path: row for answer in found for row in answer.read}
    full = substitute(params, _in_turn([answer.full for answer in found]))
    by_cid = substitute(params, _in_turn([answer.by_cid for answer in found]))
    return Resolved(
        document=canonicalize({"schema": "v1", "params": full}),
        inputs_hash=inputs_hash({"schema": "v1", "params": by_cid}),
        artifacts=tuple(
            InputArtifact(row.path, row.cid, row.size_bytes, row.mime)
            for _, row in sorted(read.items())
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What one reference stands for."""

    full: Any
    """In the resolved document."""
    by_cid: Any
    """In what `inputs_hash` covers."""
    read: tuple[ArtifactRow, ...] = ()


def _in_turn(answers: Iterable[Any]) -> Callable[[Reference], Any]:
    """Answers in the order of their references; two places of a document can look the same."""
    left = iter(answers)
    return lambda _reference: next(left)


async def _find(
    reference: Reference, state: PlanState, world: World, artifacts: ArtifactStore
) -> _Found:
    if reference.kind == "world":
        listed = await listing(world, state.plan, reference.path)
        return _Found({"$world": listed}, listed)
    if reference.predicate is not None:
        judged = await _judge(reference.predicate, state, world, artifacts)
        return _Found({"$verdict": judged}, judged)
    rows = await _look_up(reference, state, world)
    if isinstance(rows, list):
        cids = [{"cid": row.cid} for row in rows]
        return _Found([shape(row) for row in rows], cids, tuple(rows))
    return _Found(shape(rows), {"cid": rows.cid}, (rows,))


async def _judge(
    predicate: Predicate, state: PlanState, world: World, artifacts: ArtifactStore
) -> dict[str, Any]:
    (answer,) = await evaluate((predicate,), state, world, artifacts)
    return verdict_told(predicate, answer.verdict, answer.reason)


async def _look_up(
    reference: Reference, state: PlanState, world: World
) -> ArtifactRow | list[ArtifactRow]:
    path = reference.path
    if reference.kind == "output":
        base = state.transitions[reference.transition].write_prefix
        if base is None:
            raise MissingInputError(path)
        path = base + path
    if not reference.many:
        row = await world.artifact(state.plan, path)
        if row is None:
            raise MissingInputError(path)
        return row
    rows: list[ArtifactRow] = []
    while True:
        page = await world.artifacts(state.plan, path, after=rows[-1].path if rows else "")
        if not page:
            break
        rows.extend(page)
    if not rows:
        raise MissingInputError(path)
    return rows


def with_urls(document: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs as they travel: every artifact also says where its bytes are fetched."""
    return {"schema": "v1", "params": travelling(document["params"], "/inputs/{}".format)}


def missing(error: MissingInputError, place: str) -> TheoryError:
    """The refusal of a candidate whose input will never come."""
    message = f"invalid inputs payload: {place} reads {error.path}, which nothing has written"
    return TheoryError("ERR_INPUTS", message[:1024], {"path": error.path[:512]})

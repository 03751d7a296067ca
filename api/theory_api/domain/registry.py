"""A registry snapshot: what may run, by which rules, at which price; its digest is its name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Self

import msgspec

from theory_api.domain.processor import (
    SHARED_ID,
    ProcessorDocument,
    ProcessorSpec,
    env_fingerprint,
    ref_of,
    slug,
)
from theory_api.domain.settlement import carbon_mg
from theory_api.domain.values import Policy, Value
from theory_api.domain.vector import checked
from theory_core import TheoryError, canonicalize_json, digest, loads_strict

__all__ = [
    "PolicySpec",
    "ProcessorSpec",
    "Prompt",
    "RegistrySnapshot",
    "env_fingerprint",
    "ref_of",
    "slug",
]

SCHEMA: Final = "theory.registry.v1"
DEFAULT_POLICY: Final = "default@1"
TOKENS_PER_PRICE: Final = 1_000_000
"""Prices are in millionths of a dollar for this many tokens."""


class Price(Value, frozen=True):
    """Millionths of a dollar for a million tokens of a model."""

    input: int
    output: int


class Carbon(Value, frozen=True):
    """How clean the electricity is taken to be."""

    g_per_kwh: int


class PolicySpec(Value, frozen=True):
    """A policy as it is written: the rules of a plan, and the limits around them."""

    schema: Literal["theory.policy.v1"]
    policy: Policy
    budget: dict[str, int]
    carbon: Carbon
    uri_allow: tuple[str, ...] = ()


class Prompt(Value, frozen=True):
    """A text that a model is told, and the names of what it speaks about."""

    ref: str
    version: int
    inputs: tuple[str, ...]
    body: str


class _Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of a snapshot document; those without a type are kept as they are."""

    schema: Literal["theory.registry.v1"]
    processors: dict[str, ProcessorDocument]
    policies: dict[str, PolicySpec]
    prompts: dict[str, Prompt]
    prices: dict[str, Price]
    predicates: dict[str, Any]
    secrets: dict[str, Any]
    environments: dict[str, Any]
    pins: dict[str, Any]
    schemas: dict[str, Any]


class RegistrySnapshot:
    """All of a registry at one moment, immutable; `id` is the digest of `document`."""

    def __init__(self, document: bytes, contents: _Contents) -> None:
        """Use `from_document`."""
        self.document: Final = document
        self.id: Final = digest(document)
        self._contents = contents
        g_per_kwh = self.policy_spec(DEFAULT_POLICY).carbon.g_per_kwh
        self.g_per_kwh: Final = g_per_kwh
        shared = {
            schema["$id"]: schema
            for schema in contents.schemas.values()
            if str(schema.get("$id", "")).startswith(SHARED_ID)
        }
        self.processors: Final[Mapping[str, ProcessorSpec]] = MappingProxyType(
            {
                ref: ProcessorSpec(entry, _vector(entry, contents.prices, g_per_kwh), shared)
                for ref, entry in sorted(contents.processors.items())
            }
        )

    @classmethod
    def from_document(cls, document: bytes) -> Self:
        """The snapshot whose canonical JSON `document` is.

        Raises `TheoryError` `ERR_INPUTS`: bytes that are not canonical, members that do not fit, an
        estimate that names no known price.
        """
        if canonicalize_json(document) != document:
            raise _bad_snapshot("it is not canonical JSON")
        try:
            contents = msgspec.convert(loads_strict(document), _Contents)
        except msgspec.ValidationError as error:
            raise _bad_snapshot(str(error)[:500]) from error
        for kind in ("processors", "policies", "prompts"):
            for name, entry in getattr(contents, kind).items():
                if name != (entry.policy.ref if kind == "policies" else entry.ref):
                    raise _bad_snapshot(f"{kind} has an entry under another name")
        return cls(document, contents)

    def processor(self, ref: str) -> ProcessorSpec:
        """The spec of `ns/name@N`; raises `ERR_NOT_FOUND` naming what is near."""
        found = self.processors.get(ref)
        if found is None:
            raise _unknown("processor", ref, self.processors)
        return found

    def policy(self, ref: str) -> Policy:
        """The rules of a policy, as a plan takes them over; raises `ERR_NOT_FOUND`."""
        return self.policy_spec(ref).policy

    def policy_spec(self, ref: str) -> PolicySpec:
        """A policy with its default budget, permitted URIs and carbon; raises `ERR_NOT_FOUND`."""
        found = self._contents.policies.get(ref)
        if found is None:
            raise _unknown("policy", ref, self._contents.policies)
        return found

    def prompt(self, ref: str) -> Prompt:
        """A prompt by `name@N`; raises `ERR_NOT_FOUND`."""
        found = self._contents.prompts.get(ref)
        if found is None:
            raise _unknown("prompt", ref, self._contents.prompts)
        return found

    def pin(self, ref: str, *, lane: str, platform: str) -> str | None:
        """The digest of a processor's image in a lane; None in lane build, which needs none.

        Law: outside the build lane nothing runs that nobody pinned. Raises `ERR_IMAGE_UNPINNED`;
        `ERR_REGISTRY_MISMATCH` if it is pinned, but not for this platform.
        """
        if lane == "build":
            return None
        digests: Mapping[str, str] = self._contents.pins.get(lane, {}).get(ref, {})
        if not digests:
            message = f"image not pinned: pins/{lane}.yaml has no digest of {ref}"
            raise TheoryError("ERR_IMAGE_UNPINNED", message, {"lane": lane})
        if platform not in digests:
            message = f"registry mismatch: {ref} is pinned in lane {lane}, but not for {platform}"
            raise TheoryError("ERR_REGISTRY_MISMATCH", message, {"lane": lane})
        return digests[platform]

    def check_pinned(self, ref: str, *, lane: str) -> None:
        """Refuse what lane `lane` has no digest of, for any platform: `ERR_IMAGE_UNPINNED`."""
        if lane != "build":
            platform = next(iter(self._contents.pins.get(lane, {}).get(ref, {})), "")
            self.pin(ref, lane=lane, platform=platform)

    @property
    def pins(self) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
        """Digests of images: environment -> reference -> platform."""
        return MappingProxyType(self._contents.pins)

    @property
    def environments(self) -> Mapping[str, Mapping[str, Any]]:
        """The environments by name: branch, lane, where its deployments go, what drift means."""
        return MappingProxyType(self._contents.environments)

    @property
    def prices(self) -> Mapping[str, Price]:
        """The pinned price table, by model."""
        return MappingProxyType(self._contents.prices)

    @property
    def secrets(self) -> Mapping[str, Any]:
        """The allow-list of secrets: name -> purpose and environments."""
        return MappingProxyType(self._contents.secrets)

    @property
    def predicates(self) -> Mapping[str, Any]:
        """The declared predicates, by `name@N`."""
        return MappingProxyType(self._contents.predicates)


def _vector(
    entry: ProcessorDocument, prices: Mapping[str, Price], g_per_kwh: int
) -> Mapping[str, int]:
    """The hold that an estimate comes to: integers all the way, rounded up.

    Carbon follows from the time that is held, so what the run may emit is held with it.
    """
    vector = checked(entry.estimate.fixed, place=f"{entry.ref}: estimate.fixed")
    priced = entry.estimate.priced
    if priced is not None:
        price = prices.get(priced.model)
        if price is None:
            raise _bad_snapshot(f"{entry.ref}: estimate.priced.model has no price")
        cost = priced.tokens_in * price.input + priced.tokens_out * price.output
        vector["tokens"] = vector.get("tokens", 0) + priced.tokens_in + priced.tokens_out
        vector["usd_micro"] = vector.get("usd_micro", 0) - (-cost // TOKENS_PER_PRICE)
    vector["co2_mg"] = vector.get("co2_mg", 0) + carbon_mg(
        cpu_ms=vector.get("cpu_ms", 0),
        gpu_ms=vector.get("gpu_ms", 0),
        watts=entry.runtime.watts,
        g_per_kwh=g_per_kwh,
    )
    return MappingProxyType(checked(vector, place=f"{entry.ref}: estimate"))


def _bad_snapshot(sentence: str) -> TheoryError:
    message = f"invalid inputs payload: registry snapshot: {sentence}"
    return TheoryError("ERR_INPUTS", message, {"reason": "registry"})


def _unknown(kind: str, ref: str, known: Mapping[str, Any]) -> TheoryError:
    near = difflib.get_close_matches(ref[:128], known, n=3, cutoff=0.5) or sorted(known)[:10]
    message = f"no {kind} {ref[:128]!r} in this registry; there is {', '.join(near) or 'none'}"
    return TheoryError("ERR_NOT_FOUND", message, {"kind": kind})

"""One processor of the registry: its name, what it declares, and which inputs it takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import jsonschema_rs
import msgspec

from theory_api.domain import uris
from theory_api.domain.documents import MAX_DEPTH, depth
from theory_api.domain.values import Mode, Value
from theory_core import LIMITS, TheoryError, canonicalize, digest, loads_strict

_REF: Final = re.compile(r"([a-z][a-z0-9]{0,30})/([a-z][a-z0-9-]{0,62})@([1-9][0-9]{0,3})")
_SLUG: Final = re.compile(r"([a-z][a-z0-9]{0,30})-([a-z][a-z0-9-]{0,62})-v([1-9][0-9]{0,3})")
SHARED_ID: Final = "urn:theory:schema:"
"""How the ids of schemas begin that inputs may name."""


def slug(ref: str) -> str:
    """`ns-name-vN` of `ns/name@N`; raises `ERR_INPUTS` for a reference outside the grammar.

    Law: `ref_of(slug(r)) == r`. A namespace has no hyphen and a version no other digits, so the
    first hyphen and the last `-v` always separate the same parts.
    """
    match = _REF.fullmatch(ref)
    if match is None:
        message = "invalid inputs payload: a processor is named ns/name@N"
        raise TheoryError("ERR_INPUTS", message, {"reason": "ref"})
    return f"{match[1]}-{match[2]}-v{match[3]}"


def ref_of(text: str) -> str:
    """`ns/name@N` of a slug; raises `ERR_INPUTS` for text that is none."""
    match = _SLUG.fullmatch(text)
    if match is None:
        message = "invalid inputs payload: a slug is written ns-name-vN"
        raise TheoryError("ERR_INPUTS", message, {"reason": "slug"})
    return f"{match[1]}/{match[2]}@{match[3]}"


class Runtime(Value, frozen=True):
    """What a processor is given to run with: facts that the fingerprint states."""

    cpu: str
    memory: str
    timeout_s: int
    python: str
    gpu: int = 0
    concurrency: int = 1
    watts: dict[str, int] = msgspec.field(default_factory=dict)


class SecretNames(Value, frozen=True):
    """Secrets of mode real, by name."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


class DeclaredOutput(Value, frozen=True):
    """A path below the write prefix that a run may write, and what it holds.

    A prefix if it ends in `/`; `*` stands for any characters of one segment.
    """

    path: str
    mime: str


class Priced(Value, frozen=True):
    """Tokens of a model that a run may use up."""

    model: str
    tokens_in: int
    tokens_out: int


class Estimate(Value, frozen=True):
    """The formula of a hold: a fixed part, and tokens at the pinned price."""

    fixed: dict[str, int]
    priced: Priced | None = None


class Memo(Value, frozen=True):
    """In which modes a settled result may stand in for a run, and the salt of its key."""

    modes: tuple[Mode, ...] = ()
    salt: str = ""


class ProcessorDocument(Value, frozen=True):
    """A processor's spec as it is written (spec: registry)."""

    schema: Literal["theory.processor.v1"]
    ref: str
    summary: str
    image: str
    runtime: Runtime
    inputs: dict[str, Any]
    outputs: tuple[DeclaredOutput, ...]
    network: Literal["none", "egress"]
    estimate: Estimate
    secrets: SecretNames = SecretNames()
    prompts: tuple[str, ...] = ()
    memo: Memo = Memo()
    max_output_bytes: int = 0
    uri_allow: tuple[str, ...] = ()
    """What it asks of itself, where no input names an address."""


@dataclass(frozen=True)
class ProcessorSpec:
    """One processor of a snapshot, with its estimate worked out as a vector."""

    document: ProcessorDocument
    estimate: Mapping[str, int]
    """What an attempt reserves unless its plan says otherwise."""
    shared: Mapping[str, Any]
    """Schemas that `inputs` may name, by `$id`."""

    @property
    def ref(self) -> str:
        """`ns/name@N`."""
        return self.document.ref

    @cached_property
    def slug(self) -> str:
        """`ns-name-vN`."""
        return slug(self.document.ref)

    @cached_property
    def digest(self) -> str:
        """Digest of the spec itself: part of what makes two runs the same."""
        return digest(canonicalize(msgspec.to_builtins(self.document)))

    @property
    def image(self) -> str:
        """The repository of its image, without a tag."""
        return self.document.image

    @property
    def runtime(self) -> Runtime:
        """What it is given to run with."""
        return self.document.runtime

    @property
    def timeout_s(self) -> int:
        """How many seconds a run may take."""
        return self.document.runtime.timeout_s

    @property
    def watts(self) -> Mapping[str, int]:
        """Declared power of `cpu` and `gpu` at work."""
        return self.document.runtime.watts

    @property
    def secrets_required(self) -> tuple[str, ...]:
        """Names without which mode real is refused."""
        return self.document.secrets.required

    @property
    def secrets_optional(self) -> tuple[str, ...]:
        """Names that mode real is given if they are set."""
        return self.document.secrets.optional

    def secrets(self, mode: Mode | str) -> tuple[str, ...]:
        """Names that a run may read, sorted: of mode real alone."""
        return (
            tuple(sorted((*self.secrets_required, *self.secrets_optional)))
            if mode == "real"
            else ()
        )

    @property
    def outputs(self) -> tuple[DeclaredOutput, ...]:
        """What a run declares to write."""
        return self.document.outputs

    @cached_property
    def _declared(self) -> Mapping[str, re.Pattern[str]]:
        """Mime -> the paths that may have it."""
        paths: dict[str, list[str]] = {}
        for output in self.document.outputs:
            pattern = "[^/]*".join(re.escape(part) for part in output.path.split("*"))
            below = ".+" if output.path.endswith("/") else ""
            paths.setdefault(output.mime, []).append(pattern + below)
        return {mime: re.compile("|".join(allowed)) for mime, allowed in paths.items()}

    def declares(self, relpath: str, mime: str) -> bool:
        """Whether a run may write this output, e.g. `outputs/frames/0001.png` as `image/png`."""
        allowed = self._declared.get(mime)
        return allowed is not None and allowed.fullmatch(relpath) is not None

    @property
    def network(self) -> Literal["none", "egress"]:
        """Whether a run may open connections."""
        return self.document.network

    def reach(self, mode: Mode | str, listed: Iterable[str]) -> tuple[str, ...]:
        """What a run may connect to, sorted: the list of its plan's policy, and the spec's own.

        Law: mode mock reaches nothing, nor does a spec that does not say egress.
        """
        if self.network != "egress" or mode != "real":
            return ()
        return tuple(sorted({*listed, *self.document.uri_allow}))

    @property
    def memo(self) -> Memo:
        """When a settled result may stand in for a run."""
        return self.document.memo

    @property
    def max_output_bytes(self) -> int:
        """How large one output may be."""
        return self.document.max_output_bytes or LIMITS["output_bytes"]

    @cached_property
    def inputs_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of `params`, whole: shared schemas are embedded by their `$id`."""
        embedded = {
            name.removeprefix(SHARED_ID): schema for name, schema in sorted(self.shared.items())
        }
        own = self.document.inputs
        return {**own, "$defs": {**own.get("$defs", {}), **embedded}}

    @cached_property
    def names_uris(self) -> bool:
        """Whether params may hold addresses, which a policy has to list."""
        return uris.names(self.document.inputs)

    @cached_property
    def _validator(self) -> jsonschema_rs.Draft202012Validator:
        return jsonschema_rs.Draft202012Validator(
            dict(self.inputs_schema),
            mask="the value",
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )

    def check_inputs(self, document: bytes) -> None:
        """Refuse inputs `{"schema": "v1", "params": …}` that do not fit the registry.

        Raises `ERR_INPUTS` "invalid inputs payload" with `detail` `place` and `reason`; values of
        the inputs never appear in it. JSON that is not strict has the parser's code as reason.
        """
        try:
            inputs = loads_strict(document)
        except TheoryError as error:
            raise _bad_inputs("$", error.message, error.code) from error
        if depth(inputs) > MAX_DEPTH:
            raise _bad_inputs("$", f"nested deeper than {MAX_DEPTH}", "ERR_JSON_DEPTH")
        if not isinstance(inputs, dict) or set(inputs) != {"schema", "params"}:
            raise _bad_inputs("$", "exactly schema and params are expected", "members")
        if inputs["schema"] != "v1" or not isinstance(inputs["params"], dict):
            raise _bad_inputs("$", "schema is v1 and params an object", "schema")
        for fault in self._validator.iter_errors(inputs["params"]):
            place = "$.params" + "".join(
                f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault.instance_path
            )
            raise _bad_inputs(place[:200], fault.message[:300], fault.kind.name)


def _bad_inputs(place: str, sentence: str, reason: str) -> TheoryError:
    detail: dict[str, str | int] = {"place": place, "reason": reason}
    return TheoryError("ERR_INPUTS", f"invalid inputs payload: {place}: {sentence}", detail)


def env_fingerprint(spec: ProcessorSpec, *, platform: str, mode: Mode | str) -> str:
    """Declared facts of a run, e.g. `cpu:1;memory:2Gi;platform:amd64;runtime:python3`.

    Names of required secrets follow in mode real alone (spec: envelope).
    """
    runtime = spec.runtime
    facts = {
        "cpu": runtime.cpu,
        "memory": runtime.memory,
        "platform": platform,
        "runtime": f"python{runtime.python}",
    }
    if runtime.gpu:
        facts["gpu"] = str(runtime.gpu)
    if mode == "real" and spec.secrets_required:
        facts["secrets"] = ",".join(sorted(spec.secrets_required))
    return ";".join(f"{key}:{facts[key]}" for key in sorted(facts))

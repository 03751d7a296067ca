"""Read a registry folder, check all of it against its schemas and itself, and make the snapshot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

from theory_api.domain import uris
from theory_api.domain.documents import Document, Place, read_document
from theory_api.domain.registry import DEFAULT_POLICY, SCHEMA, RegistrySnapshot
from theory_core import ERROR_CODES, TheoryError, canonicalize

MAX_FILE_BYTES: Final = 1024 * 1024
ENVIRONMENTS: Final = ("dev", "staging", "main")

_FILES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("schema", r"schemas/(?P<name>[a-z]+)\.json"),
        ("processor", r"processors/(?P<ns>[^/]+)/(?P<name>[^/]+)/(?P<version>[^/]+)\.yaml"),
        ("policy", r"policies/(?P<name>[^/]+)\.yaml"),
        ("prompt", r"prompts/(?P<name>[^/]+)/(?P<version>[^/]+)\.md"),
        ("predicate", r"predicates/(?P<name>[^/]+)/(?P<version>[^/]+)\.yaml"),
        ("prices", r"prices\.yaml"),
        ("secrets", r"secrets\.yaml"),
        ("environments", r"environments\.yaml"),
        ("pins", rf"pins/(?P<name>{'|'.join(ENVIRONMENTS)})\.yaml"),
    )
)
"""Every file that a registry may hold; any other is refused, for it would be silently ignored."""

_FENCE: Final = "---\n"
STOP_S: Final = 15
"""How long stopping a run may take beyond its timeout; an estimate of time includes it."""

_SHARED: Final = "urn:theory:schema:"


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the registry: its kind, what its path says, its content."""

    kind: str
    parts: Mapping[str, str]
    document: Document
    body: str = ""

    def refuse(self, place: Place, reason: str) -> TheoryError:
        return _refusal(self.document.spot(place), reason)


@dataclass(slots=True)
class _Folder:
    """The files of a registry by kind, in the order of their paths."""

    files: dict[str, list[_File]] = field(default_factory=dict)

    def of(self, kind: str) -> list[_File]:
        return self.files.get(kind, [])

    def one(self, kind: str) -> _File:
        found = self.of(kind)
        if not found:
            raise _refusal(f"{kind}.yaml", "the file is missing")
        return found[0]


def load_registry(folder: Path) -> RegistrySnapshot:
    """The snapshot of the registry in `folder`.

    Raises `TheoryError`: `ERR_NOT_FOUND` if there is no such folder; `ERR_INPUTS` "invalid inputs
    payload" with file, line and column for anything in it that does not fit: strict YAML, the
    registry's own schemas, or what one file says about another.
    """
    if not folder.is_dir():
        raise TheoryError("ERR_NOT_FOUND", "there is no registry folder at this place", {})
    found = _read(folder)
    schemas = {file.parts["name"]: file.document.data for file in found.of("schema")}
    _check_schemas(found, schemas)
    _check_prompts(found)
    _check_processors(found, schemas)
    _check_policies(found)
    _check_predicates(found)
    _check_pins(found)
    return RegistrySnapshot.from_document(canonicalize(_contents(found, schemas)))


def _refusal(spot: str, reason: str) -> TheoryError:
    name, _, position = spot.partition(":")
    line, _, column = position.partition(":")
    detail: dict[str, str | int] = {"file": name, "reason": reason}
    if line and column:
        detail |= {"line": int(line), "column": int(column)}
    return TheoryError("ERR_INPUTS", f"invalid inputs payload: {spot}: {reason}", detail)


# Reading


def _read(folder: Path) -> _Folder:
    found = _Folder()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or any(part.startswith(".") for part in name.split("/")):
            continue
        kind, parts = _kind(name)
        text = path.read_bytes()
        if len(text) > MAX_FILE_BYTES:
            raise _refusal(name, f"the file is larger than {MAX_FILE_BYTES} bytes")
        found.files.setdefault(kind, []).append(_parse(kind, parts, text, name))
    return found


def _kind(name: str) -> tuple[str, Mapping[str, str]]:
    for kind, pattern in _FILES:
        match = pattern.fullmatch(name)
        if match is not None:
            return kind, match.groupdict()
    raise _refusal(name, "this is no file of a registry; remove or rename it")


def _parse(kind: str, parts: Mapping[str, str], text: bytes, name: str) -> _File:
    if kind != "prompt":
        return _File(kind, parts, read_document(text, name=name, code="ERR_INPUTS"))
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(name, "not UTF-8") from error
    head, fence, body = decoded.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not decoded.startswith(_FENCE) or not fence or not body.strip():
        raise _refusal(f"{name}:1:1", "a prompt is front matter between lines of ---, then text")
    front = read_document(f"\n{head}\n".encode(), name=name, code="ERR_INPUTS")
    return _File(kind, parts, front, body)


# Checking


def _check_schemas(found: _Folder, schemas: Mapping[str, Any]) -> None:
    """Every document fits the schema of its kind."""
    for kind in found.files:
        if kind == "schema":
            continue
        if kind not in schemas:
            raise _refusal(f"schemas/{kind}.json", "the file is missing")
        validator = _compile(schemas[kind], _refusal, f"schemas/{kind}.json")
        for file in found.of(kind):
            for fault in validator.iter_errors(file.document.data):
                raise file.refuse(tuple(fault.instance_path), fault.message[:300])


def _compile(
    schema: Mapping[str, Any],
    refuse: Callable[[Any, str], TheoryError],
    place: Any,  # noqa: ANN401
) -> jsonschema_rs.Draft202012Validator:
    """A validator that never looks anything up; `refuse(place, reason)` if the schema is none."""
    try:
        return jsonschema_rs.Draft202012Validator(
            dict(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        message = getattr(error, "message", "") or str(error)
        raise refuse(place, f"not a JSON Schema: {message[:200]}") from error


def _check_processors(found: _Folder, schemas: Mapping[str, Any]) -> None:
    shared = {
        schema["$id"]: schema
        for schema in schemas.values()
        if str(schema.get("$id", "")).startswith(_SHARED)
    }
    allowed = found.one("secrets").document.data["secrets"]
    prices = found.one("prices").document.data["prices"]
    prompts = {file.document.data["ref"] for file in found.of("prompt")}
    for file in found.of("processor"):
        data = file.document.data
        expected = f"{file.parts['ns']}/{file.parts['name']}@{file.parts['version']}"
        if data["ref"] != expected:
            raise file.refuse(("ref",), f"this file is the place of {expected}")
        secrets = [
            (name, kind) for kind in ("required", "optional") for name in data["secrets"][kind]
        ]
        for name, kind in secrets:
            if name not in allowed:
                raise file.refuse(("secrets", kind), f"{name} is not in secrets.yaml")
        if len(secrets) != len({name for name, _ in secrets}):
            raise file.refuse(("secrets",), "a secret is either required or optional")
        for name in data.get("prompts", ()):
            if name not in prompts:
                raise file.refuse(("prompts",), f"there is no prompt {name}")
        _check_estimate(file, prices)
        paths = [output["path"] for output in data["outputs"]]
        if len(paths) != len(set(paths)):
            raise file.refuse(("outputs",), "two outputs have one path")
        _check_origins(file)
        if "uri_allow" in data and data["network"] != "egress":
            raise file.refuse(("uri_allow",), "nothing can be asked without network: egress")
        _check_inputs(file, data["inputs"], shared)


def _check_origins(file: _File) -> None:
    """Law: what lists addresses lists origins as they are compared, or it is refused."""
    for index, uri in enumerate(file.document.data.get("uri_allow", ())):
        if uris.origin(uri) is None:
            reason = "an origin is http or https, a host in lower case, and a port if it is another"
            raise file.refuse(("uri_allow", index), reason)


def _check_estimate(file: _File, prices: Mapping[str, Any]) -> None:
    """The price that it names is there, and its time covers a run that has to be stopped."""
    data = file.document.data
    least = (data["runtime"]["timeout_s"] + STOP_S) * 1000
    if data["estimate"]["fixed"].get("latency_ms", least) < least:
        reason = f"a run that times out would pass its hold: {least} at least"
        raise file.refuse(("estimate", "fixed", "latency_ms"), reason)
    priced = data["estimate"].get("priced")
    if priced is not None and priced["model"] not in prices:
        raise file.refuse(("estimate", "priced", "model"), "prices.yaml does not name the model")


def _check_inputs(file: _File, schema: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """The schema is one, and refers to itself or to a shared schema alone."""
    for place, target in _references(schema, ("inputs",)):
        if not target.startswith("#") and target not in shared:
            raise file.refuse(place, "$ref names no shared schema of this registry")
    whole = {**schema, "$defs": {**schema.get("$defs", {}), **shared}}
    _compile(whole, file.refuse, ("inputs",))
    if uris.hidden(whole):
        reason = "an address (format: uri) stands below properties and items alone"
        raise file.refuse(("inputs",), reason)
    name = uris.undeclared(schema)
    if name is not None:
        reason = f"{name} is an address, by its name or its pattern: it needs format: uri"
        raise file.refuse(("inputs",), reason)


def _references(value: Any, place: Place) -> Iterator[tuple[Place, str]]:  # noqa: ANN401
    """Every `$ref` of a schema; its depth was bounded when it was read."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "$ref" and isinstance(item, str):
                yield (*place, name), item
            yield from _references(item, (*place, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*place, index))


def _check_policies(found: _Folder) -> None:
    refs = set()
    for file in found.of("policy"):
        policy = file.document.data["policy"]
        refs.add(policy["ref"])
        if policy["ref"].partition("@")[0] != file.parts["name"]:
            raise file.refuse(("policy", "ref"), f"this file is the place of {file.parts['name']}")
        _check_origins(file)
        for index, code in enumerate(policy["retry"]["retry_on"]):
            place: Place = ("policy", "retry", "retry_on", index)
            if code not in ERROR_CODES:
                raise file.refuse(place, "there is no such error code")
            if not ERROR_CODES[code].retryable:
                raise file.refuse(place, "a retry can never help after this error")
    if DEFAULT_POLICY not in refs:
        raise _refusal("policies/default.yaml", f"the policy {DEFAULT_POLICY} is missing")


def _check_prompts(found: _Folder) -> None:
    for file in found.of("prompt"):
        _check_place(file, "ref")
        if str(file.document.data["version"]) != file.parts["version"]:
            raise file.refuse(("version",), "the version differs from the reference")


def _check_predicates(found: _Folder) -> None:
    for file in found.of("predicate"):
        _check_place(file, "name")
        params = file.document.data["params"]
        for place, target in _references(params, ("params",)):
            if not target.startswith("#"):
                raise file.refuse(place, "$ref points out of the document")
        _compile(params, file.refuse, ("params",))


def _check_place(file: _File, member: str) -> None:
    """The file stands where its `name@N` says."""
    expected = f"{file.parts['name']}@{file.parts['version']}"
    if file.document.data[member] != expected:
        raise file.refuse((member,), f"this file is the place of {expected}")


def _check_pins(found: _Folder) -> None:
    known = {file.document.data["ref"] for file in found.of("processor")}
    if {file.parts["name"] for file in found.of("pins")} != set(ENVIRONMENTS):
        raise _refusal("pins", "there is one file for each of dev, staging and main")
    for file in found.of("pins"):
        for ref in file.document.data["pins"]:
            if ref not in known:
                raise file.refuse(("pins", ref), "there is no such processor")


def _contents(found: _Folder, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The document whose canonical JSON is the snapshot."""

    def inner(kind: str) -> Any:  # noqa: ANN401
        return found.one(kind).document.data[kind]

    policies = [file.document.data for file in found.of("policy")]
    prompts = [(file.document.data, file.body) for file in found.of("prompt")]
    return {
        "schema": SCHEMA,
        "processors": {
            file.document.data["ref"]: file.document.data for file in found.of("processor")
        },
        "policies": {data["policy"]["ref"]: data for data in policies},
        "prompts": {data["ref"]: {**data, "body": body} for data, body in prompts},
        "predicates": {
            file.document.data["name"]: file.document.data for file in found.of("predicate")
        },
        "prices": inner("prices"),
        "secrets": inner("secrets"),
        "environments": inner("environments"),
        "pins": {file.parts["name"]: file.document.data["pins"] for file in found.of("pins")},
        "schemas": dict(schemas),
    }

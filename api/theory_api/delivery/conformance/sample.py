"""What a processor is asked to do while it is examined."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from theory_api.domain.documents import read_document
from theory_api.domain.registry import ProcessorSpec, env_fingerprint, slug
from theory_core import TheoryError, digest_file, inputs_hash

SCHEMA: Final = "theory.conformance.v1"
FILE: Final = "$file"
"""Stands in parameters for an artifact: `{"$file": "path"}`, relative to the sample's own file."""
NAME: Final = "conformance.yaml"

REPEAT: Final = "$repeat"
"""Stands for a long text: `{"$repeat": "word ", "times": 20000}`."""

_TIMEOUT_S: Final = 60
_LONGEST: Final = 4 * 1024 * 1024
_MEMBERS: Final = frozenset(
    {"schema", "ref", "env_fingerprint", "params", "refused", "flood", "secrets", "network"}
)

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Parameters of runs whose ends are known, and the facts that go with them."""

    ref: str
    fingerprint: str
    """What the processor is told of its environment; it must be the one that it is in."""
    params: Params
    """A run that succeeds within seconds."""
    refused: Params | None = None
    """Parameters that the processor itself refuses with `ERR_INPUTS`."""
    flood: Params | None = None
    """A run of far more frames than a server keeps."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets that mode real requires."""
    network: str = "none"
    files: Mapping[str, Path] = field(default_factory=dict)
    """The artifacts among the parameters: cid -> file."""
    timeout_s: int = _TIMEOUT_S

    @property
    def slug(self) -> str:
        """The reference as a segment of a path."""
        return slug(self.ref)


def read_sample(file: Path, *, spec: ProcessorSpec | None = None, platform: str = "") -> Sample:
    """The sample in a file, YAML or JSON; a spec stands in for what the file does not say.

    Raises `TheoryError` `ERR_INPUTS`, `ERR_NOT_FOUND`.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise TheoryError("ERR_NOT_FOUND", f"not found: no sample at {file.name}") from error
    data = read_document(text, name=file.name, code="ERR_INPUTS").data
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise _refused(file, f"a sample begins with `schema: {SCHEMA}`")
    for name in data:
        if name not in _MEMBERS:
            raise _refused(file, f"{name} is no member of a sample")
    files: dict[str, Path] = {}
    runs = {
        name: _resolve(data[name], file, files)
        for name in ("params", "refused", "flood")
        if name in data
    }
    for name, params in runs.items():
        if not isinstance(params, dict):
            raise _refused(file, f"{name} is an object")
    return Sample(
        **_facts(data, file, spec, platform),
        params=runs.get("params", {}),
        refused=runs.get("refused"),
        flood=runs.get("flood"),
        files=files,
    )


def _facts(
    data: Mapping[str, Any], file: Path, spec: ProcessorSpec | None, platform: str
) -> dict[str, Any]:
    """Reference, fingerprint, secrets and network: the file's word first, then the spec's."""
    ref = data.get("ref", None if spec is None else spec.ref)
    if not isinstance(ref, str):
        raise _refused(file, "without a registry's spec a sample names its ref")
    slug(ref)
    told = None if spec is None else env_fingerprint(spec, platform=platform, mode="mock")
    fingerprint = data.get("env_fingerprint", told)
    if not isinstance(fingerprint, str):
        raise _refused(file, "without a registry's spec a sample names its env_fingerprint")
    required = () if spec is None else spec.secrets_required
    return {
        "ref": ref,
        "fingerprint": fingerprint.replace("{platform}", platform),
        "secrets": tuple(data.get("secrets", required)),
        "network": str(data.get("network", "none" if spec is None else spec.network)),
        "timeout_s": _TIMEOUT_S if spec is None else spec.timeout_s,
    }


def _resolve(value: Any, file: Path, files: dict[str, Path]) -> Any:  # noqa: ANN401
    """The parameters with every `{"$file": path}` replaced by the artifact that the file is."""
    if isinstance(value, list):
        return [_resolve(item, file, files) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {REPEAT, "times"}:
        return _repeated(value, file)
    if value.keys() != {FILE}:
        return {name: _resolve(item, file, files) for name, item in value.items()}
    found = (file.parent / str(value[FILE])).resolve()
    try:
        cid, size = digest_file(found), found.stat().st_size
    except (TheoryError, OSError) as error:
        raise _refused(file, f"{found.name} cannot be read") from error
    files[cid] = found
    mime = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
    path = f"/artifacts/inputs/{cid.removeprefix('b3:')}"
    return {"path": path, "cid": cid, "size_bytes": size, "mime": mime, "url": f"/inputs/{cid}"}


def _repeated(value: Mapping[str, Any], file: Path) -> str:
    text, times = value[REPEAT], value["times"]
    if not isinstance(text, str) or type(times) is not int or not 0 <= times <= _LONGEST:
        raise _refused(file, "$repeat is a text and times a number")
    if len(text.encode()) * times > _LONGEST:
        raise _refused(file, f"a repeated text has at most {_LONGEST} bytes")
    return text * times


def hash_of(params: Params) -> str:
    """The inputs' hash: an artifact counts as its cid alone, never as where it is found."""
    return inputs_hash({"schema": "v1", "params": _cids(params)})


def _cids(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_cids(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {"path", "cid", "size_bytes", "mime", "url"}:
        return {"cid": value["cid"]}
    return {name: _cids(item) for name, item in value.items()}


def _refused(file: Path, reason: str) -> TheoryError:
    message = f"invalid inputs payload: {file.name}: {reason}"
    return TheoryError("ERR_INPUTS", message, {"file": file.name, "reason": reason})

"""One run without a server: inputs from a file, results into a folder."""

import asyncio
import mimetypes
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from theory_core import (
    LIMITS,
    TheoryError,
    canonicalize,
    digest,
    digest_file,
    encode_frame,
    loads_strict,
)
from theory_runtime import guard, machine
from theory_runtime.fault import fault
from theory_runtime.kin import Brood
from theory_runtime.order import Order, own_ref
from theory_runtime.reserve import Reserve
from theory_runtime.run import Place, Run

LOCAL: Final = "local"
FILE: Final = "$file"
"""Stands in inputs for an artifact: `{"$file": "path"}`, relative to the file that says it."""

_TIMEOUT_S: Final = 3600
_NEVER: Final = "9999-12-31T23:59:59.999999Z"


def main(
    main_file: Path, payload_file: Path, out: Path, *, mode: str | None, secrets: Path | None
) -> int:
    """Run once: 0 for a success, 1 for an error; the envelope on stdout, frames on stderr.

    Raises `TheoryError` for what a caller got wrong: `ERR_INPUTS`, `ERR_JSON_*`, `ERR_CONFLICT` (a
    folder that is not empty), `ERR_REGISTRY_MISMATCH`.
    """
    ref = own_ref(main_file)
    order = read_order(payload_file, ref=ref, out=_prepare(out), mode=mode)
    with tempfile.TemporaryDirectory(prefix="theory-") as folder:
        place = Place(
            main_file=main_file,
            ref=ref,
            folder=Path(folder).resolve(),
            secrets_dir=None if secrets is None else secrets.resolve(),
            verbose=True,
        )
        envelope = asyncio.run(_run(order, place))
    sys.stdout.write(canonicalize(envelope).decode() + "\n")
    return 0 if envelope["status"] == "success" else 1


async def _run(order: Order, place: Place) -> Mapping[str, Any]:
    guard.adopt_orphans()
    run = Run(order, place, Reserve(place.main_file, place.folder, Brood(), keeps=False))
    living = asyncio.create_task(run.live())
    seq = 0
    try:
        while True:
            frame = await run.record.news(seq)
            seq = frame.seq
            if frame.final:
                envelope: Mapping[str, Any] = loads_strict(frame.text)["content"]
                return envelope
            sys.stderr.write(frame.text.decode() + "\n")
    finally:
        run.stop(fault("ERR_CANCELLED"))
        await living


def read_order(payload_file: Path, *, ref: str, out: Path, mode: str | None) -> Order:
    """The order in a file: an inputs document, or a payload in which all but `inputs` may lack.

    Raises `TheoryError` `ERR_INPUTS`, `ERR_JSON_*`.
    """
    try:
        document = loads_strict(payload_file.read_bytes())
    except OSError as error:
        raise fault("ERR_INPUTS", "payload_unreadable") from error
    if not isinstance(document, dict):
        raise fault("ERR_INPUTS", "payload_invalid")
    given = document if "inputs" in document else {"inputs": document}
    inputs = given["inputs"]
    if not isinstance(inputs, dict) or not isinstance(inputs.get("params"), dict):
        raise fault("ERR_INPUTS", "params_missing")
    name = str(given.get("execution_id", LOCAL))
    payload: dict[str, Any] = {
        "schema": "v1",
        "ref": ref,
        "mode": "mock",
        "write_prefix": f"/artifacts/outputs/{_slug(ref)}/{name}/",
        "env_fingerprint": _fingerprint(),
        "registry_snapshot": digest(b""),
        "timeout_s": _TIMEOUT_S,
        "secrets": [],
        **given,
        "inputs": {"schema": "v1", "params": _resolve(inputs["params"], payload_file.parent)},
        "upload": {
            "url": "http://localhost/",
            "headers": {},
            "expires_at": _NEVER,
            "max_bytes": LIMITS["output_bytes"],
        },
    }
    if mode is not None:
        payload["mode"] = mode
    payload.pop("execution_id", None)
    try:
        opening = {"role": "client", "execution_id": name, "payload": payload}
        encode_frame("RunOpen", opening)
    except TheoryError as error:
        raise fault("ERR_INPUTS", str(error.detail.get("place", "payload"))) from error
    payload["upload"]["url"] = f"file://{out}"
    return Order(name, payload)


def _resolve(value: Any, folder: Path) -> Any:  # noqa: ANN401
    """The parameters with every `{"$file": path}` replaced by the artifact that the file is."""
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {FILE}:
        return {name: _resolve(item, folder) for name, item in value.items()}
    file = (folder / str(value[FILE])).resolve()
    try:
        cid, size = digest_file(file), file.stat().st_size
    except (TheoryError, OSError) as error:
        raise fault("ERR_INPUTS", "file_unreadable") from error
    mime = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    path = f"/artifacts/inputs/{cid.removeprefix('b3:')}"
    return {"path": path, "cid": cid, "size_bytes": size, "mime": mime, "url": f"file://{file}"}


def _prepare(out: Path) -> Path:
    out = out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise fault("ERR_CONFLICT", "out_not_empty")
    except OSError as error:
        raise fault("ERR_STORAGE", "out") from error
    return out


def _slug(ref: str) -> str:
    return ref.replace("/", "-").replace("@", "-v")


def _fingerprint() -> str:
    version = ".".join(map(str, sys.version_info[:2]))
    return f"cpu:1;memory:4Gi;platform:{machine.architecture()};runtime:python{version}"

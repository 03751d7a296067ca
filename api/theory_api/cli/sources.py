"""What a person hands over on the command line: files, documents, attachments, addresses."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from theory_api.domain.documents import parse_document
from theory_api.services.plans import Attachment
from theory_api.services.queries import address
from theory_core import LIMITS, TheoryError, loads_strict


def content(name: str) -> bytes:
    """The bytes of a file, or of stdin for `-`.

    Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_STORAGE`, `ERR_TOO_LARGE` over a request body.
    """
    cap = LIMITS["request_body_bytes"]
    if name == "-":
        data = sys.stdin.buffer.read(cap + 1)
    else:
        try:
            with Path(name).open("rb") as file:
                data = file.read(cap + 1)
        except FileNotFoundError as error:
            raise TheoryError("ERR_NOT_FOUND", f"there is no file {name}", {}) from error
        except OSError as error:
            message = f"{name} cannot be read: {error.strerror}"
            raise TheoryError("ERR_STORAGE", message, {}) from error
    if len(data) > cap:
        raise TheoryError("ERR_TOO_LARGE", f"{name} has more than {cap} bytes", {"limit": cap})
    return data


def document(name: str) -> Mapping[str, Any]:
    """A plan document, YAML or JSON; `ERR_PLAN_INVALID` with the line for anything else."""
    shown = "stdin" if name == "-" else name
    parsed = parse_document(content(name), name=shown)
    if not isinstance(parsed, Mapping):
        message = f"{shown}: a plan document is an object with schema, plan, budget, transitions"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": "$"})
    return parsed


def inputs(data: bytes, *, name: str) -> Mapping[str, Any]:
    """The inputs of one run from strict JSON.

    Raises `ERR_INPUTS`: `detail.reason` is the code of the JSON rule that was broken.
    """
    try:
        value = loads_strict(data)
    except TheoryError as error:
        place = f" at line {error.detail['line']}" if "line" in error.detail else ""
        message = f"invalid inputs payload: {name}: {error.message}{place}"
        raise TheoryError("ERR_INPUTS", message, {"reason": error.code, **error.detail}) from error
    if not isinstance(value, Mapping):
        message = f"invalid inputs payload: {name} is not an object"
        raise TheoryError("ERR_INPUTS", message, {"reason": "schema"})
    return value


def attachments(pairs: Iterable[str]) -> dict[str, Attachment]:
    """The files behind `name=path` pairs; `ERR_INPUTS` for another form or a name twice."""
    found: dict[str, Attachment] = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not (name and separator and path):
            message = "an attachment is name=path, for example --attach text=story.txt"
            raise TheoryError("ERR_INPUTS", message, {"reason": "attach"})
        if name in found:
            message = f"the attachment {name} is given twice"
            raise TheoryError("ERR_INPUTS", message, {"reason": "attach"})
        found[name] = Attachment(content(path), mime(path))
    return found


def mime(name: str) -> str:
    """The media type that a file's name suggests."""
    return mimetypes.guess_type(name, strict=True)[0] or "application/octet-stream"


def plan(text: str, *, tenant: str) -> str:
    """The address of a plan that a person named: `media-generation` or `/world/local/…`."""
    if text.startswith("world://"):
        return address("/world/" + text.removeprefix("world://"))
    return address(text if text.startswith("/") else f"/world/{tenant}/{text}")

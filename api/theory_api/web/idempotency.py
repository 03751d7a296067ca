"""The `Idempotency-Key` of a request: its grammar, and the row that makes a POST happen once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from litestar import Request
from litestar.params import HeaderParameter

from theory_api.ports.truth import IdempotencyRow
from theory_api.web.doors import Doors
from theory_api.web.gate import STATE_KEY
from theory_core import TheoryError, canonicalize, digest, loads_strict

Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="RFC 8941 string or token, 1 to 255 characters"
    ),
]
"""The header as controllers take it."""

_LONGEST: Final = 255
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_TOKEN: Final = re.compile(r"[A-Za-z0-9*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_ESCAPE: Final = re.compile(r"\\(.)")


def key(header: str) -> str:
    """The key of an RFC 8941 string, or of a bare token, which stands for the same string.

    Raises `TheoryError` `ERR_INPUTS` for any other text.
    """
    quoted = _QUOTED.fullmatch(header)
    if quoted is not None:
        text = _ESCAPE.sub(r"\1", quoted[1])
    elif _TOKEN.fullmatch(header):
        text = header
    else:
        text = ""
    if not 1 <= len(text) <= _LONGEST:
        message = (
            "invalid inputs payload: Idempotency-Key is a quoted string or a token of"
            f" 1 to {_LONGEST} printable ASCII characters"
        )
        raise TheoryError("ERR_INPUTS", message, {"reason": "idempotency_key"})
    return text


def row(
    request: Request[Any, Any, Any], header: str | None, doors: Doors, *, answer: dict[str, Any]
) -> IdempotencyRow | None:
    """What to commit beside the command; None for a request without a key.

    The body that is compared covers the address as well, so that one key never answers for
    another resource.
    """
    if header is None:
        return None
    canonical = request.scope["state"].get(STATE_KEY, b"{}")
    asked = {"path": request.scope["path"], "body": digest(canonical)}
    return IdempotencyRow(
        scope=f"{doors.tenant} {doors.principal}",
        key=key(header),
        body=digest(canonicalize(asked)),
        answer=canonicalize(answer),
    )


def stored(answer: bytes) -> Any:  # noqa: ANN401
    """The plain data of an earlier answer."""
    return loads_strict(answer)

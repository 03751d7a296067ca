"""What every transport says in the same words: a request, a coded fault, the envelope of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from theory_core import ERROR_CODES, LIMITS, TheoryError, error_envelope, loads_strict

log = structlog.get_logger(__name__)

ASK_S: Final = 0.05
"""Between two questions whether an execution may start."""

_PAYLOAD: Final = frozenset(
    {
        "schema",
        "ref",
        "mode",
        "inputs",
        "write_prefix",
        "env_fingerprint",
        "expected_oci",
        "registry_snapshot",
        "timeout_s",
        "secrets",
        "traceparent",
    }
)


def request(
    payload: Mapping[str, Any],
    *,
    timeout_s: float,
    overtime_s: float,
    expected_oci: str | None,
    upload: Mapping[str, Any],
) -> dict[str, Any]:
    """The payload as it travels: its members alone, with the way back.

    `upload` has `url` and `headers`, and `socket` where there is one.
    """
    travelling = {name: value for name, value in payload.items() if name in _PAYLOAD}
    travelling["timeout_s"] = max(1, int(timeout_s))
    if expected_oci is not None:
        travelling["expected_oci"] = expected_oci
    expires = datetime.now(UTC) + timedelta(seconds=timeout_s + overtime_s)
    travelling["upload"] = {
        **upload,
        "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "max_bytes": LIMITS["output_bytes"],
    }
    return travelling


async def permitted(may_start: Callable[[], bool], stopped: Callable[[], bool]) -> None:
    """Return while the execution may start; what its mark names is asked for again until it may.

    Laws: asked after the mark is durable, so a successor that saw no mark came before this answer;
    what follows the answer without waiting for anything starts within it. A lease that lapsed and
    was renewed costs time, not the attempt; one that is lost ends its scheduler, and this call with
    it. Raises `TheoryError` `ERR_CANCELLED` once `stopped` says so.
    """
    while not may_start():
        if stopped():
            raise coded("ERR_CANCELLED")
        await asyncio.sleep(ASK_S)


def coded(code: str, reason: str = "") -> TheoryError:
    """A fault in the catalogue's words, with a reason of ours behind them."""
    summary = ERROR_CODES[code].summary
    return TheoryError(code, f"{summary}: {reason}" if reason else summary)


def died(execution_id: str, code: int | None = None) -> TheoryError:
    """The fault of a run whose runtime ended before it told a result, though nobody ended it.

    Law: it is in the same words whatever the transport; an exit code goes to the log.
    """
    log.warning("run.runtime.died", execution_id=execution_id, exit_code=code)
    return coded("ERR_INTERNAL", "runtime ended")


def failed(payload: Mapping[str, Any], error: TheoryError, tail: str = "") -> Mapping[str, Any]:
    """The error envelope of a run whose processor could not tell its own."""
    summary = ERROR_CODES[error.code].summary
    # The words of an environment that could not be made are about this machine.
    told = error.message.startswith(summary) and error.code != "ERR_UNAVAILABLE"
    text = error_envelope(
        payload["execution_id"],
        error.code,
        env_fingerprint=payload["env_fingerprint"],
        reason=error.message if told else None,
        stderr_tail=tail or None,
    )
    envelope: Mapping[str, Any] = loads_strict(text)
    return envelope

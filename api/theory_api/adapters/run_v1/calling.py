"""What every transport says in the same words: a request, a coded fault, the envelope of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from theory_core import ERROR_CODES, LIMITS, TheoryError, error_envelope, loads_strict

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


def coded(code: str, reason: str = "") -> TheoryError:
    """A fault in the catalogue's words, with a reason of ours behind them."""
    summary = ERROR_CODES[code].summary
    return TheoryError(code, f"{summary}: {reason}" if reason else summary)


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

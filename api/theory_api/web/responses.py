"""The answers that operations declare beside their own: problems, as problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from litestar.openapi import ResponseSpec

from theory_api.web.problem import MEDIA_TYPE, Problem


def _problems(*entries: tuple[int, str]) -> Mapping[int, ResponseSpec]:
    return {
        status: ResponseSpec(
            Problem, description=meaning, media_type=MEDIA_TYPE, generate_examples=False
        )
        for status, meaning in entries
    }


_ALWAYS: Final = (
    (400, "the request cannot be understood (`ERR_INPUTS`, path codes)"),
    (401, "no key, or the wrong one (`ERR_UNAUTHENTICATED`)"),
    (403, "a foreign host or origin, or not allowed (`ERR_FORBIDDEN`, `ERR_CI_SAFETY`)"),
    (404, "no such resource (`ERR_NOT_FOUND`)"),
    (500, "a fault inside (`ERR_INTERNAL`, `ERR_CHAIN_BROKEN`, `ERR_ARTIFACT_DIGEST`)"),
    (503, "try again later (`ERR_UNAVAILABLE`, `ERR_STORAGE`)"),
)

READS: Final = dict(_problems(*_ALWAYS))
"""What every GET may answer besides."""

WRITES: Final = dict(
    _problems(
        *_ALWAYS,
        (402, "it cannot fit the budget (`ERR_BUDGET_EXCEEDED`)"),
        (409, "a conflict with what is there (`ERR_CONFLICT`, `ERR_IMAGE_UNPINNED`, …)"),
        (413, "the body is too large (`ERR_TOO_LARGE`)"),
        (415, "another media type or an encoded body (`ERR_INPUTS`)"),
        (422, "the idempotency key was used with another request (`ERR_IDEMPOTENCY_MISMATCH`)"),
    )
)
"""What every POST may answer besides."""

HEALTH: Final = dict(
    _problems(
        (403, "a foreign host or origin (`ERR_FORBIDDEN`)"),
        (409, "another process writes here (`ERR_NOT_WRITER`)"),
        (500, "the scheduler stopped after a fault (`ERR_INTERNAL`)"),
        (503, "it cannot serve now (`ERR_UNAVAILABLE`)"),
    )
)
"""What the health check may answer besides."""

READY: Final = dict(HEALTH) | dict(
    _problems((401, "no key, or the wrong one (`ERR_UNAUTHENTICATED`)"))
)
"""What the question for shards may answer besides."""

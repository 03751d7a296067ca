"""Names that nobody else has drawn."""

from __future__ import annotations

import secrets


def fresh(prefix: str) -> str:
    """`prefix` and 32 random hex digits: a valid execution id, transition id or owner name.

    `prefix` begins with a lower-case letter or a digit and is at most 31 bytes long.
    """
    return prefix + secrets.token_hex(16)

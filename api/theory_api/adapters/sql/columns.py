"""Column types that hold the same text and bytes in every database."""

from __future__ import annotations

from typing import Final, TypeAlias

from sqlalchemy import LargeBinary, Text
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

DIGEST_PREFIX: Final = "b3:"

BYTEWISE: Final = Text().with_variant(TEXT(collation="C"), "postgresql")
"""Text that is compared and ordered by its UTF-8 bytes."""


def to_raw(digest: str) -> bytes:
    """The 32 bytes of a written `b3:` digest."""
    return bytes.fromhex(digest.removeprefix(DIGEST_PREFIX))


def to_text(raw: bytes) -> str:
    """The written form of a digest's 32 bytes."""
    return DIGEST_PREFIX + raw.hex()


_Binary: TypeAlias = TypeDecorator[str]


class Digest(_Binary):
    """A `b3:` digest, stored as its 32 bytes."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Text to bytes."""
        del dialect
        return None if value is None else to_raw(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Bytes to text."""
        del dialect
        return None if value is None else to_text(value)

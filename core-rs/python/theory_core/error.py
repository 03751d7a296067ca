"""The one exception of the core."""

from collections.abc import Mapping


class TheoryError(ValueError):
    """A refusal with a stable code.

    `code` is one of `theory_core.ERROR_CODES`, `message` a sentence that never repeats raw input,
    `detail` facts for machines (offsets, indices, limits). Source: spec, errors.
    """

    code: str
    message: str
    detail: dict[str, object]

    def __init__(self, code: str, message: str, detail: Mapping[str, object] | None = None) -> None:
        """Keep the arguments as they are; `detail` is copied."""
        self.code = code
        self.message = message
        self.detail = dict(detail or {})
        super().__init__(code, message, self.detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

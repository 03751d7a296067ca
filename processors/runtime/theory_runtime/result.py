"""What a provider hands back: its outputs, what it used, and who it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from theory_core import LIMITS, TheoryError, canonicalize
from theory_runtime.fault import fault

DIMENSIONS: Final = frozenset(
    {"usd_micro", "cpu_ms", "gpu_ms", "io_bytes", "co2_mg", "tokens", "latency_ms"}
)
ONLY_OUTPUT: Final = "outputs/output"
"""Where bytes go that a provider returned without a name."""
PROPOSALS: Final = "outputs/transitions.json"
"""Where proposed transitions go."""

_PAIR: Final = 2
_TRIPLE: Final = 3
_INFO_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class OutputItem:
    """One output: `relpath` begins with `outputs/`; `body` is bytes or a file of the run."""

    relpath: str
    body: bytes | Path
    mime: str


@dataclass(frozen=True, slots=True)
class ProcessorResult:
    """A run's result.

    `usage` holds whole numbers by budget dimension, e.g. `{"tokens": 812}`; a dimension that was
    not measured is left out. `processor_info` reads `name version (runtime)`. Proposed
    `transitions` are delivered as one more output, `outputs/transitions.json`.
    """

    outputs: Sequence[OutputItem]
    usage: Mapping[str, int] = field(default_factory=dict)
    processor_info: str = ""
    transitions: Sequence[Mapping[str, Any]] = ()


def settle(value: object) -> ProcessorResult:
    """The result that a provider's return value stands for, checked.

    `(bytes, mime)` and `(bytes, mime, usage)` become one output, `outputs/output`. Raises
    `TheoryError` `ERR_INTERNAL` with `detail.reason` for anything else.
    """
    result = _wrapped(value)
    if not isinstance(result.outputs, Sequence) or not all(map(_is_item, result.outputs)):
        raise fault("ERR_INTERNAL", "outputs_invalid")
    if not isinstance(result.usage, Mapping) or not all(map(_is_amount, result.usage.items())):
        raise fault("ERR_INTERNAL", "usage_invalid")
    if not isinstance(result.processor_info, str) or not _is_info(result.processor_info):
        raise fault("ERR_INTERNAL", "processor_info_invalid")
    if not result.transitions:
        return result
    try:
        body = canonicalize({"transitions": list(result.transitions)})
    except TheoryError as error:
        raise fault("ERR_INTERNAL", "transitions_invalid") from error
    proposals = OutputItem(PROPOSALS, body, "application/json")
    return ProcessorResult([*result.outputs, proposals], result.usage, result.processor_info)


def _wrapped(value: object) -> ProcessorResult:
    if isinstance(value, ProcessorResult):
        return value
    if isinstance(value, tuple) and len(value) in {_PAIR, _TRIPLE}:
        usage = value[2] if len(value) == _TRIPLE else {}
        return ProcessorResult([OutputItem(ONLY_OUTPUT, value[0], value[1])], usage)
    raise fault("ERR_INTERNAL", "result_invalid")


def _is_item(item: object) -> bool:
    return (
        isinstance(item, OutputItem)
        and isinstance(item.relpath, str)
        and isinstance(item.body, bytes | Path)
        and isinstance(item.mime, str)
    )


def _is_amount(entry: tuple[object, object]) -> bool:
    name, amount = entry
    return name in DIMENSIONS and type(amount) is int and 0 <= amount <= LIMITS["integer_max"]


def _is_info(text: str) -> bool:
    return len(text.encode("utf-8", "replace")) <= _INFO_BYTES and (
        text == "" or text.isprintable()
    )

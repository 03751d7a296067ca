"""The verifier: reads an export from wherever it lies and reports the first unsound place."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, Protocol, cast, runtime_checkable

from theory_core._core import Verifier
from theory_core.error import TheoryError

_CHUNK_BYTES = 1 << 20

Reason = Literal[
    "syntax", "bytes", "schema", "plan", "gap", "order", "hash", "head", "kind", "data", "law"
]
"""Why a line is not sound, in order of precedence; the last three only where laws are judged."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first unsound place of an export.

    `seq` is the seq that belongs to the line, whatever the line states; None only if the export
    starts behind a hash of unknown seq and its first line cannot be read. `line` counts from 1; it
    is one more than there are when something is missing at the end. `law` names what does not hold,
    for the reason `law`; `member` the first member of the data that has not its type, for `data`,
    unless the shape does not know it.
    """

    seq: int | None
    reason: Reason
    line: int
    law: str | None = None
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found.

    `count` sound events up to the fault; `head` seq and hash of the last of them; `anchored` only
    if an expected head was given and met; `verdict` all of it in a sentence; `laws` whether kinds,
    data and laws were judged besides the chain. Source: spec, ledger.
    """

    count: int
    head: tuple[int, str] | None
    anchored: bool
    fault: Fault | None
    verdict: str
    laws: Literal["judged", "not asked"] = "not asked"

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return self.fault is None


@runtime_checkable
class BinaryReader(Protocol):
    """A file object opened in binary mode."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


Source = str | PathLike[str] | BinaryReader | bytes | bytearray | memoryview | Iterable[bytes | str]
"""A path, a binary file object, the bytes of an export, or its lines."""


def verify(
    source: Source,
    *,
    expect_head: tuple[int, str] | None = None,
    expect_prev: tuple[int, str] | str | None = None,
    laws: bool = False,
    allow_empty: bool = False,
    threads: int | None = None,
) -> Report:
    r"""Verify an export of one plan's ledger, without loading it whole.

    `source` is a path (str too), a binary file object, the export's bytes, or an iterable of lines
    (bytes or str, with or without the line feed). `expect_head` is the (seq, hash) that somebody
    else kept; without it a sound export is "internally consistent, not anchored". An export that
    does not start at seq 1 needs `expect_prev`: the (seq, hash) of the event before it, or only the
    hash. Zero events are a fault (`gap`) unless `allow_empty`. `threads` bounds the parallelism.
    With `laws`, kinds, data and the laws of plans and budgets are judged too, at every prefix; that
    needs the export from seq 1.

    A fault of the export is in the report, never raised. Fault reasons, the first that applies at
    the lowest line: `syntax` (not one JSON text and `\n`), `bytes` (not canonical), `schema` (not
    `event` and `hash`, or not the event's six members), `plan`, `gap`, `order`, `hash`, `head`;
    with `laws` then `kind`, `data` (not the closed shape of its kind), `law`.

    Errors: `ERR_INPUTS` for bad arguments, also for `laws` with `expect_prev`; `ERR_NOT_FOUND` and
    `ERR_STORAGE` when the source cannot be read. Source: spec, ledger export and ledger laws.
    """
    if type(laws) is not bool or type(allow_empty) is not bool:
        raise TheoryError("ERR_INPUTS", "laws and allow_empty are bools")
    verifier = Verifier(expect_head, expect_prev, allow_empty, laws, threads)
    try:
        _feed(verifier, source)
    except TheoryError:
        raise
    except TypeError as error:
        raise TheoryError("ERR_INPUTS", "source is no path, file, bytes or lines") from error
    except Exception as error:  # a reader or an iterator of the caller, of which nothing is known
        raise TheoryError("ERR_STORAGE", "export cannot be read") from error
    count, head, anchored, found, verdict = verifier.finish()
    fault = None
    if found is not None:
        seq, reason, line, law, member = found
        fault = Fault(seq, cast("Reason", reason), line, law, member)
    return Report(count, head, anchored, fault, verdict, "judged" if laws else "not asked")


def _feed(verifier: Verifier, source: Source) -> None:
    if isinstance(source, str | PathLike):
        _feed_file(verifier, source)
    elif isinstance(source, bytes | bytearray | memoryview):
        verifier.feed(bytes(source))
    elif isinstance(source, BinaryReader):
        _feed_reader(verifier, source.read)
    else:
        _feed_lines(verifier, source)


def _feed_file(verifier: Verifier, path: str | PathLike[str]) -> None:
    try:
        with Path(path).open("rb", buffering=0) as file:
            _feed_reader(verifier, cast("BinaryReader", file).read)
    except TheoryError:
        raise
    except FileNotFoundError as error:
        raise TheoryError("ERR_NOT_FOUND", "no such file") from error
    except (OSError, ValueError) as error:
        raise TheoryError("ERR_STORAGE", "export cannot be opened") from error


def _feed_reader(verifier: Verifier, read: Callable[[int], bytes]) -> None:
    while True:
        chunk = read(_CHUNK_BYTES)
        if not isinstance(chunk, bytes):
            raise TheoryError("ERR_INPUTS", "the export is not opened in binary mode")
        if not chunk or not verifier.feed(chunk):
            return


def _feed_lines(verifier: Verifier, lines: Iterable[bytes | str]) -> None:
    for line in lines:
        if isinstance(line, str):
            # A lone surrogate has no UTF-8: that is a fault of the export, not of the call.
            data = line.encode("utf-8", "surrogatepass")
        elif isinstance(line, bytes):
            data = line
        else:
            raise TheoryError("ERR_INPUTS", "a line is neither bytes nor str")
        if not verifier.feed_line(data):
            return

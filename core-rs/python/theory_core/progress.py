"""A bar on the terminal while bytes are read; silent when stderr is none."""

import os
import stat
import sys
import time
from typing import BinaryIO, Self, TextIO

_FIRST_S = 0.5
_EVERY_S = 0.1
_CELLS = 30
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


class Progress:
    """A binary reader that tells on stderr how far it is, once reading takes longer than a moment.

    Where the size of the source is not known, as of a pipe, there is no bar, only figures. Leaving
    the context takes the line away again. Reading is that of `source`, its exceptions too.
    """

    def __init__(self, source: BinaryIO, name: str, terminal: TextIO | None = None) -> None:
        self._source = source
        self._name = name
        self._terminal = sys.stderr if terminal is None else terminal
        self._shown = self._terminal is not None and self._terminal.isatty()
        self._total = _size(source) if self._shown else 0
        self._done = 0
        self._began = self._last = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        data = self._source.read(size)
        if self._shown:
            self._done += len(data)
            self._draw()
        return data

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._began < _FIRST_S or now - self._last < _EVERY_S:
            return
        self._last = now
        self._drawn = True
        rate = written(self._done / (now - self._began))
        self._terminal.write(f"\r\x1b[K{self._name} {bar(self._done, self._total)}  {rate}/s")
        self._terminal.flush()


def bar(done: int, total: int) -> str:
    """How much of `total` bytes is done; 0 stands for a total that nobody knows."""
    if total <= 0:
        return written(done)
    share = min(done / total, 1.0)
    filled = int(share * _CELLS)
    return f"[{'#' * filled:{_CELLS}}] {share:4.0%}  {written(done)} of {written(total)}"


def written(count: float) -> str:
    """A number of bytes with one digit behind the point and the largest unit below it."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


def _size(source: BinaryIO) -> int:
    """Bytes that are left of a regular file, else 0."""
    try:
        status = os.fstat(source.fileno())
        return status.st_size - source.tell() if stat.S_ISREG(status.st_mode) else 0
    except (OSError, ValueError):
        return 0

"""Live progress on stderr: a table on a terminal, lines elsewhere, nothing for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Protocol, Self

import rich_click as click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from theory_api.cli.board import Board, Row
from theory_api.cli.costs import sentence

_STYLES: Final = {"running": "cyan", "succeeded": "green", "waiting": "dim"}


class Notice(Protocol):
    """What the scheduler tells people who wait, as `scheduler.context.Notice`."""

    @property
    def transition(self) -> str:
        """The step that it is about."""

    @property
    def phase(self) -> str:
        """What the step is doing, in a word."""

    @property
    def text(self) -> str:
        """The same in a sentence; may be empty."""

    @property
    def progress(self) -> float | None:
        """Share done, 0 to 1, where it is known."""


class Progress(AbstractContextManager["Progress"]):
    """Takes events and notices of one plan; this one keeps silent."""

    def __init__(self) -> None:
        self.board = Board()

    def event(self, kind: str, data: Mapping[str, Any], *, known: bool = False) -> None:
        """Take in an event of the ledger, without a word where it is `known` already."""
        sentence = self.board.event(kind, data)
        self.show(None if known else sentence)

    def notice(self, notice: Notice) -> None:
        """Take in something that is no event."""
        self.show(self.board.notice(notice.transition, notice.phase, notice.text, notice.progress))

    def show(self, sentence: str | None) -> None:
        """Tell it to whoever waits."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state standing."""


class Lines(Progress):
    """One line a happening, for logs and pipes."""

    def show(self, sentence: str | None) -> None:
        """Print the sentence."""
        if sentence is not None:
            click.echo(sentence, err=True)


class Screen(Progress):
    """One row a step, redrawn in place."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=8)
        self._began: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the last state and leave it standing."""
        self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=bool(self.board.rows))
        for heading in ("step", "", "reserved or spent", ""):
            table.add_column(heading, overflow="fold")
        for name, row in list(self.board.rows.items()):
            style = _STYLES.get(row.status, "red")
            vector = row.reserved if row.status == "running" else row.spent
            cost = sentence(vector) if vector else ""
            table.add_row(name, Text(row.status, style), cost, self._last(name, row))
        return table

    def _last(self, name: str, row: Row) -> Text | ProgressBar:
        if row.status != "running":
            self._began.pop(name, None)
            return Text(row.note, "dim")
        if row.progress is not None:
            return ProgressBar(total=1.0, completed=row.progress, width=20)
        began = self._began.setdefault(name, time.monotonic())
        return Text(f"{row.note} {time.monotonic() - began:.0f} s".strip(), "dim")


def progress(*, as_json: bool) -> Progress:
    """The progress that fits whoever reads stderr."""
    if as_json:
        return Progress()
    return Screen() if sys.stderr.isatty() else Lines()

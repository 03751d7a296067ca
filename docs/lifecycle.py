"""The page of the lifecycle in Markdown: the tables that the fold and the tests go by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from theory_api.domain.kinds import EVENT_TYPES
from theory_api.domain.lifecycle import ATTEMPT, PLAN, TRANSITION, Table
from theory_api.domain.tests.lifecycle import COMMANDS, SETTINGS, TABLE

NONE: Final = "—"


def page() -> str:
    """Statuses and events of plans, transitions and attempts; then commands, setting by setting."""
    parts = [
        *("## Plans\n", matrix(PLAN)),
        *("## Transitions\n", matrix(TRANSITION)),
        *("## Attempts\n", matrix(ATTEMPT)),
        *("## Commands\n", *commands()),
    ]
    return "\n".join(parts)


def matrix(table: Table) -> str:
    """A kind of event a row, a status a column, the status after it in the cell."""
    named = {kind for row in table.values() for kind in row}
    kinds = [kind for kind in EVENT_TYPES if kind in named]
    open_ones = [status for status, row in table.items() if row]
    closed = [status for status, row in table.items() if not row]
    lines = [f"| event | {' | '.join(open_ones)} |", f"|{'---|' * (len(open_ones) + 1)}"]
    for kind in sorted(kinds, key=lambda kind: (kind.partition(".")[0], kind)):
        cells = (_cell(table, status, kind) for status in open_ones)
        lines.append(f"| `{kind}` | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    if closed:
        text += f"\nNothing follows: {', '.join(closed)}.\n"
    return text


def _cell(table: Table, status: str, kind: str) -> str:
    after = table[status].get(kind)
    if after is None:
        return NONE
    return "yes" if after == status else f"→ {after}"


def commands() -> Iterator[str]:
    """What each command leads to in each setting, those that change nothing in one line."""
    for setting, row in TABLE.items():
        yield f"### {setting.replace('_', ', ')}\n"
        yield f"{(SETTINGS[setting].__doc__ or '').strip()}\n"
        lines = ["| command | leads to |", "|---|---|"]
        for name in COMMANDS:
            if row[name]:
                said = row[name].split()
                lines.append(f"| {name} | {', '.join(f'`{word}`' for word in said)} |")
        yield "\n".join(lines) + "\n"
        silent = [name for name in COMMANDS if not row[name]]
        if silent:
            yield f"Changes nothing: {', '.join(silent)}.\n"

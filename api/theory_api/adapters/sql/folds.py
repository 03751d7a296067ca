"""Folds in SQLite, through the connection and the thread of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from theory_api.adapters.sql.columns import to_raw, to_text
from theory_api.adapters.sql.session import Session
from theory_api.adapters.sql.statements import FOLDS, Statements
from theory_api.adapters.sql.transaction import Work
from theory_api.ports.folds import Fold

Transact = Callable[[Work], None]
Read = Callable[[str, Mapping[str, object]], list[tuple[Any, ...]]]


class SqliteFolds:
    """Implements `theory_api.ports.folds.FoldStore`; `transact` and `read` run in the session."""

    def __init__(self, session: Session, say: Statements, transact: Transact, read: Read) -> None:
        self._session = session
        self._say = say
        self._transact = transact
        self._read = read

    async def put(self, folds: Sequence[Fold]) -> None:
        """Keep folds; the plans must be there."""
        rows = [row(fold) for fold in folds]
        await self._session.run(partial(self._all, self._say.put_fold, rows))

    async def newest(self, plans: Sequence[str]) -> Mapping[str, Fold]:
        """The folds of these plans."""
        found: dict[str, Fold] = {}
        for start in range(0, len(plans), FOLDS):
            asked = asking(plans[start : start + FOLDS])
            rows = await self._session.run(partial(self._read, self._say.read_folds, asked))
            found.update((fold.plan, fold) for fold in map(unrow, rows))
        return found

    async def drop(self, plans: Sequence[str]) -> None:
        """Forget folds."""
        rows = [{"old_plan": plan} for plan in plans]
        await self._session.run(partial(self._all, self._say.drop_fold, rows))

    def _all(self, statement: str, rows: Iterable[Mapping[str, object]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)

        self._transact(work)


def row(fold: Fold) -> dict[str, object]:
    """A fold as the parameters of `put_fold`."""
    return {
        "plan": fold.plan,
        "seq": fold.seq,
        "hash": to_raw(fold.hash),
        "at": fold.at,
        "version": fold.version,
        "body": fold.body,
    }


def unrow(found: Sequence[Any]) -> Fold:
    """A row of `read_folds` as a fold."""
    plan, seq, digest, at, version, body = found
    return Fold(plan, seq, to_text(digest), at, version, bytes(body))


def asking(plans: Sequence[str]) -> dict[str, object]:
    """The parameters of `read_folds` for one to `FOLDS` plans: places left over repeat the last."""
    last = len(plans) - 1
    return {f"plan_{place}": plans[min(place, last)] for place in range(FOLDS)}

"""`theory doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.failures import FAILED, remedy
from theory_api.cli.options import Told, shared, told
from theory_api.settings import PostgresUrl, Settings
from theory_core import UNICODE, TheoryError

_SPACE: Final = 1 << 30
_WHEELS: Final = ("theory_core", "theory_runtime")

Standing = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    standing: Standing
    text: str


@click.command()
@shared
@told
def doctor(given: Told) -> int:
    """Look at everything that plans need here; exit code 1 if something is wrong."""
    settings = given.settings()
    findings = [finding for check in CHECKS for finding in check(settings)]
    if given.json:
        tables.as_json([{"name": f.name, "standing": f.standing, "text": f.text} for f in findings])
    else:
        tables.say(tables.table([(f.standing, f.name, f.text) for f in findings]))
    return FAILED if any(finding.standing == "wrong" for finding in findings) else 0


def _python(_settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", f"{version}, SQLite {sqlite3.sqlite_version}")
    yield Finding("core", "ok", f"theory-core with Unicode {UNICODE}")


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    if not home.exists():
        yield Finding("home", "note", f"{home} is made by the first plan")
    elif not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("home", "wrong", f"{home} cannot be written; change its owner or use --home")
    else:
        yield Finding("home", "ok", str(home))
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    enough: Standing = "ok" if free > _SPACE else "wrong"
    yield Finding("space", enough, f"{free // 1_000_000} MB free at {nearest}")


def _truth(settings: Settings) -> Iterator[Finding]:
    database = settings.database
    if isinstance(database, PostgresUrl):
        yield from _server(database)
    elif not database.exists():
        yield Finding("truth", "note", f"{database} is made by the first plan")
    else:
        yield _file(database)


def _file(database: Path) -> Finding:
    try:
        with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True) as connection:
            plans = connection.execute("SELECT count(*) FROM plan").fetchone()[0]
    except sqlite3.Error as error:
        return Finding("truth", "wrong", f"{database}: {error}")
    return Finding("truth", "ok", f"{database}, {plans} plans")


def _server(database: PostgresUrl) -> Iterator[Finding]:
    from theory_api.adapters.sql.postgres.inspect import inspect  # noqa: PLC0415 - a driver

    try:
        seen = asyncio.run(inspect(database.url))
    except TheoryError as error:
        yield Finding("truth", "wrong", f"{database}: {error.code}: {error.message}")
        return
    if seen.unsafe:
        text = f"{database}: the server loses commits in a crash: {', '.join(seen.unsafe)}"
        yield Finding("truth", "wrong", text)
    elif seen.plans is None:
        yield Finding("truth", "note", f"{database}: the first plan makes its tables")
    else:
        yield Finding("truth", "ok", f"{database}, {seen.version}, {seen.plans} plans")
    if seen.shards is not None:
        yield _owners(seen.shards, seen.owners)


def _owners(count: int, owners: Mapping[str, str]) -> Finding:
    """Who serves what; nobody serves anything while no scheduler runs."""
    shares: dict[str, list[str]] = {}
    for shard, owner in sorted(owners.items()):
        shares.setdefault(owner, []).append(shard)
    told = "".join(f"; {owner}: {', '.join(names)}" for owner, names in sorted(shares.items()))
    standing: Standing = "ok" if len(owners) == count else "note"
    return Finding("shards", standing, f"{len(owners)} of {count} are served{told}")


def _heads(settings: Settings) -> Iterator[Finding]:
    """Whether a scheduler would start over these ledgers, where heads are kept elsewhere."""
    if settings.ledger_heads is None:
        return
    from theory_api.wiring import heads_hold  # noqa: PLC0415 - all adapters

    try:
        count = asyncio.run(heads_hold(settings))
    except TheoryError as error:
        yield Finding("heads", "wrong", f"{error.code}: {error.message}. {remedy(error.code)}")
    else:
        yield Finding("heads", "ok", f"{settings.ledger_heads}: the ledgers hold all {count}")


def _registry(settings: Settings) -> Iterator[Finding]:
    from theory_api.delivery.snapshot import load_registry  # noqa: PLC0415 - a schema compiler

    try:
        snapshot = load_registry(settings.registry)
    except TheoryError as error:
        yield Finding("registry", "wrong", f"{error.code}: {error.message}. {remedy(error.code)}")
    else:
        yield Finding("registry", "ok", f"{settings.registry}, snapshot {snapshot.id}")


def _processors(settings: Settings) -> Iterator[Finding]:
    found = sorted(path.parent for path in settings.processors.glob("*/*/*/main.py"))
    if not found:
        yield Finding(
            "processors", "wrong", f"none in {settings.processors}; set THEORY_PROCESSORS"
        )
    else:
        yield Finding("processors", "ok", f"{len(found)} in {settings.processors}")
    for name in _WHEELS:
        wheels = sorted(settings.wheels.glob(f"{name}-*.whl"))
        if wheels:
            yield Finding("wheel", "ok", wheels[-1].name)
        else:
            text = f"no {name} in {settings.wheels}: run make setup, or set THEORY_WHEELS"
            yield Finding("wheel", "wrong", text)
    environments = settings.cache / "environments"
    made = [entry for entry in _folders(environments) if (entry / "bin" / "python").exists()]
    text = f"{len(made)} in {environments}; missing ones are made when they are needed"
    yield Finding("environments", "ok" if made else "note", text)


def _engine(settings: Settings) -> Iterator[Finding]:
    """Whether containers can be run; plans do without."""
    from theory_api.adapters.docker.engine import USUAL, knock  # noqa: PLC0415 - one adapter's

    address = settings.docker_host or USUAL
    try:
        knock(settings.docker_host)
    except OSError:
        text = f"none answers at {address}; only the adapter local needs one"
        yield Finding("engine", "note", text)
    else:
        yield Finding("engine", "ok", f"Docker at {address}")


def _folders(parent: Path) -> list[Path]:
    return [entry for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []


CHECKS: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    _python,
    _home,
    _truth,
    _heads,
    _registry,
    _processors,
    _engine,
)
"""Every check, in the order of the report."""

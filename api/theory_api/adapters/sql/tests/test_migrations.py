"""The migrations lead to the tables that the program believes in, and back."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool

from theory_api.adapters.files.lock import WriterLock
from theory_api.adapters.sql import upgrade
from theory_api.adapters.sql.models import HEAD, Base
from theory_api.adapters.sql.upgrade import migrate, require_current, schema_version
from theory_core import TheoryError

TABLES = (
    "SELECT name, sql FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%' ORDER BY 1"
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "theory.db"


@pytest.fixture
def lock(tmp_path: Path) -> WriterLock:
    return WriterLock(tmp_path / "writer.lock")


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    made = create_engine(URL.create("sqlite", database=str(database)), poolclass=NullPool)
    yield made
    made.dispose()


def up(database: Path, migrations: Path, lock: WriterLock) -> None:
    asyncio.run(upgrade.upgrade(database, migrations, lock))


def schema(database: Path, kind: str) -> dict[str, str]:
    with sqlite3.connect(database) as connection:
        found = connection.execute(TABLES, (kind,)).fetchall()
    connection.close()
    return {name: sql for name, sql in found if name != "alembic_version"}


def code_of(caught: pytest.ExceptionInfo[TheoryError]) -> str:
    return caught.value.code


def test_up_down_up_ends_where_it_began(database: Path, migrations: Path, lock: WriterLock) -> None:
    assert schema_version(database) is None
    up(database, migrations, lock)
    first = {kind: schema(database, kind) for kind in ("table", "index", "trigger")}
    migrate(database, migrations, "base")
    assert schema_version(database) is None
    assert schema(database, "table") == {}
    up(database, migrations, lock)
    assert {kind: schema(database, kind) for kind in ("table", "index", "trigger")} == first
    assert schema_version(database) == HEAD


def test_the_migrated_tables_are_those_of_the_models(
    database: Path, migrations: Path, lock: WriterLock, engine: Engine, tmp_path: Path
) -> None:
    up(database, migrations, lock)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    other = tmp_path / "models.db"
    made = create_engine(URL.create("sqlite", database=str(other)), poolclass=NullPool)
    Base.metadata.create_all(made)
    made.dispose()
    for kind in ("table", "index"):
        assert schema(database, kind) == schema(other, kind)


def test_the_program_knows_the_newest_migration(migrations: Path) -> None:
    assert ScriptDirectory(str(migrations)).get_current_head() == HEAD


def test_a_database_at_the_head_needs_neither_alembic_nor_the_lock(
    database: Path, migrations: Path, lock: WriterLock
) -> None:
    up(database, migrations, lock)
    lock.acquire()
    script = (
        "import asyncio, sys, pathlib\n"
        "from theory_api.adapters.files.lock import WriterLock\n"
        "from theory_api.adapters.sql.upgrade import upgrade\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "lock = WriterLock(home / 'writer.lock')\n"
        "asyncio.run(upgrade(home / 'theory.db', pathlib.Path(sys.argv[2]), lock))\n"
        "sys.exit('alembic.command' in sys.modules)\n"
    )
    command_line = [sys.executable, "-c", script, str(database.parent), str(migrations)]
    assert subprocess.run(command_line, check=False).returncode == 0
    lock.release()


def test_nothing_migrates_beside_a_writer(
    database: Path, migrations: Path, lock: WriterLock
) -> None:
    lock.acquire()
    other = WriterLock(database.parent / "writer.lock")
    with pytest.raises(TheoryError) as caught:
        up(database, migrations, other)
    assert code_of(caught) == "ERR_NOT_WRITER"
    lock.release()
    assert not database.exists()


@pytest.mark.parametrize("content", ["CREATE TABLE diary (day TEXT)", None])
def test_a_file_of_something_else_stays_untouched(
    database: Path, migrations: Path, lock: WriterLock, content: str | None
) -> None:
    if content is None:
        database.write_bytes(b"not a database at all, but long enough to have a header" * 40)
    else:
        connection = sqlite3.connect(database)
        connection.execute(content)
        connection.close()
    before = database.read_bytes()
    with pytest.raises(TheoryError) as caught:
        up(database, migrations, lock)
    assert code_of(caught) == "ERR_CONFLICT"
    assert database.read_bytes() == before


def test_a_database_of_a_newer_version_is_refused(
    database: Path, migrations: Path, lock: WriterLock
) -> None:
    up(database, migrations, lock)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    for attempt in (
        partial(migrate, database, migrations, HEAD),
        partial(require_current, database),
    ):
        with pytest.raises(TheoryError) as caught:
            attempt()
        assert code_of(caught) == "ERR_CONFLICT"
        assert "9999" in caught.value.message


def test_a_reader_is_told_that_there_is_nothing_yet(
    database: Path, migrations: Path, lock: WriterLock
) -> None:
    with pytest.raises(TheoryError) as caught:
        require_current(database)
    assert code_of(caught) == "ERR_NOT_FOUND"
    up(database, migrations, lock)
    require_current(database)


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database: Path, tmp_path: Path, migrations: Path, lock: WriterLock
) -> None:
    history = tmp_path / "history"
    (history / "versions").mkdir(parents=True)
    (history / "env.py").write_bytes((migrations / "env.py").read_bytes())
    for script in (migrations / "versions").glob("*.py"):
        text = script.read_text()
        if script.name.startswith("0001_"):
            text = text.replace("create_parts_of_plans()\n    sqlite", "1 / 0\n    sqlite")
            assert "1 / 0" in text
        (history / "versions" / script.name).write_text(text)
    with pytest.raises(ZeroDivisionError):
        up(database, history, lock)
    assert schema(database, "table") == {}
    up(database, migrations, lock)
    assert schema_version(database) == HEAD


@pytest.mark.parametrize(
    ("dialect", "fragment"),
    [("sqlite", "RAISE(ABORT"), ("postgresql", "BEFORE TRUNCATE"), ("postgresql", 'COLLATE "C"')],
)
def test_the_history_can_be_printed_for_both_dialects(
    migrations: Path, dialect: str, fragment: str
) -> None:
    printed = io.StringIO()
    config = Config(output_buffer=printed)
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("sqlalchemy.url", f"{dialect}://")
    command.upgrade(config, HEAD, sql=True)
    assert "CREATE TABLE ledger_event" in printed.getvalue()
    assert fragment in printed.getvalue()

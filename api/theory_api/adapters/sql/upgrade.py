"""Brings a database to the tables of this version, by its migrations."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from theory_api.adapters.sql.exclusion import Exclusion
from theory_api.adapters.sql.faults import unavailable
from theory_api.adapters.sql.models import HEAD
from theory_core import TheoryError

_VERSION: Final = "SELECT version_num FROM alembic_version"
_TABLES: Final = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"


def schema_version(database: Path) -> str | None:
    """The migration that a database file is at; None for one without tables, or no file.

    Changes nothing. Raises `TheoryError` `ERR_CONFLICT` for a database of something else,
    `ERR_UNAVAILABLE`.
    """
    if not database.exists():
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)
        try:
            tables = connection.execute(_TABLES).fetchone()[0]
            if tables == 0:
                return None
            found = connection.execute(_VERSION).fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise _foreign() from error
        raise unavailable(error) from error
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise _foreign() from error
        raise unavailable(error) from error
    if found is not None:
        return str(found[0])
    if tables > 1:
        raise _foreign()
    return None


def require_current(database: Path) -> None:
    """Refuse a database that this version cannot read.

    Raises `TheoryError` `ERR_NOT_FOUND` when there is none yet, `ERR_CONFLICT` for one of another
    version, and what `schema_version` raises.
    """
    version = schema_version(database)
    if version is None:
        message = f"there is no state here yet: {database} does not exist or is empty"
        raise TheoryError("ERR_NOT_FOUND", message)
    if version != HEAD:
        raise other_version(version)


async def upgrade(database: Path, migrations: Path, exclusion: Exclusion) -> None:
    """Make the database, or bring it to this version; returns at once when nothing is to do.

    `migrations` is the folder of the migration history. Raises `TheoryError`: `ERR_NOT_WRITER`
    while another process writes there, `ERR_CONFLICT` for a database of a newer version or of
    something else, `ERR_UNAVAILABLE`. A migration that is interrupted leaves the database as it
    was.
    """
    await asyncio.to_thread(_upgrade, database, migrations, exclusion)


def _upgrade(database: Path, migrations: Path, exclusion: Exclusion) -> None:
    if schema_version(database) == HEAD:
        return
    exclusion.acquire()
    try:
        if schema_version(database) != HEAD:
            migrate(database, migrations, HEAD)
            _remember(database.parent)
    finally:
        exclusion.release()


def migrate(database: Path, migrations: Path, revision: str) -> None:
    """Run migrations up or down to a revision; the caller holds the exclusion."""
    run_migrations({"database": database}, migrations, revision, schema_version(database))


def run_migrations(
    given: Mapping[str, Any], migrations: Path, revision: str, current: str | None
) -> None:
    """Run the history of a folder on what `given` hands to its environment.

    Raises `TheoryError`: `ERR_CONFLICT` for a database at a version that the history does not
    know, `ERR_UNAVAILABLE`.
    """
    # Alembic takes a second to import, and nearly every start finds nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes.update(given)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise other_version(current)
    lower = revision == "base" or (current is not None and revision < current)
    try:
        (command.downgrade if lower else command.upgrade)(config, revision)
    except SQLAlchemyError as error:
        raise unavailable(getattr(error, "orig", None) or error) from error
    except CommandError as error:
        message = "the migration history of this installation is not sound"
        raise TheoryError("ERR_UNAVAILABLE", message) from error


def _remember(folder: Path) -> None:
    """Make the new file's name durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _foreign() -> TheoryError:
    return TheoryError("ERR_CONFLICT", "this file is not a Theory database; it stays untouched")


def other_version(version: str) -> TheoryError:
    """The refusal of a database that a newer or older program made."""
    message = f"this database is at version {version[:32]}, this program at {HEAD}: update one"
    return TheoryError("ERR_CONFLICT", message)

"""Runs the migrations: on the file or connection that the program hands over, or as SQL text.

Law: one connection, closed before any other one writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import context
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.pool import NullPool

from theory_api.adapters.sql.models import Base
from theory_api.adapters.sql.statements import SESSION

RULES: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "compare_type": True,
    "transactional_ddl": True,
    "transaction_per_migration": True,
}


def write_text() -> None:
    """Print the statements for the dialect of `sqlalchemy.url`."""
    url = context.config.get_main_option("sqlalchemy.url", "sqlite://")
    context.configure(url=url, literal_binds=True, **RULES)
    with context.begin_transaction():
        context.run_migrations()


def migrate(database: Path) -> None:
    """Change a SQLite file; each migration is one transaction, its DDL included."""
    engine = create_engine(URL.create("sqlite", database=str(database)), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401
        connection.isolation_level = None
        for statement in SESSION:
            connection.execute(statement)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection:
        context.configure(connection=connection, render_as_batch=True, **RULES)
        with context.begin_transaction():
            context.run_migrations()


def migrate_over(connection: Connection) -> None:
    """Change the database of a connection that its owner opened, and closes."""
    context.configure(connection=connection, **RULES)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write_text()
elif "connection" in context.config.attributes:
    migrate_over(context.config.attributes["connection"])
else:
    migrate(context.config.attributes["database"])

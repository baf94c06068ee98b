"""Makes a database and brings an older one up to date, with a backup first; all or nothing.

Takes an SQLAlchemy connection inside a transaction, or a path; the migrations are Alembic's, in migrations/.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from agent.errors import StoreError
from agent.store import views

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent / "migrations"
# The newest version; a constant, so that opening an up-to-date database needs no Alembic.
HEAD = "0018"
# In the header of the file, for `file runs.db` and for telling our databases from others: "Cadd".
APPLICATION_ID = 0x43616464


def version(connection: Connection) -> str | None:
    """The version of a Caddie database; None when there is no table at all."""
    tables = _tables(connection)
    if not tables:
        return None
    if not {"alembic_version", "campaigns", "runs"} <= tables:
        known = ", ".join(sorted(tables)[:6])
        raise StoreError(f"it is a database, but not one of Caddie's (tables: {known}). Move it away and start again.")
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is None:
        raise StoreError("it says no version: it was changed by hand")
    return str(found)


def is_newer(found: str) -> bool:
    """Versions are numbers in order, so whatever isn't among ours comes from a newer Caddie."""
    return found > HEAD


def upgrade(connection: Connection, scripts: Path = SCRIPTS) -> None:
    """Brings the schema to the newest version, on this connection and in its transaction."""
    from alembic import command

    for statement in views.drop():
        connection.exec_driver_sql(statement)
    command.upgrade(_config(connection, scripts), "head")
    for statement in views.create():
        connection.exec_driver_sql(statement)
    if connection.dialect.name == "sqlite":
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if orphans is not None:
            raise StoreError(f"the migration would break a reference in table {orphans[0]}; nothing was changed")


def _config(connection: Connection, scripts: Path) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _tables(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return {str(name) for name in connection.execute(text(query)).scalars()}


def backup(path: Path, old: str) -> Path:
    """A copy of the database beside it, whole even while others write; never over an earlier copy."""
    target = path.with_name(f"{path.name}.bak-{old}")
    number = 2
    while target.exists():
        target = path.with_name(f"{path.name}.bak-{old}.{number}")
        number += 1
    aside = path.with_name(f"{path.name}.new-{os.getpid()}")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(aside)) as copy,
    ):
        source.backup(copy)
    _settle(aside)
    aside.replace(target)
    _settle(path.parent)
    return target


def put_in_place(aside: Path, path: Path) -> None:
    """Gives a finished file its name, unless another process was first."""
    _settle(aside)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            aside.rename(path)
    aside.unlink(missing_ok=True)
    _settle(path.parent)


def sweep(path: Path) -> None:
    """Removes what a process that was killed while making a database left aside."""
    for left in path.parent.glob(f"{path.name}.new-*"):
        pid = left.name.split(".new-", 1)[1].split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """On the disk for good, the name included."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

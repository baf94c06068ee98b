"""Turns what a database says when it fails into words a person can act on.

Takes the exceptions of sqlite3 and SQLAlchemy; raises `StoreError`, or lets through what is a fault of ours.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from agent.errors import StoreError

NO_ROOM = 1_000_000  # bytes
_KEPT = "What was written before is safe and complete; the change that failed was taken back whole."


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Failures inside become StoreErrors that name the database."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_sqlite(error, where)) from error
    except IntegrityError:
        raise
    except DBAPIError as error:
        origin = error.orig
        if isinstance(origin, sqlite3.Error):
            if not _persons(origin):
                raise
            raise StoreError(_sqlite(origin, where)) from error
        if isinstance(error, OperationalError) or error.connection_invalidated:
            raise StoreError(f"{where}: the database server failed: {_first_line(error)}. {_KEPT}") from error
        raise


def _persons(error: sqlite3.Error) -> bool:
    """Whether the person can mend it; a misspelt column is ours to mend."""
    code = _code(error)
    return code in _WORDS or (isinstance(error, sqlite3.DatabaseError) and code in _BROKEN)


def _code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite; sqlite3 leaves it out where Python itself found the fault."""
    return getattr(error, "sqlite_errorcode", -1) & 0xFF


_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WORDS = {
    sqlite3.SQLITE_FULL: f"the disk is full. {_KEPT} Free some space and go on with `agent resume`.",
    sqlite3.SQLITE_READONLY: "it can't be written: the file, its folder or the file system is read-only.",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: is the folder there, and may it be written? "
    "SQLite keeps two more files beside it while it is in use.",
    sqlite3.SQLITE_PERM: "this user may not write it.",
    sqlite3.SQLITE_BUSY: f"another process wrote to it for more than 30 s. {_KEPT}",
    sqlite3.SQLITE_IOERR: f"the disk failed to read or write. {_KEPT} See `dmesg`.",
    sqlite3.SQLITE_NOMEM: "not enough memory.",
}


def _sqlite(error: sqlite3.Error, where: str) -> str:
    code = _code(error)
    if code in _BROKEN:
        return (
            f"{where}: is damaged or no SQLite database ({error}). Caddie changed nothing. "
            "Move it away and put a copy back (runs.db.bak-* are made before each change of version), "
            "or rescue it with `sqlite3 runs.db .recover`."
        )
    if code == sqlite3.SQLITE_IOERR and _no_room(where):
        code = sqlite3.SQLITE_FULL
    return f"{where}: {_WORDS.get(code, str(error))} ({error})"


def _no_room(where: str) -> bool:
    """SQLite calls it an I/O error when there is no room for the files that it keeps beside a database."""
    try:
        return shutil.disk_usage(Path(where).parent).free < NO_ROOM
    except OSError:
        return False


def _first_line(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]

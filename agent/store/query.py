"""Read-only SQL for people and planners: `query(store, "SELECT ...") -> Table`.

The database itself refuses everything but reading. On SQLite the file is opened read-only, an authorizer lets
only SELECT through and a progress handler ends what takes long; on PostgreSQL the statement is the body of a
cursor, which can only be a SELECT, in a READ ONLY transaction with a time limit. Rows, cells and values are
capped.
"""

import math
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any
from urllib.parse import quote

from agent.errors import StoreError, UserError, did_you_mean
from agent.store.faults import explained
from agent.store.open import Store
from agent.store.schema import metadata
from agent.store.views import VIEWS

Cell = str | int | float | None

MAX_CELL = 2000
_MAX_SQL = 100_000
# A single value that is built on the way (group_concat, printf): more than any diff, less than the memory.
_MAX_VALUE = 8 * 1024 * 1024
_MAX_COLUMNS = 100  # of a row that is held at once; three tables joined have fewer
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_STEPS = 100  # instructions of SQLite between two looks at the clock; one may build a whole value
# "no such table: x" on SQLite; relation "x" does not exist on PostgreSQL.
_UNKNOWN = re.compile(r"no such (?:table|column): (\S+)|(?:relation|column) \"?([\w.]+)\"? does not exist")
_ONLY = "only SELECT, WITH and EXPLAIN can be run here; nothing can be changed"


@dataclass(frozen=True)
class Table:
    """What a query gave."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    truncated: bool
    """There are more rows than these."""


def query(store: Store, sql: str, *, max_rows: int = 200, timeout_s: float = 5.0, max_cell: int = MAX_CELL) -> Table:
    """Runs one statement that reads. Raises UserError, in words, for any other and for one that fails."""
    words = sql.lstrip().rstrip("; \t\r\n")
    if not words:
        raise UserError("no SQL was given. Try: SELECT * FROM leaderboard LIMIT 10")
    if len(words) > _MAX_SQL:
        raise UserError(f"the SQL is longer than {_MAX_SQL} characters")
    if max_rows < 1 or not math.isfinite(timeout_s) or timeout_s <= 0:
        raise UserError("the caps on rows and time must be above zero")
    if store.path is not None:
        return _sqlite(store, words, max_rows, timeout_s, max_cell)
    return _postgres(store, words, max_rows, timeout_s, max_cell)


def _sqlite(store: Store, sql: str, max_rows: int, timeout_s: float, max_cell: int) -> Table:
    deadline = time.monotonic() + timeout_s
    with explained(store.where):
        connection = sqlite3.connect(f"file:{quote(str(store.path))}?mode=ro", uri=True, isolation_level=None)
    with closing(connection):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, _MAX_COLUMNS)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
        try:
            cursor = connection.execute(sql)
            rows = list(islice((_row(row, max_cell) for row in cursor), max_rows + 1))
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _explain(error, store.where, timeout_s) from error
        if cursor.description is None:
            raise UserError(_ONLY)
        return _table([column[0] for column in cursor.description], rows, max_rows)


def _authorize(action: int, first: str | None, second: str | None, *rest: str | None) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _explain(error: Exception, where: str, timeout_s: float) -> UserError:
    code = getattr(error, "sqlite_errorcode", -1)
    if code == sqlite3.SQLITE_INTERRUPT:
        return UserError(f"the query took longer than {timeout_s:g} s and was ended; ask for less, or use an index")
    if code == sqlite3.SQLITE_AUTH:
        return UserError(_ONLY)
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
        return StoreError(f"{where}: {error}")
    return _failed(str(error))


def _postgres(store: Store, sql: str, max_rows: int, timeout_s: float, max_cell: int) -> Table:
    """The extended protocol (`prepare`) takes one statement only, and a cursor's body can only be a query."""
    import psycopg

    explain = sql.split(None, 1)[0].lower() == "explain"
    try:
        with store.read() as reads, closing(reads.connection.connection.cursor()) as opened:
            cursor: Any = opened
            cursor.execute(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")
            if explain:
                cursor.execute(sql, prepare=True)
            else:
                cursor.execute(f"DECLARE asked NO SCROLL CURSOR FOR {sql}", prepare=True)
                cursor.execute(f"FETCH FORWARD {max_rows + 1} FROM asked")
            names = [column.name for column in cursor.description or ()]
            return _table(names, [_row(row, max_cell) for row in cursor.fetchmany(max_rows + 1)], max_rows)
    except psycopg.errors.QueryCanceled as error:
        raise UserError(f"the query took longer than {timeout_s:g} s and was ended; ask for less") from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise UserError(_ONLY) from error
    except psycopg.Error as error:
        raise _failed(str(error).splitlines()[0]) from error


def _failed(words: str) -> UserError:
    """In the database's words, and with the name that was meant where one is close."""
    unknown = _UNKNOWN.search(words)
    if unknown is None:
        return UserError(f"SQL: {words}")
    known = {*VIEWS, *metadata.tables}
    name = (unknown[1] or unknown[2]).rpartition(".")[2]
    if "column" in words:
        known = {column.name for table in metadata.tables.values() for column in table.columns}
        if name in known:
            of = ", ".join(sorted(table.name for table in metadata.tables.values() if name in table.columns))
            return UserError(f"SQL: {words}. That is a column of {of}.")
    hint = did_you_mean(name, sorted(known)) or " docs/store.md lists the tables and views."
    return UserError(f"SQL: {words}.{hint}")


def _table(names: list[str], rows: list[tuple[Cell, ...]], max_rows: int) -> Table:
    return Table(tuple(names), tuple(rows[:max_rows]), truncated=len(rows) > max_rows)


def _row(values: tuple[object, ...], max_cell: int) -> tuple[Cell, ...]:
    return tuple(_cell(value, max_cell) for value in values)


def _cell(value: object, max_cell: int) -> Cell:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return float(value)
    if isinstance(value, bytes | memoryview):
        return f"<{len(value):,} bytes>"
    text = str(value)
    return text if len(text) <= max_cell else f"{text[: max_cell - 1]}…"

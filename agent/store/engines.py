"""Connections to the database of either kind, and how their transactions begin.

SQLite: WAL, synchronous=FULL, foreign keys, writers start with BEGIN IMMEDIATE and wait 30 s for each other,
readers have connections of their own that can't write. PostgreSQL: a writer first takes one advisory lock,
which gives the same thing (one writer at a time, each sees all that was committed before), so the same code
is right on both; readers see one snapshot.
"""

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from agent.errors import StoreError, to_install

_WAIT_MS = 30_000
# A process that was stopped, or whose machine is gone, in the middle of a write must not keep its locks for ever.
_IDLE_MS = 15_000
_WRITER_LOCK = 0x43616464  # any number, the same for all


def engine_of(url: URL, *, write: bool, alone: bool = True) -> Engine:
    """For readers or for writers; `alone`: a writer waits for all others, else for those at the same rows.

    Raises StoreError where a driver is missing.
    """
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url)
        else:
            engine = create_engine(url, pool_pre_ping=True, connect_args=_patience(url))
    except ModuleNotFoundError as error:
        raise StoreError(f"PostgreSQL needs a driver: {to_install('postgres')} ({error})") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_writer if write else _prepare_reader)
        event.listen(engine, "begin", _begin_immediate if write else _begin)
    else:
        event.listen(engine, "begin", (_begin_locked if alone else _begin_shared) if write else _begin_snapshot)
    return engine


def without_foreign_keys(engine: Engine) -> None:
    """Batch migrations drop and rebuild tables; references are checked as a whole at the end."""
    event.listen(engine, "connect", _no_foreign_keys)


def _no_foreign_keys(connection: DBAPIConnection, entry: ConnectionPoolEntry | None) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()


def _patience(url: URL) -> dict[str, int]:
    """A link to a server that went away without a word is given up after half a minute, not after two hours. What the
    URL says itself stands."""
    usual = {"connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4}
    return {name: value for name, value in {**usual, "tcp_user_timeout": 30_000}.items() if name not in url.query}


def _prepare_writer(connection: DBAPIConnection, entry: ConnectionPoolEntry | None) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions of its own
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _prepare_reader(connection: DBAPIConnection, entry: ConnectionPoolEntry | None) -> None:
    _prepare_writer(connection, entry)
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_locked(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_WAIT_MS}")
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_MS}")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")


def _begin_shared(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_WAIT_MS}")
    connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_MS}")


def _begin_snapshot(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

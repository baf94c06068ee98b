"""Opens runs.db, or makes it: `open_store(path or URL) -> Store`.

One writer at a time, on either kind of database (`engines`). What many machines change at once, row by row (jobs,
leases), is written by `share`, which waits for nobody but those at the same rows. Raises StoreError, in words, for
what a person must mend.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from agent.errors import StoreError
from agent.store import migrate
from agent.store.engines import engine_of, without_foreign_keys
from agent.store.faults import explained
from agent.store.mounts import network_file_system_of
from agent.store.reads import Reads
from agent.store.writes import Tx

# Up to this size every opening checks the whole file (about 0.1 s); above, `agent doctor` does.
CHECKED_BYTES = 64 * 1024 * 1024

Fence = Callable[[Connection], None]


class Store:
    """One open database. Threads may share it; each read and write has a connection of its own."""

    def __init__(self, url: URL, path: Path | None) -> None:
        self.path = path
        """The file; None on a server."""
        self.told = 0
        """Events that were added through this object: what more there are came from elsewhere."""
        self.url = url
        self.where = str(path) if path else url.render_as_string(hide_password=True)
        self._writer, self._reader = engine_of(url, write=True), engine_of(url, write=False)
        self._sharer = self._writer if path else engine_of(url, write=True, alone=False)
        self._fences: list[Fence] = []
        self._pid = os.getpid()
        self._inside = threading.local()

    @contextlib.contextmanager
    def read(self) -> Iterator[Reads]:
        """What was committed when it began, unchanged until it ends."""
        self._after_fork()
        with explained(self.where), self._reader.begin() as connection:
            yield Reads(connection)

    @contextlib.contextmanager
    def write(self) -> Iterator[Tx]:
        """All that is written inside becomes durable at its end, or nothing of it."""
        self._after_fork()
        if getattr(self._inside, "writing", False):
            raise RuntimeError("a write inside a write would wait for itself")
        self._inside.writing = True
        try:
            with explained(self.where), self._writer.begin() as connection:
                for fence in tuple(self._fences):
                    fence(connection)
                tx = Tx(connection)
                yield tx
            self.told += tx.told
        finally:
            self._inside.writing = False

    @contextlib.contextmanager
    def share(self) -> Iterator[Connection]:
        """A short write to rows that several machines change: all or nothing, and no fence asked."""
        self._after_fork()
        if getattr(self._inside, "writing", False):
            raise RuntimeError("a write inside a write would wait for itself")
        with explained(self.where), self._sharer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def fenced(self, fence: Fence) -> Iterator[None]:
        """While inside, each `write` of this process begins by asking: what raises there takes the write back."""
        self._fences.append(fence)
        try:
            yield
        finally:
            self._fences.remove(fence)

    def check(self) -> None:
        """Reads every page; raises StoreError at the first fault."""
        if self.path is None:
            return
        with explained(self.where), self._reader.begin() as connection:
            _sound(connection, "integrity_check", self.where)
            orphan = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if orphan is not None:
            raise StoreError(f"{self.where}: table {orphan[0]} refers to a row of {orphan[2]} that is not there")

    def close(self) -> None:
        for engine in (self._writer, self._reader, self._sharer):
            engine.dispose()

    def _after_fork(self) -> None:
        """A connection must not be used on both sides of a fork."""
        if self._pid != os.getpid():
            for engine in (self._writer, self._reader, self._sharer):
                engine.dispose(close=False)
            self._pid = os.getpid()
            self._inside = threading.local()


def open_store(where: Path | str, *, create: bool = True) -> Store:
    """The store in this file or at this URL; made if it is not there, brought up to date if it is older."""
    if isinstance(where, str) and "://" in where:
        url, path = _url(where)
    else:
        url, path = URL.create("sqlite", database=str(Path(where).absolute())), Path(where).absolute()
    if path is None:
        return _server(url, create)
    with explained(str(path)):
        _refuse(path)
        if not path.exists():
            if not create:
                raise StoreError(f"{path}: no runs here yet. `agent start` makes it.")
            _make(path)
        elif path.stat().st_size == 0:
            raise StoreError(f"{path}: is empty, not one of Caddie's databases. Remove it and start again.")
        store = Store(url, path)
        try:
            _bring_up_to_date(store, path)
            _bring_wal_back(store)
        except BaseException:
            store.close()
            raise
    return store


def _url(where: str) -> tuple[URL, Path | None]:
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StoreError(f"{where!r} is no database URL: {error}") from error
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise StoreError("a database in memory would lose everything; give a file")
        return url, Path(url.database).absolute()
    if url.get_backend_name() != "postgresql":
        raise StoreError(f"{url.get_backend_name()}: only SQLite files and PostgreSQL are supported")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url, None


def _refuse(path: Path) -> None:
    """What can't work, before anything is touched."""
    if path.is_dir():
        raise StoreError(f"{path}: is a folder, not a database. Move it away.")
    if os.path.lexists(path) and not path.is_file():
        what = "is a link to nothing" if path.is_symlink() else "is no plain file"
        raise StoreError(f"{path}: {what}. Move it away.")
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: no such folder")
    kind = network_file_system_of(path)
    if kind is not None:
        raise StoreError(
            f"{path}: lies on a network file system ({kind}), where SQLite's locks can't be trusted and "
            "runs could be lost. Work in a folder on a local disk, or give a PostgreSQL URL."
        )
    if not os.access(path.parent, os.W_OK):
        raise StoreError(
            f"{path.parent}: can't be written. SQLite keeps files beside runs.db while it is in use. "
            "Work on a copy of the folder, or make it writable."
        )


def _make(path: Path) -> None:
    """A new database, made aside and moved into place: a kill leaves all of it or nothing."""
    migrate.sweep(path)
    aside = path.with_name(f"{path.name}.new-{os.getpid()}-{threading.get_ident()}")
    aside.unlink(missing_ok=True)
    engine = engine_of(URL.create("sqlite", database=str(aside)), write=True)
    try:
        with engine.begin() as connection:
            migrate.upgrade(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {migrate.APPLICATION_ID}")
        _keep_wal(engine)
        engine.dispose()
        migrate.put_in_place(aside, path)
    finally:
        engine.dispose()
        aside.unlink(missing_ok=True)


def _bring_wal_back(store: Store) -> None:
    """Somebody may have made the file anew, by .recover or VACUUM INTO.

    Its header would say so, too, but who closes a file loses all of the process' locks on it, SQLite's among them.
    """
    with store._reader.begin() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    if mode != "wal":
        _keep_wal(store._writer)


def _keep_wal(engine: Engine) -> None:
    """Readers wait for no writer from now on: the file remembers it."""
    with contextlib.closing(engine.raw_connection()) as raw:
        raw.cursor().execute("PRAGMA journal_mode = WAL")


def _bring_up_to_date(store: Store, path: Path) -> None:
    with store._reader.begin() as connection:
        found = _version(connection, store.where)
        if path.stat().st_size <= CHECKED_BYTES:
            _sound(connection, "quick_check", store.where)
    if found == migrate.HEAD:
        return
    migrate_file(store, path, found)


def migrate_file(store: Store, path: Path, found: str, scripts: Path = migrate.SCRIPTS) -> None:
    """From an older version to the newest; the old file stays beside it."""
    migrate.backup(path, found)
    engine = engine_of(store.url, write=True)
    without_foreign_keys(engine)
    try:
        with engine.begin() as connection:
            if _version(connection, store.where) == found:  # else another process was first
                migrate.upgrade(connection, scripts)
    finally:
        engine.dispose()


def _version(connection: Connection, where: str) -> str:
    try:
        found = migrate.version(connection)
    except StoreError as error:
        raise StoreError(f"{where}: {error}") from error
    if found is None:
        raise StoreError(f"{where}: is an empty database, not one of Caddie's. Remove it and start again.")
    if migrate.is_newer(found):
        raise StoreError(
            f"{where}: was written by a newer Caddie (tables {found}, this one knows {migrate.HEAD}). "
            "Update Caddie; nothing was changed."
        )
    return found


def _sound(connection: Connection, check: str, where: str) -> None:
    said = connection.exec_driver_sql(f"PRAGMA {check}(1)").scalar()
    if said != "ok":
        raise StoreError(
            f"{where}: is damaged ({said}). Caddie changed nothing. Put a copy back (runs.db.bak-*), "
            "or rescue it with `sqlite3 runs.db .recover`."
        )


def _server(url: URL, create: bool) -> Store:
    """On a server there is no file to move into place: making it is one transaction."""
    store = Store(url, None)
    try:
        with explained(store.where), store._writer.begin() as connection:
            found = migrate.version(connection)
            if found is None and not create:
                raise StoreError(f"{store.where}: no runs here yet. `agent start` makes it.")
            if found is None or (not migrate.is_newer(found) and found != migrate.HEAD):
                migrate.upgrade(connection)
            elif migrate.is_newer(found):
                _version(connection, store.where)
    except BaseException:
        store.close()
        raise
    return store

"""A PostgreSQL server of our own on a loopback port, from the system's binaries, for tests that need one.

`fresh_url()` gives a database with Caddie's tables, `empty_url()` one without; where there is no PostgreSQL,
both skip the test and say why.
"""

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from agent.store import open_store
from sandbox import tree
from tests.absent import absent, package
from tests.processes import until

_numbers = itertools.count()


def fresh_url() -> str:
    needed()
    return _server().database(_template())


def empty_url() -> str:
    needed()
    return _server().database()


@functools.cache
def _template() -> str:
    """Making the tables once and copying them is quicker than making them for each test."""
    url = _server().database()
    open_store(url).close()
    return url.rpartition("/")[2]


class Server:
    """Makes its folder and its data; `start` serves."""

    def __init__(self) -> None:
        self._program = _programs()[-1]
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self.folder / "data"
        if os.getuid() == 0:
            shutil.chown(self.folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        (self.folder / "log").touch()
        words = ("-U", "caddie", "-A", "trust", "--no-instructions", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", self._data, *words)

    @property
    def url(self) -> str:
        return f"postgresql://caddie@127.0.0.1:{self._port}"

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-o", options, "-l", self._data / "server.log", "start")

    def kill(self) -> None:
        """All of its processes at once, with SIGKILL: what was not written down is gone."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        below = tree.descendants({first})
        tree.signal_all(below.values(), signal.SIGKILL)
        until(lambda: all(tree.look(pid) is None for pid in below), what="the end of PostgreSQL")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, template: str = "template0") -> str:
        """The URL of a new one."""
        import psycopg

        name = f"caddie_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return f"{self.url}/{name}"

    def _run(self, program: str, *words: str | Path) -> None:
        as_user = {"user": self._user} if os.getuid() == 0 else {}
        with Path(self.folder, "log").open("ab") as log:
            subprocess.run(  # type: ignore[call-overload]
                (self._program / program, *words),
                check=True,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                timeout=60,
                **as_user,
            )


def needed() -> None:
    """Skips the test where there is no PostgreSQL, or fails it where CI is set."""
    if not _programs():
        absent("no PostgreSQL here: no binaries in /usr/lib/postgresql (apt-get install postgresql)")
    package("psycopg")


def _programs() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []


@functools.cache
def _server() -> Server:
    found = Server()
    found.start()
    atexit.register(found.stop)
    return found

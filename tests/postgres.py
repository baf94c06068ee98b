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
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.store import open_store

_numbers = itertools.count()


def fresh_url() -> str:
    return _database(_template())


def empty_url() -> str:
    return _database("template0")


@functools.cache
def _template() -> str:
    """Making the tables once and copying them is quicker than making them for each test."""
    url = _database("template0")
    open_store(url).close()
    return url.rpartition("/")[2]


def _database(template: str) -> str:
    url, why_not = _server()
    if why_not:
        pytest.skip(f"no PostgreSQL here: {why_not}")
    import psycopg

    name = f"caddie_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return f"{url}/{name}"


@functools.cache
def _server() -> tuple[str, str]:
    """The URL of the server without a database, or why there is none."""
    bins = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
    if not bins:
        return "", "no binaries in /usr/lib/postgresql (apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        return "", "pip install 'psycopg[binary]'"
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, program = folder / "data", bins[-1]

    def run(*argv: str | Path) -> None:
        as_user = {"user": user} if os.getuid() == 0 else {}
        with Path(folder, "log").open("ab") as log:
            subprocess.run(argv, check=True, stdout=log, stderr=log, cwd=folder, timeout=60, **as_user)  # type: ignore[call-overload]

    (folder / "log").touch()
    run(
        program / "initdb",
        "-D",
        data,
        "-U",
        "caddie",
        "-A",
        "trust",
        "--no-instructions",
        "-E",
        "UTF8",
        "--locale=C",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    run(program / "pg_ctl", "-D", data, "-w", "-o", options, "-l", data / "server.log", "start")

    @atexit.register
    def stop() -> None:
        run(program / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    return f"postgresql://caddie@127.0.0.1:{port}", ""

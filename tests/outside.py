"""A world of two machines, each a network namespace with an end of one cable; run by the tests of what a run sends.

`python -m tests.outside '{"what": "confined", "code": ...}'` in a new network namespace: it runs a candidate there that
no wall holds, and prints what came of it as JSON; then what an innocent process beside it printed. The other machine
listens on 192.0.2.2, port 7000: it says hello and reads what comes. It calls 192.0.2.1, port 22, again and again.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import sandbox.confined
from agent.judge import session
from agent.runners import shepherd
from sandbox import Confined, Limits, Policy
from sandbox.walls import Stack
from tests.judging import make_job
from tests.shepherding import Job

OTHER, PORT = "192.0.2.2", 7000
CLONE_NEWNET = 0x4000_0000
OPEN = Stack("pod", ("pod", "traffic"))
UID = 61_183  # nobody else is
# Any user can get to the system's own.
PYTHON = (shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-I", "-S", "-c")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def other_machine() -> int:
    """Its process; it listens when this returns."""
    plugged, listening = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_other(plugged[0], listening[1])
    os.read(listening[0], 1)
    ip("link add here type veth peer name there")
    ip(f"link set there netns {pid}")
    for words in ("link set lo up", "addr add 192.0.2.1/24 dev here", "link set here up"):
        ip(words)
    os.write(plugged[1], b"x")
    os.read(listening[0], 1)
    return pid


def _be_other(plugged: int, listening: int) -> NoReturn:
    try:
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
            raise OSError("no second network namespace")
        os.write(listening, b"x")
        os.read(plugged, 1)
        ip(f"addr add {OTHER}/24 dev there")
        ip("link set there up")
        with socket.create_server((OTHER, PORT)) as server:
            os.write(listening, b"x")
            Thread(target=_call, daemon=True).start()
            while True:
                Thread(target=_greet, args=(server.accept()[0],), daemon=True).start()
    finally:
        os._exit(1)


def _greet(talk: socket.socket) -> None:
    with talk, suppress(OSError):
        talk.send(b"hello")
        while talk.recv(1 << 16):
            pass


def _call() -> None:
    while True:
        with suppress(OSError), socket.create_connection(("192.0.2.1", 22)) as talk:
            talk.send(b"who is there?")
        time.sleep(0.05)


def innocent_of(code: str) -> "subprocess.Popen[str]":
    """A process of somebody else's, which has said that it is ready."""
    process = subprocess.Popen([*PYTHON, code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def confined(folder: Path, code: str, uid: bool = False) -> str:
    """How a candidate ended."""
    out = folder / "out"
    out.mkdir()
    folder.chmod(0o755)
    ended = Confined(
        (*PYTHON, code),
        cwd=out,
        env={},
        limits=Limits(5, None, 400, 20, 2, 20),
        log=folder / "log",
        folder=out,
        policy=Policy(str(out), (), minimum="pod"),
        walls=replace(OPEN, uid=UID if uid else None),
    ).wait()
    return json.dumps(asdict(ended))


def job(folder: Path, code: str) -> str:
    """The result of a shepherd whose candidate has the code as its training."""
    made = Job.make(folder / "job", code, policy=Policy(str(folder / "job" / "out"), (), minimum="pod"))
    shepherd.main(str(made.paths.folder))
    return json.dumps(json.loads(made.paths.result.read_text()))


def scoring(folder: Path, how: str) -> str:
    """The answer of a judge session about an artifact that plays this trick."""
    task = make_job(folder / "job", how=how)
    return json.dumps(asdict(session.run(task, time.monotonic())))


def main(what: str, **asked: Any) -> None:
    other = other_machine()
    innocent = asked.pop("innocent", None)
    beside = innocent_of(innocent) if innocent else None
    # As behind walls that do not hold.
    sandbox.confined.stack = lambda policy: OPEN
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(WHAT[what](Path(folder), **asked))
    finally:
        os.kill(other, signal.SIGKILL)
        if beside is not None:
            beside.kill()
            print(beside.communicate()[0])


WHAT = {"confined": confined, "job": job, "scoring": scoring}

if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

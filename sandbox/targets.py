"""What lives on the host while the probe runs: listeners on loopback, and a process to harm.

Takes a word and a folder; gives where they are, and afterwards what reached them. Nothing here needs a thread: the
kernel keeps what arrives until we look.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

from sandbox import victim
from sandbox.probe.calls import call
from sandbox.probe.spec import Victim

VARIABLE = "CADDIE_PROBE_SECRET"  # of the victim's environment, and of ours while the probe runs
SIGNALS = ("signal_victim", "signal_group", "signal_thread", "signal_by_pidfd", "signal_by_pipe")
ANSWER_WITHIN_S = 5.0


class Listeners:
    """Sockets of the host. A message is a word and the name of the attempt that sent it."""

    def __init__(self, folder: Path, word: str) -> None:
        self._word = word
        self._streams: list[socket.socket] = []
        self._datagrams: list[socket.socket] = []
        self.ports = {"tcp4": 9, "tcp6": 9, "udp4": 9, "udp6": 9}  # where the machine has no IPv6, nobody listens
        for name in self.ports:
            family = socket.AF_INET if name.endswith("4") else socket.AF_INET6
            kind = socket.SOCK_STREAM if name.startswith("tcp") else socket.SOCK_DGRAM
            with contextlib.suppress(OSError):
                one = self._open(family, kind, ("127.0.0.1" if family == socket.AF_INET else "::1", 0))
                self.ports[name] = one.getsockname()[1]
        for path in str(folder / "stream.sock"), str(folder / "raced.sock"), f"\0{word}":
            self._open(socket.AF_UNIX, socket.SOCK_STREAM, path)
        for path in str(folder / "datagram.sock"), f"\0{word}-datagram":
            self._open(socket.AF_UNIX, socket.SOCK_DGRAM, path)
        for name in "stream.sock", "raced.sock", "datagram.sock":
            (folder / name).chmod(0o777)

    def _open(self, family: int, kind: int, address: object) -> socket.socket:
        one = socket.socket(family, kind)
        one.setblocking(False)
        (self._streams if kind == socket.SOCK_STREAM else self._datagrams).append(one)
        one.bind(address)  # type: ignore[arg-type]  # a pair or a path, as the family wants
        if kind == socket.SOCK_STREAM:
            one.listen(32)
        return one

    def arrived(self) -> set[str]:
        """The attempts whose message came."""
        contents: list[bytes] = []
        for one in self._datagrams:
            with contextlib.suppress(BlockingIOError):
                while True:
                    contents.append(one.recv(200))
        for one in self._streams:
            with contextlib.suppress(BlockingIOError):
                while True:
                    contents.append(_read_from(one.accept()[0]))
        words = [content.decode("utf-8", "replace").split(" ") for content in contents]
        return {word[1] for word in words if len(word) == 2 and word[0] == self._word}

    def close(self) -> None:
        for one in self._streams + self._datagrams:
            one.close()


def _read_from(guest: socket.socket) -> bytes:
    with guest:
        guest.settimeout(0.2)
        try:
            return guest.recv(200)
        except OSError:
            return b""


class VictimProcess:
    """A process of ours, outside the box."""

    def __init__(self, word: str, secret: str, folder: Path, variable: str) -> None:
        numbers = {name: signal.SIGRTMIN + 1 + at for at, name in enumerate(SIGNALS)}
        self._process = subprocess.Popen(
            [sys.executable, "-I", victim.__file__, word, secret, str(folder), *map(str, numbers.values())],
            env={VARIABLE: variable},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self._word = word
        where = json.loads(self._line())
        self.digest = str(where["digest"])
        self.spec = Victim(where["pid"], where["fd"], where["address"], where["writable"], numbers)
        self._cores = os.sched_getaffinity(self.spec.pid)

    def _line(self) -> str:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], ANSWER_WITHIN_S)[0]:
            raise TimeoutError("the process that the probe is to harm does not answer")
        return out.readline()

    def seen(self) -> dict[str, bool]:
        """Which attempts did something to it."""
        pid = self.spec.pid
        seen = {
            "set_priority": os.getpriority(os.PRIO_PROCESS, pid) == 7,
            "set_disk_priority": call("ioprio_get", 1, pid) == 3 << 13,
            "set_limit": resource.prlimit(pid, resource.RLIMIT_NOFILE) == (77, 777),
            "set_affinity": os.sched_getaffinity(pid) != self._cores,
            "set_oom_score": Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "777",
        }
        into: IO[str] | None = self._process.stdin
        assert into is not None
        into.write("report\n")
        into.flush()
        report = json.loads(self._line())
        seen["write_memory"] = report["written"] == self._word
        return seen | {name: number in report["signals"] for name, number in self.spec.signals.items()}

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

"""A real sshd on a loopback port, with keys of its own, for the tests of machines over ssh.

`start(folder)` gives an `Sshd`; where there is none, it skips the test and says why, or fails it where CI is set.
"""

import atexit
import contextlib
import functools
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from agent import track as tracks
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Link
from agent.runners.ssh.machine import Machine
from agent.runners.ssh.pins import Pins
from sandbox import tree
from tests.absent import absent
from tests.processes import until

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


@functools.cache
def lacking() -> str:
    """Why no sshd can be started here."""
    if shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin") is None or shutil.which("ssh-keygen") is None:
        return "no sshd (apt-get install openssh-server)"
    try:
        import asyncssh  # noqa: F401
    except ModuleNotFoundError:
        return "no asyncssh (pip install 'caddie[remote]')"
    if os.getuid() == 0:
        with contextlib.suppress(OSError):
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        if not Path("/run/sshd").is_dir():
            return "no folder /run/sshd, and it can't be made"
    return ""


def needed() -> None:
    if why := lacking():
        absent(f"no real sshd here: {why}")


class Sshd:
    """A listening sshd, its keys and its sessions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key"
        folder.mkdir(parents=True)
        _key(self.key)
        shutil.copy(self.key.with_suffix(".pub"), folder / "authorized")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *, new_key: bool = False) -> None:
        """Listens, as before or as another machine would."""
        if new_key:
            for name in ("host", "host.pub"):
                (self.folder / name).unlink()
        if not (self.folder / "host").exists():
            _key(self.folder / "host")
        config = self.folder / "config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder))
        with (self.folder / "log").open("ab") as log:
            program = str(shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin"))
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._listens, within_s=20, what=(self.folder / "log").read_text())

    def stop(self) -> None:
        """The listener and every session."""
        if self._process is None:
            return
        sessions = self.sessions()
        self._process.kill()
        self._process.wait()
        self._process = None
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """sshd's own processes, one or two for each open connection."""
        assert self._process is not None
        rows = tree.descendants({self._process.pid})
        return [pid for pid in rows if pid != self._process.pid and _is_sshd(pid)]

    def cut(self, with_signal: int = signal.SIGKILL) -> int:
        """Sends a signal to every session; gives how many there were."""
        pids = self.sessions()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, with_signal)
        return len(pids)

    def host(self, folder: Path, name: str = "lab/box", **changed: object) -> SshHost:
        usual: dict[str, object] = {
            "port": self.port,
            "user": getpass.getuser(),
            "key": self.key,
            "python": sys.executable,
            "folder": str(folder),
            "keepalive_s": 1.0,
            "lost_after_s": 5.0,
        }
        return SshHost(name, "127.0.0.1", **{**usual, **changed})  # type: ignore[arg-type]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def machine(server: Sshd, folder: Path, text: str, pins: Path, **changed: object) -> Machine:
    """The machine behind an sshd, for what a track needs."""
    return Machine(Link(server.host(folder, **changed), Pins(pins)), "jobs/test", tracks.parse(text, "toy.toml"))


def start(folder: Path) -> Sshd:
    needed()
    found = Sshd(folder)
    atexit.register(found.stop)
    return found


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sshd")
    except OSError:
        return False

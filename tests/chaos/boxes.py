"""A machine that is reached over ssh: a real sshd in namespaces of its own, with a small disk of its own as its home.

Takes a folder for its keys; gives a `Box` that can be cut off, frozen, filled, and switched off with all that it runs,
like a machine. All boxes have their home at the same path, and none sees another's.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sandbox import tree
from tests import sshd
from tests.processes import until

# Process 1 of a box takes in what others leave behind, and outlives sshd.
INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
# A machine that is rented makes the folder of its timer itself.
HELD = (
    'mount -t tmpfs -o "size=$1m,mode=711" home "$2" && mkdir "$2/.caddie" || exit 1; '
    'init=$3; shift 3; "$@" & exec "$0" -I -S -c "$init"'
)
DISK_MB = 48


class Box:
    def __init__(self, folder: Path, home: Path, key: Path) -> None:
        """`key`: what opens it; the box is off."""
        self.folder, self.home = folder, home
        folder.mkdir(parents=True)
        home.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        _key(folder / "host")
        shutil.copy(key.with_name(f"{key.name}.pub"), folder / "authorized")
        config = sshd.CONFIG.format(port=self.port, folder=folder)
        (folder / "config").write_text(f"{config}SetEnv HOME={home}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = str(shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin"))
        serve = (program, "-D", "-e", "-f", str(self.folder / "config"))
        alone = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--mount", "--fork", "--kill-child=KILL")
        held = ("sh", "-c", HELD, sys.executable, str(DISK_MB), str(self.home), INIT)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*alone, "--mount-proc", *held, *serve],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._listens, 120, f"the box in {self.folder}")

    def end(self) -> None:
        """As if the power went."""
        if self._process is None:
            return
        self._process, ended = None, self._process
        below = tree.descendants({ended.pid})
        ended.kill()
        ended.wait()
        until(lambda: not any(_same(row) for row in below.values()), 120, f"the end of all in {self.folder}")

    def cut(self, with_signal: int = signal.SIGKILL) -> None:
        """Every connection: killed, or stopped, so that it is there and says nothing."""
        for pid, words in self._processes().items():
            if words.startswith("sshd: ") and "[listener]" not in words:
                _send(pid, with_signal)

    def freeze(self) -> None:
        for pid in self._processes():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._processes():
            _send(pid, signal.SIGCONT)

    def fill(self) -> None:
        """Leaves no byte of its disk."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while file.write(b"\0" * 65536):
                pass

    def clean(self) -> None:
        with contextlib.suppress(OSError):
            self._ballast.unlink()

    def left(self) -> list[str]:
        """What runs on it that is not the machine's own; connections count."""
        own = (f"{sys.executable} -I -S -c {INIT}", "sshd: /usr/sbin/sshd", "/usr/sbin/sshd -D", "sh -c mount")
        return [words for words in self._processes().values() if not words.startswith(own)]

    @property
    def _ballast(self) -> Path:
        """Seen from here, through one of its processes."""
        pid = next((pid for pid, words in self._processes().items() if words.startswith(sys.executable)), 0)
        return Path(f"/proc/{pid}/root{self.home}/ballast")

    def _processes(self) -> dict[int, str]:
        """The command line of each."""
        if self._process is None:
            return {}
        found = {}
        for pid in tree.descendants({self._process.pid}):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if pid != self._process.pid and words:
                    found[pid] = words
        return found

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def new_key(path: Path) -> Path:
    _key(path)
    return path


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _same(row: tree.Proc) -> bool:
    now = tree.look(row.pid)
    return now is not None and not now.zombie and now.start == row.start

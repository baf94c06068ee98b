"""A Slurm cluster of our own: munged, slurmctld and two nodes with eight GPUs each that are null devices.

Takes a folder of its own under the system's temporary one; gives a `Cluster` whose nodes can be killed like machines.
It lives in a network namespace with an address that nobody else can reach, and every daemon in a namespace of
processes, so that ending the daemon ends all that it has started. Where Slurm can't run, `cluster()` skips the test and
says why; with CI set it fails.
"""

import contextlib
import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.runners.shepherd import boot
from agent.runners.slurm import proven
from agent.runners.slurm.depot import own_code
from sandbox import tree
from tests.absent import absent
from tests.processes import mentioning, until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "unshare", "nsenter", "setpriv")
NODES = {"n1": 17001, "n2": 17002}
GPUS = 8
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# Without an address that is not of the loopback net, names can't be looked up, and slurmctld does not start.
NET = "ip link set lo up && ip addr add 10.77.0.1/32 dev lo && echo up && exec sleep infinity"
# Process 1 of a node: takes in what daemons leave behind, and outlives slurmd.
INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
CONF = """
ClusterName=testing
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=17000
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=6
SlurmctldTimeout=10
KillWait=4
MessageTimeout=5
RequeueExit=99
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=DEFAULT CPUs=64 RealMemory=1000000 Gres=gpu:h100:{gpus} State=UNKNOWN
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=OFF
"""


def proven_before(shared: Path) -> None:
    """As if each node had shown that its walls hold, which takes some ten seconds."""
    nodes = shared / proven.FOLDER
    nodes.mkdir(parents=True, exist_ok=True)
    for name in NODES:
        code = str(shared / "code" / own_code().sha())
        proven.remember(nodes, name, proven.Known(boot(), code, "namespaces", 100, ()))


class Cluster:
    """Daemons by name: munged, slurmctld, n1, n2. `close` ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o711)  # munge asks for it: everybody may reach the socket
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._write_settings()
        self._net = subprocess.Popen(
            [*_dies_with_us(), "unshare", "--net", "sh", "-c", NET], stdout=subprocess.PIPE, stderr=self._log("net")
        )
        assert self._net.stdout is not None and self._net.stdout.readline() == b"up\n", "no network namespace"

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }

    @property
    def inside(self) -> tuple[str, ...]:
        """Words before a command that is to reach the cluster."""
        return ("nsenter", f"--net=/proc/{self._net.pid}/ns/net", "--")

    def start(self) -> None:
        self.start_one("munged")
        until((self.folder / "munge.socket").exists, what="munged")
        for name in ("slurmctld", *NODES):
            self.start_one(name)
        self.until_idle()

    def start_one(self, name: str, first: str = "true") -> None:
        """`first`: a shell command in the namespaces of the daemon, mounts among them."""
        command = [str(part) for part in self._command(name)]
        isolated = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
        held = f'{first} || exit 1; "$@" & exec "{sys.executable}" -I -S -c "$0"'
        self._daemons[name] = subprocess.Popen(
            [*_dies_with_us(), *self.inside, *isolated, "sh", "-c", held, INIT, *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log(name),
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.folder,
        )

    def up(self, name: str) -> bool:
        return name in self._daemons

    def kill(self, name: str) -> None:
        """As if the power went: the daemon and all that it has started, with SIGKILL."""
        daemon = self._daemons.pop(name)
        below = tree.descendants({daemon.pid})
        daemon.kill()
        daemon.wait()
        until(lambda: not any(_same(row) for row in below.values()), what=f"the end of {name}")

    def kill_slurmd(self, name: str) -> None:
        """The daemon of a node alone: what it has started goes on."""
        for row in tree.descendants({self._daemons[name].pid}).values():
            if Path(f"/proc/{row.pid}/cmdline").read_bytes().startswith(b"slurmd\0"):
                os.kill(row.pid, 9)

    def start_slurmd(self, name: str) -> None:
        """The daemon of a node alone, beside what an earlier one has started."""
        (first,) = (row.pid for row in tree.descendants({self._daemons[name].pid}).values() if _is_init(row.pid))
        inside = ("nsenter", f"--pid=/proc/{first}/ns/pid", f"--mount=/proc/{first}/ns/mnt", "--")
        subprocess.Popen(
            [*_dies_with_us(), *self.inside, *inside, *(str(part) for part in self._command(name))],
            stdin=subprocess.DEVNULL,
            stdout=self._log(name),
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.folder,
        )

    def run(self, *words: str) -> str:
        """A command that must work, as a person on the cluster would give it."""
        done = subprocess.run(
            [*self.inside, *words], env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """State by job, of those that are not over."""
        rows = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(row.split()[:2] for row in rows)

    def until_idle(self) -> None:
        """No job, and both nodes there to take one."""

        def idle() -> bool:
            done = subprocess.run(
                [*self.inside, "sinfo", "--noheader", "--Node", "--format=%N %t", "--partition=gpu"],
                env=self.env,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            return sorted(done.stdout.split("\n")[:-1]) == [f"{name} idle" for name in sorted(NODES)]

        until(idle, what="nodes that are idle", within_s=40)

    def clear(self) -> None:
        """As it was at the start, for the next test."""
        for name in ("munged", "slurmctld", *NODES):
            if name not in self._daemons:
                self.start_one(name)
        until(lambda: not self._command_fails("scancel", "--user", str(os.getuid())))
        until(lambda: self.jobs() == {}, what="no job")
        self.until_idle()

    def words(self) -> str:
        """The last that each daemon said."""
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.out")))

    def close(self) -> None:
        for name in [*self._daemons]:
            self.kill(name)
        self._net.kill()
        self._net.wait()
        until(lambda: mentioning(str(self.folder)) == [], what="the end of all that belongs to the cluster")
        shutil.rmtree(self.folder)

    def _command_fails(self, *words: str) -> bool:
        done = subprocess.run([*self.inside, *words], env=self.env, capture_output=True, timeout=30, check=False)
        return done.returncode != 0

    def _command(self, name: str) -> tuple[object, ...]:
        folder, conf = self.folder, self.folder / "slurm.conf"
        if name == "munged":
            files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
            files |= {"log-file": "munge.log", "seed-file": "munge.seed"}
            (folder / "munge.socket").unlink(missing_ok=True)
            return ("munged", "--foreground", *(f"--{option}={folder / file}" for option, file in files.items()))
        if name == "slurmctld":
            return ("slurmctld", "-D", "-f", conf)
        return ("slurmd", "-D", "-N", name, "-f", conf)

    def _write_settings(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        nodes = (
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}" for name, port in NODES.items()
        )
        values = {"folder": self.folder, "user": "root", "gpus": GPUS, "nodes": "\n".join(nodes)}
        (self.folder / "slurm.conf").write_text(CONF.format(**values))
        for number in range(GPUS):
            # A device of its own to Slurm, and the null device to the kernel.
            os.mknod(self.folder / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device = f"{self.folder}/nvidia[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu Type=h100 File={device}\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    def _log(self, name: str) -> int:
        """An open file: a pipe that nobody reads would stop a daemon."""
        return os.open(self.folder / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _dies_with_us() -> tuple[str, ...]:
    """A test run that is killed leaves no cluster behind."""
    return ("setpriv", "--pdeathsig", "KILL", "--")


def _is_init(pid: int) -> bool:
    """Whether it is process 1 of a node, in the node's own eyes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[2:] == ["1"]


def _same(row: tree.Proc) -> bool:
    now = tree.look(row.pid)
    return now is not None and not now.zombie and now.start == row.start


@functools.cache
def why_not() -> str:
    """Why there is no cluster here; empty: there can be one."""
    if os.getuid() != 0:
        return "its daemons are tried as root only"
    if lacking := [name for name in NEEDED if shutil.which(name, path=PATH) is None]:
        return f"no {', '.join(lacking)} (apt-get install slurm-wlm munge)"
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode(errors='replace').strip()}"


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    if why := why_not():
        absent(f"no Slurm here: {why}")
    made = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    try:
        made.start()
        yield made
    except AssertionError:
        print(made.words())  # for whoever reads why the test failed
        raise
    finally:
        made.close()

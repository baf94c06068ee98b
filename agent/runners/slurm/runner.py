"""Runs on a Slurm cluster: a slot is a job that may be in its queue.

Takes orders and job folders, like every runner; the folders here are mirrors of those on the cluster, which one thread
keeps.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError
from agent.job.folder import JobPaths, JobResult, JobState, Loss, Progress
from agent.job.reading import read_small, there
from agent.job.writing import write_aside
from agent.records import Campaign
from agent.runners import LATER
from agent.runners.far.mirror import lost
from agent.runners.order import Order, placed
from agent.runners.progress import progress
from agent.runners.results import result_of
from agent.runners.slurm.batch import BEGAN, Began
from agent.runners.slurm.commands import Slurm
from agent.runners.slurm.depot import Depot
from agent.runners.slurm.mirror import ONLY
from agent.runners.slurm.placing import Placing
from agent.runners.slurm.script import Need, script, words
from agent.runners.slurm.sending import Sender
from agent.runners.slurm.settings import Settings
from agent.runners.slurm.shell import Shell
from agent.runners.slurm.watch import Watch
from agent.strict import strict
from agent.track import Track
from sandbox.policy import BoxName, Level, Policy

if TYPE_CHECKING:
    from agent.store import Store


_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,100}")


class SlurmRunner:
    def __init__(self, name: str, settings: Settings, track: Track, shell: Shell) -> None:
        settings = settings.completed(track)
        self._name, self._settings, self._track = name, settings, track
        self._shell = shell
        self._slurm = Slurm(shell, settings.commands or "")
        self.slots = tuple(f"{name}/{n}" for n in range(settings.most))
        self.notes: tuple[str, ...] = ()
        self._gpus = track.hardware.gpus
        depot = Depot(shell, settings.folder, settings.login_python)
        self._sender = Sender(settings, self._slurm, depot)
        self._watch = Watch(settings, self._slurm, depot, Placing(depot, self._sender))
        self._pins: dict[str, str] = {}  # leases, by the slots that mean their nodes

    def opened(self, store: "Store", campaign: Campaign) -> None:
        """Before the first turn.

        Raises:
            UserError: the cluster would not take a run of this track.
        """
        self.check()

    def hardware_class(self, slot: str) -> str:
        if self._gpus:
            device = self._settings.device or self._track.hardware.device or self._settings.gres
            return f"cuda/{device}/{self._gpus}/{self._name}"
        return f"cpu/{self._name}/{self._settings.cpus}-cpus"

    def lease(self, slot: str) -> str:
        """A node's, from one start of it to the next."""
        return self._pins.get(slot, LATER)

    def refuse(self, lease: str, reason: str) -> None:
        """No further job of this controller's goes to the node; whoever runs the cluster has to see what it has."""
        if lease.startswith(f"{self._name}/"):
            self._sender.refused.add(lease.split("/")[1])

    def began_on(self, folder: Path) -> str:
        try:
            began = strict(Began, read_small(folder / BEGAN) or "")
        except (ValueError, OSError):
            return ""
        return f"{self._name}/{began.node}/{began.boot}" if _NODE.fullmatch(began.node) and began.boot else ""

    def pinned(self, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
        """Nodes that runs were on and have not been started again since, as far as is seen."""
        mine = [lease.split("/") for lease in seen() if lease.startswith(f"{self._name}/")]
        newest = {node: boot for _, node, boot in mine if node not in self._sender.refused}
        self._pins |= {f"{self._name}/@{node}": f"{self._name}/{node}/{boot}" for node, boot in newest.items()}
        return {f"{self._name}/{node}/{boot}": f"{self._name}/@{node}" for node, boot in newest.items()}

    def far(self, slot: str) -> bool:
        return True

    def price(self, slot: str) -> float:
        return self._settings.price * max(1, self._gpus)

    def wait_s(self, slot: str) -> float:
        """As long as one of its jobs waits by now; nothing while none does."""
        return self._watch.waited_s

    def env(self, slot: str) -> dict[str, str]:
        """Known on the node alone."""
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        return self._settings.walls

    def box(self) -> BoxName:
        return ""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        node = slot.partition("/@")[2]
        if node and not there(folder / ONLY):
            write_aside(folder / ONLY, node)
        self._watch.take(folder)

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        if there(paths.lost):
            return "lost"
        if there(paths.result):
            return "done"
        if not there(paths.order):
            return "lost"
        self._watch.take(folder)
        return "running" if there(paths.heartbeat) else "starting"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {one for one in folders if not self._watch.holds(one) and self.poll(one) in ("done", "lost")}

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        if folder.is_dir():
            with contextlib.suppress(FileExistsError):
                JobPaths(folder).cancel.touch(exist_ok=False)
            self._watch.hurry()

    def collect(self, folder: Path) -> JobResult:
        return result_of(folder)

    def loss(self, folder: Path) -> Loss:
        return lost(folder, "the cluster took it away without a word")

    def sweep(self, jobs_root: Path) -> list[int]:
        """On the cluster, where process ids say nothing here."""
        self._watch.sweep(jobs_root)
        return []

    def close(self) -> None:
        """Jobs go on; whoever comes next finds them."""
        self._watch.close()
        self._shell.close()

    def check(self) -> None:
        """Slurm is asked for a job like those to come, before there is any."""
        settings, need = self._settings, Need(self._track.limits.worst_s(), self._gpus)
        if self._gpus > settings.gpus_per_node:
            raise UserError(
                f"[{self._name}]: track {self._track.name} needs {self._gpus} GPUs in one node; gpus_per_node is "
                f"{settings.gpus_per_node}"
            )
        if self._track.data.corpus == "fineweb" and settings.corpus is None:
            raise UserError(
                f"[{self._name}]: track {self._track.name} needs FineWeb, which is too big to be sent: prepare it on "
                'the cluster (python -m trainer.data fineweb ...) and say where: corpus = "/shared/fineweb"'
            )
        asked = words(settings, need, "caddie-check", "/dev/null", ())
        if wrong := self._slurm.would_run(script(settings, "/code", ("/job",)), asked):
            raise UserError(f"[{self._name}]: the cluster would not take a run of track {self._track.name}: {wrong}")
        self._check_time(need)

    def _check_time(self, need: Need) -> None:
        """A job that no partition has the time for is taken, and waits for ever."""
        if not self._settings.partition:
            return
        most = minutes(self._slurm.partition(self._settings.partition).get("MaxTime", "UNLIMITED"))
        asked = (need.wall_s + self._settings.margin_s) / 60
        if most is not None and asked > most:
            raise UserError(
                f"[{self._name}]: a run of track {self._track.name} may take {asked:.0f} minutes with its margin; "
                f"partition {self._settings.partition} gives {most:.0f}. Name another partition"
            )


def minutes(text: str) -> float | None:
    """Slurm's [days-]hours:minutes:seconds. None: there is no limit."""
    days, _, clock = text.rpartition("-")
    try:
        hours, mins, secs = ([0, 0, *map(int, clock.split(":"))])[-3:]
        return 1440 * int(days or 0) + 60 * hours + mins + secs / 60
    except ValueError:
        return None

"""A campaign's folder of jobs, and the real cluster that it runs on, for the tests of runs on Slurm.

Takes a `tests.slurm.Cluster` and a folder; gives a `Field`, and what became of a run.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agent import track as tracks
from agent.errors import InfraError
from agent.job.folder import JobResult
from agent.runners.order import Order, place
from agent.runners.slurm.mirror import LOG, Note
from agent.runners.slurm.runner import SlurmRunner
from agent.runners.slurm.settings import Settings
from agent.runners.slurm.shell import LocalShell, Said
from tests import ordering
from tests.processes import until
from tests.slurm import Cluster, proven_before

TOML = """
name = "toy"
summary = "A script that writes a file."
trust = "reported"
script = { path = "run.py", editable = ["run.py"], train = ["{python}", "-I", "-S", "{script}"], artifact = "a.bin", \
pack = false }
limits = { train_wall_s = 60, score_wall_s = 5, memory_mb = 300, disk_mb = 20, log_mb = 1 }
hardware = { kind = "cpu" }
data = { corpus = "none" }
rung = [{ name = "decide" }]
decision = { rung = "decide", alpha = 0.01, min_gain = 0.01, max_seeds = 4, report_seeds = 3, prior_sigma = 0.01 }
"""
GPU_TOML = TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 8, device = "H100"')
WRITE = "import os, time\nprint('seed', os.environ['SEED'], flush=True)\nopen('a.bin', 'w').write(os.environ['SEED'])\n"
WAIT = f"{WRITE}time.sleep(60)\n"


class Counting(LocalShell):
    """Counts what is asked, and may lose the answer of a command."""

    def __init__(self, own: Cluster) -> None:
        super().__init__({**own.env, "CADDIE_SECRET": "of the person"}, own.inside)
        self.asked: Counter[str] = Counter()
        self.lose_next = ""
        self.queue: bytes | None = None  # what squeue says, whatever is so

    def run(self, words: Sequence[str], stdin: bytes = b"", **options: float) -> Said:
        self.asked[words[0]] += 1
        said = super().run(words, stdin, **options)  # type: ignore[arg-type]
        if words[0] == "squeue" and self.queue is not None:
            return Said(0, self.queue, "")
        if words[0] == self.lose_next:
            self.lose_next = ""
            raise InfraError("the answer got lost")
        return said


class Field:
    """A campaign's folder of jobs, and the cluster that it runs on."""

    def __init__(self, own: Cluster, root: Path, toml: str = TOML) -> None:
        self.own, self.root, self.toml = own, root, toml
        self.jobs = root / ".caddie" / "night" / "jobs"
        self.shell = Counting(own)
        self.runners: list[SlurmRunner] = []
        proven_before(root / "shared")

    def settings(self, **changed: object) -> Settings:
        usual = {"folder": str(self.root / "shared"), "python": sys.executable, "every_s": 0.4, "settle_s": 1.0}
        return Settings.model_validate({**usual, "login_python": sys.executable, "most": 16, **changed})

    def runner(self, **changed: object) -> SlurmRunner:
        track = tracks.parse(self.toml, "toy")
        runner = SlurmRunner("lab", self.settings(**changed), track, self.shell)
        self.runners.append(runner)
        return runner

    def order(self, run_id: int, code: str = WRITE, **changed: object) -> tuple[Order, Path]:
        order = ordering.order(self.toml, run_id=run_id, **{"seed": 100 + run_id, **changed})
        folder = self.jobs / f"r{run_id}"
        place(folder, order, lambda at: (at / "run.py").write_text(code) and None)
        return order, folder

    def submit(self, runner: SlurmRunner, run_id: int, code: str = WRITE, **changed: object) -> Path:
        order, folder = self.order(run_id, code, **changed)
        runner.submit(order, folder, "lab/0")
        return folder

    def note(self, folder: Path) -> Note:
        return Note(**json.loads((folder / "slurm.json").read_text()))

    def take_nodes(self) -> None:
        """By a higher rank, for a moment."""
        self.own.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")

    def far(self) -> list[str]:
        return sorted(path.name for path in (self.root / "shared" / "jobs").glob("*/*"))


def done(runner: SlurmRunner, folder: Path) -> JobResult:
    until(lambda: runner.poll(folder) in ("done", "lost"), what=words_of(folder))
    assert runner.poll(folder) == "done", words_of(folder)
    return runner.collect(folder)


def lost(runner: SlurmRunner, folder: Path) -> str:
    until(lambda: runner.poll(folder) in ("done", "lost"), what=words_of(folder))
    assert runner.poll(folder) == "lost", (folder / "result.json").read_text()
    return runner.loss(folder).reason


def words_of(folder: Path) -> str:
    names = (LOG, "lost.json", "result.json", "shepherd.log")
    return "; ".join((folder / name).read_text() for name in names if (folder / name).is_file())

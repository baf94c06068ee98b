"""Runs through a real Slurm, held by real shepherds on its nodes: every way a run can end, and what dies on the way."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import InfraError
from agent.runners import JobPaths, JobResult
from agent.runners.order import Order, place
from agent.runners.slurm.mirror import LOG, Note
from agent.runners.slurm.runner import SlurmRunner
from agent.runners.slurm.settings import Settings
from agent.runners.slurm.shell import LocalShell, Said
from tests import ordering
from tests.processes import until
from tests.slurm import Cluster, cluster

pytestmark = pytest.mark.slow

TOML = """
name = "toy"
summary = "A script that writes a file."
trust = "reported"
script.path = "run.py"
script.editable = ["run.py"]
script.train = ["{python}", "-I", "-S", "{script}"]
script.artifact = "a.bin"
script.pack = false
limits = { train_wall_s = 60, score_wall_s = 5, memory_mb = 300, disk_mb = 20, log_mb = 1 }
hardware = { kind = "cpu" }
data = { corpus = "none" }
rung = [{ name = "decide" }]
decision = { rung = "decide", alpha = 0.01, min_gain = 0.01, max_seeds = 4, report_seeds = 3, prior_sigma = 0.01 }
"""
GPU_TOML = TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 8, device = "H100"')
WRITE = "import os, time\nprint('seed', os.environ['SEED'], flush=True)\nopen('a.bin', 'w').write(os.environ['SEED'])\n"
WAIT = f"{WRITE}time.sleep(60)\n"


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


class Counting(LocalShell):
    """Counts what is asked, and may lose the answer of a command."""

    def __init__(self, own: Cluster) -> None:
        super().__init__({**own.env, "CADDIE_SECRET": "of the person"}, own.inside)
        self.asked: Counter[str] = Counter()
        self.lose_next = ""

    def run(self, words: Sequence[str], stdin: bytes = b"", **options: float) -> Said:
        self.asked[words[0]] += 1
        said = super().run(words, stdin, **options)  # type: ignore[arg-type]
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

    def settings(self, **changed: object) -> Settings:
        usual = {"folder": str(self.root / "shared"), "python": sys.executable, "every_s": 0.4, "settle_s": 1.0}
        return Settings.model_validate({**usual, "login_python": sys.executable, "most": 16, **changed})

    def runner(self, **changed: object) -> SlurmRunner:
        track = tracks.parse(self.toml, "toy")
        runner = SlurmRunner("lab", self.settings(**changed), track, self.shell, self.jobs)
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

    def far(self) -> list[str]:
        return sorted(path.name for path in (self.root / "shared" / "jobs").glob("*/*"))


@pytest.fixture
def field(own: Cluster, tmp_path: Path) -> Iterator[Field]:
    made = Field(own, tmp_path)
    yield made
    for runner in made.runners:
        runner.close()
    own.clear()


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


def test_a_run_from_here_to_a_node_and_back(field: Field) -> None:
    runner = field.runner()
    folder = field.submit(runner, 1)
    result = done(runner, folder)
    assert (result.outcome, result.ran) == ("ok", True) and 0 < result.slot_s < 60
    assert (folder / "out" / "a.bin").read_text() == "101"
    assert JobPaths(folder).train_log.read_text() == "seed 101\n"
    until(lambda: field.far() == [], what="nothing is left on the cluster")
    runner.submit(*field.order(1), "lab/0")
    assert runner.poll(folder) == "done" and field.shell.asked["sbatch"] == 2  # the first was the check

"""A workspace with one run of a toy track, to be trained and scored on a machine that is reached over ssh.

Takes a folder and an sshd; gives `World`, whose machine is this one under another name: folder, code and processes are
its own, and nothing is shared but what went over the link.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from agent import track as tracks
from agent.job.folder import JobPaths
from agent.runners.order import Order, place
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.runner import SshRunner
from tests import ordering
from tests.processes import until
from tests.sshd import Sshd
from tests.zoo_runs import SCRIPTS, TOML, make_corpus


class World:
    def __init__(self, root: Path, sshd: Sshd, toml: str = TOML, corpus: Path | None = None) -> None:
        self.root, self.sshd, self.toml = root, sshd, toml
        self.workspace, self.far = root / "workspace", root / "far"
        data = self.workspace / ".caddie" / "data"
        data.mkdir(parents=True)
        if corpus is None:
            make_corpus(data / "docs")
        else:
            shutil.copytree(corpus, data / "docs")
        self._runners: list[SshRunner] = []

    def runner(self, hosts: Sequence[SshHost] = ()) -> SshRunner:
        """Of the machine of this world, or of others."""
        machines = hosts or [self.sshd.host(self.far)]
        found = SshRunner(machines, self.workspace, tracks.parse(self.toml, "toy.toml"))
        self._runners.append(found)
        return found

    def order(self, run_id: int = 1, **changed: object) -> Order:
        return ordering.order(self.toml, run_id=run_id, minimum="base", **changed)

    def place(self, order: Order, scripts: dict[str, bytes] | None = None) -> JobPaths:
        """The job folder here."""

        def fill(code: Path) -> None:
            for name, data in (scripts or SCRIPTS).items():
                (code / name).write_bytes(data)

        paths = JobPaths(self.workspace / ".caddie" / "night" / "jobs" / f"r{order.run_id}")
        place(paths.folder, order, fill)
        return paths

    def there(self, job: str) -> JobPaths:
        """The folder of a job on the machine."""
        found = list((self.far / "jobs").glob(f"*/night.jobs.{job}"))
        assert len(found) == 1, f"{job}: {found}"
        return JobPaths(found[0])

    def close(self) -> None:
        for runner in self._runners:
            runner.close()


def ended(runner: SshRunner, paths: JobPaths, within_s: float = 120.0) -> str:
    until(lambda: runner.poll(paths.folder) in ("done", "lost"), within_s, "the end of the job")
    return runner.poll(paths.folder)


LONG = TOML.replace('CHEAT = ""', 'CHEAT = "trains_past_its_clock"').replace("train_wall_s = 20", "train_wall_s = 4")


def begun(world: World, train_wall_s: float = 4) -> tuple[SshRunner, JobPaths]:
    """A run that is training there."""
    runner = world.runner()
    limits = world.order().limited.limits.model_copy(update={"train_wall_s": train_wall_s})
    order = world.order(limits=limits.model_dump_json(), wall_s=limits.worst_s())
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    until(lambda: runner.poll(paths.folder) == "running", 60)
    return runner, paths


def was_trained_once(world: World, runner: SshRunner, paths: JobPaths) -> None:
    assert ended(runner, paths) == "done", runner.loss(paths.folder)
    result = runner.collect(paths.folder)
    assert result.outcome == "capped" and "wall limit" in result.reason
    assert len(result.phases) == 1 and 3 < result.phases[0].exit.wall_s < 5, "it was neither stopped nor started again"

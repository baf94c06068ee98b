"""How much of the slots' time is spent inside runs, with a planner that takes 20 s for each idea.

    python -m benchmarks.slot_use .caddie/data/docs # 26 runs of the tiny track on 2 slots: about 8 minutes
    python -m benchmarks.slot_use                   # runs of 33 s that burn their core, and no judge
    python -m benchmarks.slot_use --busy 0          # runs that sleep, where the cores have other work

A real campaign on this machine: real shepherds, packed scripts, git and store. With a prepared corpus also real
training and judging, and the ideas are those of `knobs`, 20 s late; else a script that takes as long. Inside a run is
what its own processes took, from their start to their end, as the shepherd wrote it into the job folder; what the judge
took apart from the candidate is given beside it. Everything between is waiting. The time counts from the first run's
start to the last one's, with which the campaign is asked to end, as it would be by its budget.
"""

import argparse
import os
import resource
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import campaign
from agent.job.folder import JobPaths, JobResult
from agent.judge.task import Measured
from agent.loop import Loop
from agent.options import Options
from agent.planner import Request
from agent.planner.knobs import Knobs
from agent.records import Draft
from agent.setting import Setting, known
from agent.track import Track
from benchmarks.endless import Endless, git, make_workspace, working_track
from benchmarks.folders import working_folder
from benchmarks.loop_overhead import profiled
from benchmarks.store import machine

TARGET = 0.97
ASKED = "stopped by a person"  # as `end_at` asks, with the request that a person makes


class Slot(NamedTuple):
    """One run, by the clock of the file system and the shepherd's own."""

    name: str
    purpose: str
    start: float  # of the first process of the candidate
    end: float
    cpu_s: float
    judge_s: float  # of its time, in which no process of the candidate ran
    judge_cpu_s: float


def end_at(setting: Setting, runs: int) -> None:
    """Asks the campaign to start nothing more, once so many runs have started."""
    if sum(1 for _ in setting.jobs.glob("r*")) < runs:
        return
    with setting.store.write() as tx:
        if not tx.request(setting.campaign.id):
            tx.ask(setting.campaign.id, "drain")


def slots_of(setting: Setting) -> list[Slot]:
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id, states={"done"})
    found = []
    for run in runs:
        job = JobPaths(setting.job(run.id))
        result = JobResult.from_json(job.result.read_text())
        inside = sum(phase.exit.wall_s for phase in result.phases)
        cpu = sum(phase.exit.cpu_s for phase in result.phases)
        end = job.result.stat().st_mtime
        found.append(Slot(known(run.slot), run.purpose, end - inside, end, cpu, *judge_of(job, result)))
    return sorted(found, key=lambda one: one.start)


def judge_of(job: JobPaths, result: JobResult) -> tuple[float, float]:
    """What the judge took beside the candidate's processes: time, and CPU."""
    clocks = Measured.from_json(job.measure.read_text()).clocks if job.measure.exists() else None
    judge = [phase.exit for phase in result.phases if phase.name == "judge"]
    if clocks is None or not judge:
        return 0.0, 0.0
    return (
        judge[0].wall_s - clocks.scoring_wall - clocks.audit_wall,
        judge[0].cpu_s - clocks.scoring_cpu - clocks.audit_cpu,
    )


def inside(runs: list[Slot], start: float, end: float) -> float:
    return sum(max(0.0, min(one.end, end) - max(one.start, start)) for one in runs)


def gaps(runs: list[Slot]) -> list[tuple[str, float]]:
    """What lay between two runs of one slot, with the purpose of the later one."""
    found, last = [], dict[str, float]()
    for one in runs:
        if one.name in last:
            found.append((one.purpose, one.start - last[one.name]))
        last[one.name] = one.end
    return found


def report(setting: Setting, slots: int) -> float:
    runs = slots_of(setting)
    start, end = runs[0].start, runs[-1].start
    share = inside(runs, start, end) / (slots * (end - start))
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    own_s = own.ru_utime + own.ru_stime
    rest_s = children.ru_utime + children.ru_stime - sum(one.cpu_s for one in runs)
    between = sorted(gaps(runs), key=lambda gap: gap[1])
    print(f"{len(runs)} runs on {slots} slots, {sum(one.end - one.start for one in runs) / len(runs):.1f} s each")
    print(f"{end - start:.0f} s from the first run's start to the last one's; inside runs {share:.2%}")
    print(
        f"between two runs of a slot: median {between[len(between) // 2][1]:.2f} s, "
        f"longest {between[-1][1]:.2f} s (before a {between[-1][0]} run)"
    )
    whole = max(one.end for one in runs) - start
    if judged := sum(one.judge_s for one in runs):
        print(
            f"the judge without the candidate's processes: {judged / len(runs):.2f} s of a run, "
            f"{judged / (slots * whole):.1%} of the slots' time; CPU {sum(one.judge_cpu_s for one in runs):.1f} s, "
            f"{sum(one.judge_cpu_s for one in runs) / (slots * whole):.1%}"
        )
    print(
        f"CPU on the same cores, of {slots * whole:.0f} s: controller {own_s:.1f} s ({own_s / (slots * whole):.1%}); "
        f"git, packing and shepherds {rest_s:.1f} s ({rest_s / (slots * whole):.1%})"
    )
    return share


class Thinking:
    """The ideas of `knobs`, as late as a language model's."""

    name, parallel = "thinking", 4

    def __init__(self, track: Track, think_s: float) -> None:
        self._knobs, self._think_s = Knobs(track), think_s
        self.modes = self._knobs.modes

    def propose(self, request: Request) -> Draft | None:
        time.sleep(self._think_s)
        draft = self._knobs.propose(request)
        return None if draft is None else replace(draft, planner=self.name)


def training(root: Path, corpus: Path, slots: int, think_s: float) -> Setting:
    """The tiny track in a clone of this repository."""
    git(Path.cwd(), "clone", "-q", ".", str(root))
    shutil.copytree(corpus, root / ".caddie" / "data" / "docs")
    setting = campaign.start(Options(budget_hours=10, review="none", slots=slots, seed=7), root, print)
    return replace(setting, planners=(Thinking(setting.track, think_s),))


def imitated(root: Path, slots: int, think_s: float, seconds: float, busy: float) -> Setting:
    """A script that takes as long as training does."""
    make_workspace(root, working_track(seconds, busy))
    options = Options(track="agent.toml", planner="mcp", budget_hours=1e4, review="none", slots=slots, seed=7)
    setting = campaign.start(options, root, print)
    return replace(setting, planners=(Endless(think_s=think_s, parallel=4, good=12),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", help="a prepared corpus `docs`: real training")
    parser.add_argument("--runs", type=int, default=26)
    parser.add_argument("--seconds", type=float, default=33.0, help="what a run takes")
    parser.add_argument("--think", type=float, default=20.0, help="what a planner call takes")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--busy", type=float, default=1.0, help="share of a run in which its core is busy")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    parser.add_argument("--profile", action="store_true", help="print where the time of the controller goes")
    chosen = parser.parse_args()
    with working_folder("slots", chosen.folder) as root:
        if chosen.corpus:
            setting = training(root / "work", chosen.corpus, chosen.slots, chosen.think)
        else:
            setting = imitated(root / "work", chosen.slots, chosen.think, chosen.seconds, chosen.busy)
        with profiled(chosen.profile):
            found = Loop(setting, lambda: end_at(setting, chosen.runs)).run()
        why = "ended as planned" if found.reason == ASKED else found.reason
        print(f"\n{machine()}; load {os.getloadavg()[0]:.1f}\n{why}")
        print(f"planner: {chosen.think:g} s an idea, 4 calls at once")
        share = report(setting, chosen.slots)
        setting.store.close()
    raise SystemExit(0 if share >= TARGET else f"below the target of {TARGET:.0%}")


if __name__ == "__main__":
    main()

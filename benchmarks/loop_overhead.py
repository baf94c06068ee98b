"""What the loop itself costs per proposal, git, store and files included, training not.

    python -m benchmarks.loop_overhead                       # 2,000 proposals, some minutes
    python -m benchmarks.loop_overhead --proposals 10000     # does it grow?

A real campaign with a runner that has its results at once: planner call, guard, commit, job folder,
measurement, verdict, settlement and, every 50th idea, a promotion with its confirmation and fresh runs.
Counts CPU time of this process and of all its children, for each part of the campaign.
"""

import argparse
import cProfile
import itertools
import os
import pstats
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import campaign
from agent.loop import Loop
from agent.options import Options
from agent.runners.fake import FakeRunner, Imagined, Knobs
from agent.setting import Setting
from benchmarks.endless import Endless, judged_track, make_workspace
from benchmarks.folders import working_folder
from benchmarks.store import machine

TARGET_MS = 100.0


class Mark(NamedTuple):
    """Where the clocks stood when so many ideas had been asked for."""

    proposals: int
    wall_s: float
    own_s: float
    children_s: float


class Marking(Endless):
    """Reads the clocks whenever a part of the campaign is over."""

    def __init__(self, most: int, every: int) -> None:
        super().__init__(most=most)
        self.every = every
        self.marks: list[Mark] = []

    def propose(self, request):  # type: ignore[no-untyped-def]
        if self.made % self.every == 0:
            self.marks.append(mark(self.made))
        return super().propose(request)

    def until_now(self) -> list[Mark]:
        """What was read, and now: a campaign that was interrupted ends within a part."""
        asked = min(self.made, self.most or self.made)
        rest = [mark(asked)] if self.marks and asked > self.marks[-1].proposals else []
        return self.marks + rest


def mark(proposals: int) -> Mark:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return Mark(
        proposals,
        time.monotonic(),
        own.ru_utime + own.ru_stime,
        children.ru_utime + children.ru_stime,
    )


def world(knobs: Knobs, seed: int) -> Imagined:
    noise = random.Random(f"{seed}/{sorted(knobs.items())}").gauss(0.0, 0.002)
    return Imagined(3.0 - 0.02 * float(knobs["level"]) + noise, 1000)


def open_campaign(root: Path, planner: Endless, *, long: bool) -> Setting:
    make_workspace(root, judged_track(), long=long)
    options = Options(track="agent.toml", planner="mcp", budget_hours=1e6, review="none", slots=2, seed=7)
    setting = campaign.start(options, root, lambda text: None, lambda track, slots: FakeRunner(slots, 0.0, world))
    return replace(setting, planners=(planner,))


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def table(marks: list[Mark]) -> list[float]:
    print("| proposals | CPU ms per proposal | of it git and other children | wall ms |\n|---|---|---|---|")
    costs = []
    for a, b in itertools.pairwise(marks):
        n = b.proposals - a.proposals
        own, children = b.own_s - a.own_s, b.children_s - a.children_s
        costs.append((own + children) / n * 1000)
        wall = (b.wall_s - a.wall_s) / n * 1000
        print(f"| {a.proposals + 1}-{b.proposals} | {costs[-1]:.1f} | {children / n * 1000:.1f} | {wall:.1f} |")
    return costs


def shown(marks: list[Mark]) -> float:
    """Prints the table and what follows from it; gives the mean. SystemExit: it ended before the first idea."""
    if len(marks) < 2:
        raise SystemExit("it ended before the first idea: nothing was measured")
    costs, first, last = table(marks), marks[0], marks[-1]
    spent = last.own_s + last.children_s - first.own_s - first.children_s
    mean = spent / (last.proposals - first.proposals) * 1000
    print(
        f"\nmean {mean:.1f} ms of CPU per proposal (target: below {TARGET_MS:.0f}), "
        f"last part / first part {costs[-1] / costs[0]:.2f}"
    )
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, default=2000)
    parser.add_argument("--every", type=int, default=0, help="proposals a row; a tenth unless given, 1,000 at most")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    parser.add_argument("--long", action="store_true", help="a script as long as the tiny track's, not packed")
    parser.add_argument("--profile", action="store_true", help="print where the time of this process goes")
    chosen = parser.parse_args()
    every = chosen.every or max(1, min(1000, chosen.proposals // 10))
    with working_folder("loop", chosen.folder) as root:
        planner = Marking(chosen.proposals, every)
        setting = open_campaign(root / "work", planner, long=chosen.long)
        with profiled(chosen.profile):
            found = Loop(setting).run()
        with setting.store.read() as reads:
            proposals = reads.count_proposals(setting.campaign.id) - 1
            runs, heads = reads.count_runs(setting.campaign.id), len(reads.lineage(reads.head(setting.campaign.id).id))
        setting.store.close()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    print(f"{proposals} proposals, {runs} runs, {heads - 1} promotions in the head's lineage; {found.reason}\n")
    mean = shown(planner.until_now())
    raise SystemExit("too slow" if mean >= TARGET_MS else 0)


if __name__ == "__main__":
    main()

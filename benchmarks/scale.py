"""How a campaign fares with many slots: how busy they are, and what the controller does for each event.

    python -m benchmarks.scale                                  # 1, 10, 100 and 1,000 slots, and a plot
    python -m benchmarks.scale --slots 1000 --proposals 10000   # one of them, as long as one likes
    python -m benchmarks.scale --slots 1000 --postgres          # the store on a PostgreSQL of its own

A whole campaign in simulated time (benchmarks/simulated.py): real loop, store, git, guard, job folders and verdicts.
Runs of 10 minutes and a planner of 40 seconds are drawn, not waited for; the controller's processor time passes too.

An event is a run that started or ended, an idea that came, or a verdict. Its cost is that of the scheduler: seeing what
ended, what is wanted and where it goes, when to ask planners. What the stages themselves do for each idea and run is
given beside it: what a planner gets to read, guard and git, job folders, measurements, what verdicts rest on; and so
is what imagining runs and a planner costs.
"""

import argparse
import functools
import math
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import event

from agent import campaign
from agent import loop as loops
from agent.loop import Loop
from agent.options import Options
from agent.runners.fake import Imagined, Knobs
from agent.setting import Setting
from agent.steps import collect, decide, launch, plan
from benchmarks.endless import judged_track, make_workspace
from benchmarks.folders import working_folder
from benchmarks.loop_overhead import profiled
from benchmarks.simulated import SimulatedClock, SimulatedRunner, SlowThinker, drawn
from benchmarks.store import machine

TARGET, TARGET_MS = 0.98, 5.0
RUN_S, THINK_S, CRASHES, SPREAD = 600.0, 40.0, 0.08, 0.05
SIZES = {1: 40, 10: 120, 100: 600, 1000: 3000}  # slots, and how many ideas


class Meter:
    """Processor time of this process, apart what stages take."""

    def __init__(self) -> None:
        self.stages: defaultdict[str, float] = defaultdict(float)
        self._inside = 0

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def wrapped(*args: Any, **more: Any) -> Any:
            self._inside += 1
            started = time.process_time()
            try:
                return work(*args, **more)
            finally:
                self._inside -= 1
                if not self._inside:
                    self.stages[name] += time.process_time() - started

        return wrapped


@contextmanager
def measured(meter: Meter) -> Iterator[None]:
    """The stages' functions where the loop finds them, each with a watch."""
    places = [
        (loops, "admit", "guard and git"),
        (loops, "record", "guard and git"),
        (loops, "refresh", "guard and git"),
        (loops, "promote", "promotion"),
        (plan, "make_request", "what a planner reads"),
        (launch, "make_job", "job folders"),
        (launch, "script_sha", "job folders"),
        (collect, "measure", "measurement"),
        (decide, "evidence", "verdicts"),
        (decide, "judge", "verdicts"),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, stage in places:
        setattr(module, name, meter.timed(stage, getattr(module, name)))
    try:
        yield
    finally:
        for module, name, work in before:
            setattr(module, name, work)


@dataclass
class Load:
    """What the store was asked."""

    reads: int = 0
    writes: int = 0
    changed: int = 0
    """Rows."""

    def count(self, connection: object, cursor: Any, statement: str, *rest: object) -> None:
        word = statement.lstrip()[:6].upper()
        if word in ("INSERT", "UPDATE", "DELETE"):
            self.writes += 1
            self.changed += max(0, cursor.rowcount)
        elif word in ("SELECT", "WITH R"):
            self.reads += 1


@dataclass(frozen=True)
class Found:
    slots: int
    proposals: int
    runs: int
    events: int
    busy: float
    scheduler_ms: float
    whole_ms: float
    children_ms: float
    stages: dict[str, float]
    reads: float
    writes: float
    changed: float
    hours: float


def world(knobs: Knobs, seed: int) -> Imagined:
    import random

    key = f"{seed}/{sorted(knobs.items())}"
    seconds, crashed = drawn(key, RUN_S, spread=SPREAD, crashes=CRASHES if knobs["first"] or knobs["second"] else 0.0)
    bpb = 3.0 - 0.02 * float(knobs["level"]) + random.Random(key).gauss(0.0, 0.002)
    return Imagined(bpb, 1000, seconds, "crashed" if crashed else "ok")


def simulate(root: Path, slots: int, proposals: int, *, profile: bool = False) -> Found:
    clock = SimulatedClock()
    runner = SimulatedRunner(clock, slots, world)
    track = (
        judged_track()
        .replace("train_wall_s = 90", "train_wall_s = 900")
        .replace("memory_mb", "disk_mb = 1\nlog_mb = 1\nmemory_mb")
    )
    make_workspace(root, track)
    options = Options(track="agent.toml", planner="mcp", budget_hours=1e6, review="none", slots=slots, seed=7)
    setting = campaign.start(options, root, lambda text: None, lambda track, slots: runner)
    parallel = max(4, round(2 * slots * THINK_S / RUN_S))
    planner = SlowThinker(most=proposals, think_s=THINK_S, parallel=parallel, good=50, clock=clock)
    meter, load = Meter(), Load()
    setting = replace(setting, planners=(planner,))
    for one, name, stage in (
        (runner, "submit", "imagined runs"),
        (runner, "collect", "imagined runs"),
        (planner, "propose", "imagined planner"),
    ):
        setattr(one, name, meter.timed(stage, getattr(one, name)))
    for engine in {setting.store._reader, setting.store._writer}:
        event.listen(engine, "after_cursor_execute", load.count)
    own, children = time.process_time(), _children()
    with measured(meter), profiled(profile):
        Loop(setting, clock=clock).run()
    own, children = time.process_time() - own, _children() - children
    return _found(setting, runner, planner, meter, load, own, children)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _found(
    setting: Setting,
    runner: SimulatedRunner,
    planner: SlowThinker,
    meter: Meter,
    load: Load,
    own: float,
    children: float,
) -> Found:
    slots = len(runner.slots)
    with setting.store.read() as reads:
        proposals = reads.count_proposals(setting.campaign.id) - 1
        runs = reads.count_runs(setting.campaign.id)
        verdicts = sum(len(reads.verdicts(row.proposal_id)) for row in reads.trials(setting.campaign.id))
    setting.store.close()
    events = 2 * runs + proposals + verdicts
    start, end = window(runner, slots, planner.last_at)
    busy = runner.busy(start, end) / (slots * (end - start)) if end > start else math.nan  # too few ideas to tell
    scheduler = own - sum(meter.stages.values())
    per = 1000 / events
    stages = {name: seconds * per for name, seconds in sorted(meter.stages.items())}
    return Found(
        slots, proposals, runs, events, busy, scheduler * per, own * per, children * per, stages,
        load.reads / events, load.writes / events, load.changed / events, (end - start) / 3600,
    )  # fmt: skip


def window(runner: SimulatedRunner, slots: int, last_at: float) -> tuple[float, float]:
    """From when every slot has had a run to when the last idea was asked for: what comes before and after, with too
    little to start, is no matter of a campaign's size."""
    seen: set[str] = set()
    start = runner.spans[0][0]
    for since, _, slot in runner.spans:
        seen.add(slot)
        start = since
        if len(seen) == slots:
            break
    return start, last_at


HEAD = (
    "| slots | ideas | runs | simulated hours | slots busy | scheduler, CPU ms per event | whole controller | git "
    "| statements read, written per event | rows changed per event |\n|---|---|---|---|---|---|---|---|---|---|"
)


def row(one: Found) -> str:
    cells = (
        *(f"{one.slots:,}", f"{one.proposals:,}", f"{one.runs:,}", f"{one.hours:.1f}", f"{one.busy:.2%}"),
        *(f"{one.scheduler_ms:.2f}", f"{one.whole_ms:.1f}", f"{one.children_ms:.1f}"),
        *(f"{one.reads:.1f}, {one.writes:.1f}", f"{one.changed:.1f}"),
    )
    return f"| {' | '.join(cells)} |"


def plot(found: list[Found], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2))
    slots = [one.slots for one in found]
    left.plot(slots, [one.scheduler_ms for one in found], "o-", label="scheduler")
    left.plot(slots, [one.whole_ms for one in found], "s--", label="whole controller")
    left.axhline(TARGET_MS, color="grey", linewidth=0.8)
    left.set(xscale="log", xlabel="slots", ylabel="CPU ms per event", ylim=(0, None))
    left.legend()
    right.plot(slots, [100 * one.busy for one in found], "o-")
    right.axhline(100 * TARGET, color="grey", linewidth=0.8)
    right.set(xscale="log", xlabel="slots", ylabel="slots busy, %", ylim=(90, 100.2))
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, help="only so many; all sizes unless given")
    parser.add_argument("--proposals", type=int, help="ideas; for one number of slots")
    parser.add_argument("--postgres", action="store_true", help="on a server that is started for it")
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    parser.add_argument("--profile", action="store_true", help="print where the controller's time goes")
    chosen = parser.parse_args()
    sizes = SIZES if chosen.slots is None else {chosen.slots: SIZES.get(chosen.slots, 3 * chosen.slots)}
    if chosen.proposals:
        sizes = dict.fromkeys(sizes, chosen.proposals)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}\n\n{HEAD}")
    found = []
    for slots, proposals in sizes.items():
        if chosen.postgres:
            from tests.postgres import fresh_url

            os.environ["CADDIE_STORE"] = fresh_url()
        with working_folder("scale", chosen.folder) as root:
            found.append(simulate(root / "work", slots, proposals, profile=chosen.profile))
        print(row(found[-1]), flush=True)
    print("\nof the whole, what stages take, ms per event:")
    for one in found:
        print(f"  {one.slots:,} slots: " + ", ".join(f"{name} {ms:.2f}" for name, ms in one.stages.items()))
    if chosen.plot:
        plot(found, chosen.plot)
    met = all(one.busy >= TARGET and one.scheduler_ms < TARGET_MS for one in found)
    raise SystemExit(0 if met else "a target is not met")


if __name__ == "__main__":
    main()

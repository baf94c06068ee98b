"""A night of the contest played again: 113 experiments of 238 GPU-hours in all, on up to 5 blocks of 8 H100s.

    python -m benchmarks.night                  # about a minute

Recorded (a published account of one such night): 113 experiments, 238 GPU-hours, 15 hours, up to 5 runs on 8 H100s at
once. Assumed, because it was not published: how the hours are spread over the experiments, how many fail and when, how
long an idea is thought about, how long a block takes to come. The spread is drawn and scaled so that the sum is the
recorded one; every way below gets the same 113 durations in the same order.

The loop is the real one, in simulated time (benchmarks/simulated.py): its own planning ahead, placing, verdicts and
confirmations decide when a block is free for what. It starts nothing more after 113 runs.
"""

import argparse
import math
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import campaign
from agent import loop as loops
from agent.options import Options
from agent.runners.fake import Imagine, Imagined, Knobs
from agent.runners.fleet import NotPlacedError
from agent.runners.order import Order
from benchmarks.endless import judged_track, make_workspace
from benchmarks.folders import working_folder
from benchmarks.simulated import SimulatedClock, SimulatedRunner, SlowThinker
from benchmarks.store import machine

EXPERIMENTS, GPU_HOURS, HOURS, BLOCKS, GPUS = 113, 238.0, 15.0, 5, 8  # recorded
FAILURES = 0.12  # assumed: of the experiments, ending at any time before their training would
THINK_S = 180.0  # assumed: of a planner for an idea
COMES_S = 240.0  # assumed: from asking for a block to its first run; paid
PATIENCE_S = 20.0  # between two looks for what a person said, who says nothing in this night
FIRST = 3  # runs of the base, which does not fail


class Way(NamedTuple):
    name: str
    wall_h: float
    paid: float
    """GPU-hours."""
    used: float

    @property
    def idle(self) -> float:
        return 1 - self.used / self.paid


def durations(seed: int) -> list[tuple[float, bool]]:
    """Seconds on a block, and whether it failed. Ten minutes of training, then scoring; starting takes its time too."""
    draw = random.Random(seed)
    found = []
    for number in range(EXPERIMENTS):
        failed = number >= FIRST and draw.random() < FAILURES
        found.append((draw.uniform(60, 600) if failed else 600 + draw.uniform(240, 600), failed))
    scale = GPU_HOURS * 3600 / GPUS / sum(seconds for seconds, _ in found)
    return [(seconds * scale, failed) for seconds, failed in found]


def world_of(planned: list[tuple[float, bool]]) -> Imagine:
    """The n-th run that is started takes the n-th duration."""
    left = iter(planned)

    def world(knobs: Knobs, seed: int) -> Imagined:
        seconds, failed = next(left)
        noise = random.Random(f"{seed}/{sorted(knobs.items())}").gauss(0.0, 0.0006)
        bpb = 1.2 - 0.003 * float(knobs["level"]) + noise
        return Imagined(bpb, 1000, seconds, "crashed" if failed else "ok")

    return world


class Night(SimulatedRunner):
    """Takes so many runs and no more."""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        if len(self.spans) >= EXPERIMENTS:
            raise NotPlacedError("the night is over")
        super().submit(order, folder, slot)


def ours(root: Path, planned: list[tuple[float, bool]], blocks: int) -> Way:
    clock = SimulatedClock()
    runner = Night(clock, blocks, world_of(planned), name="block")
    make_workspace(root, judged_track().replace("train_wall_s = 90", "train_wall_s = 3000"))
    options = Options(track="agent.toml", planner="mcp", budget_hours=1e6, review="none", slots=blocks, seed=3)
    setting = campaign.start(options, root, lambda text: None, lambda track, slots: runner)
    planner = SlowThinker(most=EXPERIMENTS, think_s=THINK_S, parallel=4, good=9, clock=clock)
    setting = replace(setting, planners=(planner,))

    def show() -> None:
        if len(runner.spans) >= EXPERIMENTS:
            with setting.store.write() as tx:
                if not tx.request(setting.campaign.id):
                    tx.ask(setting.campaign.id, "drain")

    loops.TURN_S = PATIENCE_S
    loops.Loop(setting, show, clock).run()
    setting.store.close()
    return way(f"this scheduler, {blocks} block{'s' * (blocks > 1)}, rented as they are needed", runner)


def way(name: str, runner: SimulatedRunner) -> Way:
    """A block is paid from when it was asked for to the end of its last run."""
    spans = runner.spans
    begun = min(since for since, _, _ in spans)
    held = 0.0
    for slot in runner.slots:
        mine = [(since, to) for since, to, of in spans if of == slot]
        if mine:
            held += max(to for _, to in mine) - min(since for since, _ in mine) + COMES_S
    wall = max(to for _, to, _ in spans) - begun + COMES_S
    used = sum(to - since for since, to, _ in spans)
    return Way(name, wall / 3600, held * GPUS / 3600, used * GPUS / 3600)


def serial(planned: list[tuple[float, bool]]) -> Way:
    """One block, one experiment after the other, and the next idea is thought about when the last one is known."""
    used = sum(seconds for seconds, _ in planned)
    wall = COMES_S + used + THINK_S * math.exp(0.125) * (EXPERIMENTS - FIRST)  # the mean of what is drawn
    return Way("one after the other, one block", wall / 3600, wall * GPUS / 3600, used * GPUS / 3600)


def reserved(name: str, hours: float, used: float) -> Way:
    return Way(name, hours, BLOCKS * GPUS * hours, used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    chosen = parser.parse_args()
    planned = durations(chosen.seed)
    with working_folder("night", chosen.folder) as root:
        mine = ours(root / "work", planned, BLOCKS)
    failed = sum(failed for _, failed in planned)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    print(f"{EXPERIMENTS} experiments, {GPU_HOURS:g} GPU-hours; assumed: {failed} fail, {THINK_S:g} s an idea\n")
    print("| way | hours | GPU-hours paid | of them idle |\n|---|---|---|---|")
    for one in (
        serial(planned),
        reserved(f"{BLOCKS} blocks reserved for the {HOURS:g} hours that the night took", HOURS, GPU_HOURS),
        reserved(f"{BLOCKS} blocks reserved until this scheduler is done", mine.wall_h, mine.used),
        mine,
    ):
        print(f"| {one.name} | {one.wall_h:.1f} | {one.paid:.0f} | {one.idle:.1%} |")


if __name__ == "__main__":
    main()

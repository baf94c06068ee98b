"""Whether an idea costs more late in a long campaign than early in a new one, measured side by side.

    python -m benchmarks.loop_growth                         # after 10,000 ideas; a quarter of an hour
    python -m benchmarks.loop_growth --proposals 2000

One campaign is led to its ten-thousandth idea and held there, a second one to its two-hundredth. Then they take turns,
a hundred ideas each, so that what else the machine does meets both alike. The campaigns are those of
`benchmarks.loop_overhead`; counted is the CPU time of the controller and of its children.
"""

import argparse
import os
import statistics
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from agent.loop import Loop
from agent.planner import Request
from agent.records import Draft
from benchmarks.endless import Endless
from benchmarks.folders import working_folder
from benchmarks.loop_overhead import Mark, mark, open_campaign
from benchmarks.store import machine

TURN = 100  # ideas
YOUNG = 200
MOST_GROWTH = 1.05


class Cost(NamedTuple):
    """CPU milliseconds per idea."""

    all: float
    children: float


class Gated(Endless):
    """From its `first` idea on it waits to be told to go on, before each hundred."""

    def __init__(self, first: int, most: int, gate: Connection) -> None:
        super().__init__(most=most)
        self.first, self.gate = first, gate
        self.began: Mark | None = None

    def propose(self, request: Request) -> Draft | None:
        if self.made >= self.first and (self.made - self.first) % TURN == 0:
            self.gate.send(None if self.began is None else _cost(self.began, mark(self.made)))
            self.gate.recv()
            self.began = mark(self.made)  # what the loop did while it waited is not counted
        return super().propose(request)


def _cost(a: Mark, b: Mark) -> Cost:
    own, children = b.own_s - a.own_s, b.children_s - a.children_s
    return Cost((own + children) / TURN * 1000, children / TURN * 1000)


def _lead(root: Path, first: int, turns: int, gate: Connection) -> None:
    setting = open_campaign(root, Gated(first, first + turns * TURN, gate), long=False)
    Loop(setting).run()
    setting.store.close()


class Held:
    """A campaign in a process of its own."""

    def __init__(self, root: Path, first: int, turns: int) -> None:
        context = get_context("spawn")
        self._gate, theirs = context.Pipe()
        self._process = context.Process(target=_lead, args=(root, first, turns, theirs))
        self._process.start()
        theirs.close()

    def there(self) -> None:
        """Returns when it has come to where its turns begin."""
        self._gate.recv()

    def turn(self) -> Cost:
        self._gate.send(None)
        cost: Cost = self._gate.recv()
        return cost

    def end(self) -> None:
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()


def compare(folder: Path, proposals: int, turns: int) -> list[tuple[Cost, Cost]]:
    """Of each turn, what it cost late and what early."""
    late = Held(folder / "late", proposals, turns)
    early = None
    try:
        late.there()
        early = Held(folder / "early", YOUNG, turns)
        early.there()
        return [(late.turn(), early.turn()) for _ in range(turns)]
    finally:
        late.end()
        if early is not None:
            early.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    chosen = parser.parse_args()
    with working_folder("growth", chosen.folder) as folder:
        found = compare(folder, chosen.proposals, chosen.turns)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}\n")
    print(f"| ideas each | late: CPU ms per idea | of it children | early (after {YOUNG}) | of it children |")
    print("|---|---|---|---|---|")
    for number, (late, early) in enumerate(found):
        print(f"| {number * TURN + 1}-{(number + 1) * TURN} | {late.all:.1f} | {late.children:.1f} "
              f"| {early.all:.1f} | {early.children:.1f} |")  # fmt: skip
    ratios = [late.all / early.all for late, early in found]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    growth = statistics.mean(ratios)
    print(f"\nan idea after {chosen.proposals:,} costs {growth:.3f} ± {error:.3f} times what one after {YOUNG} does")
    raise SystemExit("it grows" if growth - 2 * error > MOST_GROWTH else 0)


if __name__ == "__main__":
    main()

"""What a run of the tiny track would come to, from the recorded trainings (`benchmarks/training_table.py`).

Takes the table's lines; gives `World`, which a fake runner asks in place of training. Where knobs were crossed in
full the table's own cell counts; every other knob adds what it changed alone. So a campaign on the table has a truth:
`bpb` without noise. Runs draw theirs around it, as far as seeds were seen to differ: some of what a seed does it does
to every configuration.
"""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.runners.fake import Imagined
from agent.script.literals import KnobValue
from benchmarks.training_table import BYTES, GRID

LEAST = 5  # seeds of one configuration, or configurations with two seeds, from which on noise is estimated
OVERHEAD_S = 8.0  # of a run beside its training: starts, tokenizing, scoring, audit

Config = Mapping[str, KnobValue]
Key = tuple[tuple[str, KnobValue], ...]
Rows = Mapping[int, Mapping[str, Any]]  # of one configuration, by seed


def key(changes: Config) -> Key:
    return tuple(sorted(changes.items()))


@dataclass(frozen=True)
class Noise:
    """Standard deviations of BPB between seeds: what a seed does to every configuration, and to this one alone."""

    shared: float
    own: float

    @classmethod
    def of(cls, cells: Sequence[Rows]) -> "Noise":
        """All of it from configurations that were trained many times, its own part from those that share two seeds."""
        many = [[_bpb(row) for row in cell.values()] for cell in cells if len(cell) >= LEAST]
        both = [_bpb(cell[1]) - _bpb(cell[2]) for cell in cells if 1 in cell and 2 in cell]
        if not many or len(both) < LEAST:
            raise ValueError("the table has too few seeds to tell the noise from")
        all_of_it, own = statistics.fmean(map(statistics.variance, many)), statistics.variance(both) / 2
        return cls(math.sqrt(max(0.0, all_of_it - own)), math.sqrt(min(own, all_of_it)))


@dataclass(frozen=True)
class World:
    base: Config
    cells: Mapping[Key, Rows]
    noise: "Noise"

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], base: Config) -> "World":
        cells: dict[Key, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for row in rows:
            cells[key(row["changes"])][row["seed"]] = row
        return cls(base, cells, Noise.of(list(cells.values())))

    def bpb(self, config: Config) -> float:
        """The truth."""
        crossed, alone = self._split(config)
        start = statistics.fmean(row["bpb"]["8.8"] for row in self.cells[()].values())
        return (
            start
            + self._shift(crossed, _bpb)
            + sum(self._shift({name: value}, _bpb) for name, value in alone.items())
            + self._bits(crossed, config, lambda row, bits: row["bpb"][bits])
        )

    def artifact_bytes(self, config: Config) -> int:
        crossed, alone = self._split(config)
        compressor = config["compressor"]
        cell = self._full(crossed)
        size = float(cell["bytes"][f"8.8.{compressor}"])
        size += self._bits(crossed, config, lambda row, bits: row["bytes"][f"{bits}.{compressor}"])
        for name, value in alone.items():
            size *= math.exp(self._shift({name: value}, lambda row: math.log(row["bytes"]["8.8.zlib"])))
        return round(size)

    def seconds(self, config: Config) -> float:
        crossed, _ = self._split(config)
        return OVERHEAD_S + statistics.fmean(row["train_cpu_s"] for row in self.cells[key(crossed)].values())

    def runner(self, draw: str, code_bytes: int) -> Callable[[Config, int], Imagined]:
        """What a fake runner asks. `draw`: another campaign has other luck. `code_bytes`: of the packed script,
        less those of the stand-in."""

        def run(config: Config, seed: int) -> Imagined:
            luck = random.Random(f"{draw}/{seed}").gauss(0.0, self.noise.shared)
            luck += random.Random(f"{draw}/{seed}/{key(config)}").gauss(0.0, self.noise.own)
            size = self.artifact_bytes(config) + code_bytes
            return Imagined(self.bpb(config) + luck, size, self.seconds(config))

        return run

    def _split(self, config: Config) -> tuple[dict[str, KnobValue], dict[str, KnobValue]]:
        """What differs from the base: inside the grid, and alone."""
        changed = {name: config[name] for name in self.base if config[name] != self.base[name] and name not in BYTES}
        crossed = {name: value for name, value in changed.items() if value in GRID.get(name, ())}
        return crossed, {name: value for name, value in changed.items() if name not in crossed}

    def _shift(self, changes: Config, of: Callable[[Mapping[str, Any]], float]) -> float:
        """What it changed, against the base with the same seeds."""
        mine, base = self.cells[key(changes)], self.cells[()]
        return statistics.fmean(of(mine[seed]) - of(base[seed]) for seed in sorted(mine.keys() & base.keys()))

    def _full(self, crossed: Config) -> Mapping[str, Any]:
        """The training whose weights were also written in fewer bits."""
        return max(self.cells[key(crossed)].values(), key=lambda row: len(row["bytes"]))

    def _bits(self, crossed: Config, config: Config, of: Callable[[Mapping[str, Any], str], float]) -> float:
        """Fewer bits for the weights and for the embedding: each as measured alone on this cell's model."""
        cell, weights, embed = self._full(crossed), config["weight_bits"], config["embed_bits"]
        return of(cell, f"{weights}.8") + of(cell, f"8.{embed}") - 2 * of(cell, "8.8")


def _bpb(row: Mapping[str, Any]) -> float:
    return float(row["bpb"]["8.8"])

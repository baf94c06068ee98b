"""Machines rented by the lease, each with scores and steps of its own, and a campaign whose anchors tie them."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from agent.job.folder import JobPaths
from agent.records import Run
from agent.runners import LATER
from agent.runners.fake import FakeRunner, Imagined, Knobs, imagine
from agent.runners.order import Order
from agent.setting import Setting
from agent.store.rows import iso
from tests.e2e import world

ANCHORED = world.TRACK.replace('kind = "cpu"', 'kind = "cpu"\nanchor_every_s = 14400')
STEPS = 10_000


@dataclass
class Machines:
    """What each lease is like: how much worse its scores are, and how long its steps take, run by run."""

    worse: Mapping[str, float] = field(default_factory=dict)
    slower: Callable[[str, int], float] = lambda lease, nth: 1.0
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)


class Leased(FakeRunner):
    """Slots of leases by name, one each; a slot of a lease that was refused is not there any more."""

    def __init__(self, leases: tuple[str, ...], machines: Machines) -> None:
        super().__init__(len(leases))
        self._names = dict(zip(self.slots, leases, strict=True))
        self._machines, self._on = machines, ""
        self._world = self._imagined

    def lease(self, slot: str) -> str:
        return self._names[slot]

    def refuse(self, lease: str, reason: str) -> None:
        self._machines.refused[lease] = reason

    def _imagined(self, knobs: Knobs, seed: int) -> Imagined:
        run = imagine(knobs, seed)
        return replace(run, bpb=run.bpb + self._machines.worse.get(self._on, 0.0))

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self._on = self._names[slot]
        super().submit(order, folder, slot)
        self._machines.counts[self._on] += 1
        steps = round(STEPS / self._machines.slower(self._on, self._machines.counts[self._on]))
        JobPaths(folder).train_log.write_text(f"step:{steps}/{steps} train_loss:2.0 train_time:36000ms\n")


def opened(
    root: Path,
    leases: tuple[str, ...],
    machines: Machines,
    track: str = ANCHORED,
    ideas: int = 4,
    runner: type[Leased] = Leased,
) -> Setting:
    world.make_workspace(root, track=track)
    better = world.idea("wider", ('"width": 4', '"width": 6'))
    nulls = [world.idea(f"bits {n}", ('"crash": 0', f'"crash": 0.{"0" * n}')) for n in range(1, ideas)]
    world.write_ideas(root, [*nulls, better])
    return world.open_campaign(root, slots=len(leases), make_runner=lambda count: runner(leases, machines))


def runs_of(setting: Setting) -> list[Run]:
    with setting.store.read() as reads:
        return reads.runs(setting.campaign.id)


def later(setting: Setting, hours: int, than: str = "1 = 1") -> None:
    """As if those anchors were so many hours old."""
    with setting.store.write() as tx:
        tx.connection.execute(
            text(f"UPDATE runs SET started = :at WHERE purpose = 'anchor' AND {than}"),
            {"at": iso(datetime.now(UTC) - timedelta(hours=hours))},
        )


class Gathered(Leased):
    """A slot is no machine: a job is on the next one in turn, unless its slot means one. `FIRST`: whether machines are
    known before a run was on them."""

    FIRST = True

    def __init__(self, leases: tuple[str, ...], machines: Machines) -> None:
        super().__init__(leases, machines)
        self._turns, self._where = itertools.cycle(leases), dict[Path, str]()
        self._pins = {f"fake/@{lease}": lease for lease in leases}

    def lease(self, slot: str) -> str:
        return self._pins.get(slot, LATER)

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self._names[slot] = self._where[folder] = self._pins.get(slot) or next(self._turns)
        super().submit(order, folder, slot)

    def began_on(self, folder: Path) -> str:
        return self._where.get(folder, "")

    def pinned(self, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
        there = self._pins.values() if self.FIRST else seen()
        return {lease: slot for slot, lease in self._pins.items() if lease in there}


class Found(Gathered):
    FIRST = False

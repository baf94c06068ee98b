"""A workspace whose runs go to rented machines: what pools of every provider's stand-in have in common.

Takes the workspace and what moves the stand-in's clock; gives jobs, what the store says, and steps.
"""

import time
from collections.abc import Callable

from agent.job.folder import JobPaths
from agent.machines import book
from agent.runners.rented.runner import RentingRunner
from tests import far
from tests.renting import opened


class Pool:
    """Its campaign has a hundred dollars."""

    slot: str
    """Where a job goes when nothing else is said."""
    step_s = 5.0
    within_s = 120.0
    look_s = 0.05

    def __init__(self, world: far.World, advance: Callable[[float], None]) -> None:
        self.world, self._advance = world, advance
        self.store, self.campaign = opened(world.workspace)
        self.runners: list[RentingRunner] = []

    def job(self, runner: RentingRunner, run_id: int = 1, slot: str = "") -> JobPaths:
        order = self.world.order(run_id=run_id)
        paths = self.world.place(order)
        runner.submit(order, paths.folder, slot or self.slot)
        return paths

    def rows(self) -> list[str]:
        """Of each machine its state, where it is if its provider says so, and why it is gone."""
        with self.store.read() as reads:
            machines = book.everyone(reads, over=True)
        return [f"{one.state} {f'{one.place} ' if one.place else ''}{one.refused or one.reason}" for one in machines]

    def until(
        self,
        runner: RentingRunner,
        what: Callable[[], bool],
        step_s: float | None = None,
        within_s: float | None = None,
    ) -> None:
        """Steps, while the stand-in's clock goes on: as the real one where something is at work there."""
        deadline = time.monotonic() + (within_s or self.within_s)
        while not what():
            assert time.monotonic() < deadline, (self.rows(), [keeper.why for keeper in keepers(runner)])
            runner.step()
            at_work = any(one.machine and one.machine.state == "live" and not one.idle for one in keepers(runner))
            self._advance(0.05 if at_work else step_s or self.step_s)
            time.sleep(self.look_s)


def keepers(runner: RentingRunner) -> list:  # type: ignore[type-arg]
    return list(runner._keepers.values())


def over(runner: RentingRunner, paths: JobPaths) -> bool:
    return runner.poll(paths.folder) in ("done", "lost")

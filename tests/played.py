"""Rented machines that only play: what is rented, paid and given back is real against the stand-in, what runs is not.

Takes a stand-in for RunPod and a workspace; gives a runner that rents from it, whose machines answer at once and are
what was asked for, with as many GPUs. Nothing is trained; a run's score is that of a `FakeRunner`.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from agent.job.folder import JobState
from agent.runners.fake import FakeRunner
from agent.runners.order import Order
from agent.runners.rented.runner import RentingRunner
from agent.runners.runpod.rental import PodRental
from agent.runners.runpod.settings import Settings
from agent.runners.ssh.answers import Facts
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Done
from agent.track import Track
from tests.runpod import KEY, StandIn

QUICK: dict[str, Any] = {"idle_s": 0.5, "data_centers": ("US-TX-3", "EU-RO-1", "US-KS-2")}


class PlayedMachines:
    """All that were added are there; each is the pod of its name."""

    def __init__(self, stand: StandIn) -> None:
        self._stand = stand
        self.there: dict[str, SshHost] = {}
        self.removed: set[str] = set()

    def add(self, host: SshHost) -> None:
        self.there[host.name] = host

    def named(self, name: str) -> SshHost | None:
        return self.there.get(name)

    def facts(self, name: str) -> Facts | None:
        pod = next((one for one in self._stand.living() if one.body["name"] == name), None)
        if name not in self.there or pod is None:
            return None
        gpu = pod.body["gpu"]
        return Facts(f"cuda/{gpu['id']}/{gpu['count']}", 1, "namespaces", "", (), (gpu["id"],), "boot", 0.0, "")

    def wrong(self, name: str) -> str:
        return ""

    def on(self, name: str, what: Callable[..., Any], within_s: float) -> Done:
        return Done(0, b"", "")


class Played(FakeRunner):
    """In the stead of an `SshRunner`."""

    def __init__(self, stand: StandIn, seconds: float) -> None:
        super().__init__(0, seconds)
        self.machines = PlayedMachines(stand)
        self.on: dict[int, str] = {}  # the machine of each run

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        assert self.machines.facts(slot.rpartition("/")[0]) is not None
        self.on[order.run_id] = slot.rpartition("/")[0]
        super().submit(order, folder, slot)

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {folder for folder in folders if self.poll(folder) == "done"}

    def poll(self, folder: Path) -> JobState:
        """What waits for a machine is not lost."""
        return super().poll(folder) if (folder / "result.json").exists() else "starting"

    def remove(self, name: str) -> None:
        self.machines.there.pop(name, None)
        self.machines.removed.add(name)

    def close(self) -> None:
        """Nothing is open."""


def renting(
    stand: StandIn, root: Path, track: Track, slots: int, *, seconds: float = 0.1, name: str = "runpod", **changed: Any
) -> RentingRunner:
    settings = Settings(url=stand.url, **{**QUICK, **changed})
    rental = PodRental(name, settings, root, {"RUNPOD_API_KEY": KEY})
    made = RentingRunner(name, rental, root, track, slots, admit=lambda machine, far: "")
    made._ssh = Played(stand, seconds)  # type: ignore[assignment]
    return made

"""Runs on machines that are rented for them: `RentingRunner`, a Runner whose slots NAME/0, NAME/1, ... each have a
machine only while there is work.

Takes what one table of runners.toml rents (`Rental`) and a workspace, and later the campaign whose money it is. A job
that is submitted waits in its folder until its slot's machine is there, then goes there as to any other far machine.
Nothing here waits for a machine but the slot's own thread.
"""

import contextlib
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import BudgetExceeded, CaddieError, InfraError, StoreError, UserError
from agent.job.folder import JobPaths, JobResult, JobState, Loss, Progress
from agent.job.reading import read_small, there
from agent.job.writing import write_aside
from agent.machines import book, storage
from agent.machines.records import Machine
from agent.machines.renting import Renter, shut
from agent.machines.sweep import sweep
from agent.runners import NEW
from agent.runners.order import Order, placed
from agent.runners.rented.desk import Desk
from agent.runners.rented.ending import end_machines
from agent.runners.rented.keeper import Keeper
from agent.runners.rented.prices import Prices
from agent.runners.rented.rental import Rental
from agent.runners.rented.slots import Slots
from agent.runners.rented.spot import spot_check, unfit
from agent.runners.rented.waiting import over
from agent.runners.ssh import mirror
from agent.runners.ssh.machines import Machines
from agent.runners.ssh.runner import SshRunner
from agent.track import Track
from sandbox import BoxName, Level, Policy

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store

# Until the first machine says what it has. One with less is given back, and nothing runs on it.
THOUGHT_LEVEL: Level = "landlock"
COMPARE_S = 3600.0  # bills are final an hour after the hour, and until then more is set aside
SLOT = "slot"  # the file in a job's folder that says which slot it waits for or is in

Admit = Callable[[Machine, Machines], str]


class RentingRunner:
    rents = True

    def __init__(
        self, name: str, rental: Rental, workspace: Path, track: Track, slots: int, *, admit: Admit | None = None
    ) -> None:
        """Asks nobody yet, and rents nothing before `opened`. `slots`: machines at once; `admit`: another spot check
        than ours."""
        self.name = name
        self.notes: tuple[str, ...] = (rental.note,)
        self._rental, self._track, self._admit = rental, track, admit
        self._ssh = SshRunner((), workspace, track, rental.link)
        self._slots = Slots(name, rental.kinds, track.sizes(), min(slots, rental.terms.limits.most))
        self._named = {one.slot: one for one in self._slots.every()}
        self._keepers: dict[str, Keeper] = {}
        self._desk: Desk | None = None
        self._unpaid: UserError | BudgetExceeded | None = None  # why what lies there is not paid for
        self._prices = Prices(rental)
        self._stop = threading.Event()
        self._news = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def slots(self) -> tuple[str, ...]:
        """Those at work, and of each size as many as there may be beside them. Raises the fault that keeps all of them
        from renting, where a person must mend it."""
        keepers = self._keepers.values()
        under_way = [one.slot for one in keepers if not one.idle]
        spare = [one.slot for one in keepers if one.idle and one.machine is not None]
        fault = None if self._desk is None else self._desk.fault
        if fault is not None and not under_way and not spare:
            raise fault
        found = self._slots.now(under_way, spare)
        if isinstance(fault, BudgetExceeded):  # for no other machine, until one of them is over
            return tuple(slot for slot in found if slot in under_way or slot in spare)
        return found

    def lease(self, slot: str) -> str:
        """`NEW` while the slot has no machine; its run is told when there is one."""
        keeper = self._keepers.get(slot)
        return NEW if keeper is None else keeper.lease or NEW

    def refuse(self, lease: str, reason: str) -> None:
        for keeper in self._keepers.values():
            if lease and keeper.lease == lease:
                keeper.refuse(reason)
        self._news.set()

    def hardware_class(self, slot: str) -> str:
        """The same before there is a machine and after, so that runs can be bound to it. Machines that are rented for
        their processors alone are a class by what they are rented as: which processor comes, nobody knows before, and
        on a track without GPUs it makes no score. It can make a run pass its clock, though (docs/machines.md)."""
        named = self._named.get(slot)
        if named is None:
            return ""
        return self._expected(named.kind, named.gpus) or f"cpu/{self.name}/{named.kind}"

    def far(self, slot: str) -> bool:
        return True

    def price(self, slot: str) -> float:
        """Of the machine that is there, else what one is said to cost; dearer than any, where nobody said so yet."""
        keeper, named = self._keepers.get(slot), self._named.get(slot)
        if keeper is not None and keeper.machine is not None:
            return keeper.machine.usd_per_hour
        return self._prices.of(*(("", 1) if named is None else named[1:]))

    def env(self, slot: str) -> dict[str, str]:
        """The machine itself adds what its slot is."""
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def size(self, slot: str) -> int | None:
        named = self._named.get(slot)
        return None if named is None else named.gpus

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        return self._ssh.level(policy) if any(one.place for one in self._keepers.values()) else THOUGHT_LEVEL

    def box(self) -> BoxName:
        return ""

    def opened(self, store: "Store", campaign: "Campaign") -> None:
        """From now on machines may be rented, on this campaign's money. What an earlier controller rented is looked for
        first: what is of use is kept, all else ended.

        Raises:
            MissingError, UserError, InfraError: nobody can be asked.
        """
        self.begin(self._rental.renter(store), campaign.id)

    def begin(self, one: Renter, campaign_id: int, *, threads: bool = True) -> None:
        """The same with a renter that is there. Without `threads` nothing happens but in `step`."""
        sweep(one, [campaign_id])
        storage.keep(one, campaign_id)
        self._desk = desk = Desk(
            renter=one,
            campaign_id=campaign_id,
            rental=self._rental,
            ssh=self._ssh,
            candidates=lambda kind, gpus: self._prices.candidates(one, kind, gpus),
            turn=self._slots.turn,
            make_room=self._make_room,
            unfit=self._unfit,
            admit=self._admitted,
        )
        self._keepers = {slot: Keeper(named, desk) for slot, named in self._named.items()}
        self._adopt(desk)
        self._prices.ask(one, self._named.values())
        if threads:
            self._threads = [
                threading.Thread(target=self._keep, args=(keeper,), name=keeper.slot, daemon=True)
                for keeper in self._keepers.values()
            ]
            self._threads.append(threading.Thread(target=self._settle, args=(desk,), name="bills", daemon=True))
            for thread in self._threads:
                thread.start()

    def step(self) -> float:
        """One step of every slot; seconds until the next one is due."""
        return min(keeper.step() for keeper in self._keepers.values())

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        keeper = self._keepers.get(slot)
        if keeper is None:
            raise InfraError(f"there is no slot {slot}; there are {', '.join(self._keepers) or 'none yet'}")
        if over(folder):
            return
        if not there(folder / SLOT):
            write_aside(folder / SLOT, slot)
        keeper.put(folder)
        self._news.set()

    def poll(self, folder: Path) -> JobState:
        if over(folder):
            return self._ssh.poll(folder)
        if (host := self._sent(folder)) is not None:
            for keeper in self._keepers.values():
                keeper.adopt(folder, host)
            if self._ssh.machines.named(host) is None and self._has(host):  # its keeper has yet to say where it is
                return "running" if there(JobPaths(folder).heartbeat) else "starting"
            return self._ssh.poll(folder)
        waits = self._keepers.get(read_small(folder / SLOT) or "")
        if waits is None:
            raise InfraError(f"{folder} waits for a slot that is not there any more")
        waits.put(folder)  # put by an earlier controller: it waits again
        return "starting"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {folder for folder in folders if self.poll(folder) in ("done", "lost")}

    def progress(self, folder: Path) -> Progress | None:
        return self._ssh.progress(folder)

    def cancel(self, folder: Path) -> None:
        if self._sent(folder) is not None:
            self._ssh.cancel(folder)
        elif not there(JobPaths(folder).cancel):
            write_aside(JobPaths(folder).cancel, "")
        self._news.set()

    def collect(self, folder: Path) -> JobResult:
        return self._ssh.collect(folder)

    def loss(self, folder: Path) -> Loss:
        return self._ssh.loss(folder)

    def sweep(self, jobs_root: Path) -> list[int]:
        return self._ssh.sweep(jobs_root)

    def close(self) -> None:
        """Gives every machine back but those with a run under way, as there may be where the loop broke off. One that
        does not end is tried again by the next sweep, and ends itself at its time."""
        self._stop.set()
        self._news.set()
        self._rental.hurry()
        for thread in self._threads:
            thread.join(60)
        with contextlib.ExitStack() as whatever_comes:  # what one of them raises keeps no other machine
            whatever_comes.callback(self._rental.close)
            whatever_comes.callback(self._ssh.close)
            if (desk := self._desk) is not None:
                whatever_comes.callback(end_machines, desk, self.name, self._keepers.values())

    def _keep(self, keeper: Keeper) -> None:
        while not self._stop.is_set():
            try:
                wait_s = keeper.step()
            except Exception as error:  # a fault of ours must not leave the slot, its machine and its job to nobody
                wait_s = keeper.broke(error)
            self._news.wait(wait_s)
            self._news.clear()

    def _settle(self, desk: Desk) -> None:
        """Now and then the book is compared with what the provider has, and settled from its bill."""
        while not self._stop.wait(COMPARE_S):
            self._compare(desk)

    def _compare(self, desk: Desk) -> None:
        with desk.starts, contextlib.suppress(CaddieError):  # the next time, or the next start
            sweep(desk.renter, [desk.campaign_id], self._making())
        try:
            storage.keep(desk.renter, desk.campaign_id)
        except (StoreError, InfraError):  # a busy moment: the next time, as what lies there is paid for hours ahead
            return
        except (UserError, BudgetExceeded) as error:
            desk.fault = self._unpaid = error
            return
        if desk.fault is self._unpaid:  # somebody mended it
            desk.fault = None

    def _making(self) -> set[int]:
        """Machines whose keepers do not know yet what came of asking for them."""
        there = [keeper.machine for keeper in self._keepers.values()]
        return {machine.id for machine in there if machine is not None and not machine.provider_id}

    def _adopt(self, desk: Desk) -> None:
        """Machines that are there keep their slots, and their jobs with them."""
        with desk.renter.store.read() as reads:
            there = book.everyone(reads, campaign_id=desk.campaign_id, backend=self.name)
        for row in there:
            free = [one for one in self._keepers.values() if one.machine is None and one.rents(row)]
            keeper = next((one for one in free if one.slot == row.facts.get("slot")), free[0] if free else None)
            if keeper is None:  # the settings are other ones now
                shut(desk.renter, row.id, "no slot is for it any more")
            else:
                keeper.machine = row

    def _make_room(self) -> bool:
        """Gives a machine back that has nothing to do, for one of another size; whether one went."""
        return any(keeper.give_way() for keeper in self._keepers.values())

    def _expected(self, kind: str, gpus: int) -> str:
        """As the machine itself will say it; of a track without GPUs nobody knows before."""
        return f"cuda/{self._rental.device(kind)}/{gpus}" if gpus else ""

    def _unfit(self, name: str, kind: str, gpus: int) -> str:
        if (facts := self._ssh.machines.facts(name)) is None:
            raise InfraError(f"{name} does not answer now")
        return unfit(facts, self._expected(kind, gpus), self._track.sandbox.minimum)

    def _admitted(self, machine: Machine, gpus: int) -> str:
        far = self._ssh.machines
        if self._admit is not None:
            return self._admit(machine, far)
        assert self._desk is not None
        track = self._track.sized(gpus)
        kept_from = self._ssh.kept_from(track)
        return spot_check(self._desk.renter, self._desk.campaign_id, track, machine, far, kept_from)

    def _has(self, host: str) -> bool:
        """Whether a slot has a machine of this name."""
        return any(one.machine is not None and one.machine.name == host for one in self._keepers.values())

    def _sent(self, folder: Path) -> str | None:
        """The machine that a job was handed to."""
        try:
            placed = mirror.read(folder)
        except ValueError:
            return ""  # by somebody: `ssh` says what is wrong
        return None if placed is None else placed.host

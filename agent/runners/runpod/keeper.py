"""One slot of rented pods: a pod is rented when a job waits for it, used, and given back when it was idle for a while.

Takes what all slots share (`Desk`); a job is put in, and `step` takes the slot one step further and says when it wants
to be called again. A pod that is no good is given back and another one asked for; what keeps a job from ever getting
one is written in its folder as its loss.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.errors import BudgetExceeded, InfraError, StoreError, UserError
from agent.machines import book
from agent.machines.records import BadRequest, Candidate, Machine, NoCapacity
from agent.machines.renting import Renter, rent, shut
from agent.machines.tending import Patience, due, prolong, tend
from agent.runners.job import JobPaths, JobResult, Loss, write_aside
from agent.runners.reading import there
from agent.runners.results import order_of
from agent.runners.runpod import deadman
from agent.runners.runpod.hosts import PodHosts
from agent.runners.ssh.errand import lose
from agent.runners.ssh.hosts import SshHost

LOOK_S = 2.0  # between two steps while something is under way
TEND_S = 60.0  # between two questions about a pod that works
STARTING_S = 10.0  # and about one that is being made: the provider counts requests
AGAIN_S = 30.0  # after the provider failed
NO_GOOD = 4  # pods in a row that came to nothing, before the job is given back
SPARE_S = 600.0  # that a lease must have left when a job's own time is over
GIVE_UP_S = 4 * 3600.0  # of waiting for a pod

Admit = Callable[[Machine, PodHosts], str]


class Terms(Protocol):
    """What a person set that counts for each slot."""

    @property
    def lease_hours(self) -> float: ...

    @property
    def idle_s(self) -> float: ...

    @property
    def provision_s(self) -> float: ...

    @property
    def port_s(self) -> float: ...

    @property
    def python(self) -> str: ...

    @property
    def folder(self) -> str: ...


@dataclass
class Desk:
    """What all slots share."""

    renter: Renter
    campaign_id: int
    settings: Terms
    ssh: PodHosts
    key: Path | None
    wanted: Callable[[str], list[Candidate]]
    """Candidates of a kind, from the provider's catalogue."""
    turn: Callable[[str], str]
    """The kind that jobs to come ask for, as this one is not to be had; empty: there is no other."""
    fits: Callable[[str, str], str]
    """Why a pod's slot of `ssh` is not of the kind that was asked for; nothing where it is."""
    admit: Admit
    """Why a new pod is not good enough, found out on it; nothing where it is."""
    fault: UserError | BudgetExceeded | BadRequest | None = None
    """What a person must mend before any slot can rent again."""
    starts: threading.Lock = field(default_factory=threading.Lock)
    """One at a time asks for a machine: caps are counted by what is in the book, stock by who came first."""


class Keeper:
    def __init__(self, slot: str, kind: str, desk: Desk, machine: Machine | None = None) -> None:
        self.slot = slot
        self.kind = kind  # of GPU
        self.machine = machine
        self.why = ""  # what is in the way now
        self._desk = desk
        self._job: Path | None = None
        self._handed: Path | None = None  # to the pod
        self._turned = ""  # why the pod takes no further run
        self._since: datetime | None = None  # idle, or waiting for a pod
        self._tended: datetime | None = None
        self._failures = 0
        self._lock = threading.RLock()

    @property
    def place(self) -> str:
        """The pod's slot at `ssh`, once it answers; empty before."""
        name = "" if self.machine is None else host_name(self.machine)
        return next((slot for slot in self._desk.ssh.slots if slot.rpartition("/")[0] == name), "")

    @property
    def idle(self) -> bool:
        return self._job is None or _over(self._job)

    @property
    def lease(self) -> str:
        """Of its pod; empty while there is none."""
        return "" if self.machine is None else book.lease(self.machine.id)

    def refuse(self, why: str) -> None:
        """Its pod is not what it was: it takes no further run, and goes back when the one that is on it is over."""
        self._turned = why

    def put(self, folder: Path) -> None:
        """A job for this slot; the same one may be put again. Waits for no step that is under way.

        Raises:
            InfraError: another one is in it.
        """
        if self._job == folder:
            return
        if not self.idle:
            raise InfraError(f"{self.slot} has the job in {self._job}")
        self._since = None
        self._job = folder

    def adopt(self, folder: Path, host: str) -> None:
        """A job that an earlier controller handed to this machine, if the slot has it: its pod is not idle."""
        if self._job is None and self.machine is not None and host_name(self.machine) == host:
            self._handed = self._job = folder

    def step(self) -> float:
        """Seconds until it wants to be called again."""
        with self._lock:
            try:
                again = self._step()
                self.why = ""
                return again
            except StoreError as error:  # a busy moment, a full disk: the loop meets the same, and says so
                self.why = str(error)
                return AGAIN_S
            except (UserError, BudgetExceeded, BadRequest) as error:
                self._desk.fault = error
                return self._blocked(str(error), 0.0)
            except NoCapacity as error:
                other = self._desk.turn(self.kind)
                words = f"{error}; the next run asks for {other}" if other else str(error)
                return self._blocked(words, 0.0 if other else GIVE_UP_S)
            except InfraError as error:
                return self._blocked(str(error), GIVE_UP_S)

    def end(self, reason: str) -> bool:
        """Gives the pod back; whether it is gone for sure."""
        with self._lock:
            if self.machine is None:
                return True
            self.machine = shut(self._desk.renter, self.machine.id, reason)
            return self._forget()

    def _step(self) -> float:
        job = self._job
        if job is not None and self._handed != job and there(JobPaths(job).cancel) and not _over(job):
            _cancel(job)
        if self.machine is None:
            # One whose pod is gone is lost, and its errand says so.
            return TEND_S if job is None or _over(job) or self._handed == job else self._rent(job)
        now = self._desk.renter.clock()
        often = TEND_S if self.machine.state == "live" else STARTING_S
        if self._tended is None or (now - self._tended).total_seconds() >= often:
            self._tended = now
            self._look()
        if self.machine is None:
            return 0.0
        if self.machine.state != "live":
            return self._idle(now) if self.idle else LOOK_S
        return self._use(now)

    def _rent(self, job: Path) -> float:
        desk, order = self._desk, order_of(job)
        if self._failures >= NO_GOOD:
            self._failures = 0
            lose(job, Loss(False, 0.0, f"{NO_GOOD} pods in a row came to nothing; the last: {self.why}"))
            return 0.0
        lease_s = max(desk.settings.lease_hours * 3600, desk.settings.provision_s + order.wall_s + SPARE_S)
        with desk.starts:
            made = rent(desk.renter, desk.campaign_id, desk.wanted(self.kind), lease_s, order.wall_s)
            with desk.renter.store.write() as tx:
                self.machine = book.learnt(tx, made.id, {"slot": self.slot})
        self._turned, self._tended, self._since = "", desk.renter.clock(), None
        return LOOK_S

    def _look(self) -> None:
        assert self.machine is not None
        patience = Patience(self._desk.settings.provision_s, self._desk.settings.port_s)
        before = self.machine
        self.machine = tend(self._desk.renter, before, patience)
        if self.machine.state in ("closing", "gone", "refused"):
            self._failures += before.state == "creating"
            self.why = self.machine.refused or self.machine.reason
            self._forget()

    def _forget(self) -> bool:
        """A pod that is over: what it had is lost. One that does not end stays, and is tried again."""
        assert self.machine is not None
        self._desk.ssh.fence(host_name(self.machine))
        if not self.machine.over:
            return False
        self.machine = None
        return True

    def _use(self, now: datetime) -> float:
        assert self.machine is not None
        desk, place = self._desk, self.place
        if not place:
            if not desk.ssh.known(host_name(self.machine)):
                desk.ssh.add(self._host(self.machine))
            elif due_since(self.machine, now) > desk.settings.port_s:
                self._refuse(f"ssh to it does not work: {desk.ssh.wrong(host_name(self.machine))}")
            return LOOK_S
        if self.machine.facts.get("admitted") is not True and not self._admit(place):
            return 0.0
        job = self._job
        if self._turned and (self.idle or self._handed != job):
            self._refuse(self._turned)
            return 0.0
        if job is None or _over(job):
            return self._idle(now)
        if self._handed != job:
            order = order_of(job)
            self._have(order.wall_s + SPARE_S)
            with desk.renter.store.write() as tx:
                book.at_work(tx, self.machine.id, order.run_id)
            desk.ssh.submit(order, job, place)
            self._handed, self._failures = job, 0
        self._since = None
        return LOOK_S

    def _admit(self, place: str) -> bool:
        assert self.machine is not None
        why = self._desk.fits(place, self.kind) or self._desk.admit(self.machine, self._desk.ssh)
        if why:
            self._refuse(why)
            return False
        self._rearm()
        with self._desk.renter.store.write() as tx:  # whoever comes later does not disturb it again
            self.machine = book.learnt(tx, self.machine.id, {"admitted": True})
        return True

    def _refuse(self, why: str) -> None:
        assert self.machine is not None
        self._failures += 1
        self.machine = shut(self._desk.renter, self.machine.id, "not good enough", refused=why)
        self.why = why
        self._forget()

    def _have(self, seconds: float) -> None:
        """So much time must be left of the lease: more is reserved, then the pod is told."""
        assert self.machine is not None
        if due(self.machine, self._desk.renter.clock(), seconds):
            self.machine = prolong(self._desk.renter, self.machine, seconds)
            self._rearm()

    def _rearm(self) -> None:
        """By the pod's own clock. Should this be lost, it ends sooner, and nothing is lost but time."""
        assert self.machine is not None
        left = (datetime.fromisoformat(self.machine.until) - self._desk.renter.clock()).total_seconds()
        command = deadman.rearm(self.machine.name, left)
        done = self._desk.ssh.command(host_name(self.machine), "sh", "-c", command)
        if done.rc != 0:
            raise InfraError(f"{self.machine.name}: its timer can't be moved: {done.err[:300]}")

    def _idle(self, now: datetime) -> float:
        self._since = self._since or now
        if (now - self._since).total_seconds() >= self._desk.settings.idle_s:
            self.end("idle")
        return LOOK_S

    def _blocked(self, why: str, patience_s: float) -> float:
        """A job does not wait for ever; what a person must mend, it does not wait for at all."""
        self.why = why
        job, now = self._job, self._desk.renter.clock()
        if job is None or _over(job) or self._handed == job:
            return AGAIN_S
        self._since = self._since or now
        if (now - self._since).total_seconds() >= patience_s:
            self._since = None
            lose(job, Loss(False, 0.0, f"no pod was to be had: {why}"))
        return AGAIN_S

    def _host(self, machine: Machine) -> SshHost:
        facts = machine.facts
        return SshHost(
            name=host_name(machine),
            address=str(facts["host"]),
            port=int(str(facts["port"])),
            user=str(facts["user"]),
            key=self._desk.key,
            python=self._desk.settings.python,
            folder=self._desk.settings.folder,
            slots=1,
            price=machine.usd_per_hour,
        )


def host_name(machine: Machine) -> str:
    """No other machine ever has it: its host key is pinned under it."""
    return machine.name


def due_since(machine: Machine, now: datetime) -> float:
    """Seconds since it could be used, as its provider said."""
    return (now - datetime.fromisoformat(machine.live or machine.created)).total_seconds()


def _over(folder: Path) -> bool:
    paths = JobPaths(folder)
    return there(paths.result) or there(paths.lost)


def _cancel(folder: Path) -> None:
    run_id = order_of(folder).run_id
    result = JobResult(run_id, "cancelled", "cancelled before a pod was there", (), 0.0, (), False)
    write_aside(JobPaths(folder).result, result.to_json())

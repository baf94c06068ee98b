"""One slot: a machine is rented when a job waits for it, used, and given back when it was idle for a while.

Takes what all slots share (`Desk`); a job is put in, and `step` takes the slot one step further and says when it wants
to be called again. A machine that is no good is given back and another one asked for; what keeps a job from ever
getting one is written in its folder as its loss.
"""

import threading
from datetime import datetime
from pathlib import Path

from agent.errors import BudgetExceeded, CaddieError, InfraError, StoreError, UserError
from agent.job.folder import JobPaths, Loss
from agent.job.reading import there
from agent.machines import book, work
from agent.machines.records import BadRequest, Machine, NoCapacity, SpentToday
from agent.machines.renting import make, shut
from agent.machines.tending import Patience, tend
from agent.runners.far.mirror import lose
from agent.runners.rented.desk import Desk
from agent.runners.rented.paid import Paid
from agent.runners.rented.slots import Named
from agent.runners.rented.waiting import AGAIN_S, GIVE_UP_S, Waits, cancel, over
from agent.runners.results import order_of

LOOK_S = 2.0  # between two steps while something is under way
TEND_S = 60.0  # between two questions about a machine that works
STARTING_S = 10.0  # and about one that is being made, or is silent: the provider counts requests
NO_GOOD = 4  # machines in a row that came to nothing, before the job is given back


class Quiet(InfraError):
    """A machine that is there and does not do what it is asked to; its provider is all right."""


class Keeper:
    def __init__(self, named: Named, desk: Desk) -> None:
        self.slot, self.kind, self.gpus = named
        self.machine: Machine | None = None
        self._nothing = ""  # why the last machine came to nothing
        self._desk, self._terms, self._waits = desk, desk.rental.terms, Waits(desk)
        self._job: Path | None = None
        self._handed: Path | None = None  # to the machine
        self._turned = ""  # why the machine takes no further run
        self._since: datetime | None = None  # idle
        self._tended: datetime | None = None
        self._quiet_since: datetime | None = None  # since when the machine has been of no use
        self._paid = Paid(desk)
        self._failures = 0  # machines in a row that came to nothing
        self._lock = threading.RLock()

    @property
    def why(self) -> str:
        """What is in the way now."""
        return self._waits.why

    @property
    def place(self) -> str:
        """The machine's slot at `ssh`, once it answers; empty before."""
        machine = self.machine
        if machine is None or self._desk.ssh.machines.facts(machine.name) is None:
            return ""
        return f"{machine.name}/0"

    @property
    def idle(self) -> bool:
        return self._job is None or over(self._job)

    def rents(self, machine: Machine) -> bool:
        """Whether a machine that is there is of its kind and size."""
        return machine.kind == self.kind and max(1, machine.gpus) == max(1, self.gpus)

    @property
    def lease(self) -> str:
        """Of its machine; empty while there is none."""
        return "" if self.machine is None else book.lease(self.machine.id)

    def refuse(self, why: str) -> None:
        """Its machine is not what it was: it takes no further run, and goes back when the one that is on it is over."""
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
        self._waits.over()
        self._job = folder

    def adopt(self, folder: Path, host: str) -> None:
        """A job that an earlier controller handed to this machine, if the slot has it: its machine is not idle."""
        if self._job is None and self.machine is not None and self.machine.name == host:
            self._handed = self._job = folder

    def step(self) -> float:
        """Seconds until it wants to be called again."""
        with self._lock:
            try:
                again = self._step()
                self._waits.clear()
                return again
            except (StoreError, OSError) as error:  # a busy moment, a full disk: the loop meets the same, and says so
                self._waits.why = str(error)
                return AGAIN_S
            except (UserError, BudgetExceeded, BadRequest) as error:
                self._desk.fault = error
                return self._blocked(str(error), 0.0)
            except NoCapacity as error:
                other = self._desk.turn(self.kind, self.gpus)
                words = f"{error}; the next run asks for {other}" if other else str(error)
                return self._blocked(words, 0.0 if other else GIVE_UP_S)
            except Quiet as error:  # asked again soon; but its job does not wait for it for ever
                self._blocked(str(error), GIVE_UP_S)
                return LOOK_S
            except InfraError as error:
                return self._blocked(str(error), GIVE_UP_S)

    def broke(self, error: Exception) -> float:
        """A step failed by a fault of ours: its job does not wait for that to be mended. Seconds until the next."""
        with self._lock:
            try:
                return self._blocked(f"a fault of Caddie's: {type(error).__name__}: {error}"[:1000], 0.0)
            except OSError as unread:  # nothing may end the slot's thread
                self._waits.why = str(unread)
                return AGAIN_S

    def end(self, reason: str) -> bool:
        """Gives the machine back; whether it is gone for sure."""
        with self._lock:
            if self.machine is None:
                return True
            self.machine = shut(self._desk.renter, self.machine.id, reason)
            return self._forget()

    def give_way(self) -> bool:
        """Gives an idle machine back to make room for another one, where nothing is being done with it; whether it is
        gone for sure."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self.machine is not None and self.idle and self.end("idle, and another one is wanted")
        finally:
            self._lock.release()

    def _step(self) -> float:
        job = self._job
        if job is not None and self._handed != job and there(JobPaths(job).cancel) and not over(job):
            cancel(job)
        if self.machine is None:
            # One whose machine is gone is lost, and its errand says so.
            return TEND_S if job is None or over(job) or self._handed == job else self._rent(job)
        if self.machine.state == "wanted":
            self._learn()
            return 0.0
        now = self._desk.renter.clock()
        often = TEND_S if self.machine.state == "live" and self._quiet_since is None else STARTING_S
        if self._tended is None or not 0 <= (now - self._tended).total_seconds() < often:  # a clock may be set back
            self._tended = now
            try:
                self._look()
            except InfraError:
                if self.machine is None or self.machine.state != "live":
                    raise
                self._quiet_since = None  # it may be our own link that is broken: nothing is held against the machine
        if self.machine is None:
            return 0.0
        if self.machine.state == "closing" and self._waiting():
            raise InfraError("its last machine does not end yet")
        if self.machine.state != "live":
            return self._idle(now) if self.idle and self.machine.state != "closing" else LOOK_S
        return self._use(now)

    def _rent(self, job: Path) -> float:
        desk, order = self._desk, order_of(job)
        if self._failures >= NO_GOOD:
            self._failures = 0
            words = f"{NO_GOOD} machines in a row came to nothing; the last: {self._nothing}"
            lose(job, Loss(False, 0.0, words, machine=True))
            return 0.0
        with desk.starts:
            candidates = desk.candidates(self.kind, self.gpus)
            self.machine = self._paid.booked(candidates, order.wall_s, self.slot)
        self._turned, self._tended, self._quiet_since = "", None, None
        try:
            self.machine = make(desk.renter, self.machine, candidates)
        except CaddieError:
            self._learn()
            raise
        desk.fault = None  # somebody mended it
        self._tended, self._since = desk.renter.clock(), None
        self._waits.over()
        return LOOK_S

    def _learn(self) -> None:
        """The making of its machine broke off: the book says what became of it. One that may be there is kept."""
        assert self.machine is not None
        store = self._desk.renter.store
        with store.read() as reads:
            self.machine = book.get(reads, self.machine.id)
        if self.machine.state == "wanted":
            with store.write() as tx:
                self.machine = book.never_came(tx, self.machine.id, "was never asked for", self._desk.renter.clock())
        if self.machine.over:
            self._forget()

    def _look(self) -> None:
        assert self.machine is not None
        patience = Patience(self._terms.provision_s, self._terms.port_s)
        before = self.machine
        try:
            self.machine = tend(self._desk.renter, before, patience)
        except (BudgetExceeded, SpentToday):
            self._learn()
            raise
        if self.machine.state in ("closing", "gone", "refused"):
            self._failures += before.state == "creating" and self.machine.provider_id != ""
            self._nothing = self.machine.refused or self.machine.reason
            self._forget()

    def _forget(self) -> bool:
        """A machine that is over: what it had is lost. One that does not end stays, and is tried again."""
        assert self.machine is not None
        self._desk.ssh.remove(self.machine.name)
        if not self.machine.over:
            return False
        self.machine = None
        if isinstance(self._desk.fault, BudgetExceeded):  # what was set aside for it may be enough for another one
            self._desk.fault = None
        return True

    def _use(self, now: datetime) -> float:
        assert self.machine is not None
        job = self._job
        if job is not None and self._waiting() and not self._paid.lasts(self.machine, order_of(job).wall_s):
            self.end("too little of its time is left for the next run")
            return 0.0
        try:
            again = self._serve(now) if self.place else self._reach()
        except InfraError as error:
            return self._bear(now, str(error))
        self._quiet_since = None
        return again

    def _serve(self, now: datetime) -> float:
        """A machine that answers. Raises InfraError: it does not do what it is asked to."""
        assert self.machine is not None
        if self.machine.facts.get("admitted") is not True and not self._admit():
            return 0.0
        job = self._job
        if self._turned and (self.idle or self._handed != job):
            self._refuse(self._turned)
            return 0.0
        if job is None or over(job):
            return self._idle(now)
        if self._handed != job and not self._hand(job):
            return 0.0
        self._since = None
        return LOOK_S

    def _reach(self) -> float:
        """A machine that does not answer: a new one, or one whose link is broken for now. Raises InfraError."""
        assert self.machine is not None
        far, name = self._desk.ssh.machines, self.machine.name
        if far.named(name) is None:
            far.add(self._desk.host(self.machine, self.gpus))
        if wrong := far.wrong(name):
            raise InfraError(wrong)
        return LOOK_S  # it was not asked yet

    def _bear(self, now: datetime, why: str) -> float:
        """One that is of no use is put up with for a while. With a run on it for as long as that may go on there: a
        link may break, and whoever looks after the run knows when it is lost. Raises Quiet."""
        self._quiet_since = min(self._quiet_since or now, now)
        waits = self.idle or self._waiting()
        if waits and (now - self._quiet_since).total_seconds() > self._terms.port_s:
            self._refuse(f"nothing can be started on it: {why}")
            return 0.0
        if self.idle:
            self._idle(now)
        elif waits and self._job is not None and self._quiet_since == now:
            self._waits.say(self._job, why)
        raise Quiet(why)

    def _hand(self, job: Path) -> bool:
        """False: the machine was given back instead."""
        assert self.machine is not None
        order, desk = order_of(job), self._desk
        try:
            self._paid.allowed(self.machine, order.wall_s)
        except BudgetExceeded as error:  # this run alone is too dear here: others are not
            lose(job, Loss(False, 0.0, str(error)))
            return False
        try:
            self.machine = self._paid.reserved(self.machine, order.wall_s)
        except (BudgetExceeded, SpentToday):  # there may be enough for another one
            self.end("no more of its time may be paid")
            return False
        self._paid.tell(self.machine)
        with desk.renter.store.write() as tx:
            work.at_work(tx, self.machine.id, order.run_id)
        desk.ssh.submit(order, job, f"{self.machine.name}/0")
        self._handed, self._failures = job, 0
        self._waits.over()
        return True

    def _admit(self) -> bool:
        assert self.machine is not None
        desk = self._desk
        why = desk.unfit(self.machine.name, self.kind, self.gpus) or desk.admit(self.machine, self.gpus)
        if why:
            self._refuse(why)
            return False
        self._paid.tell(self.machine)
        with self._desk.renter.store.write() as tx:  # whoever comes later does not disturb it again
            self.machine = book.learnt(tx, self.machine.id, {"admitted": True})
        return True

    def _refuse(self, why: str) -> None:
        assert self.machine is not None
        self._failures += 1
        self.machine = shut(self._desk.renter, self.machine.id, "not good enough", refused=why)
        self._nothing = why
        self._forget()

    def _idle(self, now: datetime) -> float:
        self._since = min(self._since or now, now)
        if (now - self._since).total_seconds() >= self._terms.idle_s:
            self.end("idle")
        return LOOK_S

    def _waiting(self) -> bool:
        """Whether its job is on no machine yet."""
        return not self.idle and self._handed != self._job

    def _blocked(self, why: str, patience_s: float) -> float:
        return self._waits.blocked(self._job if self._waiting() else None, why, patience_s)

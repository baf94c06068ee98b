"""Does again what a recording says was done: the same calls to a store, at the recorded times.

Takes a `Recording`; gives a `Playing`, whose store and job folders are temporary and read like any campaign's.
"""

import bisect
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from sqlalchemy import update

from agent import budget
from agent.errors import CaddieError, UserError
from agent.job.folder import Heartbeat, JobPaths, PhaseName
from agent.job.writing import write_aside
from agent.report.recording import (
    AnyStep,
    Book,
    Change,
    Close,
    End,
    Judge,
    Move,
    Note,
    Point,
    Propose,
    Rebase,
    Recording,
    Reserve,
)
from agent.store import Store, Tx, open_store
from agent.store.rows import iso
from agent.store.schema import campaigns, events, ledger

T = TypeVar("T")
_GIVEN_BY_STORE = frozenset({"id", "state", "reason", "created", "ended"})


@contextmanager
def stage(recording: Recording) -> "Iterator[Playing]":
    """A store and job folders for one showing."""
    with tempfile.TemporaryDirectory(prefix="caddie-demo-") as folder:
        store = open_store(Path(folder) / "runs.db")
        try:
            yield Playing(store, recording, Path(folder) / "jobs")
        finally:
            store.close()


class Shown(NamedTuple):
    """A run that is under way."""

    book: Book
    began: float


@dataclass
class _Clock:
    """Rows written since the last step get the recorded time instead of the present one."""

    started: datetime
    event_id: int = 0

    def at(self, seconds: float) -> str:
        return iso(self.started + timedelta(seconds=seconds))

    def set(self, tx: Tx, campaign_id: int, seconds: float) -> None:
        new = events.c.id > self.event_id
        tx.connection.execute(update(events).where(new).values(at=self.at(seconds)))
        newest = tx.newest_events(campaign_id, 1)
        self.event_id = newest[-1].id if newest else 0


class Playing:
    """The showing of one recording, from its first step to its last."""

    def __init__(self, store: Store, recording: Recording, jobs: Path) -> None:
        self.store, self.recording, self.jobs = store, recording, jobs
        self._next = 0
        self._entries: dict[int, int] = {}  # recorded number -> number here
        self._booked: dict[int, Book] = {}
        self._running: dict[int, Shown] = {}
        self._clock = _Clock(datetime.fromisoformat(recording.campaign.created))
        self.campaign_id = self._open()

    @property
    def over(self) -> bool:
        return self._next >= len(self.recording.steps)

    def until(self, at: float) -> None:
        """Does all that was done up to this second of the campaign, and moves the bars there."""
        steps = self.recording.steps
        end = bisect.bisect_right(steps, at, lo=self._next, key=lambda step: step.at)
        if end > self._next:
            with self.store.write() as tx:
                for n in range(self._next, end):
                    self._do(tx, n, steps[n])
            self._next = end
        for shown in self._running.values():
            self._beat(shown, at)

    def _open(self) -> int:
        of = self.recording.campaign
        given = {key: value for key, value in vars(of).items() if key not in _GIVEN_BY_STORE}
        with self.store.write() as tx:
            opened = tx.add_campaign(**given).id
            born = update(campaigns).where(campaigns.c.id == opened).values(created=of.created)
            tx.connection.execute(born)
            # The view has a head to show from its first picture on: what comes first is the base.
            while not self.over and isinstance(step := self.recording.steps[self._next], Propose | Note):
                self._do(tx, self._next, step, opened)
                self._next += 1
                if isinstance(step, Propose):
                    return opened
        raise UserError("the recording does not begin with the campaign's base")

    def _do(self, tx: Tx, n: int, step: AnyStep, campaign_id: int | None = None) -> None:
        campaign_id = campaign_id or self.campaign_id
        try:
            if isinstance(step, Reserve | Close):
                self._account(tx, step, campaign_id)
            elif isinstance(step, Book | Change):
                self._run(tx, step, campaign_id)
            else:
                _tell(tx, step, campaign_id)
        except (ValueError, KeyError, CaddieError) as error:
            raise UserError(f"the recording can't be played beyond step {n + 1}: {error}") from error
        self._clock.set(tx, campaign_id, step.at)

    def _run(self, tx: Tx, step: Book | Change, campaign_id: int) -> None:
        if isinstance(step, Book):
            _book(tx, step, campaign_id)
            self._booked[step.run.id] = step
            return
        booked = self._booked[step.run_id]
        if step.state == "running":
            self._running[step.run_id] = Shown(booked, step.at)
            tx.update_run(step.run_id, state="running")
            return
        self._running.pop(step.run_id, None)
        run = booked.run
        tx.update_run(step.run_id, state=step.state, outcome=run.outcome, reason=run.reason, walls=run.walls)
        if step.measurement is not None:
            tx.add_measurement(step.measurement)

    def _account(self, tx: Tx, step: Reserve | Close, campaign_id: int) -> None:
        at = self._clock.at(step.at)
        if isinstance(step, Close):
            entry, columns = self._entries[step.entry], {"closed": at}
            if step.settled is not None:
                budget.settle(tx, entry, step.settled)
            else:
                budget.release(tx, entry, step.reason)
        else:
            columns = {"created": at}
            if step.hold_id is not None:
                entry = budget.draw(tx, self._entries[step.hold_id], step.amount, _known(step.run_id))
            else:
                about = {"proposal_id": step.proposal_id, "run_id": step.run_id}
                entry = budget.reserve(tx, campaign_id, step.amount, step.what, **about)
            self._entries[step.entry] = entry
        tx.connection.execute(update(ledger).where(ledger.c.id == entry).values(**columns))

    def _beat(self, shown: Shown, at: float) -> None:
        """The files from which anybody reads how far a run is."""
        paths = JobPaths(self.jobs / f"r{shown.book.run.id}")
        paths.folder.mkdir(parents=True, exist_ok=True)
        seconds = max(0.0, min(at, self.recording.seconds) - shown.began)
        train_s = shown.book.train_s
        phase: PhaseName = "judge" if train_s is not None and seconds >= train_s else "train"
        now = self._clock.at(shown.began + seconds)
        beat = Heartbeat(at=now, boot="", phase=phase, seconds=seconds, root=0, processes={})
        write_aside(paths.heartbeat, json.dumps(asdict(beat)), durable=False)
        point = _reached(shown.book, seconds)
        if point is not None:
            loss = "" if point.loss is None else f"{point.loss:.4f}"
            text = f"step:{point.step}/{point.steps} train_loss:{loss or '.'}\n"
            write_aside(paths.train_log, text, durable=False)


def _reached(book: Book, seconds: float) -> Point | None:
    """The last line of the log at this moment; its own clock leaves out the start and the end of a process."""
    if not book.curve or not book.train_s:
        return None
    share = min(1.0, seconds / book.train_s)
    last = book.curve[-1].seconds
    found = [point for point in book.curve if point.seconds <= share * last]
    return found[-1] if found else None


def _book(tx: Tx, step: Book, campaign_id: int) -> None:
    run = step.run
    made = tx.add_run(
        campaign_id,
        run.proposal_id,
        run.baseline_id,
        rung=run.rung,
        purpose=run.purpose,
        seed=run.seed,
        attempt=run.attempt,
        hardware_class=run.hardware_class,
        script_sha=run.script_sha,
    )
    _same(made.id, run.id, "run")
    tx.update_run(made.id, slot=run.slot)


def _tell(tx: Tx, step: Propose | Move | Rebase | Judge | Note | End, campaign_id: int) -> None:
    match step:
        case Propose():
            _propose(tx, step, campaign_id)
        case Move():
            moved = tx.move(step.proposal_id, step.state, step.reason, run_id=step.run_id)
            if step.state == "promoted":
                tx.set_head(campaign_id, moved.id)
            elif step.state == "reverted":
                tx.set_head(campaign_id, _known(moved.baseline_id))
        case Rebase():
            tx.update_proposal(step.proposal_id, baseline_id=step.baseline_id, commit=step.commit)
        case Judge():
            tx.add_verdict(step.verdict)
        case Note():
            tx.add_event(campaign_id, step.what, step.text, proposal_id=step.proposal_id, run_id=step.run_id)
        case End():
            if step.state == "running":
                tx.reopen_campaign(campaign_id)
            else:
                tx.end_campaign(campaign_id, step.state, step.reason)


def _propose(tx: Tx, step: Propose, campaign_id: int) -> None:
    draft = step.draft
    made = tx.add_proposal(campaign_id, draft, baseline_id=step.baseline_id, state=step.state, commit=step.commit)
    _same(made.id, step.id, "proposal")
    tx.update_proposal(made.id, diff=step.diff)
    if draft.kind == "base":
        tx.set_head(campaign_id, made.id)


def _same(made: int, recorded: int, what: str) -> None:
    if made != recorded:
        raise ValueError(f"{what} {recorded} comes as number {made}")


def _known(value: T | None) -> T:
    if value is None:
        raise ValueError("a number is missing")
    return value

"""Reads a campaign's rows and job logs as the steps of a recording, in the order in which they happened.

Takes a store's rows and the job folders; gives `Step`s. Events say the order; ledger and verdicts go by their times.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, get_args

from sqlalchemy import RowMapping, select

from agent import step_lines
from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.records import Amount, Campaign, CampaignState, Draft, Event, Measurement, Proposal, Run
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
    Reserve,
)
from agent.runners.progress import tail
from agent.states import TRANSITIONS
from agent.store import Reads, rows
from agent.store.schema import ledger, verdicts

PAGE = 5000
PAUSE_S = 5.0  # what is left of a time in which nothing ran
LOG_BYTES = 1_000_000
_TIME = re.compile(r"\btrain_time:(\d{1,9})ms\b")
# Absolute paths, by the folders that there are at the top of this machine; /dev/null is in every diff.
_TOPS = {one.name for one in Path("/").iterdir()} | {"home", "root", "tmp", "Users"}
_TOP = "|".join(map(re.escape, sorted(_TOPS - {"dev"})))
_PATH = re.compile(rf"(?<![\w.:/-])/(?:{_TOP})/(?:[^\s\"'`:,;)/\\]+/)*")


class _Timed(NamedTuple):
    at: str
    rank: int  # within one moment: events, then what is closed, then what is opened
    id: int
    steps: tuple[AnyStep, ...]


def steps(reads: Reads, campaign: Campaign, jobs: Path | None) -> list[AnyStep]:
    proposals, runs = reads.proposals(campaign.id), reads.runs(campaign.id)
    for kind, ids in (("proposals", [p.id for p in proposals]), ("runs", [r.id for r in runs])):
        if ids != list(range(1, len(ids) + 1)):
            raise UserError(f"the {kind} of {campaign.name} are not numbered from 1 without gaps")
    measured = {s.run.id: s.measurement for s in reads.scored(campaign.id, documents=False)}
    events = list(_events(reads, campaign.id))
    story = _Story({p.id: p for p in proposals}, {r.id: r for r in runs}, measured, jobs)
    timed = list(_by_event(story, events))
    last = timed[-1].at if timed else campaign.created
    others = [*_ledger(reads, campaign.id), *_verdicts(reads, campaign.id)]
    timed = sorted([*timed, *others], key=lambda one: one[:3])
    # Nothing is played after the last event: what was written later, in its order, is played with it.
    timed = [one._replace(at=min(one.at, last)) for one in timed]
    return _clocked(timed, campaign.created)


def without_paths(value: object) -> object:
    """The same data; of each path of this machine in a text, only the last name stays."""
    if isinstance(value, str):
        return _PATH.sub("", value)
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    return [without_paths(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- events


class _Story:
    """What is known of proposals and runs up to one event, so that the event can be told for what it was."""

    def __init__(
        self,
        proposals: dict[int, Proposal],
        runs: dict[int, Run],
        measured: dict[int, Measurement],
        jobs: Path | None,
    ) -> None:
        self._proposals, self._runs, self._measured, self._jobs = proposals, runs, measured, jobs
        self._states: dict[int, str] = {}
        self._run_states: dict[int, str] = {}
        self._baselines: dict[int, int | None] = {}

    def tell(self, event: Event) -> Iterator[AnyStep]:
        run = self._runs.get(event.run_id or 0)
        proposal = self._proposals.get(event.proposal_id or 0)
        if run is not None and run.id not in self._run_states:
            yield from self._book(run)
        elif run is not None and self._is_of_run(event, run):
            self._run_states[run.id] = event.what
            measured = self._measured.get(run.id) if event.what == "done" else None
            slim = measured and replace(measured, doc_nats=(), hidden_nats=())
            yield Change.model_validate({"at": 0.0, "run_id": run.id, "state": event.what, "measurement": slim})
        elif proposal is not None and proposal.id not in self._states:
            yield self._propose(proposal, event)
        elif proposal is not None and self._can_move(proposal, event.what):
            yield from self._move(proposal, event)
        elif proposal is None and event.what in get_args(CampaignState):
            yield End.model_validate({"at": 0.0, "state": event.what, "reason": event.text})
        else:
            yield Note(at=0.0, what=event.what, text=event.text, proposal_id=event.proposal_id, run_id=event.run_id)

    def _is_of_run(self, event: Event, run: Run) -> bool:
        """A run and its proposal may enter states of one name; what the store wrote tells them apart."""
        if self._run_states[run.id] == event.what or event.what not in ("running", "done", "lost", "cancelled"):
            return False
        said = run.purpose if event.what == "running" else " ".join(x for x in (run.outcome, run.reason) if x)
        return event.text == (said or run.purpose)

    def _can_move(self, proposal: Proposal, state: str) -> bool:
        known = TRANSITIONS.get(self._states[proposal.id], ())  # type: ignore[call-overload]
        return state in known

    def _propose(self, proposal: Proposal, event: Event) -> AnyStep:
        first = next((r.baseline_id for r in self._runs.values() if r.proposal_id == proposal.id), None)
        self._states[proposal.id] = event.what
        baseline = proposal.baseline_id and (first or proposal.baseline_id)
        self._baselines[proposal.id] = baseline
        draft = {
            **{name: getattr(proposal, name) for name in Draft.__dataclass_fields__ if hasattr(proposal, name)},
            "edits": "",  # the diff says the same
            "source_id": proposal.source_id or 0,
        }
        return Propose.model_validate(
            {
                "at": 0.0,
                "id": proposal.id,
                "state": event.what,
                "draft": Draft(**draft),
                "baseline_id": baseline,
                "commit": proposal.commit,
                "diff": proposal.diff,
            }
        )

    def _move(self, proposal: Proposal, event: Event) -> Iterator[AnyStep]:
        self._states[proposal.id] = event.what
        if event.what == "promoted":
            yield from self._rebase(proposal.id, proposal.baseline_id)
        reason = "" if event.text == proposal.title else event.text
        values = {"at": 0.0, "proposal_id": proposal.id, "state": event.what, "reason": reason, "run_id": event.run_id}
        yield Move.model_validate(values)

    def _book(self, run: Run) -> Iterator[AnyStep]:
        self._run_states[run.id] = "queued"
        yield from self._rebase(run.proposal_id, run.baseline_id)
        measured = self._measured.get(run.id)
        train_s = measured.train_wall_s if measured else None
        yield Book(at=0.0, run=run, train_s=train_s, curve=_curve(self._jobs, run.id))

    def _rebase(self, proposal_id: int, baseline_id: int | None) -> Iterator[AnyStep]:
        if baseline_id is not None and self._baselines[proposal_id] != baseline_id:
            self._baselines[proposal_id] = baseline_id
            commit = self._proposals[proposal_id].commit
            yield Rebase(at=0.0, proposal_id=proposal_id, baseline_id=baseline_id, commit=commit)


def _events(reads: Reads, campaign_id: int) -> Iterator[Event]:
    after = 0
    while page := reads.events(campaign_id, after=after, limit=PAGE):
        yield from page
        after = page[-1].id


def _by_event(story: _Story, events: Sequence[Event]) -> Iterator[_Timed]:
    latest = ""
    for event in events[1:]:  # the first says that the campaign was opened
        latest = max(latest, event.at)  # clocks are set back now and then; the order stays
        yield _Timed(latest, 0, event.id, tuple(story.tell(event)))


def _curve(jobs: Path | None, run_id: int) -> tuple[Point, ...]:
    """What the run's training log said, if it is still there."""
    if jobs is None:
        return ()
    return tuple(_points(tail(JobPaths(jobs / f"r{run_id}").train_log, LOG_BYTES)))


def _points(log: str) -> Iterator[Point]:
    for line in step_lines.read(log):
        loss, time = line.loss("train_loss"), _TIME.search(line.said)
        if loss is not None and time is not None:
            yield Point(int(time[1]) / 1000, line.step, line.steps, step_lines.finite(loss))


# ---------------------------------------------------------------- rows that are no events


def _ledger(reads: Reads, campaign_id: int) -> Iterator[_Timed]:
    query = select(ledger).where(ledger.c.campaign_id == campaign_id).order_by(ledger.c.id)
    found = list(reads.connection.execute(query).mappings())
    drawn: dict[int, list[RowMapping]] = {}
    for row in found:
        drawn.setdefault(row["hold_id"], []).append(row)
    for row in found:
        parts = [row, *drawn.get(row["id"], [])]  # the row of a hold says what was left of it
        whole = _sum([rows.amount(one, "reserved") for one in parts])
        opened = {name: row[name] for name in ("what", "proposal_id", "run_id", "hold_id")}
        step = Reserve(at=0.0, entry=row["id"], amount=whole, **opened)
        yield _Timed(row["created"], 2, row["id"], (step,))
        if row["closed"] is not None:
            settled = rows.amount(row, "settled") if row["state"] == "settled" else None
            rank = 3 if any(one["created"] == row["closed"] for one in parts) else 1
            closing = Close(at=0.0, entry=row["id"], settled=settled, reason=row["reason"])
            yield _Timed(row["closed"], rank, row["id"], (closing,))


def _sum(amounts: Iterable[Amount]) -> Amount:
    found = list(amounts)
    return Amount(
        sum(one.gpu_s for one in found),
        sum(one.usd for one in found),
        sum(one.llm_usd for one in found),
        sum(one.llm_tokens for one in found),
        sum(one.llm_calls for one in found),
    )


def _verdicts(reads: Reads, campaign_id: int) -> Iterator[_Timed]:
    query = select(verdicts).where(verdicts.c.campaign_id == campaign_id).order_by(verdicts.c.id)
    for row in reads.connection.execute(query).mappings():
        yield _Timed(row["created"], 2, row["id"], (Judge(at=0.0, verdict=rows.verdict(row)),))


# ---------------------------------------------------------------- time


def _clocked(timed: Sequence[_Timed], created: str) -> list[AnyStep]:
    """Seconds since the beginning. A night between two evenings' work is not played."""
    found: list[AnyStep] = []
    before, at = datetime.fromisoformat(created), 0.0
    in_flight: set[int] = set()
    for one in timed:
        now = datetime.fromisoformat(one.at)
        passed = max(0.0, (now - before).total_seconds())
        at += passed if in_flight else min(passed, PAUSE_S)
        before = max(before, now)
        for step in one.steps:
            if isinstance(step, Change):
                (in_flight.add if step.state == "running" else in_flight.discard)(step.run_id)
            found.append(step.model_copy(update={"at": round(at, 3)}))
    return found

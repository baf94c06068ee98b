"""What can be written to the store: `Tx`, over one connection, all or nothing.

A `Tx` is a `Reads` as well. Every change of a state writes an event in the same transaction, and what the
views read is brought up to date in it (standing.py).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from sqlalchemy import Table, delete

from agent.errors import UserError
from agent.records import (
    Campaign,
    CampaignState,
    Caps,
    Draft,
    Measurement,
    Outcome,
    Proposal,
    ProposalState,
    Purpose,
    Review,
    Run,
    RunState,
    Verdict,
)
from agent.states import TRANSITIONS
from agent.store import checks, measured, rows, standing, statements
from agent.store.reads import Reads
from agent.store.rows import Request, ReviewAction, now
from agent.store.schema import campaigns, conversations, events, heads, proposals, reviews, runs, verdicts

_DRAFTED = ("title", "hypothesis", "planner", "mode", "kind", "edits", "knobs", "expected_gain", "confidence")
_PROPOSAL_COLUMNS = frozenset(
    {
        *("commit", "title", "hypothesis", "edits", "diff", "patch_id", "ast_hash", "config_hash", "knobs"),
        *("expected_gain", "confidence", "expected_bytes", "sized_bytes", "risk", "evidence", "reviewed_by"),
        *("baseline_id", "source_id"),
    }
)
_RUN_COLUMNS = frozenset(
    {"slot", "state", "outcome", "reason", "walls", "started", "ended", "script_sha", "lease", "set_aside"}
)


class Tx(Reads):
    """Changes to the store, durable together when the transaction ends."""

    _one_moment = False  # it sees what it has written
    told = 0
    """Events that it has added."""

    def add_campaign(
        self,
        *,
        name: str,
        track: str,
        track_file: str,
        track_toml: str,
        track_sha: str,
        data_sha: str,
        base_commit: str,
        branch: str,
        seed: int,
        caps: Caps,
        planner: str,
        review: Review,
        slots: int,
        target_bpb: float | None,
        hardware_class: str,
        unsafe: bool = False,
        runner: str = "local",
    ) -> Campaign:
        """The track's text says which trust, rung and size limit its scores are held to."""
        if self.campaign(name) is not None:
            raise UserError(f"there is a campaign {name!r} already; resume it or choose another name")
        values: dict[str, object] = {
            "name": name,
            "track": track,
            "track_file": track_file,
            "track_toml": track_toml,
            "track_sha": track_sha,
            "data_sha": data_sha,
            "base_commit": base_commit,
            "branch": branch,
            "seed": seed,
            **{f"cap_{name}": value for name, value in vars(caps).items()},
            "planner": planner,
            "review": review,
            "slots": slots,
            "target_bpb": target_bpb,
            "unsafe": int(unsafe),
            "hardware_class": hardware_class,
            "runner": runner,
            "state": "running",
            "created": now(),
        }
        campaign_id = self._insert(campaigns, {**values, **checks.of_track(track_toml)})
        self.add_event(campaign_id, "running", f"campaign {name} on track {track}")
        return self.campaign_by_id(campaign_id)

    def end_campaign(self, campaign_id: int, state: CampaignState, reason: str) -> Campaign:
        values = {"state": state, "reason": reason, "ended": now(), "request": ""}
        self._update(campaigns, campaign_id, values)
        self.add_event(campaign_id, state, reason)
        return self.campaign_by_id(campaign_id)

    def reopen_campaign(self, campaign_id: int) -> Campaign:
        values = {"state": "running", "reason": "", "ended": None, "request": ""}
        self._update(campaigns, campaign_id, values)
        self.add_event(campaign_id, "running", "resumed")
        return self.campaign_by_id(campaign_id)

    def ask(self, campaign_id: int, what: Request) -> None:
        """Leaves word for the controller: stop planning and finish what runs, or cancel it."""
        checks.one_of("request", what, get_args(Request))
        self._update(campaigns, campaign_id, {"request": what})

    def add_proposal(
        self,
        campaign_id: int,
        draft: Draft,
        *,
        baseline_id: int | None,
        state: ProposalState = "drafted",
        commit: str | None = None,
    ) -> Proposal:
        at = now()
        values: dict[str, object] = {
            **{name: getattr(draft, name) for name in _DRAFTED},
            **rows.amount_columns(draft.cost, "cost"),
            "campaign_id": campaign_id,
            "baseline_id": baseline_id,
            "source_id": None if draft.kind == "base" else draft.source_id,
            "state": state,
            "commit_sha": commit,
            "expected_bytes": draft.expected_bytes,
            "expected_step": draft.expected_step,
            "rung": draft.rung,
            "risk": list(draft.risk),
            "evidence": list(draft.evidence),
            "created": at,
            "updated": at,
        }
        proposal_id = self._insert(proposals, values)
        if draft.kind != "base":
            standing.refresh(self.connection, proposal_id)
        if draft.conversation_id is not None:
            self._update(conversations, draft.conversation_id, {"proposal_id": proposal_id})
        self.add_event(campaign_id, state, draft.title, proposal_id=proposal_id)
        return self.proposal(proposal_id)

    def update_proposal(self, proposal_id: int, **columns: object) -> Proposal:
        """Anything but its state, which `move` changes."""
        checks.known(columns, _PROPOSAL_COLUMNS)
        values = {("commit_sha" if name == "commit" else name): _plain(value) for name, value in columns.items()}
        self._update(proposals, proposal_id, {**values, "updated": now()})
        if {"baseline_id", "source_id"} & set(columns):
            standing.refresh(self.connection, proposal_id)
        return self.proposal(proposal_id)

    def move(self, proposal_id: int, state: ProposalState, reason: str = "", *, run_id: int | None = None) -> Proposal:
        """From one state to a next one; what may follow what is said by states.TRANSITIONS."""
        old = self.proposal(proposal_id)
        if state not in TRANSITIONS.get(old.state, ()):
            raise ValueError(f"p{proposal_id}: {state!r} can't follow {old.state!r}")
        new = replace(old, state=state, reason=reason, updated=now())
        self._update(proposals, proposal_id, {"state": state, "reason": reason, "updated": new.updated})
        if state == "invalid":
            standing.refresh(self.connection, proposal_id)
        elif state in ("promoted", "reverted"):
            standing.promote(self.connection, proposal_id, state == "promoted")
        self.add_event(old.campaign_id, state, reason or old.title, proposal_id=proposal_id, run_id=run_id)
        return new

    def set_head(self, campaign_id: int, proposal_id: int) -> None:
        """From now on, this is what has to be beaten."""
        self.connection.execute(delete(heads).where(heads.c.campaign_id == campaign_id))
        values = {"campaign_id": campaign_id, "proposal_id": proposal_id, "since": now()}
        self._insert(heads, values)
        standing.grow(self.connection, campaign_id, proposal_id)

    def add_run(
        self,
        campaign_id: int,
        proposal_id: int,
        baseline_id: int | None,
        *,
        rung: str,
        purpose: Purpose,
        seed: int,
        attempt: int,
        hardware_class: str,
        script_sha: str,
        lease: str = "",
        slot: str | None = None,
    ) -> Run:
        title = f"p{proposal_id} {purpose} {rung} seed {seed}"
        values: dict[str, object] = {
            "campaign_id": campaign_id,
            "proposal_id": proposal_id,
            "baseline_id": baseline_id,
            "title": title if attempt <= 1 else f"{title} attempt {attempt}",
            "rung": rung,
            "purpose": purpose,
            "seed": seed,
            "attempt": attempt,
            "state": "queued",
            "hardware_class": hardware_class,
            "script_sha": script_sha,
            "lease": lease,
            "slot": slot,
            "walls": [],
            "created": now(),
        }
        run_id = self._insert(runs, values)
        self.add_event(campaign_id, "queued", title, proposal_id=proposal_id, run_id=run_id)
        return self.run(run_id)

    def update_run(self, run_id: int, **columns: object) -> Run:
        checks.known(columns, _RUN_COLUMNS)
        checks.one_of("state", columns.get("state", "queued"), get_args(RunState))
        checks.one_of("outcome", columns.get("outcome"), (None, *get_args(Outcome)))
        old = self.run(run_id)
        new = replace(old, **columns)  # type: ignore[arg-type]
        self._update(runs, run_id, {name: _plain(value) for name, value in columns.items()})
        if new.state != old.state:
            words = " ".join(part for part in (new.outcome, new.reason) if part) or new.purpose
            self.add_event(new.campaign_id, new.state, words, proposal_id=new.proposal_id, run_id=run_id)
        decides = {"state", "outcome", "walls", "script_sha", "set_aside"} & set(columns)
        if decides and measured.latest(self.connection, run_id) is not None:
            standing.refresh(self.connection, new.proposal_id)
        return new

    def add_measurement(self, measurement: Measurement) -> None:
        """A run is measured once by each version of the judge; the newest measurement counts."""
        run = self.run(measurement.run_id)
        measured.add(self.connection, self.campaign_by_id(run.campaign_id), run, measurement)
        standing.refresh(self.connection, run.proposal_id)

    def add_verdict(self, verdict: Verdict) -> None:
        checks.finite(verdict)
        campaign_id = self.proposal(verdict.proposal_id).campaign_id
        self._insert(verdicts, {**vars(verdict), "campaign_id": campaign_id, "created": now()})
        if verdict.gain is not None:
            self._update(proposals, verdict.proposal_id, {"gain": verdict.gain})
        if verdict.decision == "invalid":
            standing.refresh(self.connection, verdict.proposal_id)

    def add_event(
        self,
        campaign_id: int,
        what: str,
        text: str,
        *,
        proposal_id: int | None = None,
        run_id: int | None = None,
    ) -> int:
        values = {"campaign_id": campaign_id, "at": now(), "what": what, "text": text}
        self.told += 1
        return self._insert(events, {**values, "proposal_id": proposal_id, "run_id": run_id})

    def add_review(self, proposal_id: int, action: ReviewAction, who: str, comment: str) -> int:
        checks.one_of("action", action, get_args(ReviewAction))
        campaign_id = self.proposal(proposal_id).campaign_id
        values = {"proposal_id": proposal_id, "action": action, "who": who, "comment": comment}
        return self._insert(reviews, {**values, "campaign_id": campaign_id, "created": now()})

    def _insert(self, table: Table, values: Mapping[str, object]) -> int:
        return statements.add(self.connection, table, values)

    def _update(self, table: Table, row_id: int, values: Mapping[str, object]) -> None:
        if not statements.change(self.connection, table, row_id, values):
            raise UserError(f"no row {row_id} in {table.name}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

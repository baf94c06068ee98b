"""What can be written to the store: `Tx`, over one connection, all or nothing.

A `Tx` is a `Reads` as well. Every change of a state writes an event in the same transaction, and what the views
read is brought up to date in it (standing.py).
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from typing import Any, get_args

from sqlalchemy import Table, delete, insert, select, update

from agent.errors import UserError
from agent.records import (
    TRANSITIONS,
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
    Trust,
    Verdict,
)
from agent.store import rows, standing
from agent.store.reads import Reads
from agent.store.rows import Request, ReviewAction, now
from agent.store.schema import (
    boards,
    campaigns,
    doc_nats,
    events,
    findings,
    heads,
    measurements,
    proposals,
    reviews,
    runs,
    verdicts,
)

_PROPOSAL_COLUMNS = frozenset(
    {
        *("commit", "title", "hypothesis", "edits", "diff", "patch_id", "ast_hash", "config_hash", "knobs"),
        *("expected_gain", "confidence", "expected_bytes", "risk", "evidence", "reviewed_by"),
        *("baseline_id", "source_id"),
    }
)
_RUN_COLUMNS = frozenset({"slot", "state", "outcome", "reason", "walls", "started", "ended", "script_sha"})
# Findings that bar a run without being a breach of rules: nothing built on it is touched.
_NO_BREACH = frozenset({"oversize"})


class Tx(Reads):
    """Changes to the store, durable together when the transaction ends."""

    def add_campaign(
        self,
        *,
        name: str,
        track: str,
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
    ) -> Campaign:
        """The track's text says which trust, rung and size limit its scores are held to."""
        if self.campaign(name) is not None:
            raise UserError(f"there is a campaign {name!r} already; resume it or choose another name")
        values = {
            "name": name,
            "track": track,
            "track_toml": track_toml,
            "track_sha": track_sha,
            "data_sha": data_sha,
            "base_commit": base_commit,
            "branch": branch,
            "seed": seed,
            "planner": planner,
            "review": review,
            "slots": slots,
            "target_bpb": target_bpb,
            "hardware_class": hardware_class,
            "cap_gpu_s": caps.gpu_s,
            "cap_usd": caps.usd,
            "cap_llm_usd": caps.llm_usd,
            "state": "running",
            "created": now(),
            **_of_track(track_toml),
        }
        campaign_id = self._insert(campaigns, values)
        self.add_event(campaign_id, "running", f"campaign {name} on track {track}")
        return self.campaign_by_id(campaign_id)

    def end_campaign(self, campaign_id: int, state: CampaignState, reason: str) -> Campaign:
        self._update(
            campaigns, campaign_id, {"state": state, "reason": reason, "ended": now(), "request": ""}
        )
        self.add_event(campaign_id, state, reason)
        return self.campaign_by_id(campaign_id)

    def reopen_campaign(self, campaign_id: int) -> Campaign:
        self._update(campaigns, campaign_id, {"state": "running", "reason": "", "ended": None, "request": ""})
        self.add_event(campaign_id, "running", "resumed")
        return self.campaign_by_id(campaign_id)

    def ask(self, campaign_id: int, what: Request) -> None:
        """Leaves word for the controller: stop planning and finish what runs, or cancel it."""
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
        same = (
            "title",
            "hypothesis",
            "planner",
            "mode",
            "kind",
            "edits",
            "knobs",
            "expected_gain",
            "confidence",
        )
        values: dict[str, object] = {
            **{column: getattr(draft, column) for column in same},
            **rows.amount_columns(draft.cost, "cost"),
            "campaign_id": campaign_id,
            "baseline_id": baseline_id,
            "state": state,
            "commit_sha": commit,
            "source_id": None if draft.kind == "base" else draft.source_id,
            "expected_bytes": draft.expected_bytes,
            "risk": list(draft.risk),
            "evidence": list(draft.evidence),
            "created": at,
            "updated": at,
        }
        proposal_id = self._insert(proposals, values)
        if baseline_id is not None or draft.kind != "base":
            standing.refresh(self.connection, proposal_id)
        self.add_event(campaign_id, state, draft.title, proposal_id=proposal_id)
        return self.proposal(proposal_id)

    def update_proposal(self, proposal_id: int, **columns: object) -> Proposal:
        """Anything but its state, which `move` changes."""
        _known(columns, _PROPOSAL_COLUMNS)
        values = {
            ("commit_sha" if name == "commit" else name): _plain(value) for name, value in columns.items()
        }
        self._update(proposals, proposal_id, {**values, "updated": now()})
        if {"baseline_id", "source_id"} & set(columns):
            standing.refresh(self.connection, proposal_id)
        return self.proposal(proposal_id)

    def move(
        self, proposal_id: int, state: ProposalState, reason: str = "", *, run_id: int | None = None
    ) -> Proposal:
        """From one state to a next one; what may follow what is said by records.TRANSITIONS."""
        old = self.proposal(proposal_id)
        if state not in TRANSITIONS.get(old.state, ()):
            raise ValueError(f"p{proposal_id}: {state!r} can't follow {old.state!r}")
        self._update(proposals, proposal_id, {"state": state, "reason": reason, "updated": now()})
        if state == "invalid":
            standing.refresh(self.connection, proposal_id)
        elif state in ("promoted", "reverted"):
            standing.promote(self.connection, proposal_id, state == "promoted")
        self.add_event(old.campaign_id, state, reason or old.title, proposal_id=proposal_id, run_id=run_id)
        return self.proposal(proposal_id)

    def set_head(self, campaign_id: int, proposal_id: int) -> None:
        self.connection.execute(delete(heads).where(heads.c.campaign_id == campaign_id))
        values = {"campaign_id": campaign_id, "proposal_id": proposal_id, "since": now()}
        self.connection.execute(insert(heads).values(values))

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
    ) -> Run:
        title = f"p{proposal_id} {purpose} {rung} seed {seed}" + (
            f" attempt {attempt}" if attempt > 1 else ""
        )
        values: dict[str, object] = {
            "campaign_id": campaign_id,
            "proposal_id": proposal_id,
            "baseline_id": baseline_id,
            "title": title,
            "rung": rung,
            "purpose": purpose,
            "seed": seed,
            "attempt": attempt,
            "state": "queued",
            "hardware_class": hardware_class,
            "script_sha": script_sha,
            "walls": [],
            "created": now(),
        }
        run_id = self._insert(runs, values)
        self.add_event(campaign_id, "queued", title, proposal_id=proposal_id, run_id=run_id)
        return self.run(run_id)

    def update_run(self, run_id: int, **columns: object) -> Run:
        _known(columns, _RUN_COLUMNS)
        _one_of("state", columns.get("state", "queued"), get_args(RunState))
        _one_of("outcome", columns.get("outcome"), (None, *get_args(Outcome)))
        old = self.run(run_id)
        self._update(runs, run_id, {name: _plain(value) for name, value in columns.items()})
        new = self.run(run_id)
        if new.state != old.state:
            words = " ".join(part for part in (new.outcome, new.reason) if part)
            self.add_event(
                new.campaign_id, new.state, words or new.purpose, proposal_id=new.proposal_id, run_id=run_id
            )
        if {"state", "outcome", "walls", "script_sha"} & set(columns) and self.measurement_id(
            run_id
        ) is not None:
            standing.refresh(self.connection, new.proposal_id)
        return new

    def measurement_id(self, run_id: int) -> int | None:
        query = select(measurements.c.id).where(measurements.c.run_id == run_id, measurements.c.latest == 1)
        return self.connection.execute(query).scalar_one_or_none()

    def add_measurement(self, measured: Measurement) -> None:
        """A run is measured once by each version of the judge; the newest measurement is the one that counts."""
        run = self.run(measured.run_id)
        _finite(measured)
        _one_of("trust", measured.trust, get_args(Trust))
        older = self.measurement(run.id)
        if older is not None and older.judge_version >= measured.judge_version:
            raise ValueError(f"r{run.id} was measured by judge version {older.judge_version} already")
        self.connection.execute(update(measurements).where(measurements.c.run_id == run.id).values(latest=0))
        faults = [one for one in measured.findings if one.severity == "invalid"]
        plain = {k: v for k, v in vars(measured).items() if k not in ("doc_nats", "findings")}
        values = {
            **plain,
            "campaign_id": run.campaign_id,
            "proposal_id": run.proposal_id,
            "board_id": self._board(run, measured),
            "created": now(),
            "latest": 1,
            "faults": len(faults),
            "violations": sum(one.rule not in _NO_BREACH for one in faults),
        }
        measurement_id = self._insert(measurements, values)
        for one in measured.findings:
            self._insert(findings, {"measurement_id": measurement_id, "run_id": run.id, **vars(one)})
        if measured.doc_nats:
            blob = {"documents": len(measured.doc_nats), "nats": rows.pack(measured.doc_nats)}
            self.connection.execute(insert(doc_nats).values(measurement_id=measurement_id, **blob))
        standing.refresh(self.connection, run.proposal_id)

    def add_verdict(self, verdict: Verdict) -> None:
        _finite(verdict)
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
        return self._insert(events, {**values, "proposal_id": proposal_id, "run_id": run_id})

    def add_review(self, proposal_id: int, action: ReviewAction, who: str, comment: str) -> int:
        campaign_id = self.proposal(proposal_id).campaign_id
        values = {"proposal_id": proposal_id, "action": action, "who": who, "comment": comment}
        return self._insert(reviews, {**values, "campaign_id": campaign_id, "created": now()})

    def _board(self, run: Run, measured: Measurement) -> int:
        """The class of scores that this one may be compared with."""
        campaign = self.campaign_by_id(run.campaign_id)
        values = {
            "track": campaign.track,
            "track_sha": campaign.track_sha,
            "data_sha": measured.data_sha,
            "rung": run.rung,
            "hardware_class": run.hardware_class,
            "judge_version": measured.judge_version,
            "trust": measured.trust,
        }
        query = select(boards.c.id).where(*(boards.c[name] == value for name, value in values.items()))
        found = self.connection.execute(query).scalar_one_or_none()
        title = f"{campaign.track} · {run.rung} · {run.hardware_class} · {measured.trust} · judge {measured.judge_version}"
        return found if found is not None else self._insert(boards, {**values, "title": title})

    def _insert(self, table: Table, values: Mapping[str, object]) -> int:
        key = self.connection.execute(insert(table).values(dict(values))).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _update(self, table: Table, row_id: int, values: Mapping[str, object]) -> None:
        changed = self.connection.execute(update(table).where(table.c.id == row_id).values(dict(values)))
        if changed.rowcount != 1:
            raise UserError(f"no row {row_id} in {table.name}")


def _of_track(toml: str) -> dict[str, object]:
    """What the store must know of a track. An unreadable track is a fault of the caller, who has checked it."""
    track = tomllib.loads(toml)
    try:
        trust, rung = track["trust"], track["decision"]["rung"]
    except KeyError as error:
        raise ValueError(f"the track's text has no {error}") from error
    _one_of("trust", trust, get_args(Trust))
    return {"trust": trust, "rung": rung, "artifact_limit": track.get("limits", {}).get("artifact_bytes")}


def _known(columns: Mapping[str, object], known: frozenset[str]) -> None:
    for name in columns:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"no column {name!r} to change" + (f"; did you mean {close[0]!r}?" if close else "")
            )


def _one_of(what: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}, not one of {', '.join(map(str, allowed))}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _finite(record: Any) -> None:
    """SQLite would keep NaN as NULL and call it absent."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        numbers = value if field.name == "doc_nats" else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{type(record).__name__}.{field.name} is not finite")

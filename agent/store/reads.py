"""What can be asked of the store: `Reads`, over one connection that sees one moment.

Every filter here has an index, so that no single call grows with what it does not return.
An unknown id is a UserError: people type them.
"""

from collections.abc import Collection, Iterable
from typing import Any, Literal

from sqlalchemy import Column, Connection, RowMapping, Select, Table, func, literal_column, select, text

from agent.errors import UserError
from agent.records import (
    GIVEN_UP,
    Balance,
    Campaign,
    Event,
    Finding,
    Measurement,
    Proposal,
    ProposalState,
    Purpose,
    Run,
    RunState,
    Verdict,
)
from agent.store import rows, statements
from agent.store.rows import Replicate, Request, ReviewNote, Scored, TrialRow
from agent.store.schema import (
    audits,
    campaigns,
    doc_nats,
    events,
    findings,
    heads,
    measurements,
    proposals,
    reviews,
    runs,
    scores,
    trunk,
    verdicts,
)


class Reads:
    """Questions to the store."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def campaign(self, name: str) -> Campaign | None:
        row = self._first(select(campaigns).where(campaigns.c.name == name))
        return rows.campaign(row) if row else None

    def campaign_by_id(self, campaign_id: int) -> Campaign:
        return rows.campaign(self._row(campaigns, campaign_id, "campaign "))

    def campaigns(self) -> list[Campaign]:
        return [rows.campaign(row) for row in self._all(select(campaigns).order_by(campaigns.c.id))]

    def request(self, campaign_id: int) -> Request:
        """What a person asked of the campaign's controller."""
        row = self._row(campaigns, campaign_id, "campaign ")
        found: Request = row["request"]
        return found

    def balance(self, campaign_id: int) -> Balance:
        row = self._row(campaigns, campaign_id, "campaign ")
        return Balance(rows.caps(row), rows.amount(row, "settled"), rows.amount(row, "reserved"))

    def proposal(self, proposal_id: int) -> Proposal:
        return rows.proposal(self._row(proposals, proposal_id, "proposal p"))

    def proposals(self, campaign_id: int, states: Collection[ProposalState] | None = None) -> list[Proposal]:
        query = _among(select(proposals).where(proposals.c.campaign_id == campaign_id), proposals.c.state, states)
        # Sorted here: asked for an order, SQLite walks the whole campaign by id rather than sort a few rows.
        return sorted((rows.proposal(row) for row in self._all(query)), key=lambda one: one.id)

    def count_proposals(self, campaign_id: int, states: Collection[ProposalState] | None = None) -> int:
        query = select(func.count()).select_from(proposals).where(proposals.c.campaign_id == campaign_id)
        return int(self.connection.execute(_among(query, proposals.c.state, states)).scalar_one())

    def count_by(self, campaign_id: int, planner: str) -> int:
        """How many proposals are this planner's."""
        mine = (proposals.c.campaign_id == campaign_id) & (proposals.c.planner == planner)
        return int(self.connection.execute(select(func.count()).select_from(proposals).where(mine)).scalar_one())

    def count_against(self, baseline_id: int, states: Collection[ProposalState], *, most: int) -> int:
        """How many proposals that were compared with this one, at the rung that decides, are in these states; counted
        up to `most`."""
        compared = (proposals.c.baseline_id == baseline_id) & proposals.c.gain.is_not(None)
        query = _among(select(proposals.c.id).where(compared), proposals.c.state, states)
        return int(self.connection.execute(select(func.count()).select_from(query.limit(most).subquery())).scalar_one())

    def count_events(self, proposal_id: int, what: str) -> int:
        """How often something was said of a proposal."""
        query = select(func.count()).where(events.c.proposal_id == proposal_id, events.c.what == what)
        return int(self.connection.execute(query).scalar_one())

    def find_ast(self, campaign_id: int, ast_hash: str) -> Proposal | None:
        """The first proposal with this syntax tree, those given up for want of means aside."""
        return self._twin(campaign_id, proposals.c.ast_hash, ast_hash)

    def find_config(self, campaign_id: int, config_hash: str) -> Proposal | None:
        """The first proposal that comes to this, however it is written, those given up for want of means aside."""
        return self._twin(campaign_id, proposals.c.config_hash, config_hash)

    def _twin(self, campaign_id: int, column: Column[Any], digest: str) -> Proposal | None:
        mine = (proposals.c.campaign_id == campaign_id) & (column == digest)
        query = select(proposals).where(mine, proposals.c.state.not_in(GIVEN_UP)).order_by(proposals.c.id)
        row = self._first(query) if digest else None
        return rows.proposal(row) if row else None

    def head(self, campaign_id: int) -> Proposal:
        query = (
            select(proposals)
            .join(heads, heads.c.proposal_id == proposals.c.id)
            .where(heads.c.campaign_id == campaign_id)
        )
        row = self._first(query)
        if row is None:
            raise UserError(f"campaign {campaign_id} has no head yet")
        return rows.proposal(row)

    def base(self, campaign_id: int) -> Proposal:
        """What the campaign started from: the root of its lineage."""
        query = (
            select(proposals)
            .join(trunk, trunk.c.proposal_id == proposals.c.id)
            .where(trunk.c.campaign_id == campaign_id, trunk.c.step == 0)
        )
        row = self._first(query)
        if row is None:
            raise UserError(f"campaign {campaign_id} has no base yet")
        return rows.proposal(row)

    def lineage(self, proposal_id: int) -> list[Proposal]:
        """The proposal and all it was built on, base first."""
        start = (
            select(proposals.c.id, proposals.c.baseline_id, literal_column("0").label("back"))
            .where(proposals.c.id == proposal_id)
            .cte("chain", recursive=True)
        )
        chain = start.union_all(
            select(proposals.c.id, proposals.c.baseline_id, start.c.back + 1).where(
                proposals.c.id == start.c.baseline_id, start.c.back < 100_000
            )
        )
        found = self._all(select(proposals).join(chain, chain.c.id == proposals.c.id).order_by(chain.c.back.desc()))
        if not found:
            raise UserError(f"no proposal p{proposal_id} here")
        return [rows.proposal(row) for row in found]

    def run(self, run_id: int) -> Run:
        return rows.run(self._row(runs, run_id, "run r"))

    def runs(
        self,
        campaign_id: int,
        *,
        proposal_id: int | None = None,
        states: Collection[RunState] | None = None,
        purposes: Collection[Purpose] | None = None,
    ) -> list[Run]:
        query = select(runs).where(runs.c.campaign_id == campaign_id).order_by(runs.c.id)
        if proposal_id is not None:
            query = query.where(runs.c.proposal_id == proposal_id)
        query = _among(_among(query, runs.c.state, states), runs.c.purpose, purposes)
        return [rows.run(row) for row in self._all(query)]

    def last_done(self, campaign_id: int) -> Run | None:
        """The newest run that was measured."""
        query = select(runs).where(runs.c.campaign_id == campaign_id, runs.c.state == "done")
        row = self._first(query.order_by(runs.c.id.desc()).limit(1))
        return None if row is None else rows.run(row)

    def measurement(self, run_id: int) -> Measurement | None:
        """By the newest judge that measured it."""
        query = select(measurements).where(measurements.c.run_id == run_id, measurements.c.latest == 1)
        row = self._first(query)
        if row is None:
            return None
        nats = self._first(select(doc_nats.c.nats, doc_nats.c.hidden).where(doc_nats.c.measurement_id == row["id"]))
        found = self._findings([row["id"]])
        audit = self._first(select(audits).where(audits.c.measurement_id == row["id"]))
        scored, hidden = (nats["nats"], nats["hidden"]) if nats else (None, None)
        return rows.measurement(row, found.get(row["id"], ()), scored, hidden, audit)

    def scored(self, campaign_id: int, *, proposal_id: int | None = None, documents: bool = True) -> list[Scored]:
        """Runs that are done and measured. Without `documents`, the nats of single documents stay away."""
        which = (runs.c.campaign_id == campaign_id, runs.c.state == "done", measurements.c.latest == 1)
        query = select(runs.c.id.label("run_key"), *measurements.c).join_from(
            runs, measurements, measurements.c.run_id == runs.c.id
        )
        if documents:
            nats = doc_nats.c.measurement_id == measurements.c.id
            blobs = doc_nats.c.nats.label("blob"), doc_nats.c.hidden.label("hidden")
            query = query.add_columns(*blobs).outerjoin(doc_nats, nats)
        query = query.where(*which).order_by(runs.c.id)
        whole = select(runs).join(measurements, measurements.c.run_id == runs.c.id).where(*which)
        if proposal_id is not None:
            query = query.where(runs.c.proposal_id == proposal_id)
            whole = whole.where(runs.c.proposal_id == proposal_id)
        by_id = {row["id"]: rows.run(row) for row in self._all(whole)}
        measured = self._all(query)
        found = self._findings([row["id"] for row in measured])
        return [
            Scored(
                by_id[row["run_key"]],
                rows.measurement(row, found.get(row["id"], ()), row.get("blob"), row.get("hidden")),
            )
            for row in measured
        ]

    def replicates(self, campaign_id: int, hardware_class: str = "", *, newest: int | None = None) -> list[Replicate]:
        """Scores of all good runs at the deciding rung, by run id; at most the `newest` ones. Of one class of machine,
        or of all where none is named."""
        mine = [runs.c.hardware_class == hardware_class] if hardware_class else []
        query = (
            select(runs.c.id, runs.c.proposal_id, runs.c.baseline_id, runs.c.seed, measurements.c.bpb)
            .join(measurements, measurements.c.run_id == runs.c.id)
            .join(campaigns, campaigns.c.id == runs.c.campaign_id)
            .where(
                runs.c.campaign_id == campaign_id,
                runs.c.state == "done",
                runs.c.outcome == "ok",
                runs.c.rung == campaigns.c.rung,
                measurements.c.latest == 1,
                measurements.c.bpb.is_not(None),
                *mine,
            )
            .order_by(runs.c.id.desc())
            .limit(newest)
        )
        found = [
            Replicate(row.proposal_id, row.baseline_id, row.seed, row.bpb) for row in self.connection.execute(query)
        ]
        return found[::-1]

    def trials(self, campaign_id: int, *, newest: int | None = None) -> list[TrialRow]:
        """What became of each proposal, without its texts, by id; at most the `newest` ones."""
        query = (
            select(proposals.c.id, proposals.c.state, proposals.c.knobs, proposals.c.gain)
            .add_columns(scores.c.mean_bpb, scores.c.total_bytes, proposals.c.baseline_id)
            .add_columns(func.coalesce(scores.c.all_runs, 0), proposals.c.mode, proposals.c.source_id)
            .add_columns(proposals.c.planner, proposals.c.kind, proposals.c.expected_gain, proposals.c.confidence)
            .outerjoin(scores, (scores.c.proposal_id == proposals.c.id) & (scores.c.deciding == 1))
            .where(proposals.c.campaign_id == campaign_id)
            .order_by(proposals.c.id.desc())
            .limit(newest)
        )
        return [TrialRow(*row) for row in self.connection.execute(query)][::-1]

    def combined(self, campaign_id: int, since: int) -> list[str]:
        """What ideas that combine others, from this id on, name as their evidence."""
        mine = (proposals.c.campaign_id == campaign_id) & (proposals.c.id >= since) & (proposals.c.mode == "combine")
        found = self.connection.execute(select(proposals.c.evidence).where(mine)).scalars()
        return [words for evidence in found for words in evidence]

    def verdicts(self, proposal_id: int) -> list[Verdict]:
        query = select(verdicts).where(verdicts.c.proposal_id == proposal_id).order_by(verdicts.c.id)
        return [rows.verdict(row) for row in self._all(query)]

    def reviews(self, proposal_id: int) -> list[ReviewNote]:
        query = select(reviews).where(reviews.c.proposal_id == proposal_id).order_by(reviews.c.id)
        return [rows.review(row) for row in self._all(query)]

    def events(self, campaign_id: int, after: int = 0, limit: int = 1000) -> list[Event]:
        query = select(events).where(events.c.campaign_id == campaign_id, events.c.id > after)
        return [rows.event(row) for row in self._all(query.order_by(events.c.id).limit(limit))]

    def newest_events(self, campaign_id: int, last: int) -> list[Event]:
        query = select(events).where(events.c.campaign_id == campaign_id).order_by(events.c.id.desc())
        return [rows.event(row) for row in self._all(query.limit(last))][::-1]

    def count_runs(self, campaign_id: int, states: Collection[RunState] | None = None) -> int:
        query = select(func.count()).select_from(runs).where(runs.c.campaign_id == campaign_id)
        return int(self.connection.execute(_among(query, runs.c.state, states)).scalar_one())

    def view(
        self, name: Literal["best_valid", "lineage", "leaderboard", "spend", "frontier"], campaign_id: int
    ) -> list[RowMapping]:
        """The rows of a view that belong to one campaign, as `agent query` would show them."""
        query = text(f"SELECT * FROM {name} WHERE campaign_id = :campaign_id")
        return list(self.connection.execute(query, {"campaign_id": campaign_id}).mappings())

    def _findings(self, measurement_ids: Iterable[int]) -> dict[int, tuple[Finding, ...]]:
        found: dict[int, tuple[Finding, ...]] = {}
        ids = list(measurement_ids)
        for start in range(0, len(ids), 500):  # databases limit how many values one statement takes
            query = select(findings).where(findings.c.measurement_id.in_(ids[start : start + 500]))
            for row in self._all(query.order_by(findings.c.id)):
                one = Finding(row["rule"], row["severity"], row["text"])
                found[row["measurement_id"]] = (*found.get(row["measurement_id"], ()), one)
        return found

    def _row(self, table: Table, row_id: int, what: str) -> RowMapping:
        row = statements.row(self.connection, table, row_id)
        if row is None:
            raise UserError(f"no {what}{row_id} here")
        return row

    def _first(self, query: Select[Any]) -> RowMapping | None:
        return self.connection.execute(query.limit(1)).mappings().first()

    def _all(self, query: Select[Any]) -> list[RowMapping]:
        return list(self.connection.execute(query).mappings())


def _among(query: Select[Any], column: Column[Any], values: Collection[str] | None) -> Select[Any]:
    return query if values is None else query.where(column.in_(sorted(values)))

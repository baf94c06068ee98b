"""What can be asked of the store: `Reads`, over one connection that sees one moment.

Every filter here has an index, so that no single call grows with what it does not return.
An unknown id is a UserError: people type them.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeVar

from sqlalchemy import Column, Connection, RowMapping, Select, Table, select, text

from agent.errors import UserError
from agent.records import (
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
from agent.store import rows, selects, statements
from agent.store.rows import Pulse, Replicate, Request, ReviewNote, Scored, Spent, Times, TrialRow
from agent.store.schema import campaigns, events, proposals, reviews, runs

T = TypeVar("T")
MOST_KNOWN = 1000  # answers


class Reads:
    """Questions to the store, all of one moment: what each step asks for itself is asked of the database once."""

    _one_moment = True

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._known: dict[object, Any] = {}

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
        return self._once(
            ("proposal", proposal_id), lambda: rows.proposal(self._row(proposals, proposal_id, "proposal p"))
        )

    def proposals(self, campaign_id: int, states: Collection[ProposalState] | None = None) -> list[Proposal]:
        found = self._all(selects.in_states(states is not None), campaign_id=campaign_id, states=_listed(states))
        # Sorted here: asked for an order, SQLite walks the whole campaign by id rather than sort a few rows.
        return sorted(map(rows.proposal, found), key=lambda one: one.id)

    def count_proposals(self, campaign_id: int, states: Collection[ProposalState] | None = None) -> int:
        return self._count(selects.how_many(states is not None), campaign_id=campaign_id, states=_listed(states))

    def baselines(self, campaign_id: int, states: Collection[ProposalState]) -> set[int | None]:
        """What proposals in these states are compared with."""
        found = self.connection.execute(selects.BASELINES, {"campaign_id": campaign_id, "states": _listed(states)})
        return set(found.scalars())

    def count_by(self, campaign_id: int, planner: str) -> int:
        """How many proposals are this planner's."""
        return self._count(selects.BY_PLANNER, campaign_id=campaign_id, planner=planner)

    def count_against(self, baseline_id: int, states: Collection[ProposalState], *, most: int) -> int:
        """How many proposals that were compared with this one, at the rung that decides, are in these states; counted
        up to `most`."""
        return self._count(selects.AGAINST, baseline_id=baseline_id, states=_listed(states), most=most)

    def count_events(self, proposal_id: int, what: str) -> int:
        """How often something was said of a proposal."""
        return self._count(selects.EVENTS_OF, proposal_id=proposal_id, what=what)

    def find_ast(self, campaign_id: int, ast_hash: str) -> Proposal | None:
        """The first proposal with this syntax tree, but for what was given up without a score."""
        return self._twin(campaign_id, proposals.c.ast_hash, ast_hash)

    def find_config(self, campaign_id: int, config_hash: str) -> Proposal | None:
        """The first proposal that comes to this, however it is written, but for what was given up without a score."""
        return self._twin(campaign_id, proposals.c.config_hash, config_hash)

    def _twin(self, campaign_id: int, column: Column[Any], digest: str) -> Proposal | None:
        row = self._first(selects.twin(column), campaign_id=campaign_id, digest=digest) if digest else None
        return rows.proposal(row) if row else None

    def head(self, campaign_id: int) -> Proposal:
        return self._once(("head", campaign_id), lambda: self._head(campaign_id))

    def _head(self, campaign_id: int) -> Proposal:
        row = self._first(selects.HEAD, campaign_id=campaign_id)
        if row is None:
            raise UserError(f"campaign {campaign_id} has no head yet")
        return rows.proposal(row)

    def base(self, campaign_id: int) -> Proposal:
        """What the campaign started from: the root of its lineage."""
        row = self._first(selects.BASE, campaign_id=campaign_id)
        if row is None:
            raise UserError(f"campaign {campaign_id} has no base yet")
        return rows.proposal(row)

    def lineage(self, proposal_id: int) -> list[Proposal]:
        """The proposal and all it was built on, base first."""
        found = self._all(selects.LINEAGE, proposal_id=proposal_id)
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
        filters = {"proposal_id": proposal_id, "states": _listed(states), "purposes": _listed(purposes)}

        def ask() -> list[Run]:
            query = selects.of_campaign(*(value is not None for value in filters.values()))
            return [rows.run(row) for row in self._all(query, campaign_id=campaign_id, **filters)]

        return list(ask() if proposal_id is None else self._once(("runs", campaign_id, str(filters)), ask))

    def last_done(self, campaign_id: int) -> Run | None:
        """The newest run that was measured."""
        row = self._first(selects.LAST_DONE, campaign_id=campaign_id)
        return None if row is None else rows.run(row)

    def measurement(self, run_id: int) -> Measurement | None:
        """By the newest judge that measured it."""
        row = self._first(selects.LATEST, run_id=run_id)
        if row is None:
            return None
        nats = self._first(selects.DOCUMENTS, measurement_id=row["id"])
        found = self._findings([row["id"]])
        audit = self._first(selects.AUDIT, measurement_id=row["id"])
        scored, hidden = (nats["nats"], nats["hidden"]) if nats else (None, None)
        return rows.measurement(row, found.get(row["id"], ()), scored, hidden, audit)

    def scored(self, campaign_id: int, *, proposal_id: int | None = None, documents: bool = True) -> list[Scored]:
        """Runs that are done and measured. Without `documents`, the nats of single documents stay away."""
        whole, of_each = selects.scored(proposal_id is not None, documents)
        which = {"campaign_id": campaign_id, "proposal_id": proposal_id}
        by_id = {row["id"]: rows.run(row) for row in self._all(whole, **which)}
        measured = self._all(of_each, **which)
        found = self._findings([row["id"] for row in measured])
        return [
            Scored(
                by_id[row["run_key"]],
                rows.measurement(row, found.get(row["id"], ()), row.get("blob"), row.get("hidden")),
            )
            for row in measured
        ]

    def base_times(self, campaign_id: int, first: int, hardware_class: str = "") -> list[Times]:
        """How long the first scored fresh runs of the campaign's base took, by run id; at most so many. Of one class
        of machine, or of all where none is named."""
        values = {"campaign_id": campaign_id, "first": first, "hardware_class": hardware_class}
        return [Times(*row) for row in self.connection.execute(selects.times(hardware_class != ""), values)]

    def spent(self, campaign_id: int, rung: str, hardware_class: str, *, most: int) -> list[Spent]:
        """What training took the campaign's base at this rung, on machines of this class; where the base never ran
        there, the first head that did. By run id, at most so many."""
        values = {"campaign_id": campaign_id, "rung": rung, "hardware_class": hardware_class, "most": most}
        found = self.connection.execute(selects.SPENT, values).all()
        return [Spent(row.slot, row.train_cpu_s) for row in found if row.step == found[0].step]

    def replicates(self, campaign_id: int, hardware_class: str = "", *, newest: int | None = None) -> list[Replicate]:
        """Scores of all good runs at the deciding rung, by run id; at most the `newest` ones. Of one class of machine,
        or of all where none is named."""
        query = selects.replicates(hardware_class != "", newest is not None)
        values = {"campaign_id": campaign_id, "hardware_class": hardware_class, "newest": newest}
        found = self.connection.execute(query, values)
        return [Replicate(row.proposal_id, row.baseline_id, row.seed, row.bpb, row.lease) for row in found][::-1]

    def trials(self, campaign_id: int, *, newest: int | None = None) -> list[TrialRow]:
        """What became of each proposal, without its texts, by id; at most the `newest` ones."""
        query = selects.trials(newest is not None)
        found = self.connection.execute(query, {"campaign_id": campaign_id, "newest": newest})
        return [TrialRow(*row) for row in found][::-1]

    def combined(self, campaign_id: int, since: int) -> list[str]:
        """What ideas that combine others, from this id on, name as their evidence."""
        found = self.connection.execute(selects.COMBINED, {"campaign_id": campaign_id, "since": since}).scalars()
        return [words for evidence in found for words in evidence]

    def verdicts(self, proposal_id: int) -> list[Verdict]:
        return [rows.verdict(row) for row in self._all(selects.VERDICTS, proposal_id=proposal_id)]

    def reviews(self, proposal_id: int) -> list[ReviewNote]:
        query = select(reviews).where(reviews.c.proposal_id == proposal_id).order_by(reviews.c.id)
        return [rows.review(row) for row in self._all(query)]

    def events(self, campaign_id: int, after: int = 0, limit: int = 1000) -> list[Event]:
        query = select(events).where(events.c.campaign_id == campaign_id, events.c.id > after)
        return [rows.event(row) for row in self._all(query.order_by(events.c.id).limit(limit))]

    def newest_event(self, campaign_id: int) -> int:
        """Its id; 0: there is none."""
        return self._count(selects.NEWEST_EVENT, campaign_id=campaign_id)

    def pulse(self, campaign_id: int) -> Pulse:
        """What a controller asks for over and over, in one question."""
        return Pulse(*self.connection.execute(selects.PULSE, {"campaign_id": campaign_id}).one())

    def events_after(self, campaign_id: int, event_id: int) -> tuple[int, int]:
        """How many there are since that one, and the newest."""
        values = {"campaign_id": campaign_id, "event_id": event_id}
        count, newest = self.connection.execute(selects.EVENTS_AFTER, values).one()
        return count, event_id if newest is None else newest

    def newest_events(self, campaign_id: int, last: int) -> list[Event]:
        query = select(events).where(events.c.campaign_id == campaign_id).order_by(events.c.id.desc())
        return [rows.event(row) for row in self._all(query.limit(last))][::-1]

    def count_runs(self, campaign_id: int, states: Collection[RunState] | None = None) -> int:
        return self._count(selects.how_many_runs(states is not None), campaign_id=campaign_id, states=_listed(states))

    def view(
        self, name: Literal["best_valid", "lineage", "leaderboard", "spend", "frontier"], campaign_id: int
    ) -> list[RowMapping]:
        """The rows of a view that belong to one campaign, as `agent query` would show them."""
        query = text(f"SELECT * FROM {name} WHERE campaign_id = :campaign_id")
        return list(self.connection.execute(query, {"campaign_id": campaign_id}).mappings())

    def _once(self, question: object, ask: Callable[[], T]) -> T:
        if not self._one_moment:
            return ask()
        if question not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[question] = ask()
        found: T = self._known[question]
        return found

    def _findings(self, measurement_ids: Iterable[int]) -> dict[int, tuple[Finding, ...]]:
        found: dict[int, tuple[Finding, ...]] = {}
        ids = list(measurement_ids)
        for start in range(0, len(ids), 500):  # databases limit how many values one statement takes
            for row in self._all(selects.FINDINGS, measurement_ids=ids[start : start + 500]):
                one = Finding(row["rule"], row["severity"], row["text"])
                found[row["measurement_id"]] = (*found.get(row["measurement_id"], ()), one)
        return found

    def _row(self, table: Table, row_id: int, what: str) -> RowMapping:
        row = statements.row(self.connection, table, row_id)
        if row is None:
            raise UserError(f"no {what}{row_id} here")
        return row

    def _first(self, query: Select[Any], **values: object) -> RowMapping | None:
        return self.connection.execute(query, values).mappings().first()

    def _all(self, query: Select[Any], **values: object) -> list[RowMapping]:
        return list(self.connection.execute(query, values).mappings())

    def _count(self, query: Select[Any], **values: object) -> int:
        return int(self.connection.execute(query, values).scalar_one())


def _listed(values: Collection[str] | None) -> list[str] | None:
    """As a parameter; a question without that filter does not look at it."""
    return None if values is None else sorted(values)

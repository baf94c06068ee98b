"""The questions of `Reads`, each built once: building one anew takes SQLAlchemy longer than SQLite takes to answer it.

Takes which filters are wanted; gives a SELECT, to be run with a dict of values named after its parameters.
"""

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Select, bindparam, func, literal_column, or_, select

from agent.states import GIVEN_UP
from agent.store.schema import (
    audits,
    campaigns,
    doc_nats,
    events,
    findings,
    heads,
    measurements,
    proposals,
    runs,
    scores,
    trunk,
    verdicts,
)

_CAMPAIGN: BindParameter[int] = bindparam("campaign_id")
_PROPOSAL: BindParameter[int] = bindparam("proposal_id")


def _among(column: Column[Any], name: str) -> Any:
    return column.in_(bindparam(name, expanding=True))


# ------------------------------------------------------------ proposals


@cache
def in_states(asked: bool) -> Select[Any]:
    query = select(proposals).where(proposals.c.campaign_id == _CAMPAIGN)
    return query.where(_among(proposals.c.state, "states")) if asked else query


@cache
def how_many(asked: bool) -> Select[Any]:
    query = select(func.count()).select_from(proposals).where(proposals.c.campaign_id == _CAMPAIGN)
    return query.where(_among(proposals.c.state, "states")) if asked else query


BASELINES = (
    select(proposals.c.baseline_id)
    .where(proposals.c.campaign_id == _CAMPAIGN, _among(proposals.c.state, "states"))
    .distinct()
)
BY_PLANNER = (
    select(func.count())
    .select_from(proposals)
    .where(proposals.c.campaign_id == _CAMPAIGN, proposals.c.planner == bindparam("planner"))
)
_compared = (
    select(proposals.c.id)
    .where(proposals.c.baseline_id == bindparam("baseline_id"), proposals.c.gain.is_not(None))
    .where(_among(proposals.c.state, "states"))
    .limit(bindparam("most"))
)
AGAINST = select(func.count()).select_from(_compared.subquery())


# What was measured once is known, whatever became of the idea: its budget, the campaign's, does not grow.
TRIED = or_(
    proposals.c.state.not_in(sorted(GIVEN_UP)),
    select(scores.c.id).where(scores.c.proposal_id == proposals.c.id, scores.c.deciding == 1).exists(),
)


@cache
def twin(column: Column[Any]) -> Select[Any]:
    mine = (proposals.c.campaign_id == _CAMPAIGN) & (column == bindparam("digest"))
    return select(proposals).where(mine, TRIED).order_by(proposals.c.id).limit(1)


HEAD = (
    select(proposals)
    .join(heads, heads.c.proposal_id == proposals.c.id)
    .where(heads.c.campaign_id == _CAMPAIGN)
    .limit(1)
)
_ROOT = (trunk.c.campaign_id == _CAMPAIGN, trunk.c.step == 0)
BASE = select(proposals).join(trunk, trunk.c.proposal_id == proposals.c.id).where(*_ROOT).limit(1)

_start = (
    select(proposals.c.id, proposals.c.baseline_id, literal_column("0").label("back"))
    .where(proposals.c.id == _PROPOSAL)
    .cte("chain", recursive=True)
)
_chain = _start.union_all(
    select(proposals.c.id, proposals.c.baseline_id, _start.c.back + 1).where(
        proposals.c.id == _start.c.baseline_id, _start.c.back < 100_000
    )
)
LINEAGE = select(proposals).join(_chain, _chain.c.id == proposals.c.id).order_by(_chain.c.back.desc())


@cache
def trials(some: bool) -> Select[Any]:
    query = (
        select(proposals.c.id, proposals.c.state, proposals.c.knobs, proposals.c.gain)
        .add_columns(scores.c.mean_bpb, scores.c.total_bytes, proposals.c.baseline_id)
        .add_columns(func.coalesce(scores.c.all_runs, 0), proposals.c.mode, proposals.c.source_id)
        .add_columns(proposals.c.planner, proposals.c.kind, proposals.c.expected_gain, proposals.c.confidence)
        .outerjoin(scores, (scores.c.proposal_id == proposals.c.id) & (scores.c.deciding == 1))
        .where(proposals.c.campaign_id == _CAMPAIGN)
        .order_by(proposals.c.id.desc())
    )
    return query.limit(bindparam("newest")) if some else query


COMBINED = select(proposals.c.evidence).where(
    proposals.c.campaign_id == _CAMPAIGN, proposals.c.id >= bindparam("since"), proposals.c.mode == "combine"
)
VERDICTS = select(verdicts).where(verdicts.c.proposal_id == _PROPOSAL).order_by(verdicts.c.id)
EVENTS_OF = select(func.count()).where(events.c.proposal_id == _PROPOSAL, events.c.what == bindparam("what"))


EVENTS_AFTER = select(func.count(), func.max(events.c.id)).where(
    events.c.campaign_id == bindparam("campaign_id"), events.c.id > bindparam("event_id")
)
NEWEST_EVENT = select(func.coalesce(func.max(events.c.id), 0)).where(events.c.campaign_id == bindparam("campaign_id"))
PULSE = select(campaigns.c.request, NEWEST_EVENT.scalar_subquery()).where(campaigns.c.id == bindparam("campaign_id"))
# ------------------------------------------------------------ runs and what was measured of them


def _whose(proposal: bool) -> ColumnElement[bool]:
    """Those of an idea are of its campaign. Asked for both, SQLite takes an index by the campaign and the state, and
    looks through all runs of a long campaign for the few of the idea."""
    return runs.c.proposal_id == _PROPOSAL if proposal else runs.c.campaign_id == _CAMPAIGN


@cache
def of_campaign(proposal: bool, states: bool, purposes: bool) -> Select[Any]:
    query = select(runs).where(_whose(proposal)).order_by(runs.c.id)
    if states:
        query = query.where(_among(runs.c.state, "states"))
    return query.where(_among(runs.c.purpose, "purposes")) if purposes else query


@cache
def how_many_runs(states: bool) -> Select[Any]:
    query = select(func.count()).select_from(runs).where(runs.c.campaign_id == _CAMPAIGN)
    return query.where(_among(runs.c.state, "states")) if states else query


LAST_DONE = (
    select(runs).where(runs.c.campaign_id == _CAMPAIGN, runs.c.state == "done").order_by(runs.c.id.desc()).limit(1)
)
LATEST = select(measurements).where(measurements.c.run_id == bindparam("run_id"), measurements.c.latest == 1).limit(1)


@cache
def scored(proposal: bool, documents: bool) -> tuple[Select[Any], Select[Any]]:
    """The runs, and what was measured of them."""
    which = [_whose(proposal), runs.c.state == "done", measurements.c.latest == 1]
    measured = select(runs.c.id.label("run_key"), *measurements.c).join_from(
        runs, measurements, measurements.c.run_id == runs.c.id
    )
    if documents:
        nats = doc_nats.c.measurement_id == measurements.c.id
        blobs = doc_nats.c.nats.label("blob"), doc_nats.c.hidden.label("hidden")
        measured = measured.add_columns(*blobs).outerjoin(doc_nats, nats)
    whole = select(runs).join(measurements, measurements.c.run_id == runs.c.id).where(*which)
    return whole, measured.where(*which).order_by(runs.c.id)


_OF_CLASS = runs.c.hardware_class == bindparam("hardware_class")


@cache
def times(one_class: bool) -> Select[Any]:
    query = (
        select(measurements.c.train_wall_s, measurements.c.score_wall_s, measurements.c.slot_s)
        .join(runs, measurements.c.run_id == runs.c.id)
        .join(trunk, trunk.c.proposal_id == runs.c.proposal_id)
        .where(*_ROOT, runs.c.campaign_id == _CAMPAIGN, runs.c.state == "done", runs.c.purpose == "report")
        .where(measurements.c.latest == 1, measurements.c.bpb.is_not(None))
        .order_by(runs.c.id)
        .limit(bindparam("first"))
    )
    return query.where(_OF_CLASS) if one_class else query


# Fresh runs and those that trials are compared with, in the order of the chain of heads.
SPENT = (
    select(trunk.c.step, runs.c.slot, measurements.c.train_cpu_s)
    .join(runs, runs.c.proposal_id == trunk.c.proposal_id)
    .join(measurements, measurements.c.run_id == runs.c.id)
    .where(trunk.c.campaign_id == _CAMPAIGN, _OF_CLASS, runs.c.rung == bindparam("rung"))
    .where(runs.c.state == "done", runs.c.purpose.in_(("report", "trial")))
    .where(runs.c.baseline_id.is_(None), runs.c.set_aside == "")
    .where(measurements.c.latest == 1, measurements.c.bpb.is_not(None), measurements.c.train_cpu_s.is_not(None))
    .order_by(trunk.c.step, runs.c.id)
    .limit(bindparam("most"))
)


DOCUMENTS = (
    select(doc_nats.c.nats, doc_nats.c.hidden).where(doc_nats.c.measurement_id == bindparam("measurement_id")).limit(1)
)
AUDIT = select(audits).where(audits.c.measurement_id == bindparam("measurement_id")).limit(1)
FINDINGS = select(findings).where(_among(findings.c.measurement_id, "measurement_ids")).order_by(findings.c.id)


@cache
def replicates(one_class: bool, some: bool) -> Select[Any]:
    query = (
        select(runs.c.id, runs.c.proposal_id, runs.c.baseline_id, runs.c.seed, measurements.c.bpb, runs.c.lease)
        .join(measurements, measurements.c.run_id == runs.c.id)
        .join(campaigns, campaigns.c.id == runs.c.campaign_id)
        .where(
            runs.c.campaign_id == _CAMPAIGN,
            runs.c.state == "done",
            runs.c.outcome == "ok",
            runs.c.set_aside == "",
            runs.c.rung == campaigns.c.rung,
            measurements.c.latest == 1,
            measurements.c.bpb.is_not(None),
        )
        .order_by(runs.c.id.desc())
    )
    if one_class:
        query = query.where(_OF_CLASS)
    return query.limit(bindparam("newest")) if some else query

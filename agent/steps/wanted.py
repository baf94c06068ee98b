"""Which runs the campaign wants next, in order of urgency.

Takes the store's rows; gives `Wanted` records. Reads only: what is wanted follows from what is there, so after a crash
the same question has the same answer.
"""

import hashlib
from dataclasses import dataclass

from agent.records import Proposal, ProposalState, Purpose, Run
from agent.setting import Setting
from agent.store import Reads

MAX_ATTEMPTS = 3
LIVE: frozenset[ProposalState] = frozenset({"approved", "lost", "measured", "confirming"})
TEST: frozenset[Purpose] = frozenset({"screen", "confirm", "replay", "recheck"})


@dataclass(frozen=True)
class Wanted:
    proposal: Proposal
    purpose: Purpose
    baseline_id: int | None
    seed: int
    attempt: int
    held: bool  # its money is already set aside by the proposal's hold


def seed_of(campaign_seed: int, head_id: int, index: int) -> int:
    """Seeds belong to a head: its own report runs draw them, and so do the runs that are compared with it."""
    digest = hashlib.sha256(f"{campaign_seed}/{head_id}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def wanted(setting: Setting, reads: Reads) -> list[Wanted]:
    """All runs that could start now, most urgent first: what others wait for, then the oldest idea."""
    head = reads.head(setting.campaign.id)
    found = [_report(setting, reads, head)]
    found += [_test(setting, reads, proposal) for proposal in reads.proposals(setting.campaign.id, LIVE)]
    ready = [item for item in found if item is not None]
    return sorted(ready, key=lambda item: (_RANK[item.purpose], item.proposal.id))


_RANK: dict[Purpose, int] = {"report": 0, "recheck": 1, "replay": 2, "confirm": 3, "screen": 4}


def in_flight(runs: list[Run]) -> bool:
    return any(run.state in ("queued", "running") for run in runs)


def of_test(runs: list[Run], proposal: Proposal) -> list[Run]:
    """The runs that compare the proposal with its present baseline."""
    return [run for run in runs if run.purpose in TEST and run.baseline_id == proposal.baseline_id]


def _report(setting: Setting, reads: Reads, head: Proposal) -> Wanted | None:
    runs = reads.runs(setting.campaign.id, proposal_id=head.id, purposes={"report"})
    return _next(setting, head, runs, "report", None, head.id, setting.track.decision.report_seeds)


def _test(setting: Setting, reads: Reads, proposal: Proposal) -> Wanted | None:
    runs = of_test(reads.runs(setting.campaign.id, proposal_id=proposal.id), proposal)
    if in_flight(runs):
        return None
    assert proposal.baseline_id is not None
    verdicts = [v for v in reads.verdicts(proposal.id) if v.baseline_id == proposal.baseline_id]
    done = [run for run in runs if run.state == "done"]
    if len(verdicts) < len(done):
        return None  # not decided yet
    if verdicts and verdicts[-1].decision == "recheck" and len(verdicts) == len(done):
        last = done[-1]
        return Wanted(proposal, "recheck", proposal.baseline_id, last.seed, last.attempt + 1, held=False)
    purpose: Purpose = "screen"
    if proposal.state == "confirming":
        replayed = any(
            run.baseline_id != proposal.baseline_id for run in reads.runs(setting.campaign.id, proposal_id=proposal.id)
        )
        purpose = "replay" if replayed else "confirm"
    return _next(
        setting,
        proposal,
        runs,
        purpose,
        proposal.baseline_id,
        proposal.baseline_id,
        setting.track.decision.max_seeds,
    )


def _next(
    setting: Setting,
    proposal: Proposal,
    runs: list[Run],
    purpose: Purpose,
    baseline_id: int | None,
    seeds_of: int,
    most: int,
) -> Wanted | None:
    """The next seed of a series, or a lost one again, with its seed kept and the attempt counted."""
    held = purpose in ("confirm", "replay") or (purpose == "report" and proposal.baseline_id is not None)
    for index in range(most):
        seed = seed_of(setting.campaign.seed, seeds_of, index)
        tries = [run for run in runs if run.seed == seed]
        if any(run.state in ("queued", "running", "done") for run in tries):
            continue
        return Wanted(proposal, purpose, baseline_id, seed, len(tries) + 1, held)
    return None

"""Where a campaign stands, as data and in words.

Takes the store's rows; gives `Status`. The live view shows the same.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from agent.machines import burn
from agent.planner import clients
from agent.records import Balance, Event, Proposal, ProposalState, Run
from agent.store import Reads, talks
from agent.store.lease import holder
from agent.words import duration, line

WAITS = f"waits for those of clients; {clients.HOW}"
NEWEST = 30  # events among which it is said why nothing runs
WAITING: tuple[ProposalState, ...] = ("drafted", "awaiting_review", "approved", "lost")


@dataclass(frozen=True)
class Status:
    campaign: str
    track: str
    planner: str
    state: str
    reason: str
    controller: str | None  # who runs it now
    asked: str  # drain or cancel, when a person asked for its end
    slots: int
    runner: str
    settled_hours: float
    reserved_hours: float
    cap_hours: float | None
    machines: str  # what is rented, and what it costs; empty: there never was anything
    models: str  # what language models cost so far; empty: there were none
    base_bpb: float | None
    head: str
    head_title: str
    head_bpb: float | None  # mean of its fresh runs
    head_runs: int
    accepted: int
    proposals: int
    runs_done: int
    waits: str  # why nothing runs; empty: it does, or nothing is known
    running: tuple[str, ...]
    queue: tuple[str, ...]
    to_review: tuple[str, ...]


def status(reads: Reads, campaign_id: int) -> Status:
    campaign = reads.campaign_by_id(campaign_id)
    balance = reads.balance(campaign_id)
    head = reads.head(campaign_id)
    chain = reads.lineage(head.id)
    running = reads.runs(campaign_id, states={"queued", "running"})
    waiting = reads.proposals(campaign_id, WAITING)
    bpb, count = head_bpb(reads, head)
    return Status(
        campaign=campaign.name,
        track=campaign.track,
        planner=campaign.planner,
        state=campaign.state,
        reason=campaign.reason,
        controller=holder(reads.connection, f"campaign {campaign.name}"),
        asked=reads.request(campaign_id),
        slots=campaign.slots,
        runner=campaign.runner,
        settled_hours=balance.settled.gpu_s / 3600,
        reserved_hours=balance.reserved.gpu_s / 3600,
        cap_hours=None if balance.caps.gpu_s is None else balance.caps.gpu_s / 3600,
        machines=burn.words(burn.burn(reads, campaign_id), balance),
        models=_models(reads, campaign_id, balance),
        base_bpb=head_bpb(reads, chain[0])[0],
        head=f"p{head.id}",
        head_title=head.title,
        head_bpb=bpb,
        head_runs=count,
        accepted=len(chain) - 1,
        proposals=reads.count_proposals(campaign_id) - 1,
        runs_done=reads.count_runs(campaign_id, {"done"}),
        waits="" if running else _standing(reads.newest_events(campaign_id, NEWEST)),
        running=tuple(_running(reads, run) for run in running),
        queue=tuple(f"p{p.id} {line(p.title, 60)}" for p in waiting if p.state != "awaiting_review"),
        to_review=tuple(f"p{p.id} {line(p.title, 60)}" for p in waiting if p.state == "awaiting_review"),
    )


def head_bpb(reads: Reads, head: Proposal) -> tuple[float | None, int]:
    """Mean BPB of a head's report runs, and how many they are."""
    scored = reads.scored(head.campaign_id, proposal_id=head.id, documents=False)
    found = [s.measurement.bpb for s in scored if s.run.purpose == "report" and s.measurement.bpb is not None]
    return (statistics.fmean(found) if found else None), len(found)


def to_review(count: int) -> str:
    return f"review   {'1 idea waits' if count == 1 else f'{count} ideas wait'} for you: agent review"


def words(now: Status) -> str:
    lines = [
        f"{now.campaign}: {state_words(now)}, track {now.track}",
        f"budget   {budget_words(now)}",
        f"head     {head_words(now)}",
        f"so far   {now.proposals} ideas, {now.runs_done} runs, {now.accepted} accepted",
    ]
    if now.machines:
        lines.insert(2, f"machines {now.machines}")
    if now.runner != "local":
        lines.insert(2, f"runs on  {now.runner}")
    if now.models:
        lines.insert(2, f"models   {now.models}")
    if now.waits and now.state == "running":
        lines.append(f"WAITS    {line(now.waits, 400)}")
    lines += [f"running  {item}" for item in now.running]
    lines += [f"next     {item}" for item in now.queue[:5]]
    if waits_for_clients(now):
        lines.append(f"ideas    {WAITS}")
    if now.to_review:
        lines.append(to_review(len(now.to_review)))
    return "\n".join(lines)


def state_words(now: Status) -> str:
    if now.state != "running":
        return f"{now.state}" + (f" ({line(now.reason, 200)})" if now.reason else "")
    if now.controller is None:
        return "nobody runs it; `agent resume` goes on"
    asked = {"drain": ", finishing what runs", "cancel": ", cancelling what runs"}
    return f"running ({now.controller}){asked.get(now.asked, '')}"


def models_words(balance: Balance) -> str:
    """What language models cost, what is set aside for calls under way, and the caps."""
    spent, held, caps = balance.settled, balance.reserved, balance.caps

    def of(cap: float | None, shape: str) -> str:
        return "" if cap is None else f" of {cap:{shape}}"

    usd = f"{spent.llm_usd:.4f}" + (f" + {held.llm_usd:.4f} reserved" if held.llm_usd else "")
    calls = f"{spent.llm_calls:,}" + (f" + {held.llm_calls:,} under way" if held.llm_calls else "")
    return (
        f"{usd}{of(caps.llm_usd, '.2f')} $, {spent.llm_tokens:,}{of(caps.llm_tokens, ',')} tokens, "
        f"{calls}{of(caps.llm_calls, ',')} calls"
    )


def _models(reads: Reads, campaign_id: int, balance: Balance) -> str:
    if not balance.settled.llm_calls and not balance.reserved.llm_calls:
        return ""
    unpriced = talks.unpriced(reads, campaign_id)
    words = f"; no price is known of {', '.join(unpriced)}: bounded by tokens and calls" if unpriced else ""
    return models_words(balance) + words


def waits_for_clients(now: Status) -> bool:
    """Whether a slot is free for the idea of a client, and none is there."""
    works = now.state == "running" and now.controller is not None and not now.asked
    return (
        works
        and clients.NAME in [part.strip() for part in now.planner.split(",")]
        and not now.queue
        and len(now.running) < now.slots
    )


def budget_words(now: Status) -> str:
    cap = "no cap" if now.cap_hours is None else duration(now.cap_hours * 3600)
    reserved = f" + {duration(now.reserved_hours * 3600)} reserved" if now.reserved_hours > 0 else ""
    return f"{duration(now.settled_hours * 3600)} spent{reserved} of {cap} of slot time"


def head_words(now: Status) -> str:
    if now.head_bpb is None:
        return f"{now.head} {line(now.head_title, 60)} (its fresh runs are not in yet)"
    score = f"{now.head} {now.head_bpb:.4f} BPB over {now.head_runs} fresh runs"
    if now.base_bpb is not None and now.accepted:
        score += f", {now.head_bpb - now.base_bpb:+.4f} against the base"
    return f"{score}  {line(now.head_title, 60)}"


def _standing(newest: Sequence[Event]) -> str:
    """What the loop said last of its waiting for slots, unless a run was started since. `newest`: the newest last."""
    for event in reversed(newest):
        if event.what == "waiting":
            return event.text
        if event.run_id is not None:
            return ""
    return ""


def _running(reads: Reads, run: Run) -> str:
    proposal = reads.proposal(run.proposal_id)
    why = f": {line(run.reason, 200)}" if run.reason else ""
    return f"r{run.id} {purpose(run)} p{proposal.id} {line(proposal.title, 50)} on {run.slot}{why}"


def purpose(run: Run) -> str:
    """What a run is for; of a trial, where."""
    return f"trial at {line(run.rung, 40)}" if run.purpose == "trial" else run.purpose

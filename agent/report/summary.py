"""How a campaign ended: the lineage with its deltas, what it cost, where the plots are.

Takes the store and the campaign's folder; gives text, and writes the plots.
"""

import math
import sys
from pathlib import Path

from agent.errors import UserError
from agent.records import Balance
from agent.report.points import Picture, picture
from agent.report.status import head_bpb, models_words, to_review
from agent.report.tables import lineage, lineage_words
from agent.report.terminal import for_terminal
from agent.store import Reads, Store
from agent.words import colourful, duration


def summary(store: Store, campaign_id: int, folder: Path, *, width: int = 80) -> str:
    """What a person wants to know in the morning."""
    with store.read() as reads:
        drawn = picture(reads, campaign_id)
        parts = [figures(reads, campaign_id, drawn, width), *_next(reads, campaign_id)]
    try:
        files = plots(drawn, folder)
    except UserError as error:
        return "\n".join([*parts, f"plots    none: {error}"])
    if files:
        parts.append(f"plots    {files[0].parent}: {', '.join(f.name for f in files if f.suffix == '.png')}")
    return "\n".join(parts)


def plots(drawn: Picture, folder: Path) -> list[Path]:
    """Written into the campaign's folder; none where there is nothing to draw. Raises UserError: they can't be."""
    from agent.report.plots import write

    if not drawn.dots:
        return []
    try:
        return list(write(drawn, folder / "plots"))
    except OSError as error:
        raise UserError(f"the plots can't be written: {error}") from error


def figures(reads: Reads, campaign_id: int, drawn: Picture, width: int) -> str:
    """The frontier as the terminal can draw it, the lineage with its deltas, what became of ideas, what it cost."""
    parts = [for_terminal(drawn, width, colour=colourful(sys.stdout)) + "\n"] if drawn.dots else []
    parts += [lineage_words(lineage(reads, reads.head(campaign_id).id)), *gained(reads, campaign_id)]
    parts.append(_ideas(reads, campaign_id))
    return "\n".join([*parts, f"cost     {_cost(reads.balance(campaign_id))}"])


def gained(reads: Reads, campaign_id: int) -> list[str]:
    """What the head is reported to have gained over the base, how sure that is, and which runs say so."""
    head, base = reads.head(campaign_id), reads.base(campaign_id)
    (mine, n), (theirs, m) = head_bpb(reads, head), head_bpb(reads, base)
    decided = next((one for one in reversed(reads.verdicts(head.id)) if one.sigma is not None), None)
    if mine is None or theirs is None or decided is None or decided.sigma is None:
        return []
    stderr = decided.sigma * math.sqrt(1 / n + 1 / m)
    return [
        f"\ngain     {theirs - mine:.4f} ± {stderr:.4f} BPB over the base, by {n} fresh runs of p{head.id} and {m} of "
        f"the base's: they are what is reported, and decided nothing.\n         p{head.id} was accepted by "
        f"{decided.n_candidate} other runs (p = {decided.p or 0.0:.1g} against p{decided.baseline_id})."
    ]


def _ideas(reads: Reads, campaign_id: int) -> str:
    states = [one.state for one in reads.trials(campaign_id) if one.baseline_id is not None]
    counts = sorted(((states.count(state), state) for state in set(states)), reverse=True)
    ended = ", ".join(f"{count} {state.replace('_', ' ')}" for count, state in counts)
    return f"\nideas    {len(states)}" + (f": {ended}" if states else "")


def _cost(balance: Balance) -> str:
    cap = f" of {duration(balance.caps.gpu_s)}" if balance.caps.gpu_s is not None else ""
    text = f"{duration(balance.settled.gpu_s)}{cap} of slot time"
    if balance.settled.usd:
        text += f", {balance.settled.usd:.2f} $ for machines"
    return text + (f"\nmodels   {models_words(balance)}" if balance.settled.llm_calls else "")


def _next(reads: Reads, campaign_id: int) -> list[str]:
    campaign, head = reads.campaign_by_id(campaign_id), reads.head(campaign_id)
    lines = []
    if head.baseline_id is not None:
        lines.append(f"branch   {campaign.branch} (agent adopt merges it into yours; agent diff p{head.id} shows it)")
    waiting = reads.count_proposals(campaign_id, {"awaiting_review"})
    if waiting:
        lines.append(to_review(waiting))
    if campaign.state == "stopped":
        lines.append("         agent resume goes on where it stopped")
    return lines

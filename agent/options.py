"""What a person can say at the start of a campaign, and what can't be meant.

Takes the options as typed; `check` raises UserError that names the option. Nothing is written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from agent.errors import UserError, did_you_mean
from agent.records import Campaign, Review
from agent.runners import configured
from agent.track import Track

BASES = ("last", "HEAD", "worktree")
PLANNER = "knobs"
REVIEW: Review = "risky"
MOST_HOURS = 1_000_000  # a century of one GPU: beyond it somebody has typed something else
MOST_NAME = 60
MOST_SLOTS = 4096


@dataclass(frozen=True)
class Options:
    """What a person can say at the start; None: not said."""

    track: str = "tiny"
    budget_hours: float | None = None
    usd: float | None = None
    llm_usd: float | None = None
    llm_tokens: int | None = None
    llm_calls: int | None = None
    planner: str | None = None
    base_url: str | None = None
    review: str | None = None
    slots: int | None = None
    name: str | None = None
    target_bpb: float | None = None
    unsafe: bool = False
    runner: str | None = None
    base: str | None = None
    seed: int | None = None


def check(options: Options) -> None:
    """Refuses what can't be meant, naming the option."""
    for name, value in (
        ("--budget", options.budget_hours),
        ("--usd", options.usd),
        ("--llm-usd", options.llm_usd),
        ("--llm-tokens", options.llm_tokens),
        ("--llm-calls", options.llm_calls),
        ("--target", options.target_bpb),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} {value}: must be a number above 0")
    if options.budget_hours is not None and options.budget_hours > MOST_HOURS:
        raise UserError(f"--budget {options.budget_hours:g}: is given in GPU-hours, {MOST_HOURS:,} at most")
    if options.seed is not None and not 0 <= options.seed < 1 << 63:
        raise UserError(f"--seed {options.seed}: must be between 0 and {(1 << 63) - 1}")
    if options.slots is not None and not 1 <= options.slots <= MOST_SLOTS:
        raise UserError(f"--slots {options.slots}: must be between 1 and {MOST_SLOTS:,}")
    if options.review is not None and options.review not in get_args(Review):
        raise UserError(_choose("--review", options.review, get_args(Review)))
    if options.base is not None and options.base not in BASES:
        raise UserError(_choose("--base", options.base, BASES))
    if options.runner is not None:
        configured.names(options.runner)
    if options.name is not None and not options.name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--campaign {options.name}: letters, digits, - and _ only")
    if options.name is not None and len(options.name) > MOST_NAME:  # it is a folder's and a branch's name too
        raise UserError(f"--campaign {options.name[:20]}...: {MOST_NAME} characters at most")


def refuse_other(options: Options, campaign: Campaign) -> None:
    """Refuses what was said for a new campaign where an unfinished one goes on: it would be of no effect."""
    caps = campaign.caps
    said = {
        "--budget": tuple(hours and round(hours, 6) for hours in (options.budget_hours, (caps.gpu_s or 0.0) / 3600)),
        "--usd": (options.usd, caps.usd),
        "--llm-usd": (options.llm_usd, caps.llm_usd),
        "--llm-tokens": (options.llm_tokens, caps.llm_tokens),
        "--llm-calls": (options.llm_calls, caps.llm_calls),
        "--planner": (None if options.planner is None else planner_names(options), campaign.planner),
        "--review": (options.review, campaign.review),
        "--slots": (options.slots, campaign.slots),
        "--target": (options.target_bpb, campaign.target_bpb),
        "--seed": (options.seed, campaign.seed),
        "--runner": (options.runner, campaign.runner),
        "--unsafe-no-sandbox": (options.unsafe or None, campaign.unsafe),
    }
    other = [f"{name} {_said(has)}, not {_said(new)}" for name, (new, has) in said.items() if new not in (None, has)]
    if other:
        raise UserError(
            f"campaign {campaign.name} is unfinished and goes on as it was started ({'; '.join(other)}): "
            "`agent resume` does that; with --base last, or HEAD, a new one is opened as you say"
        )


def _said(value: object) -> str:
    return "none" if value is None else "yes" if value is True else "no" if value is False else f"{value}"


def planner_names(options: Options) -> str:
    """Who plans, with `--base-url` where it belongs: a campaign's row must say all that a resume needs."""
    planner = options.planner or PLANNER
    if options.base_url is None:
        return planner
    parts = [part.strip() for part in planner.split(",")]
    fitting = [n for n, part in enumerate(parts) if part.startswith("openai-compatible:") and "@" not in part]
    if len(fitting) != 1:
        raise UserError("--base-url goes with one --planner openai-compatible:MODEL; with several, MODEL@URL says it")
    parts[fitting[0]] += f"@{options.base_url}"
    return ",".join(parts)


def _choose(option: str, said: str, known: Sequence[str]) -> str:
    return f"{option} {said}:{did_you_mean(said, known)} choose one of {', '.join(known)}"


def review_policy(options: Options) -> Review:
    known: tuple[Review, ...] = get_args(Review)
    return next((word for word in known if word == options.review), REVIEW)


def enough(track: Track, budget_hours: float) -> None:
    """A budget that can't confirm a single idea is refused: it would only be burnt."""
    rule, gpus = track.decision, max(1, track.sizes()[0])
    least = (rule.report_seeds + 1) * track.limits.worst_s() * gpus / 3600
    if budget_hours < least:
        raise UserError(
            f"--budget {budget_hours:g} is too small for track {track.name}: its base needs "
            f"{rule.report_seeds} runs and an idea at least one, {least:.2g} GPU-hours at worst"
        )

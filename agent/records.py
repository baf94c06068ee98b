"""The records that stages pass to one another: frozen dataclasses, no logic.

Times are ISO-8601 strings in UTC ("2026-11-21T07:00:00.000Z"), so that rows read well in any tool.
Identifiers are integers given by the store; people see them as p12 (proposal) and r34 (run).
"""

from dataclasses import dataclass, field
from typing import Literal

ProposalState = Literal[
    "drafted",
    "edit_failed",
    "duplicate",
    "blocked",
    "awaiting_review",
    "declined",
    "expired",
    "approved",
    "queued",
    "running",
    "lost",
    "measured",
    "invalid",
    "oversize",
    "crashed",
    "worse",
    "inconclusive",
    "unfunded",
    "cancelled",
    "confirming",
    "auditing",
    "replaying",
    "accepted",
    "promoted",
    "reverted",
]

Mode = Literal["base", "exploit", "widen", "combine", "simplify", "shrink", "repair"]
Kind = Literal[
    "base",
    "knob",
    "architecture",
    "optimiser",
    "data",
    "tokenizer",
    "quantisation",
    "evaluation",
    "systems",
    "simplification",
]
Review = Literal["all", "risky", "none"]
Trust = Literal["reported", "measured", "blind"]
CampaignState = Literal["running", "stopped", "finished"]

# Why a run exists. `report` runs gate nothing: they are the head's figure and its children's yardstick. A `trial` is
# at a cheaper rung than the one that decides: an idea's own, or its baseline's, with which it is compared.
# An `anchor` is a run of the head that says what a machine is like. A `rescore` trains nothing: the artifact of a run
# that an idea is accepted by is scored once more, on another machine.
Purpose = Literal["trial", "screen", "confirm", "replay", "report", "recheck", "anchor", "rescore"]
RunState = Literal["queued", "running", "done", "lost", "cancelled"]
# How a run that is done ended. Only `ok` has a score.
Outcome = Literal["ok", "crashed", "capped", "no_artifact", "bad_artifact", "score_failed", "cancelled"]
# `screen`: its trial showed nothing against it.
Decision = Literal[
    "screen", "more", "confirm", "accept",
    "worse", "inconclusive", "invalid", "oversize", "crashed", "recheck", "inert", "starved",
]  # fmt: skip
Severity = Literal["invalid", "flag", "note"]


@dataclass(frozen=True)
class Amount:
    """What something costs: slot-seconds (GPU-seconds, on a CPU track seconds of one slot), dollars, and what is paid
    to language models: dollars, tokens, calls."""

    gpu_s: float = 0.0
    usd: float = 0.0
    llm_usd: float = 0.0
    llm_tokens: int = 0
    llm_calls: int = 0

    def times(self, n: int) -> "Amount":
        return Amount(self.gpu_s * n, self.usd * n, self.llm_usd * n, self.llm_tokens * n, self.llm_calls * n)


@dataclass(frozen=True)
class Caps:
    """The person's promise. None: no cap of that kind was given."""

    gpu_s: float | None
    usd: float | None = None
    llm_usd: float | None = None
    llm_tokens: int | None = None
    llm_calls: int | None = None


@dataclass(frozen=True)
class Campaign:
    """One `agent start` and all its resumes."""

    id: int
    name: str
    track: str
    track_file: str  # where a resume looks for it again: a path from the workspace, or the name of a shipped one
    track_toml: str  # the resolved track file, as it was at the start
    track_sha: str
    data_sha: str
    base_commit: str
    branch: str
    seed: int
    caps: Caps
    planner: str
    review: Review
    slots: int
    target_bpb: float | None
    hardware_class: str
    state: CampaignState
    reason: str
    created: str
    ended: str | None = None
    unsafe: bool = False  # where the machine has no walls, a model's code may run without
    runner: str = "local"  # where its runs are: names by commas, of which runners.toml says the rest


@dataclass(frozen=True)
class Draft:
    """What a planner hands over: one idea, not yet checked."""

    title: str
    hypothesis: str
    edits: str  # search/replace blocks or a unified diff, as the planner wrote it
    planner: str
    mode: Mode
    kind: Kind
    source_id: int
    expected_gain: float = 0.0
    confidence: float = 0.5
    expected_bytes: int | None = None
    risk: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    knobs: dict[str, str | int | float] = field(default_factory=dict)  # set by `knobs`; empty for free edits
    cost: Amount = Amount()
    expected_step: float | None = None  # the time of one step, as a multiple of the head's
    rung: str = ""  # where to try it first; empty: at the rung that decides
    conversation_id: int | None = None  # with a language model, where it came from one
    refused: str = ""  # why it may not run, where the planner's own check said so; it is kept all the same


@dataclass(frozen=True)
class Proposal:
    """One idea as a diff against one parent. The campaign's base is a proposal too (kind `base`)."""

    id: int
    campaign_id: int
    state: ProposalState
    reason: str
    source_id: int | None  # what its diff starts from; None for the base
    baseline_id: int | None  # the head, what it must beat
    commit: str | None  # squashed on the baseline's commit
    title: str
    hypothesis: str
    planner: str
    mode: Mode
    kind: Kind
    edits: str
    diff: str
    patch_id: str
    ast_hash: str
    config_hash: str
    knobs: dict[str, str | int | float]
    expected_gain: float
    confidence: float
    expected_bytes: int | None
    expected_step: float | None
    rung: str
    risk: tuple[str, ...]
    evidence: tuple[str, ...]
    reviewed_by: str
    created: str
    updated: str
    sized_bytes: int | None = None  # computed, where its planner said no `expected_bytes`


@dataclass(frozen=True)
class Run:
    """One execution of one proposal at one rung with one seed."""

    id: int
    campaign_id: int
    proposal_id: int
    baseline_id: int | None  # which test this run belongs to; None for the runs that a head is to be compared by
    rung: str
    purpose: Purpose
    seed: int
    attempt: int
    slot: str | None
    state: RunState
    outcome: Outcome | None
    reason: str
    hardware_class: str
    script_sha: str
    walls: tuple[str, ...]
    created: str
    started: str | None = None
    ended: str | None = None
    lease: str = ""  # of the machine, from its renting to its return
    set_aside: str = ""  # why no verdict rests on it


@dataclass(frozen=True)
class Point:
    """What a run's log says of one step; None: nothing. A candidate printed it, so nothing is decided by it."""

    step: int
    train_loss: float | None = None
    train_ms: int | None = None  # by the script's own clock
    val_loss: float | None = None
    val_bpb: float | None = None


@dataclass(frozen=True)
class Finding:
    """Something the judge saw. `invalid` bars the run, `flag` asks for a person's eye, `note` informs."""

    rule: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class Audited:
    """How closely a score was looked at, and what would have been seen. Leaks are nats per token."""

    strength: Literal["quick", "full"]
    positions: int  # that were asked again, before their tokens were shown
    uniform: int  # of them, drawn with equal chances
    surprising: int  # and where the score is better than the reference's
    twice: int  # of them, asked a second time
    replayed: int  # tokens scored again, for a model with state
    largest_difference: float  # nats
    largest_sum: float  # |log of the sum of probabilities|
    tolerance: float  # nats: what the largest difference may be
    tolerance_why: str
    unfair_nats: float  # claimed better than deserved: an estimate without bias
    unfair_stderr: float
    unfair_bpb: float
    unfair_bpb_stderr: float
    reference: str  # what surprise was measured by
    even_nats: float  # the smallest leak at every token that is caught with 99 % probability
    rare_nats: float  # the same, by 1 to 14 nats at few tokens
    wanted_nats: float  # what a full audit has to catch
    wall_s: float
    start_s: float  # of its process, which is no part of the work


@dataclass(frozen=True)
class Measurement:
    """What the judge measured of one run, and how far it can be trusted."""

    run_id: int
    trust: Trust
    judge_version: int
    bpb: float | None
    nats: float | None
    bytes_scored: int | None
    tokens_scored: int | None
    artifact_bytes: int | None  # files that scoring could read, code excluded
    code_bytes: int | None  # the packed file that ran
    total_bytes: int | None
    train_wall_s: float | None
    train_cpu_s: float | None
    score_wall_s: float | None
    score_cpu_s: float | None
    slot_s: float  # what the slot was occupied for, from start to clean-up
    peak_mb: float | None
    steps: int | None  # reported
    reported_bpb: float | None
    reported_bytes: int | None
    artifact_sha: str | None
    data_sha: str
    doc_nats: tuple[float, ...] = ()  # nats of each validation document, in order
    findings: tuple[Finding, ...] = ()
    judge_sha: str | None = None  # of the source that judged
    hidden_nats: tuple[float, ...] = ()  # nats of each document that no score is made of
    audit: Audited | None = None  # read for one run at a time
    train_ms: int | None = None  # reported: the script's own clock


@dataclass(frozen=True)
class Verdict:
    """What to do after a run, with its statistics and its reason in words."""

    proposal_id: int
    baseline_id: int
    decision: Decision
    words: str
    gain: float | None = None
    stderr: float | None = None
    p: float | None = None
    sigma: float | None = None
    rho: float | None = None
    df: float | None = None
    n_candidate: int = 0
    n_baseline: int = 0


@dataclass(frozen=True)
class Taught:
    """What a verdict taught, as a model said it, not yet written down."""

    text: str
    confidence: float
    contradicts: tuple[int, ...]  # ids of lessons
    conversation_id: int


@dataclass(frozen=True)
class Event:
    """One change of state, in the order it happened: what `agent log` and `watch` show."""

    id: int
    campaign_id: int
    at: str
    proposal_id: int | None
    run_id: int | None
    what: str  # a proposal or run state, or a word of the loop: planned, promoted, reverted, budget
    text: str


@dataclass(frozen=True)
class Balance:
    """The ledger at one moment."""

    caps: Caps
    settled: Amount
    reserved: Amount

    def left(self) -> Caps:
        """What is neither spent nor set aside."""

        def of(name: str) -> float | None:
            cap = getattr(self.caps, name)
            return None if cap is None else cap - getattr(self.settled, name) - getattr(self.reserved, name)

        def whole(name: str) -> int | None:
            left = of(name)
            return None if left is None else int(left)

        return Caps(of("gpu_s"), of("usd"), of("llm_usd"), whole("llm_tokens"), whole("llm_calls"))

"""What the judge session is asked and what it answers: frozen records, JSON both ways.

A `Task` is what it is started with; its answer is `Measured`, in the job's measure.json.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from agent.judge import JUDGE_VERSION
from agent.judge.texts import Documents
from agent.records import Finding
from agent.strict import strict
from sandbox.policy import Policy

PEEKS = 64
SURPRISING = 1000  # positions of a full audit, beside the uniform ones; more where that is not enough
NETWORK = "network"  # the rule that a run sends nothing elsewhere
CORE_BUSY, CORE_FREE = "core_busy", "core_free"  # of a run that met its clock: whether it had its core until then
STARVED = 0.85  # of the baseline's share of its core; where it is known, of its clock and of the time it was ready
# What an audit accuses of, in the order in which it says most.
ACCUSATIONS = (
    "not_normalised",
    "scores_not_repeated",
    "mean_mismatch",
    "surprise_mismatch",
    "replay_differs",
    "peek_changes_state",
)
UNFINISHED = "repeat_unfinished"  # an accusation of the audit whose repeat did not come to an end
# Of a run beside those of its baseline: that it gains where it is scored and nowhere else, and that it hides whether.
HOLDOUT = ("holdout_gap", "holdout_ruined")

# ok: there is a score. failed, capped: the candidate's doing. broken: ours or the machine's.
Status = Literal["ok", "failed", "capped", "broken"]
Numerics = Literal["fp32", "bf16"]
Strength = Literal["quick", "full"]
# What a tokenizer may give back in place of a document: Unicode's composed forms.
NormalForm = Literal["none", "nfc", "nfkc"]


@dataclass(frozen=True)
class Reference:
    """The scores of a model that the candidate never saw, as an earlier session kept them."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Auditing:
    """How closely a score is looked at."""

    strength: Strength = "quick"
    full_below: float | None = None  # BPB; a score below is audited in full in any case
    min_gain: float | None = None  # BPB; half of it must not stay hidden from a full audit
    reference: Reference | None = None

    def full(self, bpb: float) -> bool:
        """A good score is looked at closely, whoever made it."""
        return self.strength == "full" or (self.full_below is not None and bpb < self.full_below)


@dataclass(frozen=True)
class Task:
    """One scoring session."""

    command: tuple[str, ...]  # {script} and {role} are filled in
    script: str
    code: tuple[str, ...]  # files that count as code, and folders with all that is in them; the script is the first
    alone: bool  # the script is all the code there is: a copy of it runs
    artifact: str
    env: dict[str, str]
    policy: Policy  # of a process of the candidate; its files and its folder are added
    seed: int
    documents: Documents | None
    wall_s: float  # all of the session
    memory_mb: int
    disk_mb: int
    log_mb: int
    processes: int
    folder: str  # the job folder
    peeks: int = PEEKS  # of a quick audit, at least
    auditing: Auditing = Auditing()
    audit_wall_s: float | None = None  # of the session, kept for the audit; None: what scoring leaves
    uniform: int | None = None  # of a full audit. None: as many as its arithmetic needs
    surprising: int | None = None  # and of its surprising positions
    chunk_tokens: int = 8192  # a chunk ends at the first end of a document after so many tokens
    hidden: Documents | None = None  # more text of the same kind, which no score is made of
    separators: bool = False  # a candidate must name what stands between documents
    source_bytes: int | None = None  # of the script as it is written
    packed_bytes: int | None = None  # and packed; one of the two runs and counts

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        return strict(cls, text)


@dataclass(frozen=True)
class Manifest:
    """What a candidate says of itself when it is reset."""

    vocab: int
    context: int  # tokens before a token that may matter
    state: Literal["none", "chunk"]
    numerics: Numerics
    separator: int | None = None  # the token that stands between documents; None: nothing does
    normal_form: NormalForm = "none"  # of the text that it gives back


@dataclass(frozen=True)
class Clocks:
    """Seconds. `answers` run from the first byte sent to the last byte received; the first one of a process waits for
    it to start, to load and to compile."""

    encode_answers: float
    decode_answers: float
    score_answers: float
    scoring_wall: float  # of the three candidate processes, their start included
    scoring_cpu: float
    audit_wall: float
    audit_cpu: float
    session_wall: float


@dataclass(frozen=True)
class Audit:
    """What was asked again, in a second process that did not know the tokens."""

    peeks: int  # positions
    secret: str  # draws the lanes and the positions: whoever has it can repeat the audit
    largest_difference: float  # nats; |asked again - claimed|
    largest_sum: float  # |log of the sum of probabilities|
    strength: Strength = "quick"
    uniform: int = 0  # of the positions, drawn with equal chances
    surprising: int = 0  # and by how much better they were scored than by the reference
    twice: int = 0  # positions that were asked a second time
    replayed: int = 0  # tokens that were scored a second time, for the model's state
    tolerance: float = 0.0  # nats: more at any position is too much
    tolerance_why: str = ""
    unfair: float = 0.0  # nats per token, claimed minus deserved: an unbiased estimate, small as it may be
    unfair_stderr: float = 0.0
    reference: str = ""  # what the surprise was measured by
    reference_sha: str | None = None  # of the scores kept for later audits
    even: float = 0.0  # nats per token: the smallest leak at every token that is caught with 99 % probability
    rare: float = 0.0  # the same, at few tokens by 1 to 14 nats
    wanted: float = 0.0  # the leak that a full audit has to catch
    start_s: float = 0.0  # of its process: not counted as audit
    across: int = 0  # documents whose first token was asked for with other tokens before it, too
    across_moved: int = 0  # and of how many that changed the answer


@dataclass(frozen=True)
class Contest:
    """The score by the contest's count."""

    nats: float
    tokens: int
    separators: int  # of these
    bytes: int
    published: bool  # the tokens are those of the shards, so the rest is dropped as the contest does; else all count


@dataclass(frozen=True)
class Measured:
    """The session's answer."""

    judge_version: int
    status: Status
    reason: str
    nats: float | None
    tokens: int | None
    bytes: int | None
    doc_nats: tuple[float, ...]
    floor_bits: float | None
    manifest: Manifest | None
    clocks: Clocks | None
    audit: Audit | None
    artifact_bytes: int | None
    artifact_sha: str | None
    code_bytes: int | None
    code_sha: str | None
    peak_mb: float | None
    findings: tuple[Finding, ...]
    walls: tuple[str, ...] = ()  # around the process that scored; none: there is no score
    contest: Contest | None = None  # decides on tracks of token shards
    hidden_nats: tuple[float, ...] = ()  # of each document that no score is made of
    judge_sha: str | None = None  # of the judge's own source
    source_bytes: int | None = None
    packed_bytes: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        return strict(cls, text)


def no_score(status: Status, reason: str, found: tuple[Finding, ...] = ()) -> Measured:
    """The answer where nothing could be measured."""
    empty = (None,) * 2
    return Measured(
        JUDGE_VERSION, status, reason, None, *empty, (), None, None, None, None, *empty, *empty, None, found
    )

"""The tables of a track file, every key with its meaning. `agent/fields.py` says what the values may be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.fields import (
    At,
    Choices,
    Costs,
    Editable,
    Elsewhere,
    Env,
    Inside,
    Package,
    ScoreCommand,
    Table,
    TrainCommand,
)

MAX_FILE = 2_000_000  # bytes of an editable file, and so no more characters
EFFECTS = 4.0  # how large gains are believed to be, in smallest ones that matter


class Script(Table):
    path: Editable
    """The script that is trained and scored, from the root of the repository."""
    editable: tuple[Editable, ...]
    """Files that a proposal may change."""
    train: TrainCommand
    """Command to train; {python} and {script} are filled in."""
    score: ScoreCommand = ()
    """Command to answer the judge; its last word is "score". Empty: the judge reads the log instead."""
    artifact: Inside = ""
    """The artifact, from the run's folder."""
    checkpoint: Inside = ""
    """What the script leaves in that folder when its machine is taken away, and goes on from where it is there
    (docs/candidates.md). Empty: such a run begins anew."""
    env: Env = Field(default_factory=dict)
    pack: bool = True
    """Run (and count) the packed script instead of the readable one."""


class Limits(Table):
    artifact_bytes: Annotated[int, Field(gt=0)] | None = None
    """Code and artifact together."""
    train_wall_s: Annotated[float, Field(gt=0)]
    score_wall_s: Annotated[float, Field(gt=0)]
    audit_wall_s: Annotated[float, Field(gt=0)] | None = None
    """For the judge's second look at a score, on top of score_wall_s. None: it gets what scoring leaves of that."""
    train_clock_s: Annotated[float, Field(gt=0)] | None = None
    """What the contest allows for training, by the script's own clock. Who passes is not ended, and not accepted."""
    score_clock_s: Annotated[float, Field(gt=0)] | None = None
    """And for scoring: from the start of the process that scores to its last answer."""
    headroom: Annotated[float, Field(ge=1)] = 2.0
    """Once the base has run, later runs get this many times its own wall time, the limits above at most."""
    train_cpu_s: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(gt=0)]
    disk_mb: Annotated[int, Field(gt=0)] = 256
    log_mb: Annotated[int, Field(gt=0)] = 16
    processes: Annotated[int, Field(gt=0)] = 64
    gpu_memory_mb: Annotated[int, Field(gt=0)] | None = None
    """Of all GPUs of a run together. None: whatever they have."""

    def worst_s(self) -> float:
        """The longest one run can hold a slot, what the ledger reserves."""
        return self.train_wall_s + self.judge_wall_s() + GRACE_S

    def judge_wall_s(self) -> float:
        """Scoring and its audit."""
        return self.score_wall_s + (self.audit_wall_s or 0.0)


# Between a limit and a slot that is free again: killing a tree, hashing, writing the result.
GRACE_S = 5.0


class Hardware(Table):
    kind: Literal["cpu", "cuda"]
    gpus: Annotated[int, Field(ge=0)] = 0
    device: str = ""
    """Part of the device's name that must be there, such as "H100"."""
    anchor_every_s: Annotated[float, Field(gt=0)] | None = None
    """Where a clock ends training, so that a faster machine makes a better score: the head runs first on each machine
    that joins, and again after so many seconds, and verdicts compare within machines. None: machines make no score."""
    modules: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:,+/-]{0,200}$")], ...] = ()
    """What a cluster loads before a run, by `module load`, unless its own settings name others."""
    image: str = ""
    """The container that a cluster runs it in, likewise. Empty: none."""

    @model_validator(mode="after")
    def _counted(self) -> "Hardware":
        if self.kind == "cpu" and self.gpus:
            raise ValueError('gpus: is for kind = "cuda"; leave it out')
        if self.kind == "cuda" and not self.gpus:
            raise ValueError('gpus: kind = "cuda" needs 1 or more, the GPUs of one run')
        return self


class Sandbox(Table):
    """The walls around code that nobody has read."""

    packages: tuple[Package, ...] | None = None
    """Python packages that the script may import, with all that they need. None: whatever is installed."""
    minimum: Literal["pod", "seatbelt", "landlock", "namespaces"] = "landlock"
    """The weakest walls behind which a model's code may run (sandbox/README.md)."""


class Data(Table):
    corpus: Literal["docs", "synth", "fineweb", "none"]
    variant: str = ""
    """FineWeb only: which tokenizer's shards, such as "sp1024"."""
    train_shards: Annotated[int, Field(ge=0)] = 0
    script_reads_validation: bool = False
    """FineWeb only: the script opens the validation shards itself, as the contest's own does. What it says of them is
    all there is to go by, so the track's trust is "reported"."""
    read: tuple[Elsewhere, ...] = ()
    """Folders of yours that training reads, on the machine that it runs on: "~/.cache/mine" or from the root. What
    is in them is not recorded, so the track's trust is "reported"."""
    chunk_tokens: Annotated[int, Field(ge=256)] = 8192
    """Scoring goes chunk by chunk: one ends with the first document that ends after so many tokens."""


class Compute(Table):
    """The deterministic compute budget: the script derives its steps from it."""

    budget_ms: Annotated[float, Field(gt=0)]
    """Declared cost of one deciding run, in milliseconds of the reference core."""
    tolerance: Annotated[float, Field(ge=1)] = 1.3
    """CPU-seconds over the declared cost, calibrated by the baseline, from which on a run is over budget."""
    cost: Costs
    """Milliseconds a step: coefficients fitted by benchmarks/fit_cost.py."""


class Rung(Table):
    """Variables that make a run longer or shorter. What a campaign keeps is decided at one rung; at those that cost
    less, ideas may be tried first."""

    name: str
    env: Env = Field(default_factory=dict)
    gpus: Annotated[int, Field(gt=0)] | None = None
    """GPUs of one run here. None: hardware.gpus."""
    train_wall_s: Annotated[float, Field(gt=0)] | None = None
    """What training may take here, where that is less than limits.train_wall_s. None: by its compute budget."""
    prior_sigma: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation between seeds here. None: as at the deciding rung."""
    score_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the validation documents that is scored, the same for every run; what is submitted must score all."""


# Of what training takes: start, tokenizer and writing the artifact, which a smaller compute budget does not shorten.
FIXED = 0.2
BUDGET = "COMPUTE_BUDGET_MS"
CLOCK = "MAX_WALLCLOCK_SECONDS"  # with it a script ends by the clock, whatever steps it names


class DryRun(Table):
    """A few steps of training, by which a planner sees whether an edit works. None: edits are not run."""

    env: Env = Field(default_factory=dict)
    """Variables that make it short, on top of the deciding rung's."""
    wall_s: Annotated[float, Field(gt=0)]
    """Its other limits are those of a run."""


class DecisionRule(Table):
    rung: str
    """The rung that decides."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """Chance that an idea without effect passes, all looks together; falls where many ideas were tested for nothing."""
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the promoted commits that may be luck; what makes alpha fall."""
    min_gain: Annotated[float, Field(ge=0)]
    """The smallest gain that matters, in BPB."""
    max_seeds: Annotated[int, Field(ge=2, le=16)]
    """Runs of one idea at most, the screening run included."""
    report_seeds: Annotated[int, Field(ge=2, le=16)]
    """Fresh runs of every new head."""
    report_every: Annotated[int, Field(ge=0)] = 10
    """One more for so many ideas that did not beat it, 16 in all; 0: none. They share its luck, good or bad."""
    prior_sigma: Annotated[float, Field(gt=0)]
    """Standard deviation between seeds that is believed before there are data."""
    prior_df: Annotated[float, Field(gt=0)] = 6
    """How many degrees of freedom that belief is worth."""

    def prior_variance(self, sigma: float) -> float:
        """Of the gains that ideas are believed to have before one is measured, normal around none, where so much is
        noise between seeds."""
        return (EFFECTS * max(self.min_gain, sigma / 4)) ** 2


class Knob(Table):
    name: str
    at: At
    """Where the script keeps the literal: NAME.key of a dict at module level."""
    group: Literal["shape", "optimiser", "data", "tokenizer", "bytes", "evaluation"]
    choices: Choices
    """In order, if they have one."""

    @property
    def key(self) -> str:
        """The last part of where it stands in the script, such as vocab_size."""
        return self.at.split(".")[-1]

"""Strict load of a track file: what is optimised, its limits, data, rungs and decision rule.

Takes a name of a track that ships with Caddie (`tiny`) or a path to a TOML file; gives a frozen `Track`.
Unknown keys are errors with a "did you mean".
"""

import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.errors import TrackError, did_you_mean


class Table(BaseModel):
    """A table of a track file: frozen, nothing unknown, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _inside(path: str) -> str:
    """Nothing outside the repository is run, and nothing outside a run's folder is an artifact."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the folder, without .. or / at its start")
    return path


def _filled(word: str) -> str:
    try:
        word.format(python="", script="")
    except (LookupError, ValueError) as error:
        known = "only {python} and {script} are filled in; write {{ and }} for braces of your own"
        raise ValueError(f"{word!r}: {known}") from error
    return word


Inside = Annotated[str, AfterValidator(_inside)]
Command = tuple[Annotated[str, AfterValidator(_filled)], ...]


class Script(Table):
    path: Inside
    """The script that is trained and scored, from the root of the repository."""
    editable: tuple[Inside, ...]
    """Files that a proposal may change."""
    train: Annotated[Command, Field(min_length=1)]
    """Command to train; {python} and {script} are filled in."""
    score: Command = ()
    """Command to answer the judge. Empty: the judge reads the log instead."""
    artifact: Inside = ""
    """The artifact, from the run's folder."""
    env: dict[str, str] = {}
    pack: bool = True
    """Run (and count) the packed script instead of the readable one."""


class Limits(Table):
    artifact_bytes: Annotated[int, Field(gt=0)] | None = None
    """Code and artifact together."""
    train_wall_s: Annotated[float, Field(gt=0)]
    score_wall_s: Annotated[float, Field(gt=0)]
    headroom: Annotated[float, Field(ge=1)] = 2.0
    """Once the base has run, later runs get this many times its own wall time, the limits above at most."""
    train_cpu_s: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(gt=0)]
    disk_mb: Annotated[int, Field(gt=0)] = 256
    log_mb: Annotated[int, Field(gt=0)] = 16
    processes: Annotated[int, Field(gt=0)] = 64

    def worst_s(self) -> float:
        """The longest one run can hold a slot, what the ledger reserves."""
        return self.train_wall_s + self.score_wall_s + GRACE_S


# Between a limit and a slot that is free again: killing a tree, hashing, writing the result.
GRACE_S = 5.0


class Hardware(Table):
    kind: Literal["cpu", "cuda"]
    gpus: Annotated[int, Field(ge=0)] = 0
    device: str = ""
    """Part of the device's name that must be there, such as "H100"."""


class Data(Table):
    corpus: Literal["docs", "synth", "fineweb", "none"]
    variant: str = ""
    """FineWeb only: which tokenizer's shards, such as "sp1024"."""
    train_shards: Annotated[int, Field(ge=0)] = 0


class Compute(Table):
    """The deterministic compute budget: the script derives its steps from it."""

    budget_ms: Annotated[float, Field(gt=0)]
    """Declared cost of one deciding run, in milliseconds of the reference core."""
    tolerance: Annotated[float, Field(ge=1)] = 1.3
    """CPU-seconds over the declared cost, calibrated by the baseline, from which on a run is over budget."""
    cost: dict[str, float]
    """Milliseconds a step: coefficients fitted by benchmarks/fit_cost.py."""


class Rung(Table):
    name: str
    env: dict[str, str] = {}


class DecisionRule(Table):
    rung: str
    """The rung that decides."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """Chance that an idea without effect passes, all looks together."""
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


class Knob(Table):
    name: str
    at: str
    """Where the script keeps the literal: NAME.key of a dict at module level."""
    group: Literal["shape", "optimiser", "data", "tokenizer", "bytes", "evaluation"]
    choices: tuple[int | float | str, ...]
    """In order, if they have one."""

    @model_validator(mode="after")
    def _at_least_two(self) -> "Knob":
        if len(set(self.choices)) < 2:
            raise ValueError("needs at least two different choices")
        return self


class Track(Table):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    summary: str
    metric: Literal["val_bpb"] = "val_bpb"
    direction: Literal["lower"] = "lower"
    budget_hours: Annotated[float, Field(gt=0)] | None = None
    """What `agent start` may spend unless --budget says otherwise."""
    trust: Literal["reported", "measured", "blind"]
    """The least trust that a verdict may rest on."""
    script: Script
    limits: Limits
    hardware: Hardware
    data: Data
    compute: Compute | None = None
    rung: tuple[Rung, ...]
    decision: DecisionRule
    knob: tuple[Knob, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Track":
        names = [rung.name for rung in self.rung]
        if self.decision.rung not in names:
            raise ValueError(f"decision.rung: no rung {self.decision.rung!r}; there are {', '.join(names)}")
        if self.script.path not in self.script.editable:
            raise ValueError("script.editable: must hold script.path")
        if not self.script.score and self.trust != "reported":
            raise ValueError("script.score: without it the track's trust can only be 'reported'")
        if self.script.score and not self.script.artifact:
            raise ValueError("script.artifact: the judge needs to know which file to load")
        return self

    def guess_run_s(self) -> float:
        """About what a run takes, before any has been seen."""
        if self.compute is not None:
            return 1.5 * self.compute.budget_ms / 1000
        return self.limits.worst_s() / 2

    def deciding(self) -> Rung:
        return next(rung for rung in self.rung if rung.name == self.decision.rung)


def shipped() -> dict[str, Path]:
    """The tracks that come with Caddie, by name."""
    folder = Path(str(resources.files("trainer"))) / "tracks"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def is_there(name: str, workspace: Path) -> bool:
    """Whether a track of a campaign can still be found where it was."""
    return (workspace / name).is_file() if name.endswith(".toml") else name in shipped()


def find(name: str, workspace: Path) -> Path:
    """The file of a track: a path, `agent.toml` of the workspace, or the name of a shipped one."""
    as_path = workspace / name
    if name.endswith(".toml"):
        if not as_path.is_file():
            near = [path.name for path in as_path.parent.glob("*.toml") if path.is_file()]
            raise TrackError(f"no track file {as_path}.{did_you_mean(as_path.name, near)}")
        return as_path
    tracks = shipped()
    if name in tracks:
        return tracks[name]
    raise TrackError(
        f"no track {name!r}.{did_you_mean(name, tracks)} There are {', '.join(tracks)}; or give a .toml file."
    )


def load(name: str, workspace: Path) -> tuple[Track, str]:
    """The track and the text it was read from."""
    path = find(name, workspace)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrackError(f"can't read track file {path}: {error}") from error
    return parse(text, str(path)), text


def parse(text: str, where: str) -> Track:
    try:
        return Track.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TrackError(f"{where} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [_explain(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise TrackError(f"{where} can't be used:\n" + "\n".join(f"  {line}" for line in lines)) from error


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _explain(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part) for part in loc) or "track"
    if kind == "extra_forbidden":
        return f"{where}: no such key.{did_you_mean(str(loc[-1]), _keys(loc[:-1]))}"
    if kind == "missing":
        return f"{where}: is missing."
    if kind == "tuple_type" and loc in (("rung",), ("knob",)):
        return f"{where}: there may be several: write [[{where}]], not [{where}]."
    return f"{where}: {message.removeprefix('Value error, ')}"


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at `loc` may have."""
    table: type[BaseModel] = Track
    by_name: dict[str, type[BaseModel]] = {
        "script": Script,
        "limits": Limits,
        "hardware": Hardware,
        "data": Data,
        "compute": Compute,
        "rung": Rung,
        "decision": DecisionRule,
        "knob": Knob,
    }
    for part in loc:
        if isinstance(part, str) and part in by_name:
            table = by_name[part]
    return list(table.model_fields)

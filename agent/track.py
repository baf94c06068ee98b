"""Strict load of a track file: what is optimised, its limits, data, rungs and decision rule.

Takes a name of a track that ships with Caddie (`tiny`) or a path to a TOML file; gives a frozen `Track`.
Unknown keys are errors with a "did you mean". `agent/tables.py` has its tables.
"""

import hashlib
import math
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from agent.errors import TrackError, did_you_mean
from agent.fields import Loc, Table, explained, frozen, refuse_twice
from agent.tables import (
    BUDGET,
    CLOCK,
    FIXED,
    Compute,
    Data,
    DecisionRule,
    DryRun,
    Hardware,
    Knob,
    Limits,
    Rung,
    Sandbox,
    Script,
)


def _rungs(rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
    refuse_twice((rung.name for rung in rungs), "is the name of two rungs; rename one")
    return rungs


def _knobs(knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
    refuse_twice((knob.name for knob in knobs), "is the name of two knobs; rename one")
    refuse_twice((knob.at for knob in knobs), "is the place of two knobs; leave one out")
    return knobs


class Track(Table):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    summary: str
    metric: Literal["val_bpb"] = "val_bpb"
    direction: Literal["lower"] = "lower"
    budget_hours: Annotated[float, Field(gt=0)] | None = None
    """What `agent start` may spend unless --budget says otherwise."""
    trust: Literal["reported", "measured", "blind"]
    """The least trust that an acceptance may rest on: what the script says, what the judge measured, or what it
    measured and audited in full."""
    script: Script
    limits: Limits
    hardware: Hardware
    data: Data
    compute: Compute | None = None
    check: DryRun | None = None
    sandbox: Sandbox = Sandbox()
    rung: Annotated[tuple[Rung, ...], AfterValidator(_rungs)]
    decision: DecisionRule
    knob: Annotated[tuple[Knob, ...], AfterValidator(_knobs)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Track":
        names = [rung.name for rung in self.rung]
        if self.decision.rung not in names:
            raise ValueError(f"decision.rung: no rung {self.decision.rung!r}; there are {', '.join(names)}")
        if self.script.path not in self.script.editable:
            raise ValueError("script.editable: must hold script.path")
        if not self.script.score and self.trust != "reported":
            raise ValueError("script.score: without it the track's trust can only be 'reported'")
        for key in ("read", "script_reads_validation"):
            if getattr(self.data, key) and (self.script.score or self.trust != "reported"):
                raise ValueError(f"data.{key}: is for tracks of trust 'reported', whose scripts the judge does not ask")
        if self.data.script_reads_validation and self.data.corpus != "fineweb":
            raise ValueError('data.script_reads_validation: is for corpus = "fineweb"; leave it out')
        if self.script.score and not self.script.artifact:
            raise ValueError("script.artifact: the judge needs to know which file to load")
        if self.compute is not None and self.hardware.anchor_every_s is not None:
            raise ValueError(
                "hardware.anchor_every_s: is for tracks without [compute], whose budget no machine changes"
            )
        for rung in self.rung:
            self._fits(rung)
        return self

    def _fits(self, rung: Rung) -> None:
        """Raises ValueError for a rung that can't be what it says."""
        own, whole = rung.train_wall_s, self.limits.train_wall_s
        if own is not None and rung.name == self.decision.rung:
            raise ValueError(f"rung {rung.name}: train_wall_s: it decides, so limits.train_wall_s is its limit")
        if rung.gpus is not None and self.hardware.kind == "cpu":
            raise ValueError(f'rung {rung.name}: gpus: is for hardware.kind = "cuda"; leave it out')
        if own is not None and own > whole:
            raise ValueError(f"rung {rung.name}: train_wall_s: must not be above limits.train_wall_s, {whole:g}")
        try:
            budget_ms = float(rung.env.get(BUDGET, 1))
        except ValueError:
            budget_ms = 0.0
        if not 0 < budget_ms < math.inf:
            raise ValueError(f'rung {rung.name}: env.{BUDGET}: must be milliseconds above 0, such as "7126"')

    def guess_run_s(self) -> float:
        """About what a run takes, before any has been seen."""
        if self.compute is not None:
            return 1.5 * self.compute.budget_ms / 1000
        return self.limits.worst_s() / 2

    def deciding(self) -> Rung:
        return self.rung_named(self.decision.rung)

    def rung_named(self, name: str) -> Rung:
        return next(rung for rung in self.rung if rung.name == name)

    def gpus(self, name: str) -> int:
        """GPUs of one run at this rung."""
        return self.rung_named(name).gpus or self.hardware.gpus

    def sized(self, gpus: int) -> "Track":
        """For machines on which each run has so many GPUs."""
        return self.model_copy(update={"hardware": self.hardware.model_copy(update={"gpus": gpus})})

    def sizes(self) -> tuple[int, ...]:
        """The numbers of GPUs that its runs have, the deciding rung's first."""
        rungs = (self.deciding(), *self.rung)
        return tuple(dict.fromkeys(self.gpus(rung.name) for rung in rungs))

    def cheaper(self, name: str) -> Rung | None:
        """The rung of this name, where a run there is known to cost less than a deciding one."""
        return next((rung for rung in self.rung if rung.name == name and self.cost(rung) < 1), None)

    def cost(self, rung: Rung) -> float:
        """GPU time of training at this rung, of what it is at the deciding one."""
        return self.share(rung) * max(1, self.gpus(rung.name)) / max(1, self.gpus(self.decision.rung))

    def share(self, rung: Rung) -> float:
        """What training takes at this rung, of what it takes at the deciding one; at most all of it."""
        if rung.train_wall_s is not None:
            return rung.train_wall_s / self.limits.train_wall_s
        mine, whole = self.budget_ms(rung), self.budget_ms(self.deciding())
        if mine is None or whole is None:
            return 1.0
        return min(1.0, FIXED + (1 - FIXED) * mine / whole)

    def budget_ms(self, rung: Rung) -> float | None:
        """The compute budget of a run there, where the track has one."""
        return None if self.compute is None else float(rung.env.get(BUDGET, self.compute.budget_ms))

    def clock_s(self, rung: Rung) -> float | None:
        """After what time of training a run there ends it by itself, where it is told to."""
        try:
            seconds = float({**self.script.env, **rung.env}.get(CLOCK, 0))
        except ValueError:
            return None
        return seconds if 0 < seconds < math.inf else None


def shipped() -> dict[str, Path]:
    """The tracks that come with Caddie, by name."""
    folder = Path(str(resources.files("trainer"))) / "tracks"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def is_there(name: str, workspace: Path) -> bool:
    """Whether a track of a campaign can still be found where it was."""
    return (workspace / name).is_file() if name.endswith(".toml") else name in shipped()


def from_here(name: str, here: Path, workspace: Path) -> str:
    """A track as it was named in this folder, named from the workspace: a file here comes before one at its root."""
    path = here.resolve() / name
    if not name.endswith(".toml") or Path(name).is_absolute() or not path.is_file():
        return name
    return os.path.relpath(path, workspace.resolve())


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
        return Track.model_validate(frozen(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TrackError(f"{where} is not TOML: {error}") from error
    except ValidationError as error:
        raise TrackError(f"{where} can't be used:\n{explained(error, _keys)}") from error


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _keys(loc: Loc) -> list[str]:
    """The keys that the table at `loc` may have."""
    table: type[BaseModel] = Track
    by_name: dict[str, type[BaseModel]] = {
        "script": Script,
        "limits": Limits,
        "hardware": Hardware,
        "data": Data,
        "compute": Compute,
        "check": DryRun,
        "sandbox": Sandbox,
        "rung": Rung,
        "decision": DecisionRule,
        "knob": Knob,
    }
    for part in loc:
        if isinstance(part, str) and part in by_name:
            table = by_name[part]
    return list(table.model_fields)

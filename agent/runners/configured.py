"""Runners by name: what `agent start --runner NAME[,NAME...]` means.

Takes names, and a `Place`; gives a Runner: the one of this machine, or a `Fleet` of those that are named. A name is a
table of runners.toml (in the workspace's root; where that has none, in ~/.config/caddie), or a kind that needs none.

A kind but `local` is a package `agent.runners.KIND`, imported when it is asked for, with two names in it:

    Settings                                  a frozen `agent.fields.Table`: the keys of its tables beside `kind`
    make(name, settings, place) -> Runner     whose slots are called NAME/...; it connects to nothing yet

Its runner may have `close()` (gives back what is idle), `ended(folders)` (`agent.runners.Ends`) and
`opened(store, campaign)` (`Joins`: called before the first turn of whoever leads the campaign, and by nobody else).
"""

import importlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from pydantic import Field, ValidationError

from agent.errors import UserError, did_you_mean
from agent.fields import Table, explained, frozen
from agent.machines.records import Limits
from agent.runners import Runner
from agent.runners.fleet import Fleet, Joins
from agent.track import Track

__all__ = ["DEFAULT", "Joins", "Kind", "Place", "elsewhere", "make", "names"]

FILE = "runners.toml"
KINDS = ("local", "ssh", "slurm", "runpod", "modal", "sky", "workers")
DEFAULT = "local"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
T = TypeVar("T", bound=Table)
PACKAGES = {kind: f"agent.runners.{'queue' if kind == 'workers' else kind}" for kind in KINDS if kind != "local"}


@dataclass(frozen=True)
class Place:
    """What a runner is made for."""

    track: Track
    slots: int
    """Runs at once, as the person said or by default."""
    workspace: Path
    local: Callable[[Track, int], Runner]
    """Makes the runner of this machine."""


class LocalSettings(Table):
    slots: Annotated[int, Field(gt=0)] | None = None
    """Runs at once on this machine. None: as --slots says."""


class Kind(Protocol):
    """What the package of a kind holds."""

    Settings: type[Table]

    def make(self, name: str, settings: Table, place: Place) -> Runner: ...


def names(text: str) -> tuple[str, ...]:
    """The runners that are asked for, in order. UserError: that can't be meant."""
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if not NAME.fullmatch(name):
            raise UserError(f"--runner {text}: {name!r} is no name of a runner: small letters, digits and - only")
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--runner {text}: {twice} is there twice; write each name once")
    return found


def elsewhere(text: str) -> bool:
    """Whether no run can be on this machine, so that it need have no GPU."""
    return DEFAULT not in names(text)


def make(text: str, place: Place, environ: Mapping[str, str]) -> Runner:
    """Raises UserError for a name that nothing stands for, and for settings that can't be used."""
    asked = names(text)
    tables, where = read(place.workspace, environ)
    made = {name: _one(name, tables, where, place) for name in asked}
    return made[DEFAULT] if asked == (DEFAULT,) else Fleet(made)


def most(text: str, workspace: Path, environ: Mapping[str, str]) -> int | None:
    """Runs at once where nobody said how many: as many as one table rents machines. None: this machine decides, or
    those that are there.

    Raises UserError as `make` does.
    """
    if not elsewhere(text):
        return None
    tables, where = read(workspace, environ)
    found = []
    for name in names(text):
        kind, table = _table(name, tables, where)
        if kind == "local":
            continue  # it has another name than this machine's runner: `make` says so
        settings = _settings(_package(kind).Settings, name, table, where)
        if isinstance(limits := getattr(settings, "limits", None), Limits):
            found.append(limits.most)
    return max(found, default=None)


def read(workspace: Path, environ: Mapping[str, str]) -> tuple[dict[str, object], Path]:
    """The tables of runners.toml and where they are from; none where there is no such file."""
    paths = places(workspace, environ)
    path = next((one for one in paths if one.is_file()), paths[0])
    if not path.is_file():
        return {}, path
    try:
        return tomllib.loads(path.read_text("utf-8")), path
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def places(workspace: Path, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Where it may be; the first that is there counts."""
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config"
    return workspace / FILE, Path(home) / "caddie" / FILE


def _one(name: str, tables: Mapping[str, object], where: Path, place: Place) -> Runner:
    kind, rest = _table(name, tables, where)
    if kind == "local":
        if name != DEFAULT:
            raise UserError(f"{where}: [{name}] is of kind local, and this machine's runner is called {DEFAULT}")
        settings = _settings(LocalSettings, name, rest, where)
        return place.local(place.track, settings.slots or place.slots)
    package = _package(kind)
    return package.make(name, _settings(package.Settings, name, rest, where), place)


def _table(name: str, tables: Mapping[str, object], where: Path) -> tuple[str, dict[str, object]]:
    """Its kind, and what else it says."""
    table = tables.get(name, {} if name in KINDS else None)
    if table is None:
        known = sorted({*KINDS, *tables})
        hint = f"{did_you_mean(name, known)} There are: {', '.join(known)}"
        raise UserError(f"--runner {name}: no table [{name}] in {where}.{hint}")
    if not isinstance(table, dict):
        raise UserError(f"{where}: {name} must be a table: write [{name}]")
    kind = table.get("kind", name if name in KINDS else None)
    if kind is None:
        raise UserError(f'{where}: [{name}] needs kind = "..."; one of {", ".join(KINDS)}')
    if kind not in KINDS:
        hint = f"{did_you_mean(str(kind), KINDS)} There are: {', '.join(KINDS)}"
        raise UserError(f"{where}: {name}.kind: no kind {kind!r}.{hint}")
    return str(kind), {key: value for key, value in table.items() if key != "kind"}


def _settings(model: type[T], name: str, table: object, where: Path) -> T:
    try:
        return model.model_validate(frozen(table))
    except ValidationError as error:
        words = explained(error, lambda loc: ("kind", *model.model_fields))
        raise UserError(f"{where}: [{name}] can't be used:\n{words}") from error


def _package(kind: str) -> Kind:
    try:
        package = importlib.import_module(PACKAGES[kind])
    except ModuleNotFoundError as error:
        if error.name != PACKAGES[kind]:
            raise
        raise UserError(f"--runner {kind}: this version of Caddie has no runner of kind {kind} yet") from error
    return package

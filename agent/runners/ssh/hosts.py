"""The machines of a table of runners.toml with kind = "ssh".

Takes the table; gives `SshHost` records. A rented machine is such a record too, made by whoever rents it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from agent.fields import Table
from agent.runners.far.environment import Environment


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise ValueError(f"{name!r} must be small letters, digits and dashes: it is part of the names of slots")
    return name


def _word(text: str) -> str:
    """OpenSSH once took a host name that began with a dash for an option; nothing of ours needs one."""
    if not text or text.startswith("-") or not text.isprintable() or any(letter.isspace() for letter in text):
        raise ValueError(f"must be one plain word that does not begin with a dash, not {text!r}")
    return text


Name = Annotated[str, AfterValidator(_name)]
Word = Annotated[str, AfterValidator(_word)]
Seconds = Annotated[float, Field(gt=0)]


class HostTable(Table):
    """One machine that can be reached over ssh."""

    address: Word
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Word = "root"
    key: str = ""
    """Private key. Empty: those of the ssh agent, and the usual ones in ~/.ssh."""
    python: Word = "python3"
    """3.11 or newer, with the packages that the track's script and the judge need."""
    folder: Word = ".caddie"
    """Where Caddie keeps its files there, from the user's home."""
    shelf: Word | None = None
    """Where training data are kept there: on a network disk, say, that several machines have. Empty: in `folder`."""
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | Literal["all"] = "all"
    """Numbers of the GPUs that Caddie may use there."""
    slots: Annotated[int, Field(ge=1)] | None = None
    """Runs at once. None: one for each set of GPUs that the track needs; on a track without GPUs, one."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """Dollars per hour of the whole machine."""


class Settings(Table):
    """A table of runners.toml."""

    hosts: Annotated[dict[Name, HostTable], Field(min_length=1)]
    environment: str = ""
    """A lock file here, as `uv pip compile` and `pip freeze` write it: a machine that has other packages gets these, in
    an environment of its own. Empty: runs have what each machine's `python` has."""
    wheels: str = ""
    """The folder here with the wheels that `environment` names; each is sent once."""
    connect_s: Seconds = 20.0
    """For a connection to come about."""
    keepalive_s: Seconds = 15.0
    """A link that says nothing for three times as long is dead."""
    lost_after_s: Seconds = 600.0
    """Of silence, before a run is given up; and never while it may still be running there."""

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        if bool(self.environment) != bool(self.wheels):
            raise ValueError("environment and wheels: one without the other says nothing; give both or neither")
        return self


@dataclass(frozen=True)
class SshHost:
    """One machine, and how to get there."""

    name: str
    """Unique for as long as the machine keeps its host key: a pod's own id, or RUNNER/HOST of runners.toml."""
    address: str
    port: int = 22
    user: str = "root"
    key: Path | None = None
    python: str = "python3"
    folder: str = ".caddie"
    shelf: str = ""
    """Of training data; empty: `folder`."""
    gpus: tuple[int, ...] | None = None
    """None: all."""
    each: int | None = None
    """GPUs of one run there. None: as the track says."""
    slots: int | None = None
    price: float = 0.0
    connect_s: float = 20.0
    keepalive_s: float = 15.0
    lost_after_s: float = 600.0
    environment: Environment | None = None
    """The packages of its runs. None: those that its Python has."""


def hosts_of(runner: str, table: Settings) -> tuple[SshHost, ...]:
    environment = None
    if table.environment:
        environment = Environment(Path(table.environment).expanduser(), Path(table.wheels).expanduser())
    return tuple(
        SshHost(
            name=f"{runner}/{name}",
            address=row.address,
            port=row.port,
            user=row.user,
            key=Path(row.key).expanduser() if row.key else None,
            python=row.python,
            folder=row.folder,
            shelf=row.shelf or "",
            gpus=None if row.gpus == "all" else row.gpus,
            slots=row.slots,
            price=row.price,
            connect_s=table.connect_s,
            keepalive_s=table.keepalive_s,
            lost_after_s=table.lost_after_s,
            environment=environment,
        )
        for name, row in table.hosts.items()
    )

"""What a person sets of RunPod: a table of runners.toml with kind = "runpod"."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from agent.fields import Table
from agent.machines.records import Limits
from agent.runners.runpod.client import API

Id = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
# Of the official image that was current when this was written; it holds sshd and starts it by /start.sh.
IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"


class Settings(Table):
    """One table. Only SXM cards by default: the others have no links between all eight."""

    gpu: tuple[Id, ...] = Field(("NVIDIA H100 80GB HBM3",), min_length=1)
    """Kinds that will do, the liked ones first; the cheaper one is asked for first."""
    cloud: Literal["SECURE", "COMMUNITY"] = "SECURE"
    data_centers: tuple[Id, ...] = ()
    """Where; empty: wherever there is one. A volume is only to be had where it lies."""
    image: Id = IMAGE
    start: Annotated[str, StringConstraints(pattern=r"^[\w./ -]+$")] = "/start.sh"
    """What the image starts, sshd with it."""
    volume: Id | None = None
    """Id of a network volume with data."""
    volume_path: Annotated[str, StringConstraints(pattern=r"^/[\w./-]+$")] = "/workspace"
    disk_gb: int = Field(60, ge=10, le=2000)
    lease_hours: float = Field(4.0, gt=0, le=72)
    """A pod ends by itself after this, unless it is at work and more is reserved for it."""
    idle_s: Seconds = 300.0
    """A pod without work is given back after this."""
    provision_s: Seconds = 900.0
    """A pod that is not running by then is given back, and the next candidate asked for."""
    port_s: Seconds = 300.0
    """So is one that runs and can't be reached."""
    most_pods: int = Field(4, ge=1, le=100)
    usd_per_run: Dollars | None = None
    usd_per_lease: Dollars | None = None
    usd_per_day: Dollars | None = None
    ssh_key: str = ""
    """A private key, whose other half (the file beside it, with .pub) goes into the pods. Empty: one that is made for
    this workspace and opens nothing else."""
    python: Annotated[str, StringConstraints(pattern=r"^[\w./-]+$")] = "python3"
    """3.11 or newer, with the packages that the track's script and the judge need."""
    folder: Annotated[str, StringConstraints(pattern=r"^[\w./-]+$")] = ".caddie"
    """Where Caddie keeps its files in a pod, from its user's home."""
    url: str = API

    @model_validator(mode="after")
    def _volumes_are_secure(self) -> "Settings":
        if self.volume and self.cloud != "SECURE":
            raise ValueError('network volumes are only to be had with cloud = "SECURE"')
        return self

    @property
    def limits(self) -> Limits:
        return Limits(self.usd_per_run, self.usd_per_lease, self.usd_per_day, self.most_pods)

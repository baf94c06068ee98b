"""What a person sets of RunPod: a table of runners.toml with kind = "runpod"."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from agent.runners.rented.terms import KeyedTerms
from agent.runners.runpod.client import API

Id = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# Of the official image that was current when this was written; it holds sshd and starts it by /start.sh.
IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"


class Settings(KeyedTerms):
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
    """Id of a network volume, on which training data are kept: they are sent to the first pod that has it."""
    volume_path: Annotated[str, StringConstraints(pattern=r"^/[\w./-]+$")] = "/workspace"
    disk_gb: int = Field(60, ge=10, le=2000)
    most_pods: int = Field(4, ge=1, le=100)
    url: str = API

    @model_validator(mode="after")
    def _volumes_are_secure(self) -> "Settings":
        if self.volume and self.cloud != "SECURE":
            raise ValueError('network volumes are only to be had with cloud = "SECURE"')
        return self

    @property
    def shelf(self) -> str:
        return f"{self.volume_path}/caddie" if self.volume else ""

    @property
    def most(self) -> int:
        return self.most_pods

    @property
    def made_of(self) -> tuple[str, ...]:
        return (self.image,)

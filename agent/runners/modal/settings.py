"""What a person sets of Modal: a table of runners.toml with kind = "modal"."""

from typing import Annotated

from pydantic import Field, StringConstraints

from agent.runners.rented.terms import Dollars, Terms

Word = Annotated[str, StringConstraints(pattern=r"^[\w.!/-]{1,100}$")]
LONGEST_HOURS = 24.0  # that a sandbox may live


class Settings(Terms):
    """One table. Its prices are what is set aside before a sandbox is made; the bill is Modal's."""

    gpu: Word = "H100!"
    """As Modal calls it. With ! it is this one and no better one."""
    device: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "NVIDIA H100 80GB HBM3"
    """What the GPU calls itself: its hardware class, before there is a sandbox. Another one is given back."""
    regions: tuple[Word, ...] = ()
    """Asked in order; empty: wherever. Modal charges more for a region."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=300)] = (
        "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
    )
    """Of a registry; it has to hold Python 3.11 or newer."""
    packages: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = (
        "numpy",
        "packaging",
        "pydantic>=2",
    )
    """What pip puts into it: what the track's script and the judge need."""
    volumes: dict[Annotated[str, StringConstraints(pattern=r"^/[\w./-]+$")], Word] = Field(default_factory=dict)
    """By where it is mounted: the name of a volume."""
    cores: float = Field(16.0, gt=0, le=512)
    memory_gb: float = Field(64.0, gt=0, le=4096)
    """Both are asked for and never exceeded, so that what a sandbox costs is known before."""
    usd_per_gpu_hour: Dollars = 3.95
    usd_per_core_hour: Dollars = 0.142
    usd_per_gb_hour: Dollars = 0.0242
    lease_hours: float = Field(4.0, gt=0, le=LONGEST_HOURS)
    """Modal ends a sandbox after this; it can't be made longer."""
    most_sandboxes: int = Field(4, ge=1, le=100)

    @property
    def most(self) -> int:
        return self.most_sandboxes

    @property
    def made_of(self) -> tuple[str, ...]:
        return (self.image, *self.packages)

    def usd_per_hour(self, gpus: int) -> float:
        """Of one sandbox."""
        parts = gpus * self.usd_per_gpu_hour, self.cores * self.usd_per_core_hour, self.memory_gb * self.usd_per_gb_hour
        return sum(parts)

"""What a person sets of SkyPilot: a table of runners.toml with kind = "sky"."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from agent.runners.rented.terms import Dollars, KeyedTerms, Seconds

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")]
# What SkyPilot makes there is no machine with an address of its own, or nothing that ends by itself.
_NOT_THERE = {"kubernetes": "", "k8s": "", "ssh": 'use kind = "ssh"', "slurm": 'use kind = "slurm"'}


def _rents(cloud: str) -> str:
    if cloud.lower() in _NOT_THERE:
        instead = _NOT_THERE[cloud.lower()] or "a cluster is a machine with an address of its own here"
        raise ValueError(f"{cloud!r} rents nothing out: {instead}")
    return cloud.lower()


def _of_a_machine(image: str) -> str:
    if image.startswith("docker:"):
        raise ValueError("must be the image of a machine: into a container no ssh leads from outside")
    return image


class Settings(KeyedTerms):
    """One table. Its clouds are those that `sky check` shows as enabled, and that you want to pay."""

    clouds: tuple[Annotated[Word, AfterValidator(_rents)], ...] = Field(min_length=1)
    """As SkyPilot calls them: aws, gcp, lambda, nebius, ... Others are never asked."""
    regions: tuple[Word, ...] = ()
    """Of those clouds; empty: any. The cheapest is asked first."""
    accelerators: dict[Word, Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        default_factory=lambda: {"H100": "NVIDIA H100 80GB HBM3"}, min_length=1
    )
    """Kinds of GPU that will do, the liked one first, as SkyPilot calls them: what such a card calls itself, which is
    its hardware class before there is one. A machine with another card is given back."""
    spot: bool = False
    """Cheaper, and may be taken away at any moment."""
    usd_per_hour: Dollars | None = None
    """The most that a whole machine may cost; dearer ones are not asked for."""
    image: Annotated[str, StringConstraints(max_length=300), AfterValidator(_of_a_machine)] = ""
    """Empty: SkyPilot's own for the cloud."""
    setup: Annotated[str, StringConstraints(max_length=10_000)] = ""
    """Shell commands that make a new machine ready, such as those that install torch."""
    disk_gb: int = Field(100, ge=30, le=2000)
    provision_s: Seconds = 1200.0
    """One that is not ready by then is given up, and the next region asked."""
    most_clusters: int = Field(4, ge=1, le=100)

    @property
    def most(self) -> int:
        return self.most_clusters

    @property
    def made_of(self) -> tuple[str, ...]:
        return (self.image, self.setup)

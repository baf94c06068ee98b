"""How providers bill, as data, and the worst case that follows from it.

Each figure says how it is known and since when: what was only assumed may be wrong, and the ledger is settled from the
provider's own figures anyway. Takes a price and seconds; gives dollars.
"""

import math
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
How = Literal["measured", "read", "assumed"]
MONTH_HOURS = 730.0
NAMED_S = 86400.0  # so long after its end what cost something is waited for in a bill that does not name it
CHANGES_S = 7 * 86400.0  # so long after its end a bill is compared again
DIFFERENT_USD = 0.005  # less is no other bill


@dataclass(frozen=True)
class Known(Generic[T]):
    """One figure, how it is known, when that was, and where it stands."""

    value: T
    how: How
    when: str
    source: str


@dataclass(frozen=True)
class Rules:
    """What a machine costs beside its price an hour."""

    step_s: Known[float]
    """Time is rounded up to multiples of this."""
    least_s: Known[float]
    """Shorter leases are billed as this."""
    provisioning: Known[bool]
    """Whether the time before it can be used is billed."""
    disk_usd: Known[float]
    """A GB of its own disk for a month."""
    volume_usd: Known[float]
    """A GB of a network volume for a month; it is billed whether a machine uses it or not."""
    fast_volume_usd: Known[float]
    """The same of a faster kind, where there is one."""
    late_s: Known[float]
    """How much later than its time a machine may end: it has to notice, and the provider to act."""
    bill_s: Known[float]
    """How old a figure of its bill must be to be final."""

    def worst(self, usd_per_hour: float, seconds: float) -> float:
        """Dollars of a lease that nobody ends before its time."""
        return self.cost(usd_per_hour, seconds + self.late_s.value)

    def cost(self, usd_per_hour: float, seconds: float) -> float:
        """Dollars of a machine that was there for so long."""
        billed = max(self.least_s.value, seconds, 0.0)
        steps = math.ceil(billed / self.step_s.value - 1e-9)
        return usd_per_hour * steps * self.step_s.value / 3600

    def disk_per_hour(self, gb: float) -> float:
        return gb * self.disk_usd.value / MONTH_HOURS

    def volume_per_hour(self, gb: float, *, fast: bool = False) -> float:
        """`fast`: of the dearer kind."""
        return gb * (self.fast_volume_usd if fast else self.volume_usd).value / MONTH_HOURS


_PODS = "RunPod's documentation: billing overview, storage of pods"
RUNPOD = Rules(
    step_s=Known(1.0, "read", "2026-08-20", _PODS),
    least_s=Known(0.0, "assumed", "2026-11-29", "no minimum is named there"),
    provisioning=Known(True, "read", "2026-05-02", "contest issue 821: five pods that never booted were billed"),
    disk_usd=Known(0.10, "read", "2026-11-29", _PODS),
    volume_usd=Known(0.07, "read", "2026-11-29", _PODS),
    fast_volume_usd=Known(0.14, "assumed", "2026-11-30", "its price is not in what was read: twice the other's"),
    late_s=Known(300.0, "assumed", "2026-11-29", "the pod looks at its time every 15 s; deleting takes a moment"),
    bill_s=Known(3600.0, "assumed", "2026-11-29", "bills come by the hour; how late they are is not documented"),
)
_MODAL = "Modal's guide: sandboxes and their resources"
MODAL = Rules(
    step_s=Known(1.0, "read", "2026-11-01", _MODAL),
    least_s=Known(0.0, "assumed", "2026-11-29", "no minimum is named there"),
    provisioning=Known(True, "assumed", "2026-11-29", "not said; the worse of the two"),
    disk_usd=Known(0.0, "assumed", "2026-11-29", "no price is named for a sandbox's disk"),
    volume_usd=Known(0.0, "assumed", "2026-11-29", "no price is named for volumes"),
    fast_volume_usd=Known(0.0, "assumed", "2026-11-29", "no price is named for volumes"),
    late_s=Known(120.0, "assumed", "2026-11-29", "its time limit is kept by the provider"),
    bill_s=Known(86400.0, "assumed", "2026-11-29", "not documented"),
)
SKY = Rules(
    step_s=Known(60.0, "assumed", "2026-11-29", "clouds differ; the coarsest of the usual ones"),
    least_s=Known(60.0, "assumed", "2026-11-29", "clouds differ; the usual least"),
    provisioning=Known(True, "assumed", "2026-11-29", "clouds bill from the start of a machine"),
    disk_usd=Known(0.17, "assumed", "2026-11-29", "the dearer of usual network disks"),
    volume_usd=Known(0.17, "assumed", "2026-11-29", "the dearer of usual network disks"),
    fast_volume_usd=Known(0.17, "assumed", "2026-11-29", "the dearer of usual network disks"),
    late_s=Known(900.0, "assumed", "2026-11-29", "autostop looks once a minute, and takes clouds minutes"),
    bill_s=Known(3600.0, "assumed", "2026-11-30", "SkyPilot reckons by itself, as soon as it has seen the end"),
)

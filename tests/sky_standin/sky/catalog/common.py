"""Lines of the catalogue."""

from typing import NamedTuple


class InstanceTypeInfo(NamedTuple):
    cloud: str
    instance_type: str | None
    accelerator_name: str
    accelerator_count: float
    cpu_count: float | None
    device_memory: float | None
    memory: float | None
    price: float
    spot_price: float
    region: str

"""What is said of a cluster."""

from dataclasses import dataclass
from typing import Any

from sky.utils import status_lib


@dataclass
class StatusResponse:
    name: str
    launched_at: int
    handle: Any
    status: status_lib.ClusterStatus
    autostop: int
    to_down: bool

"""A stand-in for SkyPilot's SDK, version 0.14.1: what of it Caddie uses, with the same names and parameters.

Its clusters are in a file (`standin.py`), which the variable SKY_STANDIN names, and outlive the process that made them,
as with SkyPilot's own server. Each module here holds a part of the module of the same name there.
"""

from sky import exceptions
from sky.client import sdk
from sky.client.sdk import api_cancel, autostop, cost_report, down, get, launch, status
from sky.resources import Resources
from sky.task import Task
from sky.utils.common import StatusRefreshMode
from sky.utils.status_lib import ClusterStatus

__version__ = "0.14.1"
__all__ = [
    "ClusterStatus",
    "Resources",
    "StatusRefreshMode",
    "Task",
    "api_cancel",
    "autostop",
    "cost_report",
    "down",
    "exceptions",
    "get",
    "launch",
    "sdk",
    "status",
]

"""What is asked of the clouds, and what is best."""

import enum


class StatusRefreshMode(enum.Enum):
    NONE = "NONE"
    AUTO = "AUTO"
    FORCE = "FORCE"


class OptimizeTarget(enum.Enum):
    COST = 0
    TIME = 1

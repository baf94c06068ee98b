"""What puts the end of a cluster off."""

import enum


class AutostopWaitFor(enum.Enum):
    JOBS_AND_SSH = "jobs_and_ssh"
    JOBS = "jobs"
    NONE = "none"

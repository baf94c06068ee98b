"""One good record of each kind that a candidate could have written anew."""

from agent.job.folder import Heartbeat, JobResult, JobSpec, PhaseResult
from agent.judge.task import Manifest, Task, no_score
from agent.runners.shepherd import boot
from sandbox import Exit, Policy


def beat(**changed: object) -> Heartbeat:
    usual = {"at": "2026-01-01T00:00:00.000Z", "boot": boot(), "phase": "train", "seconds": 3.0, "root": 9}
    return Heartbeat(**{**usual, "processes": {"9": 4}, **changed})  # type: ignore[arg-type]


GOOD = [
    beat(),
    JobResult(1, "ok", "", (PhaseResult("train", Exit(0, None, "exited", 1.0, 1.0, 5.0)),), 2.0, ("limits",), True),
    no_score("failed", "because"),
    Manifest(256, 1, "none", "fp32"),
    JobSpec(1, (), "a.bin", None, 9.0),
    Task(("a",), "s", ("s",), True, "a", {"A": "b"}, Policy("", ("/r",)), 1, None, 9, 9, 9, 9, 9, "/f"),
]

"""Runs that are scored, as the judge's rules get them without a store, and a track to judge them by.

Takes what a test is about; gives a `Scored`, whose other columns hold something that breaks no rule.
"""

from agent import track as tracks
from agent.records import Outcome, Purpose, Run
from agent.store import Scored
from tests.filling import measurement

DECISION = """
[decision]
rung = "decide"
alpha = 0.01
min_gain = 0.01
max_seeds = 4
report_seeds = 3
prior_sigma = 0.01
"""
TOML = """
name = "toy"
summary = "Toy."
trust = "measured"
script = { path = "a.py", editable = ["a.py"], train = ["a"], score = ["a", "score"], artifact = "m" }
limits = { train_wall_s = 60, score_wall_s = 20, memory_mb = 100, artifact_bytes = 1000 }
hardware = { kind = "cpu" }
data = { corpus = "docs" }
compute = { budget_ms = 20000, tolerance = 1.3, cost = { step = 1.0 } }
rung = [{ name = "decide" }, { name = "short", env = { COMPUTE_BUDGET_MS = "5000" } }]
"""
TOML += DECISION
TRACK = tracks.parse(TOML, "toy.toml")


def scored(
    run_id: int,
    bpb: float | None,
    *,
    rung: str = "decide",
    purpose: Purpose = "screen",
    seed: int = 5,
    slot: str = "s0",
    outcome: Outcome = "ok",
    reason: str = "",
    **measured: object,
) -> Scored:
    """A run of p9 on p3, whatever became of it; without a good end it has no score."""
    row = Run(run_id, 1, 9, 3, rung, purpose, seed, 1, slot, "done", outcome, reason, "cpu", "sha", (), "now")
    return Scored(row, measurement(run_id, bpb if outcome == "ok" else None, **measured))

"""Results that no shepherd of ours wrote: a campaign pays no more than was set aside, and goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget
from agent.job.folder import JobPaths, JobResult, JobState, Loss
from agent.loop import Loop
from agent.runners.fake import FakeRunner
from tests.e2e import world

FORGED: dict[str, dict[str, object]] = {
    "more time than there is": {"slot_s": 1e8},
    "less than none": {"slot_s": -1e8},
    "of another run": {"run_id": 999},
    "cancelled for more": {"outcome": "cancelled", "slot_s": 1e8},
}


class Forger(FakeRunner):
    """The runs of one idea end with what its script wrote in the place of the result."""

    def __init__(self, slots: int, forged: dict[str, object] | None) -> None:
        super().__init__(slots)
        self._forged = forged

    def _hostile(self, folder: Path) -> bool:
        return b'"width": 8' in (JobPaths(folder).code / "train.py").read_bytes()

    def collect(self, folder: Path) -> JobResult:
        found = super().collect(folder)
        return replace(found, **self._forged) if self._forged and self._hostile(folder) else found  # type: ignore[arg-type]

    def poll(self, folder: Path) -> JobState:
        return "lost" if self._forged is None and self._hostile(folder) else super().poll(folder)

    def loss(self, folder: Path) -> Loss:
        return Loss(True, 1e8, "forged")


@pytest.mark.parametrize("how", [*FORGED, "lost for more"])
def test_nothing_is_paid_for_what_was_forged(tmp_path: Path, how: str) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(
        root, [world.idea("forger", ('"width": 4', '"width": 8')), world.idea("honest", ("0.10", "0.20"))]
    )
    setting = world.open_campaign(root, make_runner=lambda slots: Forger(slots, FORGED.get(how)))
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    with setting.store.read() as reads:
        campaign = setting.campaign.id
        assert budget.audit(reads, campaign) == [] and budget.open_entries(reads, campaign) == []
        found = {one.title: one for one in reads.proposals(campaign)}
        assert found["forger"].state == "crashed" and "lost" in found["forger"].reason
        assert all(one.outcome is None for one in reads.runs(campaign, proposal_id=found["forger"].id))
        assert found["honest"].state not in ("crashed", "running", "queued")

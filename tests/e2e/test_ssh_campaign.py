"""A whole campaign whose runs are on a machine over ssh, beside one of this machine."""

from pathlib import Path

import pytest

from agent import budget
from agent import track as tracks
from agent.loop import Loop
from agent.runners.fleet import Fleet
from agent.runners.ssh.runner import SshRunner
from tests import sshd
from tests.e2e import world
from tests.e2e.real import REAL_SCRIPT, REAL_TRACK

pytestmark = pytest.mark.long


def test_a_campaign_ends_with_every_run_done_and_settled_though_links_break(tmp_path: Path, server: sshd.Sshd) -> None:
    root = world.make_workspace(tmp_path / "work", script=REAL_SCRIPT, track=REAL_TRACK)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'), script=REAL_SCRIPT)])
    host = server.host(tmp_path / "far", lost_after_s=60.0)
    runner = Fleet({"lab": SshRunner([host], root, tracks.parse(REAL_TRACK, "toy"))})
    setting = world.open_campaign(root, make_runner=lambda slots: runner)
    loop = Loop(setting)
    server.cut()
    ending = loop.run()
    assert (ending.state, ending.reason) == ("finished", "the planner has no more ideas")
    with setting.store.read() as reads:
        campaign = setting.campaign.id
        assert budget.audit(reads, campaign) == [] and budget.open_entries(reads, campaign) == []
        runs = reads.runs(campaign)
        assert {(run.state, run.outcome, run.slot) for run in runs} == {("done", "ok", "lab/box/0")} and len(runs) > 3
        used = sum(scored.measurement.slot_s for scored in reads.scored(campaign))
        assert reads.balance(campaign).settled.gpu_s == pytest.approx(used)
    runner.close()
    assert not list((tmp_path / "far").glob("jobs/*/toy-1.*")), "nothing of them is left there"

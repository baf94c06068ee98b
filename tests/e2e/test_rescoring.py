"""A whole campaign on two machines over ssh: what is accepted was scored on the one that did not train it."""

from pathlib import Path

import pytest
from sqlalchemy import text

from agent import budget
from agent import track as tracks
from agent.loop import Loop
from agent.planner.edits import make_edits
from agent.runners.fleet import Fleet
from agent.runners.ssh.runner import SshRunner
from tests import sshd
from tests.e2e import world
from tests.zoo_runs import SCRIPTS, TOML, make_corpus

pytestmark = pytest.mark.long


def test_a_campaign_on_two_machines_promotes_what_both_of_them_scored(tmp_path: Path, server: sshd.Sshd) -> None:
    better = SCRIPTS["trained.py"].decode()
    base = better.replace("len(turned) // 2]", "len(turned) // 40]", 1)  # it learns from less
    assert base != better
    # A tenth of a second of training is no budget to be measured against beside other work.
    toml = TOML.replace("summary = ", "budget_hours = 3.0\nsummary = ").replace("tolerance = 1.3", "tolerance = 9.0")
    root = world.make_workspace(tmp_path / "work", base, toml)
    for name, data in {**SCRIPTS, "trained.py": base.encode()}.items():
        (root / name).write_bytes(data)
    world.git(root, "add", ".")
    world.git(root, "commit", "-q", "-m", "Its scripts")
    (root / ".caddie" / "data").mkdir(parents=True)
    make_corpus(root / ".caddie" / "data" / "docs")
    edits = make_edits("trained.py", base, better)
    world.write_ideas(root, [{"title": "more text", "hypothesis": "helps", "kind": "data", "edits": edits}])
    hosts = [server.host(tmp_path / name, f"lab/{name}", lost_after_s=60.0) for name in ("one", "other")]
    runner = Fleet({"lab": SshRunner(hosts, root, tracks.parse(toml, "zoo.toml"))})
    setting = world.open_campaign(root, slots=2, make_runner=lambda slots: runner)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        (idea,) = [one for one in reads.proposals(setting.campaign.id) if one.title == "more text"]
        assert idea.state == "promoted", idea.reason
        query = text("SELECT run_id, by_run_id, trained_on, scored_on, agrees FROM rescores")
        ((run_id, by_run_id, trained_on, scored_on, agrees),) = reads.connection.execute(query)
        assert agrees == 1 and {trained_on.split("/")[1], scored_on.split("/")[1]} == {"one", "other"}
        one, other = reads.run(run_id), reads.run(by_run_id)
        assert (one.lease, other.lease, other.purpose) == (trained_on, scored_on, "rescore") and one.slot != other.slot
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
    runner.close()

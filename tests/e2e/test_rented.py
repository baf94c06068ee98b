"""`agent start --runner runpod`: a whole campaign on rented pods, which are a real sshd behind the stand-in."""

import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import budget, campaign
from agent.errors import UserError
from agent.loop import Loop
from agent.machines import book
from agent.machines.providers import renters
from agent.machines.sweep import settle
from agent.options import Options
from agent.planner.edits import make_edits
from agent.runners.rented import deadman
from agent.runners.runpod.pods import Pods
from agent.store import open_store
from tests import sshd
from tests.e2e import world
from tests.runpod import KEY, Course, StandIn
from tests.zoo_runs import SCRIPTS, TOML, make_corpus

CAP = 40.0


@pytest.mark.long
def test_a_campaign_rents_uses_and_returns_its_machines(
    tmp_path: Path, stand: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sshd.start(tmp_path / "sshd")
    script = SCRIPTS["trained.py"].decode()
    root = world.make_workspace(
        tmp_path / "place", script, TOML.replace("summary = ", "budget_hours = 1.0\nsummary = ")
    )
    for name, data in SCRIPTS.items():
        (root / name).write_bytes(data)
    world.git(root, "add", ".")
    world.git(root, "commit", "-q", "-m", "Its scripts")
    (root / ".caddie" / "data").mkdir(parents=True)
    make_corpus(root / ".caddie" / "data" / "docs")
    edits = make_edits("trained.py", script, script + "\nNOTHING = 0\n")
    world.write_ideas(root, [{"title": "nothing", "hypothesis": "none", "kind": "knob", "edits": edits}])
    (root / "runners.toml").write_text(
        f'[pods]\nkind = "runpod"\nurl = "{stand.url}"\nssh_key = "{server.key}"\npython = "{sys.executable}"\n'
        f'folder = "{tmp_path / "far"}"\nmost_pods = 3\nusd_per_lease = 20.0\n'
    )
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setattr(deadman, "FOLDER", str(tmp_path / "timers"))
    (tmp_path / "timers").mkdir()
    stand.real = True
    stand.ssh = ("127.0.0.1", server.port, server.host(tmp_path).user)
    stand.courses.extend([Course(starting=0, running=0, port=0)] * 8)

    options = Options(
        track="agent.toml", planner="scripted:.ideas.jsonl", review="none", seed=7, runner="pods", usd=CAP
    )
    said: list[str] = []
    with pytest.raises(UserError, match="--usd DOLLARS"):
        campaign.start(replace(options, usd=None), root, said.append)
    assert not (root / "runs.db").exists() and stand.seen == []
    setting = campaign.start(options, root, said.append)
    assert setting.campaign.slots == len(setting.runner.slots) == 3
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    assert any("cost money" in words for words in said)
    assert stand.living() == [] and 1 <= len(stand.pods) <= 4

    with closing(open_store(root / "runs.db")) as store:
        with store.read() as reads:
            runs = reads.runs(setting.campaign.id)
            assert {run.state for run in runs} == {"done"} and {run.outcome for run in runs} == {"ok"}
            assert all(str(run.slot).startswith("pods/") for run in runs)
            machines = book.everyone(reads, over=True)
            balance = reads.balance(setting.campaign.id)
        assert {one.state for one in machines} == {"gone"} and len(machines) == len(stand.pods)
        assert balance.settled.usd + balance.reserved.usd <= CAP
        # Hours later the bill is final.
        (found,), _ = renters(store, root, {"RUNPOD_API_KEY": KEY})
        stand.real = False
        stand.advance(timedelta(hours=4).total_seconds())
        assert isinstance(found.provider, Pods)
        provider = replace(found.provider, clock=stand.clock)
        settle(replace(found, provider=provider, clock=stand.clock))
        with store.read() as reads:
            balance = reads.balance(setting.campaign.id)
            assert budget.audit(reads, setting.campaign.id) == []
        assert balance.reserved.usd == 0.0
        assert balance.settled.usd == pytest.approx(stand.billed(), abs=0.005)

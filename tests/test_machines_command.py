"""`agent machines`, and what status and doctor say of what is rented: the real command on the stand-in."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.machines import reaping
from agent.machines.homes import home
from agent.machines.renting import rent
from agent.report import doctor
from agent.store import lease, open_store
from tests.commanding import Agent, console, workspace
from tests.filling import add_campaign
from tests.renting import HOUR, PLACED, renter
from tests.runpod import KEY, StandIn


@pytest.fixture
def root(tmp_path: Path, stand: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace whose campaign rents one machine."""
    made = workspace(tmp_path / "place")
    (made / "runners.toml").write_text(f'[pods]\nkind = "runpod"\nurl = "{stand.url}"\n')
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    stand.at = datetime.now(UTC)  # the command's own clock
    with closing(open_store(made / "runs.db")) as store:
        one = renter(stand, store)
        rent(type(one)(store, one.provider, "pods", home(store), one.limits, stand.clock), 1, PLACED, 4 * HOUR)
    return made


@pytest.fixture
def agent(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Agent:
    return console(root, monkeypatch, capfd, tmp_path)


def test_machines_are_listed_and_reaped(agent: Agent, stand: StandIn, root: Path) -> None:
    said = agent("machines")
    assert "creating" in said.out and "3.50 $/h" in said.out and "pod000001" in said.out
    (row,) = json.loads(agent("machines", "--json").out)
    assert row["state"] == "creating" and row["provider"] == "runpod"
    assert "1 rented, 3.50 $ an hour" in agent("status").out
    assert "14" in json.loads(agent("status", "--json").out)["machines"]
    (check,) = [one for one in doctor.examine(root) if one.what == "machines"]
    assert check.state == "bad" and "agent machines reap" in check.words

    dry = agent("machines", "reap", "--dry-run")
    assert dry.out.startswith("would be ended or mended: m1 (pod000001)") and len(stand.living()) == 1
    done = agent("machines", "reap")
    assert done.code == 0 and done.out.startswith("ended or mended: m1 (pod000001)") and stand.living() == []
    assert agent("machines").out.startswith("nothing is rented")
    assert "gone" in agent("machines", "--all").out
    again = json.loads(agent("machines", "reap", "--json").out)
    assert (again["done"], again["failed"], again["asked"]) == ([], [], ["pods"])
    (check,) = [one for one in doctor.examine(root) if one.what == "machines"]
    assert check.state == "good"


def test_what_is_at_work_is_not_reaped(agent: Agent, stand: StandIn, root: Path) -> None:
    with closing(open_store(root / "runs.db")) as store, store.read() as reads:
        name = f"campaign {reads.campaign_by_id(1).name}"
    with closing(open_store(root / "runs.db")) as store, lease.hold(store, name):
        said = agent("machines", "reap")
    assert said.out.startswith("nothing to end") and len(stand.living()) == 1


def test_who_can_not_be_asked_is_named(
    agent: Agent, stand: StandIn, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    said = agent("machines", "reap")
    assert said.code == 1 and "NOT DONE: pods" in said.out and "export RUNPOD_API_KEY" in said.out
    (check,) = [one for one in doctor.examine(root) if one.what == "machines"]
    assert check.state == "note" and "RUNPOD_API_KEY" in check.words
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    (root / "runners.toml").write_text(f'[pods]\nkind = "runpod"\nurl = "{stand.url}"\nlease_hour = 3\n')
    said = agent("machines", "reap")
    assert said.code == 1 and "Did you mean 'lease_hours'" in said.out


def test_a_wrong_word_is_refused(agent: Agent) -> None:
    said = agent("machines", "reep")
    assert said.code == 2 and "Did you mean 'reap'" in said.err


def test_every_start_ends_first_what_nobody_wants(root: Path, stand: StandIn) -> None:
    with closing(open_store(root / "runs.db")) as store:
        with store.read() as reads:
            mine = reads.campaign_by_id(1)
        reaping.before(store, root, mine, {})  # no key: said, and no reason not to start
        reaping.before(store, root, mine, {"RUNPOD_API_KEY": KEY})
        assert len(stand.living()) == 1  # its own campaign goes on with it
        with store.write() as tx:
            other = add_campaign(tx, "other")
        reaping.before(store, root, other, {"RUNPOD_API_KEY": KEY})
        assert stand.living() == []
        with store.read() as reads:
            said = [event.text for event in reads.newest_events(mine.id, 5) if event.what == "machine"]
            assert any("not done: pods: " in text and "export RUNPOD_API_KEY" in text for text in said)
            assert any("nobody runs its campaign" in event.text for event in reads.newest_events(other.id, 5))
            assert reaping.lately(reads, datetime.now(UTC) + timedelta(days=1))  # its bill has not come

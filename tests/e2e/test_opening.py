"""What a campaign is opened on: the last head, a commit, edits of the checkout, a changed track; what is refused."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from agent import budget, opening
from agent import track as tracks
from agent.errors import BusyError, UserError
from agent.loop import Loop, wind_up
from agent.options import Options
from agent.records import Amount, Campaign, Caps
from agent.runners.fake import FakeRunner
from agent.steps import launch
from agent.store import Store, open_store
from agent.store.lease import held_by, hold
from agent.store.schema import campaigns
from agent.worktree import Repository
from tests.e2e import world
from tests.e2e.campaigning import WIDER, run
from tests.person import photograph


def test_after_a_finished_campaign_the_next_starts_from_its_head(root: Path) -> None:
    first, _ = run(root, WIDER)
    world.write_ideas(
        root,
        [world.idea("again", ('"crash": 0', '"crash": 0'), ("def main", "def other() -> None: ...\n\n\ndef main"))],
    )
    said: list[str] = []
    second = world.open_campaign(root, say=said.append)
    assert second.campaign.name == "toy-2"
    assert any("--base HEAD" in text for text in said)
    with first.store.read() as reads:
        assert second.campaign.base_commit == reads.head(first.campaign.id).commit
    third = world.open_campaign(root, base="HEAD", name="fresh")
    assert third.campaign.base_commit == world.git(root, "rev-parse", "HEAD").strip()
    (root / "train.py").write_text(world.SCRIPT.replace('"rate": 0.10', '"rate": 0.05'))
    with pytest.raises(UserError, match=r"uncommitted edits.*--base last \(from p2, the head of toy-1\)"):
        world.open_campaign(root, name="another")


def test_a_track_of_a_folder_below_the_root_is_named_as_it_is_there(root: Path) -> None:
    world.write_ideas(root, WIDER)
    (root / "sub").mkdir()
    (root / "sub" / "mine.toml").write_text((root / "agent.toml").read_text())
    setting = world.open_campaign(root / "sub", track="mine.toml")
    assert setting.campaign.track_file == "sub/mine.toml" and setting.repo.root == root


def test_a_database_that_came_with_the_repository_is_not_followed(root: Path) -> None:
    """It says which programs are asked, and may be a stranger's."""
    world.write_ideas(root, WIDER)
    world.open_campaign(root).store.close()
    world.git(root, "add", "-f", "runs.db")
    world.git(root, "commit", "-qm", "With its runs")
    for open_it in (world.open_campaign, world.resume_campaign):
        with pytest.raises(UserError, match=r"git rm --cached runs\.db"):
            open_it(root)
    world.git(root, "rm", "-q", "--cached", "runs.db")
    world.git(root, "commit", "-qm", "Without")
    assert world.resume_campaign(root).campaign.name == "toy-1"


def test_a_campaign_does_not_go_on_on_another_class_of_machine(root: Path) -> None:
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        tx.connection.execute(update(campaigns).values(hardware_class="cuda/NVIDIA H100/8"))
    setting.store.close()
    for go_on in (world.open_campaign, world.resume_campaign):
        with pytest.raises(UserError, match=r"toy-1 runs on cuda/NVIDIA H100/8, and this is fake: .* not compared"):
            go_on(root)
    assert world.open_campaign(root, base="HEAD").campaign.name == "toy-2"


def test_what_takes_a_campaigns_place_goes_on_from_where_that_was(root: Path) -> None:
    """Be it from edits that no commit of the person's has."""
    world.write_ideas(root, WIDER)
    (root / "train.py").write_text(world.SCRIPT.replace('"rate": 0.10', '"rate": 0.05'))
    first = world.open_campaign(root, base="worktree")
    first.store.close()
    track = root / "agent.toml"
    track.write_text(track.read_text().replace("alpha = 0.004", "alpha = 0.01"))
    said: list[str] = []
    second = world.resume_campaign(root, say=said.append)
    assert second.campaign.base_commit == first.campaign.base_commit
    assert "Campaign toy-2: from p1, the head of toy-1" in said


@pytest.mark.parametrize("how", ["start", "start by name", "resume"])
def test_a_changed_track_shows_the_difference_and_starts_anew(root: Path, how: str) -> None:
    world.write_ideas(root, WIDER)
    first = world.open_campaign(root, budget_hours=1.5, target_bpb=0.5, slots=2)
    with first.store.write() as tx:
        budget.settle(tx, budget.reserve(tx, first.campaign.id, Amount(gpu_s=1800.0), "run"), Amount(gpu_s=1800.0))
    first.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("alpha = 0.004", "alpha = 0.01"))
    said: list[str] = []
    if how == "resume":
        second = world.resume_campaign(root, say=said.append)
        caps, goal = Caps(gpu_s=3600.0), 0.5  # what the person said then, and what is left of it
    else:
        second = world.open_campaign(root, say=said.append, name="toy-1" if "name" in how else None)
        caps, goal = Caps(gpu_s=7200.0), None  # what the person says now, or the track
    assert (second.campaign.name, second.campaign.caps, second.campaign.target_bpb) == ("toy-2", caps, goal)
    assert any("-alpha = 0.004" in text and "+alpha = 0.01" in text for text in said)
    with second.store.read() as reads:
        assert [c.state for c in reads.campaigns()] == ["finished", "running"]


@pytest.mark.parametrize("open_it", [world.open_campaign, world.resume_campaign])
def test_a_changed_track_does_not_end_what_another_controller_leads(
    root: Path, open_it: Callable[[Path], object]
) -> None:
    world.write_ideas(root, WIDER)
    first = world.open_campaign(root)
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("alpha = 0.004", "alpha = 0.01"))
    with hold(first.store, "campaign toy-1"):
        with pytest.raises(BusyError, match="campaign toy-1"):
            open_it(root)
        with pytest.raises(BusyError, match="campaign toy-1"):
            wind_up(first, "the track changed")
    with first.store.read() as reads:
        assert reads.request(first.campaign.id) == ""
        assert [(one.name, one.state) for one in reads.campaigns()] == [("toy-1", "running")]


class Renting(FakeRunner):
    """Tells who looked after its machines, and when."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.told: list[str] = []

    def opened(self, store: Store, campaign: Campaign) -> None:
        with store.read() as reads:
            self.told.append(f"opened while {held_by(reads.connection, f'campaign {campaign.name}')} leads")

    def close(self) -> None:
        self.told.append("closed")


def test_only_who_leads_a_campaign_looks_after_its_machines(root: Path) -> None:
    """Two that stand by both see that nobody leads, and one of them is late."""
    world.write_ideas(root, WIDER)
    runner = Renting(1)
    setting = world.open_campaign(root, make_runner=lambda slots: runner)
    with hold(setting.store, "campaign toy-1"), pytest.raises(BusyError):
        Loop(setting).run()
    assert runner.told == []
    assert Loop(setting).run().state == "finished"
    assert runner.told == [f"opened while {os.getpid()} leads", "closed"]


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_a_start_that_hangs_can_be_interrupted(root: Path, numbers: tuple[signal.Signals, ...]) -> None:
    class Hanging(Renting):
        def opened(self, store: Store, campaign: Campaign) -> None:
            for number in numbers:
                signal.raise_signal(number)
                self.told.append(f"{number.name} was only counted")

        def close(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # what costs money is given back all the same
            super().close()

    world.write_ideas(root, WIDER)
    runner = Hanging(1)
    setting = world.open_campaign(root, make_runner=lambda slots: runner)
    with pytest.raises(KeyboardInterrupt):
        Loop(setting).run()
    assert runner.told == [*["SIGINT was only counted"][: len(numbers) - 1], "closed"]
    setting.store.close()
    assert Loop(world.resume_campaign(root)).run().state == "finished"


def test_a_branch_that_was_removed_is_made_again_at_the_head(root: Path) -> None:
    setting, _ = run(root, WIDER)
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
    with setting.store.write() as tx:
        tx.connection.execute(update(campaigns).values(state="stopped"))
    setting.store.close()
    world.git(root, "branch", "-q", "-D", "caddie/toy-1")
    world.resume_campaign(root)
    assert head.baseline_id is not None
    assert world.git(root, "rev-parse", "caddie/toy-1").strip() == head.commit


def test_a_branch_that_is_removed_meanwhile_is_said_to_be_gone(root: Path) -> None:
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)

    def look() -> None:
        with setting.store.read() as reads:
            if reads.count_proposals(setting.campaign.id, {"measured", "confirming"}):
                world.git(root, "update-ref", "-d", "refs/heads/caddie/toy-1")

    with pytest.raises(UserError, match="branch caddie/toy-1 is gone; `agent resume`"):
        Loop(setting, look).run()
    setting.store.close()
    again = world.resume_campaign(root)
    assert Loop(again).run().state == "finished"
    with again.store.read() as reads:
        assert reads.head(again.campaign.id).commit == world.git(root, "rev-parse", "caddie/toy-1").strip()
        assert reads.head(again.campaign.id).title == "wider"


def test_what_a_changed_campaign_had_set_aside_goes_to_the_one_that_takes_its_place(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed after it had booked a run; had the run begun, what it used would not come along."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    world.write_ideas(root, WIDER)
    first = world.open_campaign(root, budget_hours=1.5)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(launch, "make_job", kill)
        Loop(first).run()
    with first.store.read() as reads:
        assert reads.balance(first.campaign.id).reserved.gpu_s > 0
    first.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("alpha = 0.004", "alpha = 0.01"))
    assert world.resume_campaign(root).campaign.caps == Caps(gpu_s=5400.0)


@pytest.mark.parametrize("reserved", [0.0, 144.0])
def test_with_too_little_left_nothing_takes_the_place_of_a_changed_campaign(root: Path, reserved: float) -> None:
    world.write_ideas(root, WIDER)
    first = world.open_campaign(root, budget_hours=0.04)
    with first.store.write() as tx:
        budget.reserve(tx, first.campaign.id, Amount(gpu_s=reserved), "run")
    first.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("train_wall_s = 20", "train_wall_s = 40"))
    with pytest.raises(UserError, match=r"--budget 0\.04 is too small"):
        world.resume_campaign(root)
    with open_store(root / "runs.db", create=False).read() as reads:
        assert [c.state for c in reads.campaigns()] == ["running"]


def test_a_track_file_that_is_gone_does_not_end_a_campaign(root: Path) -> None:
    world.write_ideas(root, WIDER)
    world.open_campaign(root).store.close()
    (root / "agent.toml").unlink()
    said: list[str] = []
    assert world.resume_campaign(root, say=said.append).campaign.name == "toy-1"
    assert "There is no track agent.toml any more" in said[0] and "Resuming toy-1" in said[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget_hours": 0.0}, "--budget"),
        ({"budget_hours": -1.0}, "--budget"),
        ({"budget_hours": float("nan")}, "--budget"),
        ({"budget_hours": 1e308}, "--budget"),
        ({"budget_hours": 0.001}, "too small"),
        ({"seed": 10**30}, "--seed"),
        ({"slots": 0}, "--slots"),
        ({"review": "sometimes"}, "--review"),
        ({"planner": "knob"}, "Did you mean 'knobs'"),
        ({"track": "tinny"}, "Did you mean 'tiny'"),
        ({"review": "rsky"}, "--review rsky: Did you mean 'risky'\\? choose one of"),
        ({"base": "main"}, "--base main: choose one of last, HEAD, worktree"),
        ({"base": "wroktree"}, "--base wroktree: Did you mean 'worktree'\\? choose one of"),
        ({"name": "a/b"}, "--campaign"),
        ({"name": "a" * 300}, "60 characters at most"),
    ],
)
def test_wrong_options_change_nothing(root: Path, options: dict[str, object], words: str) -> None:
    world.write_ideas(root, WIDER)
    before = photograph(root)
    with pytest.raises(UserError, match=words):
        world.open_campaign(root, **options)  # type: ignore[arg-type]
    assert photograph(root) == before
    assert world.git(root, "for-each-ref", "refs/heads/caddie", "refs/caddie") == ""
    if (root / "runs.db").exists():
        from agent.store import open_store

        with open_store(root / "runs.db").read() as reads:
            assert reads.campaigns() == []


def test_an_unfinished_campaign_goes_on_as_it_was_started_or_not_at_all(root: Path) -> None:
    """What was typed for a new one must not be dropped without a word: it may be a lower cap, or a stricter review."""
    world.write_ideas(root, WIDER)
    world.open_campaign(root, budget_hours=2.0).store.close()
    for other, words in (
        ({"review": "all"}, "--review none, not all"),
        ({"budget_hours": 0.09}, "--budget 2.0, not 0.09"),
        ({"planner": "knobs"}, "--planner scripted:.ideas.jsonl, not knobs"),
        ({"slots": 2, "target_bpb": 1.7}, "--slots 1, not 2; --target none, not 1.7"),
        ({"llm_usd": 1.0}, "--llm-usd none, not 1.0"),
        ({"unsafe": True}, "--unsafe-no-sandbox no, not yes"),
    ):
        with pytest.raises(UserError, match=re.escape(f"({words}): `agent resume` does that")):
            world.open_campaign(root, **other)
    said: list[str] = []
    world.open_campaign(root, budget_hours=2.0, say=said.append).store.close()
    world.open_campaign(root, planner=None, review=None, seed=None, say=said.append).store.close()
    assert [words.partition(" (")[0] for words in said] == ["Resuming toy-1", "Resuming toy-1"]


def test_a_resume_means_the_campaign_that_is_unfinished_not_the_latest(root: Path) -> None:
    world.write_ideas(root, WIDER)
    world.open_campaign(root).store.close()
    latest = world.open_campaign(root, base="HEAD", name="latest")
    assert Loop(latest).run().state == "finished"
    assert world.resume_campaign(root).campaign.name == "toy-1"


def test_of_two_first_starts_the_second_is_told_who_won(root: Path) -> None:
    """It has checked everything by then, and finds the name taken only when it writes."""
    world.write_ideas(root, WIDER)
    repo = Repository(root)
    track, text = tracks.load("agent.toml", root)
    options = Options("agent.toml", planner="scripted:.ideas.jsonl")
    second = opening.check(options, None, repo, track, text, [], lambda track, slots: FakeRunner(slots))
    first = world.open_campaign(root)
    words = rf"campaign toy-1 .*process {os.getpid()}"
    with hold(first.store, "campaign toy-1"), pytest.raises(BusyError, match=words):
        opening.write(second, None, repo, print)


def test_whoever_takes_the_place_of_a_changed_campaign_is_reviewed_as_it_was(root: Path) -> None:
    world.write_ideas(root, WIDER)
    world.open_campaign(root, review="all").store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("train_wall_s = 20", "train_wall_s = 21"))
    second = world.open_campaign(root, planner=None, review=None).campaign
    assert (second.name, second.review, second.planner) == ("toy-2", "all", "scripted:.ideas.jsonl")

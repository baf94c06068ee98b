"""Whole campaigns with imagined runs: how ideas end, the trunk, the ledger, the person's checkout."""

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent import budget
from agent.errors import BusyError, UserError
from agent.loop import Loop
from agent.planner import Request
from agent.records import FINAL, Amount, Caps, Draft, Mode
from agent.runners.fake import FakeRunner, Imagined, imagine
from agent.runners.job import JobSpec
from agent.setting import Setting
from agent.steps import launch
from agent.steps.wanted import seed_of, wanted
from agent.store import open_store
from tests.e2e import world
from tests.e2e.terminal import listing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "a person's folder é")


def checkout(root: Path) -> dict[str, object]:
    """All of the person's that a campaign must leave alone."""
    index = hashlib.sha256((root / ".git/index").read_bytes()).hexdigest()
    files = {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns)
        for p in root.glob("*")
        if p.is_file() and p.name[0] != "." and "runs.db" not in p.name
    }
    return {
        "index": index,
        "files": files,
        "head": (root / ".git/HEAD").read_text(),
        "branch": world.git(root, "rev-parse", "main"),
        "stash": world.git(root, "stash", "list"),
        "config": (root / ".git/config").read_text(),
    }


WIDER = [world.idea("wider", ('"width": 4', '"width": 8'))]
IDEAS = [
    world.idea("too big", ('"width": 4', '"width": 12')),
    world.idea("worse", ('"width": 4', '"width": 2')),
    *WIDER,
    world.idea("a better rate", ('"rate": 0.10', '"rate": 0.20')),
    world.idea("crashes", ('"crash": 0', '"crash": 1')),
    world.idea("does nothing of use", ('"crash": 0,', '"crash": 0,\n    "unused": 1,')),
    world.idea("only a comment", ("def main", "# a comment\ndef main")),
    world.idea("does not parse", ("def main() -> None:", "def main( -> None:")),
    {"title": "does not apply", "edits": "train.py\n<<<<<<< SEARCH\nnot there\n=======\nx\n>>>>>>> REPLACE\n"},
    {"title": "another file", "edits": "notes.txt\n<<<<<<< SEARCH\nmine\n=======\nx\n>>>>>>> REPLACE\n"},
    world.idea("wider again", ('"width": 4', '"width": 8')),
]


def run(root: Path, ideas: list[dict[str, object]] = IDEAS, **options: object) -> tuple[Setting, dict[str, str]]:
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, **options)  # type: ignore[arg-type]
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    return setting, states(setting)


def states(setting: Setting) -> dict[str, str]:
    with setting.store.read() as reads:
        return {p.title: p.state for p in reads.proposals(setting.campaign.id)}


def test_every_idea_ends_where_it_should(root: Path) -> None:
    before = checkout(root)
    setting, found = run(root, slots=2)
    assert checkout(root) == before
    assert found == {
        "base": "promoted",
        "wider": "promoted",
        "a better rate": found["a better rate"],  # near the noise: whatever the seeds say
        "crashes": "crashed",
        "does nothing of use": found["does nothing of use"],
        "too big": "oversize",
        "worse": "worse",
        "only a comment": "duplicate",
        "does not parse": "blocked",
        "does not apply": "edit_failed",
        "another file": "edit_failed",
        "wider again": found["wider again"],
    }
    assert set(found.values()) <= FINAL
    assert found["does nothing of use"] in ("worse", "inconclusive")
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
        balance = reads.balance(setting.campaign.id)
        used = [s.measurement.slot_s for s in reads.scored(setting.campaign.id)]
    assert len(used) > 12
    assert balance.settled.gpu_s == pytest.approx(sum(used))
    assert balance.reserved.gpu_s == 0


def test_the_trunk_holds_the_accepted_commits_with_their_trailers(root: Path) -> None:
    setting, _ = run(root, [world.idea("wider", ('"width": 4', '"width": 8'))])
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        chain = reads.lineage(head.id)
        fresh = [s for s in reads.scored(setting.campaign.id, proposal_id=head.id) if s.run.purpose == "report"]
        deciding = [s for s in reads.scored(setting.campaign.id, proposal_id=head.id) if s.run.purpose != "report"]
    trunk = world.git(root, "rev-parse", "caddie/toy-1").strip()
    assert trunk == head.commit
    assert [p.title for p in chain] == ["base", "wider"]
    body = world.git(root, "log", "-1", "--format=%(trailers:unfold)", trunk)
    keys = [line.split(":")[0] for line in body.splitlines() if line]
    assert keys == ["Proposal", "Runs", "Val-Bpb", "Artifact-Bytes", "Planner", "Reviewed-by"]
    assert '"width": 8' in world.git(root, "show", f"{trunk}:train.py")
    # Runs that decide are never the runs that are reported.
    assert len(fresh) == 3 and len(deciding) >= 2
    assert not {s.run.seed for s in fresh} & {s.run.seed for s in deciding}
    assert world.git(root, "worktree", "list").count("\n") == 1


def test_losers_stay_readable(root: Path) -> None:
    setting, _ = run(root)
    with setting.store.read() as reads:
        for proposal in reads.proposals(setting.campaign.id):
            if proposal.state in ("worse", "crashed", "oversize"):
                ref = world.git(root, "rev-parse", f"refs/caddie/toy-1/p{proposal.id}").strip()
                assert ref == proposal.commit
                assert proposal.diff and proposal.reason


def test_two_ideas_measured_apart_are_replayed_together(root: Path) -> None:
    """Both start on the base at once; the second must show its gain on top of the first."""
    ideas = [
        world.idea("wider", ('"width": 4', '"width": 8')),
        world.idea("fewer bits, better rate", ('"rate": 0.10', '"rate": 0.20'), ('"bits": 8', '"bits": 7')),
        world.idea("much better rate", ('"rate": 0.10', '"rate": 0.21')),
    ]

    def world_with_rate(knobs: object, seed: int) -> object:
        from dataclasses import replace

        from agent.runners.fake import imagine

        found = imagine(knobs, seed)  # type: ignore[arg-type]
        better = 0.15 if knobs["rate"] == 0.21 else 0.0  # type: ignore[index]
        return replace(found, bpb=found.bpb - better)

    setting, found = run(root, ideas, slots=3, seconds=0.4, world_of=world_with_rate)
    assert found["wider"] == found["much better rate"] == "promoted"
    with setting.store.read() as reads:
        chain = reads.lineage(reads.head(setting.campaign.id).id)
        second = chain[-1]
        tests = {run.baseline_id for run in reads.runs(setting.campaign.id, proposal_id=second.id)} - {None}
        replays = reads.runs(setting.campaign.id, proposal_id=second.id, purposes={"replay"})
    assert len(chain) == 3
    assert tests == {chain[0].id, chain[1].id}  # against the base, then against the first idea
    assert len(replays) >= 2
    text = world.git(root, "show", "caddie/toy-1:train.py")
    assert '"width": 8' in text and '"rate": 0.21' in text


def test_a_head_that_its_fresh_runs_contradict_is_reverted(root: Path) -> None:
    def lucky(knobs: object, seed: int) -> Imagined:
        """Wide looks much better at the seeds of the base, and not at all at its own."""
        good = knobs["width"] == 8 and seed in seeds  # type: ignore[index]
        return Imagined(bpb=2.0 - 0.2 * good + (seed % 97) / 97 * 0.01, artifact_bytes=100)

    seeds = {seed_of(7, 1, n) for n in range(4)}
    setting, found = run(root, [world.idea("lucky", ('"width": 4', '"width": 8'))], world_of=lucky)
    assert found["lucky"] == "reverted"
    with setting.store.read() as reads:
        assert reads.head(setting.campaign.id).title == "base"
    assert world.git(root, "show", "caddie/toy-1:train.py") == world.SCRIPT
    subjects = world.git(root, "log", "--format=%s", "caddie/toy-1").splitlines()
    assert subjects == ["Revert: lucky", "lucky", "Start"]


def test_a_head_that_can_not_be_scored_again_is_reverted(root: Path) -> None:
    seeds = {seed_of(7, 1, n) for n in range(4)}

    def fragile(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        return found if knobs["width"] == 4 or seed in seeds else replace(found, outcome="crashed")

    setting, found = run(root, WIDER, world_of=fragile)
    assert found["wider"] == "reverted"
    with setting.store.read() as reads:
        assert "3 of its 3 fresh runs have no score" in reads.proposals(setting.campaign.id)[1].reason
        assert budget.open_entries(reads, setting.campaign.id) == []


def test_a_head_that_is_too_big_at_a_fresh_seed_is_reverted(root: Path) -> None:
    seeds = {seed_of(7, 1, n) for n in range(4)}

    def swelling(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        return found if knobs["width"] == 4 or seed in seeds else replace(found, artifact_bytes=5000)

    setting, found = run(root, WIDER, world_of=swelling)
    assert found["wider"] == "reverted"
    with setting.store.read() as reads:
        assert "over the limit of 1,250" in reads.proposals(setting.campaign.id)[1].reason


BEATEN = [world.idea(f"rate {rate}", ('"rate": 0.10', f'"rate": {rate}')) for rate in (0.02, 0.01, 0.005)]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (Imagined(bpb=2.9, artifact_bytes=800), "fresh runs show no gain, so it is taken back"),
        (Imagined(bpb=1.9, artifact_bytes=5000), "over the limit of 1,250"),
    ],
    ids=["no gain", "too big"],
)
def test_a_head_is_asked_again_with_each_further_run_of_its_own(root: Path, later: Imagined, words: str) -> None:
    """Its first three runs are fine; the fourth, due when an idea was beaten, is not."""
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("report_seeds = 3", "report_seeds = 3\nreport_every = 1"))
    fourth = seed_of(7, 2, 3)
    setting, found = run(
        root,
        [*WIDER, *BEATEN],
        world_of=lambda knobs, seed: later if knobs["width"] == 8 and seed == fourth else imagine(knobs, seed),
    )
    assert found["wider"] == "reverted"
    with setting.store.read() as reads:
        wider = next(p for p in reads.proposals(setting.campaign.id) if p.title == "wider")
        assert words in wider.reason and reads.count_events(wider.id, "reported") == 1
        assert reads.head(setting.campaign.id).title == "base"
        assert budget.open_entries(reads, setting.campaign.id) == []
    subjects = world.git(root, "log", "--format=%s", "caddie/toy-1").splitlines()
    assert subjects == ["Revert: wider", "wider", "Start"]


class Losing(FakeRunner):
    """Loses the runs of one seed."""

    seed = 0

    def submit(self, spec: JobSpec, folder: Path, slot: str) -> None:
        if int(spec.phases[0].env["SEED"]) != self.seed:
            super().submit(spec, folder, slot)


@pytest.mark.parametrize("index", [1, 3])
def test_a_head_whose_fresh_runs_are_lost_again_and_again_is_reverted(
    root: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    """One of the runs that are due ends it; of a further one there is only no figure."""
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("report_seeds = 3", "report_seeds = 3\nreport_every = 1"))
    monkeypatch.setattr(Losing, "seed", seed_of(7, 2, index))
    setting, found = run(root, [*WIDER, *BEATEN], make_runner=Losing)
    with setting.store.read() as reads:
        wider = next(p for p in reads.proposals(setting.campaign.id) if p.title == "wider")
        lost = reads.runs(setting.campaign.id, proposal_id=wider.id, states={"lost"})
    assert found["wider"] == ("reverted" if index == 1 else "promoted")
    assert [run.seed for run in lost] == [Losing.seed] * 3
    if index == 1:
        assert "its fresh run was lost 3 times" in wider.reason


@pytest.mark.parametrize("index", [1, 3])
def test_a_base_whose_runs_are_lost_again_and_again_ends_the_campaign(
    root: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("report_seeds = 3", "report_seeds = 3\nreport_every = 1"))
    monkeypatch.setattr(Losing, "seed", seed_of(7, 1, index))
    world.write_ideas(root, BEATEN)
    ending = Loop(world.open_campaign(root, make_runner=Losing)).run()
    assert ending.failed == (index == 1)
    assert ("a run of the base was lost 3 times" in ending.reason) == (index == 1)


def test_the_budget_is_a_promise(root: Path) -> None:
    """Whatever the number of slots, the sum of settled and reserved never passes the cap at any moment."""
    hours = 600 / 3600
    world.write_ideas(
        root, [world.idea(f"idea {n}", ('"crash": 0,', f'"crash": 0,\n    "k{n}": 1,')) for n in range(40)]
    )
    setting = world.open_campaign(root, slots=4, budget_hours=hours)
    seen = []

    def look() -> None:
        with setting.store.read() as reads:
            balance = reads.balance(setting.campaign.id)
            seen.append(balance.settled.gpu_s + balance.reserved.gpu_s)

    ending = Loop(setting, look).run()
    assert ending.reason == "the budget does not cover another run"
    assert max(seen) <= 600
    with setting.store.read() as reads:
        settled = reads.balance(setting.campaign.id).settled.gpu_s
        assert budget.audit(reads, setting.campaign.id) == []
    assert 600 - setting.track.limits.worst_s() < settled <= 600
    assert "unfunded" in states(setting).values()


def test_a_target_ends_the_campaign_with_nothing_left_half_way(root: Path) -> None:
    setting, found = run(root, IDEAS, slots=3, seconds=0.2, target_bpb=1.95)
    assert found["wider"] == "promoted"
    assert set(found.values()) <= FINAL
    with setting.store.read() as reads:
        campaign = reads.campaign_by_id(setting.campaign.id)
        assert campaign.reason.startswith("target reached")
        assert budget.open_entries(reads, setting.campaign.id) == []


def test_at_the_target_nothing_more_is_started_whatever_is_left(root: Path) -> None:
    many = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": 0.1{n:02}')) for n in range(40)]
    setting, _ = run(root, [*WIDER, *many], slots=2, seconds=0.15, target_bpb=1.95)
    with setting.store.read() as reads:
        assert reads.campaign_by_id(setting.campaign.id).reason.startswith("target reached")
        ideas = reads.proposals(setting.campaign.id)
        assert sum(bool(reads.runs(setting.campaign.id, proposal_id=idea.id)) for idea in ideas) < 25


def test_when_idea_after_idea_gives_no_score_nothing_more_is_started(root: Path) -> None:
    many = [world.idea(f"crash {n}", ('"crash": 0', f'"crash": {n}')) for n in range(1, 41)]
    world.write_ideas(root, many)
    setting = world.open_campaign(root, slots=2, seconds=0.15)
    ending = Loop(setting).run()
    assert ending.failed and ending.reason.startswith("12 ideas in a row ended without a score")
    with setting.store.read() as reads:
        assert len(reads.runs(setting.campaign.id, purposes={"screen"})) <= 14


@pytest.mark.parametrize("edits", ["no edits", str(WIDER[0]["edits"])], ids=["no place", "always the same"])
def test_a_planner_whose_ideas_no_check_lets_through_is_not_asked_for_ever(root: Path, edits: str) -> None:
    @dataclass(frozen=True)
    class Hopeless:
        name: str = "hopeless"
        modes: frozenset[Mode] = frozenset({"exploit"})
        parallel: int = 1

        def propose(self, request: Request) -> Draft:
            return Draft("an idea", "because", edits, self.name, request.mode, "knob", 1)

    world.write_ideas(root, WIDER)
    setting = replace(world.open_campaign(root), planners=(Hopeless(),))
    ending = Loop(setting).run()
    assert ending.failed and "12 ideas in a row ended without a score" in ending.reason
    with setting.store.read() as reads:
        assert reads.count_proposals(setting.campaign.id) < 20


def test_runs_that_a_person_cancelled_are_no_lost_ones(root: Path) -> None:
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        base = tx.base(setting.campaign.id)
        for attempt in (1, 2, 3):
            row = tx.add_run(
                setting.campaign.id, base.id, None, rung="decide", purpose="report", seed=seed_of(7, base.id, 0),
                attempt=attempt, hardware_class="fake", script_sha="x",
            )  # fmt: skip
            tx.update_run(row.id, state="cancelled")
    assert not Loop(setting).run().failed
    with setting.store.read() as reads:
        assert len(reads.runs(setting.campaign.id, proposal_id=base.id, states={"done"})) == 3
        assert reads.head(setting.campaign.id).title == "wider"


def test_limits_stay_what_they_were_when_the_base_is_slower_later(root: Path) -> None:
    """Else a run that was reserved by the old ones could take longer than that."""
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("report_seeds = 3", "report_seeds = 3\nreport_every = 1"))
    slow = {seed_of(7, 1, index) for index in range(3, 9)}

    def world_of(knobs: Mapping[str, Any], seed: int) -> Imagined:
        return replace(imagine(knobs, seed), seconds=18.0 if seed in slow and knobs["rate"] == 0.1 else 5.0)

    setting, _ = run(root, BEATEN, world_of=world_of)
    specs = [JobSpec.from_json((job / "spec.json").read_text()) for job in setting.jobs.iterdir()]
    assert sorted({spec.wall_s for spec in specs if spec.run_id > 3}) == [max(s.wall_s for s in specs if s.run_id > 3)]
    assert {spec.wall_s for spec in specs if spec.run_id <= 3} == {30.0}


def test_a_run_that_was_booked_and_never_started_does_not_hold_up_the_end(root: Path) -> None:
    """As after a kill in between, with a track that can't be used and is mended."""
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    with setting.store.read() as reads:
        item = wanted(setting, reads)[0]
    with setting.store.write() as tx:
        launch._book(setting, tx, item, setting.runner.slots[0])
    setting.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("alpha = 0.004", "alpha = 0.01"))
    assert world.open_campaign(root).campaign.name == "toy-2"
    with open_store(root / "runs.db", create=False).read() as reads:
        assert [run.state for run in reads.runs(1)] == ["cancelled"]
        assert budget.open_entries(reads, 1) == [] and reads.balance(1).settled == Amount()


def test_a_base_that_does_not_run_ends_the_campaign_and_the_next_start_opens_a_new_one(root: Path) -> None:
    world.write_ideas(root, WIDER)
    broken = world.SCRIPT.replace('"crash": 0', '"crash": 1')
    (root / "train.py").write_text(broken)
    world.git(root, "commit", "-qam", "Broken")
    ending = Loop(world.open_campaign(root)).run()
    assert ending.failed and "the base itself does not run" in ending.reason
    (root / "train.py").write_text(world.SCRIPT)
    world.git(root, "commit", "-qam", "Mended")
    setting = world.open_campaign(root)
    assert setting.campaign.name == "toy-2"
    assert not Loop(setting).run().failed


def test_a_second_controller_is_refused_by_name(root: Path) -> None:
    import os

    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    from agent.store.lease import hold

    with hold(setting.store, "campaign toy-1"), pytest.raises(BusyError, match=str(os.getpid())):
        Loop(setting).run()


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


def test_uncommitted_edits_stop_a_start_until_it_is_said_which_is_meant(root: Path) -> None:
    world.write_ideas(root, WIDER)
    (root / "train.py").write_text(world.SCRIPT.replace('"rate": 0.10', '"rate": 0.05'))
    before = checkout(root)
    with pytest.raises(UserError, match="--base worktree"):
        world.open_campaign(root)
    assert checkout(root) == before
    setting = world.open_campaign(root, base="worktree")
    assert checkout(root) == before
    assert '"rate": 0.05' in world.git(root, "show", f"{setting.campaign.base_commit}:train.py")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_text(world.SCRIPT.replace("rate", "raet")), "has no literal KNOBS.rate"),
        (lambda file: file.write_text("def ("), "the base can't be used"),
        (lambda file: file.write_bytes(b"x = '\xff'\n"), "train.py is not UTF-8 text"),
        (lambda file: file.write_bytes(b"#" * 2_000_001), "train.py has 2,000,001 bytes"),
        (lambda file: file.rename(file.parent / "x.py") and file.symlink_to("x.py"), "train.py is not a plain file"),
    ],
)
def test_edits_that_can_be_no_base_leave_nothing_behind(
    root: Path, spoil: Callable[[Path], object], words: str
) -> None:
    world.write_ideas(root, WIDER)
    spoil(root / "train.py")
    before = listing(root)
    with pytest.raises(UserError, match=words):
        world.open_campaign(root, base="worktree")
    assert listing(root) == before


def test_edits_in_place_of_a_committed_link_leave_nothing_behind(root: Path) -> None:
    world.write_ideas(root, WIDER)
    (root / "train.py").rename(root / "real.py")
    (root / "train.py").symlink_to("real.py")
    world.git(root, "add", "train.py", "real.py")
    world.git(root, "commit", "-q", "-m", "A link")
    (root / "train.py").unlink()
    (root / "train.py").write_text(world.SCRIPT)
    before = listing(root)
    with pytest.raises(UserError, match=r"train\.py is not a plain file in commit"):
        world.open_campaign(root, base="worktree")
    assert listing(root) == before


def test_edits_are_the_base_to_the_byte(root: Path) -> None:
    world.write_ideas(root, WIDER)
    script = world.SCRIPT.replace("\n", "\r\n").encode()
    (root / "train.py").write_bytes(script)
    setting = world.open_campaign(root, base="worktree")
    shown = ["git", "show", f"{setting.campaign.base_commit}:train.py"]
    assert subprocess.run(shown, cwd=root, capture_output=True, check=True).stdout == script


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


@pytest.mark.parametrize(("reserved", "left"), [(0.0, "0.04"), (144.0, "0")])
def test_with_too_little_left_nothing_takes_the_place_of_a_changed_campaign(
    root: Path, reserved: float, left: str
) -> None:
    world.write_ideas(root, WIDER)
    first = world.open_campaign(root, budget_hours=0.04)
    with first.store.write() as tx:
        budget.reserve(tx, first.campaign.id, Amount(gpu_s=reserved), "run")
    first.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("train_wall_s = 20", "train_wall_s = 40"))
    with pytest.raises(UserError, match=rf"--budget {left} is too small"):
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
    before = checkout(root)
    with pytest.raises(UserError, match=words):
        world.open_campaign(root, **options)  # type: ignore[arg-type]
    assert checkout(root) == before
    assert world.git(root, "for-each-ref", "refs/heads/caddie", "refs/caddie") == ""
    if (root / "runs.db").exists():
        from agent.store import open_store

        with open_store(root / "runs.db").read() as reads:
            assert reads.campaigns() == []


@pytest.mark.parametrize(("every", "more"), [(4, 2), (0, 0)])
def test_a_head_that_many_ideas_are_compared_with_is_run_more_often(tmp_path: Path, every: int, more: int) -> None:
    track = world.TRACK.replace("report_seeds = 3", f"report_seeds = 3\nreport_every = {every}")
    root = world.make_workspace(tmp_path / "work", track=track)
    worse = [world.idea(f"worse {n}", ('"rate": 0.10', f'"rate": {n / 10000}')) for n in range(1, 10)]
    setting, found = run(root, worse, budget_hours=2.0)
    assert {state for title, state in found.items() if title != "base"} == {"worse"}
    with setting.store.read() as reads:
        base = reads.base(setting.campaign.id)
        reports = [run for run in reads.runs(setting.campaign.id, proposal_id=base.id) if run.purpose == "report"]
        last = reads.proposals(setting.campaign.id, {"worse"})[-1]
        assert len(reports) == len({run.seed for run in reports}) == 3 + more
        assert reads.verdicts(last.id)[-1].n_baseline == 3 + more

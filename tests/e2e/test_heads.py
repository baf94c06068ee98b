"""Heads and bases in whole campaigns with imagined runs: their own fresh runs, and when those take a head back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import delete

from agent import budget
from agent.job.folder import Loss
from agent.judge.gates import MOST_STARVED
from agent.judge.verdict import baseline_runs, level
from agent.loop import Loop
from agent.runners.fake import FakeRunner, Imagined, imagine
from agent.runners.order import Order
from agent.states import FINAL
from agent.steps import decide
from agent.steps.wanted import seed_of
from agent.store.schema import verdicts
from tests.e2e import world
from tests.e2e.campaigning import WIDER, run


def reporting_often(root: Path) -> None:
    """One more run of a head for every idea that did not beat it."""
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("report_seeds = 3", "report_seeds = 3\nreport_every = 1"))


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


@pytest.mark.parametrize("crashed", [1, 3])
def test_a_head_that_can_not_be_scored_again_is_reverted(root: Path, crashed: int) -> None:
    """One fresh run without a score is enough: whoever crashes where it is unlucky has a better mean."""
    seeds = {seed_of(7, 1, n) for n in range(4)} | {seed_of(7, 2, n) for n in range(3 - crashed)}

    def fragile(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        return found if knobs["width"] == 4 or seed in seeds else replace(found, outcome="crashed")

    setting, found = run(root, WIDER, world_of=fragile)
    assert found["wider"] == "reverted"
    with setting.store.read() as reads:
        assert f"{crashed} of its 3 fresh runs have no score" in reads.proposals(setting.campaign.id)[1].reason
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
    reporting_often(root)
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
    """Loses the runs of one seed, after they began."""

    seed = 0

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        if order.seed != self.seed:
            super().submit(order, folder, slot)

    def loss(self, folder: Path) -> Loss:
        return replace(super().loss(folder), ran=True)


@pytest.mark.parametrize("index", [1, 3])
def test_a_head_whose_fresh_runs_are_lost_again_and_again_is_reverted(
    root: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    """One of the runs that are due ends it; of a further one there is only no figure."""
    reporting_often(root)
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
    reporting_often(root)
    monkeypatch.setattr(Losing, "seed", seed_of(7, 1, index))
    world.write_ideas(root, BEATEN)
    ending = Loop(world.open_campaign(root, make_runner=Losing)).run()
    assert ending.failed == (index == 1)
    assert ("a run of the base was lost 3 times" in ending.reason) == (index == 1)


class Busy:
    """A world in which the first runs at some seeds hit their limit, with so much of their core."""

    def __init__(self, seeds: set[int], *, width: int, share: float, times: int) -> None:
        self.left = dict.fromkeys(seeds, times)
        self.width, self.share = width, share

    def __call__(self, knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        if knobs["width"] != self.width or not self.left.get(seed):
            return found
        self.left[seed] -= 1
        return replace(found, outcome="capped", share=self.share)


FRESH = {seed_of(7, 2, index) for index in range(3)}  # of the first idea, once it is the head


@pytest.mark.parametrize(
    ("share", "times", "state", "runs"),
    [(0.5, 1, "promoted", 6), (0.5, 3, "promoted", 12), (0.5, 4, "promoted", 15), (1.0, 1, "reverted", 3)],
    ids=["a busy core", "again and again", "each time", "a core of its own"],
)
def test_fresh_runs_that_a_busy_core_stopped_cost_a_head_nothing(
    root: Path, share: float, times: int, state: str, runs: int
) -> None:
    setting, found = run(root, WIDER, world_of=Busy(FRESH, width=8, share=share, times=times))
    assert found["wider"] == state
    with setting.store.read() as reads:
        reports = reads.runs(setting.campaign.id, proposal_id=2, purposes={"report"})
        tries = sorted(Counter(run.seed for run in reports).values())
        assert (len(reports), tries[-3:]) == (runs, [min(times + 1, MOST_STARVED, runs // 3)] * 3)
        seeds = {run.seed for run in reports}
        assert seeds >= FRESH and len(seeds) == (6 if times == MOST_STARVED else 3)
        assert budget.open_entries(reads, setting.campaign.id) == []
        assert budget.audit(reads, setting.campaign.id) == []
        used = sum(s.measurement.slot_s for s in reads.scored(setting.campaign.id))
        assert reads.balance(setting.campaign.id).settled.gpu_s == pytest.approx(used)


class Crowded(FakeRunner):
    """A machine whose cores have so much to spare, one time of asking after the other; then all of them."""

    spares: ClassVar[list[float]] = []
    asked: ClassVar[list[str]] = []

    def spare(self, slot: str) -> float:
        self.asked.append(slot)
        return self.spares.pop(0) if self.spares else 1.0


@pytest.mark.parametrize(("share", "asked", "waits"), [(0.5, 4, 1), (1.0, 0, 0)], ids=["a busy core", "slow by itself"])
def test_after_a_run_that_a_busy_core_stopped_the_next_waits_until_it_is_quiet(
    root: Path, monkeypatch: pytest.MonkeyPatch, share: float, asked: int, waits: int
) -> None:
    monkeypatch.setattr(Crowded, "spares", [0.1, 0.2, 0.69])
    monkeypatch.setattr(Crowded, "asked", [])
    busy = Busy({seed_of(7, 2, 0)}, width=8, share=share, times=1)
    setting, _ = run(root, WIDER, make_runner=lambda slots: Crowded(slots, world=busy))
    assert Crowded.asked == ["fake/0"] * asked
    with setting.store.read() as reads:
        events = [one for one in reads.events(setting.campaign.id) if one.what == "waiting"]
    assert len(events) == waits
    assert all("met its limit on a core that was busy with other work" in one.text for one in events)


@pytest.mark.parametrize(
    ("seeds", "share", "times", "failed"),
    [(1, 0.5, 1, False), (3, 0.5, 1, False), (1, 0.5, 3, False), (3, 0.5, 4, False), (1, 1.0, 1, True)],
    ids=["a busy core", "all of them", "again and again", "each time", "a core of its own"],
)
def test_a_run_of_the_base_that_a_busy_core_stopped_is_tried_again(
    root: Path, seeds: int, share: float, times: int, failed: bool
) -> None:
    """Nothing is compared with the base before a good try is in, or a further seed's for one that had none."""
    world.write_ideas(root, WIDER)
    of_base = {seed_of(7, 1, index) for index in range(seeds)}
    setting = world.open_campaign(root, slots=4, world_of=Busy(of_base, width=4, share=share, times=times))
    ending = Loop(setting).run()
    assert ending.failed == failed
    assert ("the base itself does not run" in ending.reason) == failed
    with setting.store.read() as reads:
        base = reads.runs(setting.campaign.id, proposal_id=1)
        assert sum(run.outcome == "capped" for run in base) == seeds * times
        if not failed:
            assert len(base) == 3 + seeds * times
            assert [v.n_baseline for v in reads.verdicts(2)][:1] == [3]


class Hanging(Busy):
    """One in which every fresh run of the head waits for something, at whatever seed."""

    def __call__(self, knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        mine = knobs["width"] == self.width and seed not in self.left
        return replace(found, outcome="capped", share=self.share) if mine else found


def test_a_head_whose_fresh_runs_never_end_is_no_head_for_ever(root: Path) -> None:
    of_base = {seed_of(7, 1, index) for index in range(8)}
    setting, found = run(root, WIDER, world_of=Hanging(of_base, width=8, share=0.5, times=0))
    assert found["wider"] == "reverted"
    with setting.store.read() as reads:
        reports = [one for one in reads.runs(setting.campaign.id, proposal_id=2) if one.purpose == "report"]
    assert len(reports) == 3 * MOST_STARVED + 3 * MOST_STARVED  # at its own seeds, and at three in their stead


@pytest.mark.parametrize(("times", "state"), [(1, "promoted"), (3, "promoted"), (4, "unfunded")])
def test_an_idea_that_a_busy_core_stopped_is_not_judged_by_that(root: Path, times: int, state: str) -> None:
    setting, found = run(root, WIDER, world_of=Busy({seed_of(7, 1, 0)}, width=8, share=0.5, times=times))
    assert found["wider"] == state
    with setting.store.read() as reads:
        capped = [one for one in reads.runs(setting.campaign.id, proposal_id=2) if one.outcome == "capped"]
        assert len(capped) == times
        assert budget.audit(reads, setting.campaign.id) == []
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0
    named = world.git(root, "log", "-1", "--format=%(trailers:key=Runs,valueonly)", "caddie/toy-1").split()
    assert bool(named) == (state == "promoted") and not {f"r{one.id}" for one in capped} & set(named)


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
    reporting_often(root)
    slow = {seed_of(7, 1, index) for index in range(3, 9)}

    def world_of(knobs: Mapping[str, Any], seed: int) -> Imagined:
        return replace(imagine(knobs, seed), seconds=18.0 if seed in slow and knobs["rate"] == 0.1 else 5.0)

    setting, _ = run(root, BEATEN, world_of=world_of)
    orders = [Order.from_json((job / "order.json").read_text()) for job in setting.jobs.iterdir()]
    assert sorted({one.wall_s for one in orders if one.run_id > 3}) == [max(o.wall_s for o in orders if o.run_id > 3)]
    assert {one.wall_s for one in orders if one.run_id <= 3} == {30.0}


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


def hardly_better(knobs: Mapping[str, Any], seed: int) -> Imagined:
    """Wide gains twice the noise: too little for two runs to tell."""
    found = imagine({**knobs, "width": 4}, seed)
    return replace(found, bpb=found.bpb - 0.02 * (knobs["width"] == 8))


def test_a_head_is_run_more_often_while_an_idea_is_hard_to_tell_from_it(root: Path) -> None:
    setting, _ = run(root, WIDER, world_of=hardly_better)
    with setting.store.read() as reads:
        looks = reads.verdicts(reads.proposals(setting.campaign.id)[1].id)
        rule = setting.track.decision
        assert [one.n_baseline for one in looks] == [baseline_runs(rule, one.n_candidate) for one in looks]
        assert looks[0].n_baseline == rule.report_seeds < looks[-1].n_baseline


def test_a_budget_that_can_not_pay_further_runs_of_a_head_ends_the_idea_all_the_same(root: Path) -> None:
    """What is set aside for the idea pays its own runs; the head's further ones are left out, and nothing waits."""
    setting, found = run(root, WIDER, world_of=hardly_better, budget_hours=(3 * 40 + 7.2 * 30) / 3600)
    assert found["wider"] in FINAL
    with setting.store.read() as reads:
        looks = reads.verdicts(reads.proposals(setting.campaign.id)[1].id)
        assert looks[-1].n_candidate > 2 and looks[-1].n_baseline < baseline_runs(setting.track.decision, 3)
        assert budget.open_entries(reads, setting.campaign.id) == []


def test_how_sure_an_idea_must_be_follows_from_what_was_tried_before_it(root: Path) -> None:
    """From the store alone: a resumed campaign goes on at the same level."""
    (root / "agent.toml").write_text((root / "agent.toml").read_text().replace("alpha = 0.004", "alpha = 0.4"))
    setting, found = run(root, [*BEATEN, *WIDER, world.idea("worse too", ('"rate": 0.10', '"rate": 0.001'))])
    states = list(found.values())
    assert states.count("promoted") == 2 and states.count("worse") == 4  # the base is promoted, too
    rule = setting.track.decision
    with setting.store.read() as reads:
        later = reads.proposals(setting.campaign.id)[-1]
        assert decide.evidence(setting, reads, later) is None  # it is decided
    with setting.store.write() as tx:
        run_id = tx.runs(setting.campaign.id, proposal_id=later.id)[0].id
        tx.connection.execute(delete(verdicts).where(verdicts.c.proposal_id == later.id))
    with setting.store.read() as reads:
        evidence = decide.evidence(setting, reads, later)
        assert isinstance(evidence, decide.Evidence) and evidence.candidate[0].run.id == run_id
        assert evidence.level == level(rule, 5, 1) < level(rule, 5, 2) < rule.alpha


@pytest.mark.parametrize(
    ("head", "child", "state"),
    [(1.25, 1.5, "invalid"), (1.25, 1.25, "promoted"), (0.7, 1.0, "promoted")],
    ids=["on a slow head", "as slow as its head", "on a fast head"],
)
@pytest.mark.parametrize("rung", ["", "short"], ids=["deciding", "trial"])
def test_what_an_idea_may_use_is_measured_by_the_base(
    tmp_path: Path, head: float, child: float, state: str, rung: str
) -> None:
    """Its head took more than the base did, or less: no idea may use more for it, and none is blamed for it."""
    compute = "[compute]\nbudget_ms = 9000\ntolerance = 1.3\ncost = { step = 1.0 }\n\n[decision]\n"
    root = world.make_workspace(tmp_path / "work", track=world.TRIALS.replace("[decision]\n", compute))

    def taking(knobs: Mapping[str, Any], seed: int) -> Imagined:
        wide, fast = knobs["width"] == 8, knobs["rate"] == 0.2
        bpb = 2.0 - 0.1 * wide - 0.1 * fast + (seed % 97) / 97 * 0.01
        return Imagined(bpb, artifact_bytes=100, seconds=4.0 * (child if fast else head if wide else 1.0))

    changes = {"wider": ('"width": 4', '"width": 8'), "better": ('"rate": 0.10', '"rate": 0.20')}
    ideas = [world.idea(title, change, rung=rung) for title, change in changes.items()]
    setting, found = run(root, ideas, world_of=taking)
    assert (found["wider"], found["better"]) == ("promoted", state)
    with setting.store.read() as reads:
        said = [verdict.words for verdict in reads.verdicts(reads.proposals(setting.campaign.id)[-1].id)]
    assert [("once more" in one, "over_budget" in one) for one in said if "CPU-seconds" in one] == (
        [(True, False), (False, True)] if state == "invalid" else []
    )

"""Ideas that are first tried at a cheaper rung: who goes on, who ends there, and that nothing of it counts later."""

import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget
from agent.clock import REAL
from agent.context import history
from agent.judge import noise
from agent.loop import Loop
from agent.records import Amount, Outcome, Purpose, Run, Taught
from agent.report import status, tables
from agent.report.export import experiments
from agent.report.points import picture
from agent.runners.fake import FakeRunner, Imagined, Knobs, imagine
from agent.runners.order import Order
from agent.setting import Setting
from agent.states import FINAL
from agent.steps.fresh import disturbed
from agent.steps.launch import reserved_s, start
from agent.steps.learn import ONE_RUN, Learning
from agent.steps.limits import run_limits
from agent.steps.wanted import TRIAL, Wanted, seed_of
from agent.store import Scored
from agent.store.lessons import lessons
from agent.store.promises import promises
from tests.e2e import world
from tests.filling import measurement

WORSE = 1.0  # BPB that a short run lacks: any mean over both rungs would show it

World = Callable[[Knobs, int], Imagined]


def at_short(knobs: Knobs, seed: int) -> Imagined:
    """Like a deciding run, but for the level, and for what the knob `late` makes worse there alone."""
    found = imagine(knobs, seed)
    return replace(found, bpb=found.bpb + WORSE + float(knobs.get("late", 0)), seconds=10.0)


class TwoRungs(FakeRunner):
    """Imagines another world where the rung's variable says so."""

    def __init__(self, slots: int, seconds: float = 0.0, short: World = at_short) -> None:
        super().__init__(slots, seconds)
        self._short = short

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self._world = self._short if order.rung == "short" else imagine
        super().submit(order, folder, slot)


def unused(name: str, rung: str = "short", **more: object) -> dict[str, object]:
    return world.idea(name, ('"crash": 0,', f'"crash": 0,\n    "{name}": 1,'), rung=rung, **more)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "work", track=world.TRIALS)


def campaign(
    root: Path, ideas: list[dict[str, object]], short: World = at_short, slots: int = 1, **options: object
) -> Setting:
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, make_runner=lambda count: TwoRungs(count, 0.0, short), slots=slots, **options)
    ending = Loop(setting).run()
    assert ending.state == "finished" and not ending.failed, ending
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
        assert {one.state for one in reads.proposals(setting.campaign.id)} <= FINAL
    return setting


def runs_of(setting: Setting, title: str) -> list[Run]:
    with setting.store.read() as reads:
        found = next(one for one in reads.proposals(setting.campaign.id) if one.title == title)
        return reads.runs(setting.campaign.id, proposal_id=found.id)


def end_of(setting: Setting, title: str) -> tuple[str, list[str]]:
    """The state of the idea of this title, and the words of its verdicts."""
    with setting.store.read() as reads:
        found = next(one for one in reads.proposals(setting.campaign.id) if one.title == title)
        return found.state, [one.words for one in reads.verdicts(found.id)]


WIDER = world.idea("wider", ('"width": 4', '"width": 8'), rung="short")
LATE = world.idea("late", ('"crash": 0,', '"crash": 0,\n    "late": 0.2,'), rung="short")


def test_who_passes_a_trial_is_screened_and_who_fails_pays_nothing_more(root: Path) -> None:
    crashes = world.idea("crashes", ('"crash": 0', '"crash": 1'), rung="short")
    setting = campaign(root, [LATE, crashes, world.idea("huge", ('"width": 4', '"width": 14'), rung="short"), WIDER])
    assert [(run.purpose, run.rung) for run in runs_of(setting, "late")] == [("trial", "short")]
    assert [(run.purpose, run.rung) for run in runs_of(setting, "crashes")] == [("trial", "short")]
    assert [(run.purpose, run.rung) for run in runs_of(setting, "huge")] == [("trial", "short")]
    state, words = end_of(setting, "late")
    assert state == "worse" and re.fullmatch(
        r"trial at short: 3\.\d{4} -> 3\.\d{4} with one seed: clearly worse, 1\d\.\d standard .*", words[0]
    )
    assert end_of(setting, "crashes")[0] == "crashed"
    assert end_of(setting, "crashes")[1][0].startswith("trial at short: r")
    assert end_of(setting, "huge")[0] == "oversize" and "trial at short: 1,5" in end_of(setting, "huge")[1][0]
    state, words = end_of(setting, "wider")
    assert state == "promoted"
    assert words[0].endswith("with one seed: not clearly worse, so it is screened at decide")
    passed = runs_of(setting, "wider")
    assert [(run.purpose, run.rung) for run in passed[:2]] == [("trial", "short"), ("screen", "decide")]
    assert {run.rung for run in passed[1:]} == {"decide"} and not any(run.purpose == "replay" for run in passed)


def test_seeds_of_trials_are_the_heads_own_and_none_that_decides(root: Path) -> None:
    setting = campaign(root, [LATE, unused("b"), unused("c"), WIDER, unused("d")])
    with setting.store.read() as reads:
        everything = reads.runs(setting.campaign.id)
        base, wider = reads.lineage(reads.head(setting.campaign.id).id)
    trials = [run for run in everything if run.rung == "short"]
    deciding = {run.seed for run in everything if run.rung == "decide"}
    assert not deciding & {run.seed for run in trials}
    for head in (base, wider):
        seed = seed_of(7, head.id, TRIAL)
        of_head = [run for run in trials if run.baseline_id is None and run.proposal_id == head.id]
        assert [(run.purpose, run.seed) for run in of_head] == [("trial", seed)]  # once for all its ideas
        against = [run for run in trials if run.baseline_id == head.id]
        assert against and {run.seed for run in against} == {seed}
    assert [run.seed for run in everything if run.purpose == "report" and run.proposal_id == base.id][:3] == [
        seed_of(7, base.id, index) for index in range(3)
    ]


def test_ideas_that_are_tried_at_once_share_the_run_of_their_baseline(root: Path) -> None:
    setting = campaign(root, [LATE, *(unused(name) for name in "abcdef")], slots=3)
    with setting.store.read() as reads:
        of_base = reads.runs(setting.campaign.id, proposal_id=1, purposes={"trial"})
        trials = reads.runs(setting.campaign.id, purposes={"trial"})
    assert len(of_base) == 1 and len(trials) == 8


@pytest.mark.parametrize("rung", ["", "decide", "long"])
def test_a_rung_that_is_no_cheaper_means_no_trial(root: Path, rung: str) -> None:
    setting = campaign(root, [unused("b", rung)])
    assert {(run.purpose, run.rung) for run in runs_of(setting, "b")} >= {("screen", "decide")}
    with setting.store.read() as reads:
        assert not reads.runs(setting.campaign.id, purposes={"trial"})


def test_an_unknown_rung_is_told_with_what_may_have_been_meant(root: Path) -> None:
    setting = campaign(root, [unused("b", "shrot"), unused("b", "short")])
    with setting.store.read() as reads:
        bad, good = reads.proposals(setting.campaign.id)[1:]
    assert bad.state == "blocked" and bad.reason.startswith(
        "rung: no rung 'shrot' on this track. Did you mean 'short'?"
    )
    assert good.state != "duplicate"  # what was refused for its rung alone may come again


def test_a_baseline_without_a_score_there_stops_no_idea(root: Path) -> None:
    def broken(knobs: Knobs, seed: int) -> Imagined:
        return replace(at_short(knobs, seed), outcome="crashed")

    setting = campaign(root, [unused("b"), WIDER], broken)
    assert runs_of(setting, "b")[0].purpose == "screen"
    assert end_of(setting, "wider")[0] == "promoted"
    with setting.store.read() as reads:
        base = reads.base(setting.campaign.id)
        tried = reads.runs(setting.campaign.id, proposal_id=base.id, purposes={"trial"})
    assert [run.outcome for run in tried] == ["crashed"]


def test_a_trial_on_a_busy_core_is_made_once_more_at_the_same_rung(root: Path) -> None:
    tries: list[int] = []

    def busy(knobs: Knobs, seed: int) -> Imagined:
        found = at_short(knobs, seed)
        if "b" in knobs:
            tries.append(seed)
        return replace(found, outcome="capped", share=0.5) if "b" in knobs and len(tries) == 1 else found

    setting = campaign(root, [unused("b")], busy)
    first, second, third = runs_of(setting, "b")[:3]
    assert [(one.purpose, one.rung) for one in (first, second, third)] == [
        ("trial", "short"),
        ("recheck", "short"),
        ("screen", "decide"),
    ]
    assert second.seed == first.seed and second.attempt == 2
    assert [words.startswith("trial at short") for words in end_of(setting, "b")[1]][:3] == [True, True, False]


def test_a_trial_reserves_its_own_worst_case_and_needs_the_money_to_go_on(root: Path) -> None:
    world.write_ideas(root, [unused("b")])
    setting = world.open_campaign(root, make_runner=lambda count: TwoRungs(count, 0.2), budget_hours=0.2)
    taken: list[float] = []

    def look() -> None:
        with setting.store.read() as reads:
            for run in reads.runs(setting.campaign.id, states={"running"}, purposes={"trial"}):
                taken.append(reserved_s(setting, reads, run))
                assert f"r{run.id} trial at short p{run.proposal_id} " in status.status(reads, 1).running[0]

    Loop(setting, look).run()
    whole = setting.track.limits.worst_s()
    assert taken and set(taken) == {whole - 15}  # a quarter of 20 s of training; scoring and grace as ever
    with setting.store.write() as tx:
        item = Wanted(tx.head(setting.campaign.id), "trial", None, 1, 1, False, "short")
        left = tx.balance(setting.campaign.id).left().gpu_s
        assert left is not None and left > whole
        budget.reserve(tx, setting.campaign.id, Amount(gpu_s=left - whole + 1), "hold")
    # It would be paid for itself, but no run at the deciding rung would be.
    assert start(setting, item, setting.runner.slots[0]) is None
    with setting.store.read() as reads:
        assert reads.balance(setting.campaign.id).left().gpu_s == pytest.approx(whole - 1)


def test_a_heads_own_trial_is_not_charged_to_its_idea(root: Path) -> None:
    setting = campaign(root, [WIDER, unused("b")])
    with setting.store.read() as reads:
        wider = reads.head(setting.campaign.id)
        mine = [one for one in reads.scored(setting.campaign.id, proposal_id=wider.id) if one.run.baseline_id]
        assert reads.runs(setting.campaign.id, proposal_id=wider.id, purposes={"trial"})[-1].baseline_id is None
        (promise,) = [one for one in promises(reads, setting.campaign.id) if one.proposal_id == wider.id]
    assert mine[0].run.purpose == "trial"
    assert promise.slot_s == pytest.approx(sum(one.measurement.slot_s for one in mine))


def test_what_failed_a_trial_asks_for_no_further_run_of_the_head(root: Path) -> None:
    """A head is run again for every ten ideas that were compared with its figure: those were not."""
    late = [
        world.idea(f"late {n}", ('"crash": 0,', f'"crash": 0,\n    "late": 0.{n},'), rung="short") for n in range(2, 9)
    ]
    late += [
        world.idea(f"more {n}", ('"crash": 0,', f'"crash": 0,\n    "late": {n},'), rung="short") for n in range(2, 9)
    ]
    setting = campaign(root, late)
    with setting.store.read() as reads:
        assert reads.count_proposals(setting.campaign.id, {"worse"}) == 14
        assert len(reads.runs(setting.campaign.id, purposes={"report"})) == 3


def add(setting: Setting, purpose: Purpose, seed: int, outcome: Outcome = "ok", share: float = 1.0) -> None:
    """A run of the base that is done, and what it took of its core."""
    rung = "short" if purpose == "trial" else "decide"
    with setting.store.write() as tx:
        one = tx.add_run(
            setting.campaign.id, 1, None, rung=rung, purpose=purpose, seed=seed, attempt=1, hardware_class="fake",
            script_sha="s1",
        )  # fmt: skip
        tx.update_run(one.id, state="done", outcome=outcome)
        clocks = {"train_wall_s": 4.0, "train_cpu_s": 4.0 * share, "score_wall_s": 1.0, "score_cpu_s": share}
        tx.add_measurement(measurement(one.id, 2.0 if outcome == "ok" else None, slot_s=6.0, **clocks))


def test_a_short_run_tells_nothing_of_what_a_deciding_one_needs(root: Path) -> None:
    world.write_ideas(root, [WIDER])
    setting = world.open_campaign(root, make_runner=TwoRungs)
    for purpose, seed in (("trial", 9), ("report", 1), ("report", 2)):
        add(setting, purpose, seed)  # type: ignore[arg-type]
    with setting.store.read() as reads:
        assert run_limits(setting, reads, "decide") == setting.track.limits
    add(setting, "report", 3)
    with setting.store.read() as reads:
        assert run_limits(setting, reads, "decide").train_wall_s == 2 * 4.0


def test_how_busy_a_core_usually_is_is_not_learnt_from_short_runs(root: Path) -> None:
    world.write_ideas(root, [WIDER])
    setting = world.open_campaign(root, make_runner=TwoRungs)
    add(setting, "report", 1)
    add(setting, "report", 2, "capped", share=0.7)
    for seed in (7, 8, 9):
        add(setting, "trial", seed, share=0.5)
    with setting.store.read() as reads:
        base = reads.base(setting.campaign.id)
        runs = reads.runs(setting.campaign.id, proposal_id=base.id)
        assert disturbed(setting, reads, base, runs).again == {2}


def test_a_finding_on_one_run_and_a_trial_is_no_surer_than_on_one_run(root: Path) -> None:
    setting = campaign(
        root, [world.idea("narrow", ('"width": 4', '"width": 2'), rung="short")], lambda _, n: at_short({}, n)
    )
    assert [run.purpose for run in runs_of(setting, "narrow")] == ["trial", "screen"]
    with setting.store.read() as reads:
        narrow = reads.proposals(setting.campaign.id)[-1]
    Learning(setting, REAL)._write(narrow, Taught("narrower is worse", 0.9, (), None))
    with setting.store.read() as reads:
        (lesson,) = lessons(reads, setting.campaign.id)
    assert lesson.confidence == ONE_RUN and len(lesson.runs) == 2


def test_no_figure_mixes_rungs(root: Path) -> None:
    """A short run is worse by a whole BPB here, so a mean over both rungs could not be overlooked."""
    setting = campaign(root, [LATE, unused("b"), WIDER, unused("c"), unused("d")])
    with setting.store.read() as reads:
        id_ = setting.campaign.id
        everything = reads.scored(id_)
        short = [one for one in everything if one.run.rung == "short"]
        deciding = [one for one in everything if one.run.rung == "decide"]
        assert len(short) >= 7 and min(map(bpb, short)) > 2.5 > max(map(bpb, deciding))
        head, base = reads.head(id_), reads.base(id_)
        assert head.title == "wider"
        # Noise, and the verdicts.
        groups = noise.groups(reads.replicates(id_))
        assert all(value < 2.5 for group in groups.values() for value in group.values())
        assert sum(map(len, groups.values())) == len(deciding)
        found = [v for p in reads.proposals(id_) for v in reads.verdicts(p.id)]
        tried = [v for v in found if v.words.startswith("trial at short")]
        assert len(tried) == 5 and {(v.gain, v.stderr, v.sigma, v.n_candidate) for v in tried} == {
            (None, None, None, 0)
        }
        assert all(abs(v.gain) < 0.5 and v.sigma < 0.1 for v in found if v.gain is not None and v.sigma is not None)
        late = next(p for p in reads.proposals(id_) if p.title == "late")
        row = next(row for row in reads.trials(id_) if row.proposal_id == late.id)
        assert (row.gain, row.bpb, row.total_bytes, row.runs) == (None, None, None, 0)
        # Heads, boards, what is best, and the frontier.
        assert status.head_bpb(reads, base)[0] == pytest.approx(mean(deciding, base.id, "report"))
        (best,) = reads.view("best_valid", id_)
        assert (best["proposal_id"], best["rung"]) == (head.id, "decide")
        assert best["bpb"] == pytest.approx(mean(deciding, head.id, "report"))
        assert all(row["bpb"] < 2.5 and abs(row["delta_bpb"] or 0) < 0.5 for row in reads.view("lineage", id_))
        for name in ("leaderboard", "frontier"):
            rows = reads.view(name, id_)  # type: ignore[arg-type]
            assert {(row["rung"], row["bpb"] > 2.5) for row in rows} == {("decide", False), ("short", True)}
            assert len({(row["board_id"], row["rung"]) for row in rows}) == 2
        assert history.run_s(reads, id_) == pytest.approx(statistics.fmean(s.measurement.slot_s for s in deciding))
        # Limits come from the base's own deciding runs, and a short run's are those times its share.
        limits = run_limits(setting, reads, "decide")
        assert limits.train_wall_s == min(20, 2 * 36.0)
        assert run_limits(setting, reads, "short").train_wall_s == limits.train_wall_s / 4
        # Pictures.
        shown = picture(reads, id_)
        assert all(one.bpb < 2.5 for one in (*shown.dots, *shown.steps, *shown.nodes))
        assert len(shown.dots) == len(deciding) and late.id not in {node.proposal_id for node in shown.nodes}
        # The table of experiments has the same.
        cells = {cell[1]: cell for cell in map(_cells, experiments(reads, id_).splitlines()) if len(cell) > 6}
        assert float(cells[f"p{head.id}"][5]) == pytest.approx(mean(deciding, head.id, "report"), abs=1e-4)
        assert cells[f"p{late.id}"][5] == ""
        # Rows name the rung.
        rows = tables.runs(reads, id_, late.id)
        assert [(row["rung"], row["purpose"]) for row in rows] == [("short", "trial")]
        assert re.search(r"\br\d+ +p\d+ +short +trial +ok\b", tables.runs_words(rows))
    trailer = world.git(root, "log", "-1", "--format=%(trailers:key=Val-Bpb,valueonly)", "caddie/toy-1").strip()
    assert float(trailer) < 2.5
    told = world.git(root, "log", "-1", "--format=%(trailers:key=Runs,valueonly)", "caddie/toy-1").split()
    assert told == [f"r{one.run.id}" for one in deciding if one.run.proposal_id == head.id and one.run.baseline_id]


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def bpb(one: Scored) -> float:
    assert one.measurement.bpb is not None
    return one.measurement.bpb


def mean(scored: list[Scored], proposal_id: int, purpose: str) -> float:
    return statistics.fmean(bpb(s) for s in scored if (s.run.proposal_id, s.run.purpose) == (proposal_id, purpose))

"""Gates before statistics: what is broken, in which order, and what is not."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.judge import gates
from agent.records import Finding, Outcome, ProposalState, Purpose
from agent.setting import known
from agent.states import TRANSITIONS
from agent.steps.decide import NEXT_STATE
from agent.store import Scored
from tests.scored import TRACK, scored


def run(
    run_id: int,
    seed: int,
    *,
    purpose: Purpose = "screen",
    slot: str = "s0",
    outcome: Outcome = "ok",
    reason: str = "",
    spread: float = 0.02,
    nats: tuple[float, ...] | None = None,
    **measured: object,
) -> Scored:
    """A run with documents that differ from those of other seeds as honest training makes them differ."""
    draw = random.Random(run_id)
    documents = nats or tuple(1000.0 * (1 + spread * draw.gauss(0, 1)) for _ in range(60))
    measured = {"doc_nats": documents if outcome == "ok" else (), **measured}
    return scored(run_id, 2.5, purpose=purpose, seed=seed, slot=slot, outcome=outcome, reason=reason, **measured)


BASELINE = [run(n, n, purpose="report", slot=f"s{n % 2}", train_cpu_s=20.0 + n % 2) for n in (1, 2, 3)]


def check(*runs: Scored, baseline: list[Scored] = BASELINE) -> gates.Broken | None:
    return gates.check(TRACK, runs, baseline)


def test_nothing_is_broken() -> None:
    assert check(run(11, 1), run(12, 2), run(13, 3)) is None
    assert check(run(11, 1, train_cpu_s=None), baseline=[]) is None


@pytest.mark.parametrize(
    ("outcome", "reason", "measured", "words"),
    [
        (
            "crashed",
            "train: ended with exit code 1; see train.log",
            {},
            "train: ended with exit code 1; see train.log",
        ),
        ("no_artifact", "no artifact m was written", {}, "no artifact m was written: no score"),
        (
            "capped",
            "train: stopped at its wall limit (60 s)",
            {"train_wall_s": 60.1, "train_cpu_s": 59.0},
            "stopped by its wall limit of 60 s: no score",
        ),
        ("capped", "train: stopped at its memory limit", {}, "train: stopped at its memory limit: no score"),
        (
            "score_failed",
            "judge: ended with exit code 1",
            {"findings": (Finding("no_score", "note", "the decode process lost bytes"),)},
            "the decode process lost bytes: no score",
        ),
    ],
)
def test_without_a_score(outcome: Outcome, reason: str, measured: dict[str, object], words: str) -> None:
    broken = check(run(11, 1), run(12, 2, outcome=outcome, reason=reason, **measured))
    assert broken is not None and broken.decision == "crashed"
    assert broken.words.startswith("r12: ") and words in broken.words


def test_an_accusation_that_could_not_be_repeated_bars_without_breaking_a_rule() -> None:
    """Its severity spreads to no descendant; a trial does not let it through either."""
    words = "accused of mean_mismatch: over 3,000 positions"
    one = run(12, 2, findings=(Finding("repeat_unfinished", "flag", words), Finding("code_size", "note", "small")))
    assert check(run(11, 1), one) == gates.Broken("inconclusive", f"r12: repeat_unfinished: {words}")


def test_nothing_rests_on_a_run_beside_which_bytes_left_that_nobody_claims() -> None:
    """One is enough; what was counted and not the run's is a note."""
    words = "train: nobody knows whose connections sent 1 of the machine's 99 bytes meanwhile"
    one, fine = (run(12, 2, findings=(Finding("network", severity, words),)) for severity in ("flag", "note"))
    assert check(run(11, 1), one) == gates.Broken("inconclusive", f"r12: network: {words}")
    assert check(run(11, 1), fine) is None
    assert gates.at_trial(TRACK, [one], BASELINE) == check(one)
    severe = run(13, 3, findings=(Finding("below_floor", "invalid", "known"),))
    assert check(one, severe) == gates.Broken("invalid", "r13: below_floor: known")


@pytest.mark.parametrize("rule", ["holdout_gap", "holdout_ruined"])
def test_nothing_rests_on_a_gain_that_may_be_of_documents_that_are_known(rule: str) -> None:
    one = run(12, 2, findings=(Finding(rule, "flag", "only where it is scored"),))
    assert check(run(11, 1), one) == gates.Broken("inconclusive", f"r12: {rule}: only where it is scored")
    assert gates.at_trial(TRACK, [one], BASELINE) == check(one)


@pytest.mark.parametrize("rule", ["train_clock", "score_clock"])
def test_nothing_is_accepted_of_a_run_whose_clock_is_over(rule: str) -> None:
    """A slow machine breaks no rule; what submission would refuse is no gain either."""
    one, note = (run(12, 2, findings=(Finding(rule, severity, "700 s"),)) for severity in ("flag", "note"))
    assert check(run(11, 1), one) == gates.Broken("inconclusive", f"r12: {rule}: 700 s")
    assert gates.at_trial(TRACK, [one], BASELINE) == check(one)
    assert check(run(11, 1), note) is None


@pytest.mark.parametrize("rule", ["repeat_unfinished", "mean_mismatch", "holdout_gap", "score_clock"])
def test_no_head_has_a_figure_by_runs_that_an_audit_accused(rule: str) -> None:
    """Of an idea, an accusation that was not repeated only costs the run its trust."""
    one = run(12, 2, findings=(Finding(rule, "flag", "not repeated"),))
    assert gates.no_figure([run(11, 1), one]) == gates.Broken("inconclusive", f"r12: {rule}: not repeated")
    assert (check(one) is None) == (rule == "mean_mismatch")
    assert gates.no_figure([run(11, 1), run(12, 2, findings=(Finding("code_size", "note", "small"),))]) is None


def test_no_head_has_a_figure_by_those_of_its_runs_that_have_a_score() -> None:
    fresh = [run(11, 1), run(12, 2, outcome="crashed", reason="it fell over"), run(13, 3), run(14, 4)]
    assert gates.no_figure(fresh) == gates.Broken("crashed", "1 of its 4 fresh runs have no score (r12: it fell over)")
    severe = run(15, 5, findings=(Finding("below_floor", "invalid", "known"),))
    assert gates.no_figure([*fresh, severe]) == gates.Broken("invalid", "r15: below_floor: known")


WALL = "train: stopped at its wall limit (48 s)"


@pytest.mark.parametrize(
    ("purpose", "outcome", "train", "score", "decision"),
    [
        ("screen", "capped", (49.0, 25.6), (None, None), "recheck"),
        ("confirm", "capped", (36.1, 24.2), (14.7, 6.2), "recheck"),
        ("confirm", "capped", (24.1, 23.9), (20.0, 3.0), "recheck"),  # busy at the end only
        ("recheck", "capped", (49.0, 25.6), (None, None), "recheck"),
        ("recheck", "capped", (49.0, 48.1), (None, None), "crashed"),
        ("screen", "capped", (49.0, 48.1), (None, None), "crashed"),  # slow by itself
        ("screen", "capped", (49.0, 8.0), (None, None), "recheck"),
        ("screen", "capped", (49.0, 3.1), (None, None), "crashed"),  # asleep
        ("screen", "crashed", (49.0, 25.6), (None, None), "crashed"),
        ("screen", "capped", (None, None), (None, None), "crashed"),
    ],
)
def test_a_run_that_hit_its_limit_on_a_busy_core_has_another_try(
    purpose: Purpose, outcome: Outcome, train: tuple[float, float], score: tuple[float, float], decision: str
) -> None:
    clocks = dict(zip(("train_wall_s", "train_cpu_s", "score_wall_s", "score_cpu_s"), (*train, *score), strict=True))
    one = run(11, 1, purpose=purpose, outcome=outcome, reason=WALL, **clocks)
    broken = check(one)
    assert broken is not None and broken.decision == decision
    on_gpus = TRACK.model_copy(update={"hardware": TRACK.hardware.model_copy(update={"kind": "cuda"})})
    broken = gates.check(on_gpus, [one], BASELINE)
    assert broken is not None and broken.decision == "crashed"


def test_a_busy_core_is_never_the_ideas_fault_and_has_an_end() -> None:
    """A good try counts, however many were starved before; where none was good the idea is let go untested."""
    clocks = {"outcome": "capped", "reason": WALL, "train_wall_s": 49.0, "train_cpu_s": 25.6}
    tries = [run(11, 1, **clocks), *(run(11 + n, 1, purpose="recheck", **clocks) for n in range(1, gates.MOST_STARVED))]
    for n in range(1, gates.MOST_STARVED):
        assert known(check(*tries[:n])).decision == "recheck"
        assert check(*tries[:n], run(20, 1, purpose="recheck")) is None
        crashed = check(*tries[:n], run(20, 1, purpose="recheck", outcome="crashed"))
        assert known(crashed).decision == "crashed"
        slow = run(20, 1, purpose="recheck", train_cpu_s=26.5)  # for the first time
        assert known(check(*tries[:n], slow)).decision == "recheck"
        assert known(check(*tries[:n], slow, run(21, 1, purpose="recheck", train_cpu_s=26.5))).decision == "invalid"
    last = known(check(*tries))
    assert last.decision == "starved" and "at each of 4 tries" in last.words
    assert known(check(*tries, run(30, 2, **clocks))).decision == "starved"  # another seed has tries of its own
    assert known(check(run(30, 2, **clocks), *tries[:3])).decision == "recheck"


def test_the_kernel_says_best_whether_a_core_was_busy() -> None:
    """Who waits for itself has the share of a busy core, and is told from it; who has few seconds of one, too."""
    for share, rule, decision in ((25.6, "core_free", "crashed"), (3.1, "core_busy", "recheck")):
        clocks = {"outcome": "capped", "reason": WALL, "train_wall_s": 49.0, "train_cpu_s": share}
        one = run(11, 1, findings=(Finding(rule, "note", "it was ready to run"),), **clocks)
        assert known(check(one)).decision == decision


def test_a_score_without_a_good_end_does_not_count() -> None:
    half = run(11, 1)
    broken = check(Scored(replace(half.run, outcome="score_failed"), half.measurement))
    assert broken is not None and broken.decision == "crashed"


def test_findings_bar_only_if_they_are_severe() -> None:
    flags = (Finding("reported_differs", "flag", "says 2.0"), Finding("x", "note", "y"))
    assert check(run(11, 1, findings=flags)) is None
    broken = check(run(11, 1, findings=(*flags, Finding("below_floor", "invalid", "knew the text"))))
    assert broken == ("invalid", "r11: below_floor: knew the text")


@pytest.mark.parametrize("judge", [gates.check, gates.at_trial])
def test_what_talked_to_the_network_is_invalid_also_without_a_score(judge: Callable[..., gates.Broken | None]) -> None:
    """It was ended for that; and a busy core is no excuse, as it is for other limits."""
    found = (Finding("network", "invalid", "train: it talked to the network: 81 bytes"),)
    one = run(11, 1, outcome="capped", train_wall_s=9.0, train_cpu_s=1.0, findings=found)
    broken = judge(TRACK, [run(12, 2, outcome="crashed"), one], BASELINE)
    assert broken == ("invalid", "r11: network: train: it talked to the network: 81 bytes")
    flagged = run(11, 1, findings=(Finding("network", "flag", "nobody knows whose"),))
    assert judge(TRACK, [flagged], BASELINE) == gates.Broken("inconclusive", "r11: network: nobody knows whose")


def test_inert_is_the_same_scores_with_the_same_seed() -> None:
    same = BASELINE[1].measurement.doc_nats
    broken = check(run(11, 2, nats=same))
    assert broken is not None and broken.decision == "inert" and "r11" in broken.words and "r2" in broken.words
    assert check(run(11, 9, nats=same)) is None  # another seed: chance, or a fixed seed, but not this rule
    assert check(run(11, 2, nats=(same[0] * (1 + 1e-6), *same[1:]))) is None
    assert check(run(11, 2, nats=same[:-1])) is None


def test_over_budget_is_asked_twice() -> None:
    slow = run(11, 1, train_cpu_s=26.5)  # slot s0: 1.3 * 20.0
    broken = check(slow)
    assert broken is not None and broken.decision == "recheck" and "26.5" in broken.words and "26.0" in broken.words
    again = run(12, 1, purpose="recheck", train_cpu_s=26.6)
    broken = check(slow, again)
    assert broken is not None and broken.decision == "invalid" and "over_budget" in broken.words
    fine = run(12, 1, purpose="recheck", train_cpu_s=21.0, nats=slow.measurement.doc_nats)
    assert check(slow, fine) is None
    assert check(run(11, 1, slot="s1", train_cpu_s=26.5)) is None  # that slot's baseline took 21
    elsewhere = check(run(11, 1, slot="s9", train_cpu_s=27.5))  # all slots: 1.3 * 20.67
    assert elsewhere is not None and "26.9" in elsewhere.words
    assert gates.check(TRACK.model_copy(update={"compute": None}), [slow], BASELINE) is None


def test_a_recheck_replaces_what_it_repeats() -> None:
    runs = [run(11, 1), run(12, 2), run(13, 2, purpose="recheck"), run(14, 3)]
    assert [one.run.id for one in gates.effective(runs)] == [11, 13, 14]
    slow_then_dead = check(run(11, 1, train_cpu_s=99.0), run(12, 1, purpose="recheck", outcome="crashed"))
    assert slow_then_dead is not None and slow_then_dead.decision == "crashed"


def test_a_second_try_is_no_second_draw() -> None:
    """Who overspends where it was unlucky gets one; on GPUs and on another machine a script does not repeat itself."""
    slow = run(11, 1, train_cpu_s=99.0)
    other = run(12, 1, purpose="recheck", train_cpu_s=20.0)
    broken = known(check(slow, other))
    assert broken.decision == "inconclusive" and broken.words.startswith("r11 and r12 had the same seed, and differ by")
    elsewhere = Scored(replace(other.run, lease="another"), other.measurement)
    assert check(slow, elsewhere) is None
    on_gpus = TRACK.model_copy(update={"hardware": TRACK.hardware.model_copy(update={"kind": "cuda"})})
    assert gates.check(on_gpus, [slow, other], BASELINE) is None


def test_a_fixed_seed_is_seen() -> None:
    one = run(11, 1)
    copy = tuple(value * (1 + 1e-7) for value in one.measurement.doc_nats)
    broken = check(one, run(12, 2, nats=copy))
    assert broken is not None and broken.decision == "invalid" and "seed_ignored: r11 and r12" in broken.words
    # A tenth of what the baseline's seeds do is little; a quarter can be an idea that calms training.
    assert check(run(11, 1, spread=0.001), run(12, 2, spread=0.001)) is not None
    assert check(run(11, 1, spread=0.005), run(12, 2, spread=0.005)) is None
    assert check(one, run(12, 2, nats=copy), baseline=[]) is not None
    assert check(run(11, 1), run(12, 1, purpose="recheck", nats=one.measurement.doc_nats)) is None


def test_an_unknown_size_never_passes_a_limit() -> None:
    found = check(run(11, 1), run(12, 2, total_bytes=None))
    assert found is not None
    assert (found.decision, found.words) == ("invalid", "r12: its size is unknown, and the track allows 1,000 bytes")
    unlimited = TRACK.model_copy(update={"limits": TRACK.limits.model_copy(update={"artifact_bytes": None})})
    assert gates.check(unlimited, [run(12, 2, total_bytes=None)], BASELINE) is None


def test_the_size_is_no_rule() -> None:
    assert check(run(11, 1, total_bytes=10**9)) is None


def test_order_what_says_most_comes_first() -> None:
    severe = (Finding("not_normalised", "invalid", "sums to 2"),)
    everything = run(12, 2, nats=BASELINE[1].measurement.doc_nats, findings=severe, train_cpu_s=99.0)
    assert check(run(11, 1, outcome="crashed"), everything).decision == "crashed"  # type: ignore[union-attr]
    assert check(everything).words.startswith("r12: not_normalised")  # type: ignore[union-attr]
    bare = Scored(everything.run, replace(everything.measurement, findings=()))
    assert check(bare).decision == "inert"  # type: ignore[union-attr]


@pytest.mark.parametrize("before", ["measured", "confirming"])
def test_whatever_may_be_decided_of_an_idea_may_follow(before: ProposalState) -> None:
    """An idea can turn out to be inert, oversize or invalid at any of its seeds, not only at the first."""
    asked = {"measured": {"accept"}, "confirming": {"confirm"}}  # said only of the others
    for decision, state in NEXT_STATE.items():
        assert decision in asked[before] or state in TRANSITIONS[before], (before, decision)


@pytest.mark.parametrize(
    ("base", "mine", "ignored"),
    [
        ((2.31001234, 2.31498765), (2.30123456, 2.30123456), True),
        ((2.31001234, 2.31498765), (2.30123456, 2.30123457), False),
        ((2.31001234, 2.31001234), (2.30123456, 2.30123456), False),  # so does the baseline
        ((2.3100, 2.3149), (2.3012, 2.3012), False),  # four digits agree by chance
        ((2.31001234,), (2.30123456, 2.30123456), False),  # nothing tells how far seeds differ
    ],
)
def test_a_reported_score_that_no_seed_changes_is_seen_by_its_digits(
    base: tuple[float, ...], mine: tuple[float, ...], ignored: bool
) -> None:
    """No document's nats are known there."""
    theirs, runs = (
        [scored(first + n, bpb, seed=n, trust="reported", doc_nats=()) for n, bpb in enumerate(side)]
        for first, side in ((1, base), (11, mine))
    )
    broken = gates.seed_ignored(runs, theirs)
    assert (broken is not None) == ignored
    if broken is not None:
        words = "seed_ignored: r11 and r12 had different seeds and report the same 2.30123456 BPB"
        assert broken == gates.Broken("invalid", words)

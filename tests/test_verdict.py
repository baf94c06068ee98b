"""Verdicts: what is accepted, how soon the rest is given up, and how often luck is promoted."""

import math
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks.simulated_campaigns as simulation
from agent.judge import comparable, verdict
from agent.judge.noise import Noise
from agent.records import Proposal, Verdict
from agent.store import Scored
from agent.tables import DecisionRule
from agent.track import load
from tests.scored import scored as a_run

TRACK, _ = load("tiny", Path.cwd())
RULE = TRACK.decision
NOISE = Noise(0.012, 30, 0.0)
BASE = (2.320, 2.330, 2.340)


def proposal(number: int, baseline: int | None) -> Proposal:
    texts = dict.fromkeys(("reason", "title", "hypothesis", "planner", "edits", "diff", "reviewed_by"), "")
    return Proposal(
        id=number,
        campaign_id=1,
        state="measured",
        source_id=baseline,
        baseline_id=baseline,
        commit=None,
        mode="exploit",
        kind="knob",
        patch_id="",
        ast_hash="",
        config_hash="",
        expected_step=None,
        rung="",
        knobs={},
        expected_gain=0.0,
        confidence=0.5,
        expected_bytes=None,
        risk=(),
        evidence=(),
        created="",
        updated="",
        **texts,
    )


def scored(bpbs: Sequence[float], first_seed: int = 1, total_bytes: int = 150_000) -> list[Scored]:
    return [one(seed, bpb, total_bytes) for seed, bpb in enumerate(bpbs, first_seed)]


def one(seed: int, bpb: float, total_bytes: int) -> Scored:
    return a_run(seed, bpb, seed=seed, total_bytes=total_bytes)


def decide(bpbs: Sequence[float], *, confirming: bool = False, total_bytes: int = 150_000) -> Verdict:
    return verdict.decide(
        TRACK,
        proposal(2, 1),
        candidate=scored(bpbs, total_bytes=total_bytes),
        baseline=scored(BASE, first_seed=101),
        noise=NOISE,
        level=RULE.alpha,
        confirming=confirming,
    )


# ---------------------------------------------------------------- one verdict


def test_lower_is_better_and_the_words_say_what_was_seen() -> None:
    found = decide([2.270, 2.280], confirming=True)
    assert found.decision == "accept"
    assert (found.proposal_id, found.baseline_id, found.n_candidate, found.n_baseline) == (2, 1, 2, 3)
    assert found.gain == pytest.approx(0.055)
    assert found.stderr == pytest.approx(0.012 * math.sqrt(1 / 2 + 1 / 3))
    assert (found.sigma, found.df, found.rho) == (0.012, 30, 0.0)
    assert re.fullmatch(
        r"2\.3300 -> 2\.2750 over 2 seeds: gain \+0\.0550 ± 0\.0110, p = \d\.?\de-0\d; passes", found.words
    ), found.words
    assert decide([2.39, 2.38], confirming=True).decision == "worse"


def test_p_is_one_sided_and_of_student() -> None:
    from scipy.stats import t

    found = decide([2.31, 2.30])
    assert found.gain is not None and found.stderr is not None
    assert found.p == pytest.approx(t.sf(found.gain / found.stderr, 30), rel=1e-9)
    assert decide([2.36]).p == pytest.approx(1 - t.cdf(-0.03 / (0.012 * math.sqrt(4 / 3)), 30), rel=1e-9)


def test_one_run_never_passes() -> None:
    for gain in (0.05, 0.5, 2.0):
        for confirming in (False, True):
            assert decide([2.33 - gain], confirming=confirming).decision == "confirm"


def test_screening_that_passes_is_still_to_be_confirmed() -> None:
    assert decide([2.270, 2.280]).decision == "confirm"


def test_a_bad_idea_costs_one_run() -> None:
    for loss in (0.0, 0.01, 0.05, 0.5):
        found = decide([2.33 + loss])
        assert found.decision in ("worse", "inconclusive")
        assert "1 seed:" in found.words
    assert decide([2.43]).decision == "worse" and decide([2.43]).words.endswith("not better")


def test_a_gain_that_is_sure_but_too_small_to_matter_is_not_accepted() -> None:
    sharp = Noise(0.0005, 300, 0.0)
    candidate = scored([2.33 - RULE.min_gain / 2] * 3)
    for confirming in (False, True):
        found = verdict.decide(
            TRACK,
            proposal(2, 1),
            candidate=candidate,
            baseline=scored(BASE, 101),
            noise=sharp,
            level=RULE.alpha,
            confirming=confirming,
        )
        assert found.p is not None and found.p < 1e-9
        assert found.decision == "worse"


def test_after_the_last_seed_there_is_always_an_end() -> None:
    draw = random.Random(8)
    for _ in range(300):
        bpbs = [draw.gauss(2.33 - draw.uniform(-0.05, 0.1), 0.02) for _ in range(RULE.max_seeds)]
        assert decide(bpbs, confirming=True).decision in ("accept", "worse", "inconclusive")


def test_screening_leaves_a_seed_to_confirm_with() -> None:
    draw = random.Random(9)
    for _ in range(300):
        bpbs = [draw.gauss(2.31, 0.02) for _ in range(RULE.max_seeds - 1)]
        assert decide(bpbs).decision != "more"


def test_an_oversize_idea_is_told_by_how_much_and_what_it_gained() -> None:
    limit = TRACK.limits.artifact_bytes
    assert limit is not None
    found = decide([2.2], total_bytes=limit + 1234)
    assert found.decision == "oversize"
    assert f"{limit + 1234:,} bytes are 1,234 over the limit" in found.words and "+0.1300" in found.words
    assert decide([2.2], total_bytes=limit).decision == "confirm"


def test_seeds_in_common_make_a_gain_surer_if_they_share_noise() -> None:
    mine, theirs = {1: 2.30, 2: 2.31}, {1: 2.32, 2: 2.33, 3: 2.34}
    apart = verdict.compare(mine, theirs, Noise(0.012, 30, 0.0))
    paired = verdict.compare(mine, theirs, Noise(0.012, 30, 0.6))
    assert apart.mean == paired.mean and paired.stderr < apart.stderr and paired.p < apart.p
    assert paired.stderr == pytest.approx(0.012 * math.sqrt(1 / 2 + 1 / 3 - 2 * 0.6 * 2 / 6))
    others = verdict.compare({11: 2.30, 12: 2.31}, theirs, Noise(0.012, 30, 0.6))
    assert others.stderr == apart.stderr


def test_the_formula_of_the_error_with_pairs() -> None:
    """The variance of a difference of means that share seeds, by drawing it."""
    draw = random.Random(10)
    rho, sigma, gains = 0.5, 0.012, []
    for _ in range(20_000):
        luck = [draw.gauss(0, math.sqrt(rho)) for _ in range(3)]

        def bpb(at: int, luck: list[float] = luck) -> float:
            return sigma * (luck[at] + draw.gauss(0, math.sqrt(1 - rho)))

        theirs, mine = {at: bpb(at) for at in range(3)}, {at: bpb(at) for at in range(2)}
        gains.append(verdict.compare(mine, theirs, Noise(sigma, 30, rho)).mean)
    stderr = verdict.compare({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0, 2: 1.0}, Noise(sigma, 30, rho)).stderr
    assert statistics.pstdev(gains) == pytest.approx(stderr, rel=0.02)


@pytest.mark.parametrize("seeds", [2, 3, 4, 8, 16])
def test_the_looks_share_the_level(seeds: int) -> None:
    rule = RULE.model_copy(update={"max_seeds": seeds})
    assert verdict.share(rule, 0.01) * (seeds - 1) == pytest.approx(0.01)


def test_the_level_falls_with_what_was_tried_for_nothing_and_rises_with_what_was_kept() -> None:
    assert verdict.level(RULE, 0, 0) == RULE.alpha
    falling = [verdict.level(RULE, tested, 0) for tested in range(0, 400, 20)]
    assert falling == sorted(falling, reverse=True) and falling[-1] < RULE.alpha / 10
    rising = [verdict.level(RULE, 200, kept) for kept in range(40)]
    assert rising == sorted(rising) and rising[-1] == RULE.alpha
    # At the level of a campaign that goes on as it began, luck stays a tenth of what is kept.
    assert verdict.PASSING * 200 * verdict.level(RULE, 200, 9) == pytest.approx(10 * RULE.fdr, rel=0.05)


def test_a_level_that_has_fallen_makes_an_idea_harder_to_accept() -> None:
    both = [
        verdict.decide(
            TRACK,
            proposal(2, 1),
            candidate=scored([2.285, 2.280]),
            baseline=scored(BASE, first_seed=101),
            noise=NOISE,
            level=level,
            confirming=True,
        ).decision
        for level in (RULE.alpha, RULE.alpha / 500)
    ]
    assert both == ["accept", "confirm"]


def test_a_baseline_is_run_more_often_only_for_ideas_that_are_looked_at_often() -> None:
    counts = [verdict.baseline_runs(RULE, seeds) for seeds in range(1, RULE.max_seeds + 1)]
    assert counts[:2] == [RULE.report_seeds] * 2
    assert counts == sorted(counts) and counts[-1] <= verdict.MOST_REPORTS and counts[2] > RULE.report_seeds
    many = RULE.model_copy(update={"report_seeds": 16, "max_seeds": 16})
    assert {verdict.baseline_runs(many, seeds) for seeds in range(1, 17)} == {16}


INCOMPARABLE = (
    ("rung", {"rung": "short"}, {}),
    ("hardware class", {"hardware_class": "cuda/H100/1"}, {}),
    ("data", {}, {"data_sha": "another"}),
    ("source", {}, {"trust": "reported"}),
    ("judge version", {}, {"judge_version": 99}),
    ("part of the text", {}, {"bytes_scored": 500}),
)


@pytest.mark.parametrize(("what", "run", "measured"), INCOMPARABLE, ids=[one[0] for one in INCOMPARABLE])
def test_what_is_not_comparable_is_refused_in_words(
    what: str, run: dict[str, object], measured: dict[str, object]
) -> None:
    mine, theirs = scored([2.270, 2.280]), scored(BASE, first_seed=101)
    odd = theirs[-1]
    theirs[-1] = Scored(replace(odd.run, **run), replace(odd.measurement, **measured))  # type: ignore[arg-type]
    found = verdict.decide(
        TRACK, proposal(2, 1), candidate=mine, baseline=theirs, noise=NOISE, level=RULE.alpha, confirming=True
    )
    assert (found.decision, found.gain, found.p) == ("inconclusive", None, None)
    assert f"not compared: another {what}" in found.words and f"r{odd.run.id}" in found.words
    again = verdict.fresh(proposal(2, 1), proposal(1, None), mine, theirs, NOISE)
    assert again.decision == "inconclusive" and what in again.words  # nothing that would take a head back
    audited = Scored(odd.run, replace(odd.measurement, trust="blind", bytes_scored=995))  # the contest drops a rest
    assert comparable.apart(mine, [*theirs[:-1], audited]) is None


def test_fresh_runs_that_show_no_gain_contradict() -> None:
    head, parent = proposal(2, 1), proposal(1, None)
    holds = verdict.fresh(head, parent, scored([2.29, 2.30, 2.31], 201), scored(BASE, 101), NOISE)
    assert holds.decision == "accept" and "the gain holds" in holds.words
    for bpbs in ([2.33, 2.34, 2.35], [2.36, 2.38, 2.37]):
        gone = verdict.fresh(head, parent, scored(bpbs, 201), scored(BASE, 101), NOISE)
        assert gone.decision == "worse" and "taken back" in gone.words


def test_what_a_budget_can_resolve_is_said_before_it_is_spent() -> None:
    text = verdict.resolvable(TRACK, 25 * 60 * 2, 45.0)
    assert text.startswith("About 66 runs of 45 s") and "BPB" in text
    seen, hardly = (float(found) for found in re.findall(r"0\.\d{4}\b", text)[:2])
    sigma = RULE.prior_sigma
    assert simulation.alone(RULE, 200, seen, sigma, 0.0).accepted > 0.75
    assert simulation.alone(RULE, 200, hardly, sigma, 0.0).accepted < 0.25
    figures = [float(found) for found in re.findall(r"0\.\d{4}\b", text)]
    assert 0 < figures[1] < figures[0] < 0.2
    assert verdict.resolvable(TRACK, 0.0, 45.0).startswith("About 0 runs")


def test_a_command_that_only_prints_does_not_wait_for_heavy_libraries() -> None:
    code = "import sys, agent.judge.verdict; print({'scipy', 'numpy', 'sqlalchemy'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


# ---------------------------------------------------------------- many verdicts


def passes(rule: DecisionRule, draw: random.Random, effect: float, sigma: float) -> bool:
    """One idea against a fresh head of its own, with the noise known as well as after a dozen groups."""
    noise = Noise(sigma * math.sqrt(draw.gammavariate(15, 1 / 15)), 30, 0.0)
    theirs = {at: draw.gauss(2.33, sigma) for at in range(rule.report_seeds)}
    mine: dict[int, float] = {}
    confirming = False
    while True:
        mine[100 + len(mine)] = draw.gauss(2.33 - effect, sigma)
        found = verdict.decide(
            TRACK.model_copy(update={"decision": rule}),
            proposal(2, 1),
            candidate=[one(seed, bpb, 1) for seed, bpb in mine.items()],
            baseline=[one(seed, bpb, 1) for seed, bpb in theirs.items()],
            noise=noise,
            level=rule.alpha,
            confirming=confirming,
        )
        if found.decision not in ("more", "confirm"):
            return found.decision == "accept"
        confirming = confirming or found.decision == "confirm"


def test_all_looks_together_pass_no_more_nulls_than_alpha() -> None:
    """With an alpha that is large enough to be counted, and nothing else in the way."""
    rule = RULE.model_copy(update={"alpha": 0.1, "min_gain": 0.0})
    draw = random.Random(11)
    count = 4000
    passed = sum(passes(rule, draw, 0.0, 0.012) for _ in range(count))
    assert 0.03 * count < passed < 0.1 * count + 2 * math.sqrt(count * 0.09)


def test_a_gain_of_four_sigma_is_nearly_always_found() -> None:
    draw = random.Random(12)
    assert sum(passes(RULE, draw, 0.05, 0.012) for _ in range(400)) > 360


@pytest.mark.parametrize("name", simulation.TRACKS)
def test_ideas_one_by_one(name: str) -> None:
    """Each against a fresh head: few nulls pass, most gains of twice the noise do, and soon."""
    rule = simulation.track(name).decision
    for settled in (0.0, simulation.SETTLED):
        null = simulation.alone(rule, 250, 0.0, rule.prior_sigma, settled)
        good = simulation.alone(rule, 150, 2 * rule.prior_sigma, rule.prior_sigma, settled)
        assert null.accepted <= 0.02 + 2 * math.sqrt(0.02 * 0.98 / 250) and null.runs < 2.5
        assert simulation.alone_if_lower(2000, 0.0, rule.prior_sigma).accepted == pytest.approx(0.5, abs=0.04)
        assert good.accepted >= 0.8 - 2 * math.sqrt(0.8 * 0.2 / 150) and good.runs <= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", simulation.TRACKS)
def test_of_what_a_campaign_promotes_nine_in_ten_are_real(name: str) -> None:
    """200 ideas, 5 % of them gain twice the noise: heads change, some are taken back, one baseline judges many."""
    rule = simulation.track(name).decision
    sigma = rule.prior_sigma
    ours, theirs = simulation.simulate(rule, 25, 200, 0.05, 2 * sigma, sigma)
    assert ours.promoted > 100 and ours.promoted_nulls <= 0.1 * ours.promoted
    assert ours.power > 0.5 and ours.runs / ours.tested < 2.5
    assert theirs.promoted_nulls > 0.5 * theirs.promoted  # keep-if-lower, on the same ideas
    # What is reported for the head, within what 25 campaigns can tell.
    error = 2 * statistics.stdev(ours.head_errors) / math.sqrt(25)
    assert abs(statistics.fmean(ours.head_errors)) < 0.2 * sigma + error
    assert statistics.fmean(theirs.head_errors) > sigma

"""A trial at a cheaper rung: who is dropped there, how often by bad luck alone, and what bytes say."""

import random
from dataclasses import replace

import pytest

from agent import track as tracks
from agent.judge import trial
from agent.records import Finding, Outcome, Proposal, Purpose, Verdict
from agent.store import Scored
from agent.track import Track
from tests.e2e import world
from tests.scored import TOML, TRACK, scored

IDEA = Proposal(
    9, 1, "measured", "", 3, 3, "c", "an idea", "", "knobs", "exploit", "knob", "", "", "", "", "", {},
    0.0, 0.5, None, None, "short", (), (), "", "now", "now",
)  # fmt: skip


def run(
    run_id: int, bpb: float | None, *, purpose: Purpose = "trial", outcome: Outcome = "ok", **more: object
) -> Scored:
    values = {"total_bytes": 900, "train_cpu_s": 5.0, **more}
    return scored(run_id, bpb, rung="short", purpose=purpose, outcome=outcome, reason="it ended", **values)


def decide(
    *candidate: Scored, baseline: Scored | None = None, track: Track = TRACK, sizes: list[int] | None = None
) -> Verdict:
    rung = track.cheaper("short")
    assert rung is not None
    return trial.decide(track, rung, IDEA, candidate, baseline or run(1, 2.0), [900, 900] if sizes is None else sizes)


def test_only_a_clear_loss_ends_an_idea() -> None:
    apart = 2**0.5 * 0.01
    for loss, decision in ((-1.0, "screen"), (0.0, "screen"), (2.3 * apart, "screen"), (2.4 * apart, "worse")):
        found = decide(run(2, 2.0 + loss))
        assert found.decision == decision and found.words.startswith("trial at short: 2.0000 -> ")
        assert (found.proposal_id, found.baseline_id) == (9, 3)
        # No figure of it may be taken for one of the rung that decides.
        assert {found.gain, found.stderr, found.p, found.sigma, found.rho, found.df} == {None}
        assert (found.n_candidate, found.n_baseline) == (0, 0)
    assert "so it is screened at decide" in decide(run(2, 2.0)).words


@pytest.mark.parametrize(("noise", "most"), [(0.01, 0.015), (0.014, 0.06)])
def test_an_idea_that_is_truly_equal_is_hardly_ever_dropped(noise: float, most: float) -> None:
    draw = random.Random(5)
    n = 4000
    dropped = sum(
        decide(run(2, 2.0 + draw.gauss(0, noise)), baseline=run(1, 2.0 + draw.gauss(0, noise))).decision == "worse"
        for _ in range(n)
    )
    assert 0 < dropped / n < most


def test_a_rung_may_have_a_noise_of_its_own() -> None:
    noisy = tracks.parse(TOML.replace('"short", ', '"short", prior_sigma = 0.1, '), "toy.toml")
    assert decide(run(2, 2.1)).decision == "worse"
    assert decide(run(2, 2.1), track=noisy).decision == "screen"
    assert decide(run(2, 2.4), track=noisy).decision == "worse"


def test_where_machines_make_a_score_two_of_them_say_nothing_of_an_idea() -> None:
    clocked = tracks.parse(world.TRIALS.replace('kind = "cpu"', 'kind = "cpu"\nanchor_every_s = 60'), "toy.toml")
    one, same, other = (on(run(n, bpb), lease) for n, bpb, lease in ((1, 2.0, "a"), (2, 2.5, "a"), (3, 2.5, "b")))
    assert decide(same, baseline=one, track=clocked).decision == "worse"
    found = decide(other, baseline=one, track=clocked)
    assert found.decision == "screen" and "on another machine" in found.words
    assert decide(other, baseline=one).decision == "worse"  # elsewhere it does not matter


def on(one: Scored, lease: str) -> Scored:
    return replace(one, run=replace(one.run, lease=lease))


@pytest.mark.parametrize(
    ("one", "decision", "words"),
    [
        (run(2, None, outcome="crashed"), "crashed", "trial at short: r2: it ended: no score"),
        (run(2, 1.0, findings=(Finding("not_normalised", "invalid", "sums to 2"),)), "invalid", "r2: not_normalised"),
        (run(2, 1.0, total_bytes=None), "invalid", "its size is unknown"),
        (run(2, 1.0, train_cpu_s=9.0), "recheck", "once more, in case the machine was busy"),
        (run(2, None, outcome="capped", train_wall_s=9.0, train_cpu_s=2.0), "recheck", "its core was busy"),
    ],
)
def test_a_broken_rule_ends_an_idea_there(one: Scored, decision: str, words: str) -> None:
    found = decide(one, baseline=run(1, 2.0, train_wall_s=5.0, score_wall_s=0.0, score_cpu_s=0.0))
    assert found.decision == decision and words in found.words and found.words.startswith("trial at short: ")


def test_the_second_try_counts() -> None:
    slow = run(2, 2.0, train_cpu_s=9.0)
    assert decide(slow, run(3, 2.0, purpose="recheck")).decision == "screen"
    assert decide(slow, run(3, 2.0, purpose="recheck", train_cpu_s=9.0)).decision == "invalid"
    assert decide(slow, run(3, 2.3, purpose="recheck")).decision == "worse"


def test_the_same_scores_there_prove_nothing() -> None:
    """What acts late, or on what the rung itself sets, would look the same in a short run."""
    alike = tuple(float(n) for n in range(60))
    assert decide(run(2, 2.0, doc_nats=alike), baseline=run(1, 2.0, doc_nats=alike)).decision == "screen"


@pytest.mark.parametrize(
    ("size", "baseline", "sizes", "decision"),
    [
        (1100, 900, [900, 900], "screen"),  # over, but a longer run may bring it down
        (1120, 900, [900, 900], "oversize"),
        (1120, 985, [900, 900], "oversize"),
        (1120, 700, [900, 900], "screen"),  # another shape: its bytes say nothing of a deciding run's
        (1120, 995, [900, 900], "screen"),
        (1120, 900, [], "screen"),
        (1120, None, [900], "screen"),
    ],
)
def test_bytes_count_where_both_rungs_make_the_same_shape(
    size: int, baseline: int | None, sizes: list[int], decision: str
) -> None:
    found = decide(run(2, 2.0, total_bytes=size), baseline=run(1, 2.0, total_bytes=baseline), sizes=sizes)
    assert found.decision == decision
    if decision == "oversize":
        assert "1,120 bytes are 120 over the limit of 1,000" in found.words


def test_without_a_score_of_its_baseline_an_idea_goes_on() -> None:
    rung = TRACK.cheaper("short")
    assert rung is not None
    for candidate in ([run(2, 9.0)], [run(2, None, outcome="crashed")]):
        for baseline in (None, run(1, None, outcome="crashed")):
            found = trial.decide(TRACK, rung, IDEA, candidate, baseline, [900])
            assert found.decision == "screen"
            assert (
                found.words
                == "trial at short: p3 has no score there, so there is nothing to compare with; screened at decide"
            )


def test_a_track_without_a_size_limit_asks_for_no_size() -> None:
    free = TRACK.model_copy(update={"limits": TRACK.limits.model_copy(update={"artifact_bytes": None})})
    assert decide(run(2, 2.0, total_bytes=None), track=free).decision == "screen"

"""Scores of several machines: what comparing without anchors would accept, and that with them nothing is biased."""

import numpy as np
import pytest

from agent.judge.leases import Reading, compare, contrast, good_until
from agent.judge.noise import Noise
from agent.judge.verdict import compare as plainly
from agent.judge.verdict import quantile

HEAD, IDEA, OLD = 1, 2, 3
LOTS = Noise(1.0, 1e6, 0.0)
ANCHOR = 99
N = 4000
ALPHA = 0.025

# The head's fresh runs on one lease, the idea's on another, an anchor on each: what a night with two machines has.
APART = [Reading(HEAD, "m1", seed, 0.0) for seed in range(4)]
APART += [Reading(HEAD, "m1", ANCHOR, 0.0), Reading(HEAD, "m2", ANCHOR, 0.0)]
APART += [Reading(IDEA, "m2", seed, 0.0) for seed in range(3)]
# The idea on three leases, the head's runs on two of them, anchors everywhere, twice on the first.
MIXED = [Reading(HEAD, lease, seed, 0.0) for lease, seed in (("m1", 0), ("m1", 1), ("m2", 2), ("m2", 3))]
MIXED += [Reading(HEAD, lease, ANCHOR, 0.0) for lease in ("m1", "m1", "m2", "m3")]
MIXED += [Reading(IDEA, lease, seed, 0.0) for lease, seed in (("m1", 0), ("m2", 1), ("m3", 2))]


def drawn(readings: list[Reading], rng: np.random.Generator, *, lease: float, same: float, gain: float) -> np.ndarray:
    """N nights: noise of one between seeds, of which runs of one commit and seed share a part; leases of their own."""
    noise = np.zeros((N, len(readings)))
    shared = {key: rng.normal(0, same**0.5, N) for key in {(one.commit, one.seed) for one in readings}}
    effects = {name: rng.normal(0, lease, N) for name in sorted({one.lease for one in readings})}
    for at, one in enumerate(readings):
        own = rng.normal(0, (1 - same) ** 0.5, N)
        noise[:, at] = shared[one.commit, one.seed] + own + effects[one.lease] - (gain if one.commit == IDEA else 0.0)
    return noise


@pytest.mark.parametrize("same", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("design", [APART, MIXED], ids=["apart", "mixed"])
def test_with_anchors_as_many_nulls_pass_as_may(design: list[Reading], same: float) -> None:
    rng = np.random.default_rng(1)
    found = contrast(design, IDEA, HEAD, 0.0)
    assert found is not None
    for lease in (0.0, 1.0, 10.0):
        gains = drawn(design, rng, lease=lease, same=same, gain=0.0) @ np.array(found.weights)
        passed = float(np.mean(gains / found.stderr > quantile(ALPHA, 1e6)))
        assert passed <= ALPHA + 4 * (ALPHA / N) ** 0.5
        assert gains.std() <= 1.05 * found.stderr  # never surer than it is
        assert gains.std() >= 0.6 * found.stderr  # nor much less


def test_without_anchors_a_machine_s_luck_passes_for_an_idea() -> None:
    """Lease effects of one standard deviation between seeds: a quarter of the nulls would pass."""
    rng = np.random.default_rng(2)
    nights = drawn(APART, rng, lease=1.0, same=0.5, gain=0.0)
    passed = 0
    for night in nights:
        runs = [one._replace(bpb=float(bpb)) for one, bpb in zip(APART, night, strict=True) if one.seed != ANCHOR]
        mine, theirs = ({one.seed: one.bpb for one in runs if one.commit == commit} for commit in (IDEA, HEAD))
        passed += plainly(mine, theirs, LOTS).p <= ALPHA
    assert passed / N > 0.1 > 4 * ALPHA - 0.001


@pytest.mark.parametrize("design", [APART, MIXED], ids=["apart", "mixed"])
def test_the_gain_is_unbiased_whatever_the_leases_are(design: list[Reading]) -> None:
    rng = np.random.default_rng(3)
    found = contrast(design, IDEA, HEAD, 0.0)
    assert found is not None
    nights = drawn(design, rng, lease=0.0, same=0.5, gain=0.7)
    # Not drawn but given: the idea's machine is a slow one in every night.
    nights += np.array([5.0 if one.lease == "m2" else 0.0 for one in design])
    gains = nights @ np.array(found.weights)
    assert abs(gains.mean() - 0.7) < 4 * gains.std() / N**0.5


def test_on_one_lease_it_is_what_the_plain_comparison_gives() -> None:
    rng = np.random.default_rng(4)
    readings = [Reading(HEAD, "m1", seed, float(rng.normal())) for seed in range(4)]
    readings += [Reading(IDEA, "m1", seed, float(rng.normal())) for seed in range(2, 5)]
    noise = Noise(0.3, 12.0, 0.4)
    mine, theirs = ({one.seed: one.bpb for one in readings if one.commit == commit} for commit in (IDEA, HEAD))
    plain, found = plainly(mine, theirs, noise), compare(readings, IDEA, HEAD, noise)
    # Seeds that both have weigh more here, which is a little surer.
    assert found is not None and 0.9 * plain.stderr <= found.stderr <= plain.stderr + 1e-9
    free = compare(readings, IDEA, HEAD, Noise(0.3, 12.0, 0.0))
    assert free is not None and free == pytest.approx(plainly(mine, theirs, Noise(0.3, 12.0, 0.0)))


def test_anchors_make_a_comparison_across_leases_possible_and_others_runs_help() -> None:
    apart = [one for one in APART if one.seed != ANCHOR]
    assert compare(apart, IDEA, HEAD, LOTS) is None
    tied = compare(APART, IDEA, HEAD, LOTS)
    assert tied is not None
    longer = [*APART, Reading(OLD, "m1", 7, 0.0), Reading(OLD, "m2", 7, 0.0)]  # an older head, anchored on both
    helped = compare(longer, IDEA, HEAD, LOTS)
    assert helped is not None and helped.stderr < tied.stderr
    chain = [*apart, Reading(OLD, "m1", 7, 0.0), Reading(OLD, "m2", 7, 0.0)]
    assert compare(chain, IDEA, HEAD, LOTS) is not None
    assert compare(APART[:6], IDEA, HEAD, LOTS) is None  # it has not run at all


def test_more_anchors_with_one_seed_are_not_more_heads() -> None:
    """A seed that is lucky is lucky everywhere: what ten machines say of it is not ten runs."""
    leases = [f"m{n}" for n in range(10)]
    readings = [Reading(HEAD, lease, ANCHOR, 0.0) for lease in leases] + [
        Reading(IDEA, lease, n, 0.0) for n, lease in enumerate(leases)
    ]
    found = contrast(readings, IDEA, HEAD, 0.0)
    assert found is not None and found.stderr > 0.9


def test_a_drift_of_a_hundredth_ends_a_lease() -> None:
    assert good_until([]) == 0 and good_until([None]) == 1
    assert good_until([100.0, 100.9, 99.1, 101.0]) == 4
    assert good_until([100.0, 100.5, 101.1, 100.0]) == 2
    assert good_until([100.0, 98.9]) == 1
    assert good_until([100.0, 100.6, 101.2]) == 2  # slowly
    assert good_until([None, 100.0, None, 102.0]) == 3

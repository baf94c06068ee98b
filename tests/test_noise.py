"""The noise between seeds: pooled, shrunk to what the track believes, and hard to fool."""

import math
import random
from typing import NamedTuple

import pytest

from agent.judge.noise import RHO_MOST, Groups, estimate, groups


class Score(NamedTuple):
    proposal_id: int
    baseline_id: int | None
    seed: int
    bpb: float


def replicates(draw: random.Random, count: int, size: int, sigma: float) -> Groups:
    """`count` ideas of different worth, each measured `size` times."""
    found = {}
    for proposal in range(count):
        worth = draw.uniform(2.0, 3.0)
        found[proposal, None] = {seed: draw.gauss(worth, sigma) for seed in range(size)}
    return found


def test_runs_of_one_test_are_one_group() -> None:
    scores = [Score(1, None, 7, 2.0), Score(2, 1, 7, 1.9), Score(2, 1, 8, 1.8), Score(2, 5, 7, 1.7)]
    assert groups(scores) == {(1, None): {7: 2.0}, (2, 1): {7: 1.9, 8: 1.8}, (2, 5): {7: 1.7}}
    # A run that is repeated with its seed is no new draw.
    assert groups([Score(1, None, 7, 2.0), Score(1, None, 7, 2.5)]) == {(1, None): {7: 2.5}}


def test_without_replicates_the_track_is_believed() -> None:
    for found in ({}, {(1, None): {1: 2.0}, (2, 1): {1: 3.0}}):
        noise = estimate(found, prior_sigma=0.012, prior_df=6)
        assert (noise.sigma, noise.df, noise.rho) == (pytest.approx(0.012), 6, 0.0)


def test_one_group_by_hand() -> None:
    noise = estimate({(1, None): {1: 2.31, 2: 2.33, 3: 2.35}}, prior_sigma=0.01, prior_df=6)
    assert noise.df == 8
    assert noise.sigma == pytest.approx(math.sqrt((6 * 0.01**2 + 2 * 0.02**2) / 8))


@pytest.mark.parametrize("sigma", [0.004, 0.012, 0.03])
def test_many_replicates_outweigh_the_prior(sigma: float) -> None:
    found = replicates(random.Random(1), 150, 4, sigma)
    noise = estimate(found, prior_sigma=0.012, prior_df=6)
    assert noise.df == 6 + 150 * 3
    assert noise.sigma == pytest.approx(sigma, rel=0.12)


def test_differences_between_ideas_are_no_noise() -> None:
    found = replicates(random.Random(2), 40, 3, 0.01)
    shifted = {key: {seed: bpb + 5.0 * key[0] for seed, bpb in group.items()} for key, group in found.items()}
    here, there = (estimate(which, prior_sigma=0.01, prior_df=6) for which in (found, shifted))
    assert (there.sigma, there.df) == (pytest.approx(here.sigma), here.df)


def test_one_wild_idea_does_not_blind_the_campaign() -> None:
    """One diverged run would multiply sigma by seven, and nothing would ever pass again."""
    found = dict(replicates(random.Random(3), 10, 3, 0.012))
    calm = estimate(found, prior_sigma=0.012, prior_df=6)
    found[99, None] = {1: 2.3, 2: 2.31, 3: 3.2}
    wild = estimate(found, prior_sigma=0.012, prior_df=6)
    assert wild.sigma == pytest.approx(calm.sigma, rel=0.02)
    assert wild.df == calm.df


def test_what_is_left_out_as_wild_costs_an_honest_estimate_little() -> None:
    """Leaving out must not make the noise look small: over many honest campaigns it stays what it is."""
    draw = random.Random(4)
    squares = [estimate(replicates(draw, 12, 3, 0.012), prior_sigma=0.012, prior_df=6).sigma ** 2 for _ in range(300)]
    assert math.sqrt(math.fsum(squares) / len(squares)) == pytest.approx(0.012, rel=0.04)


def test_a_prior_that_is_far_off_is_left_behind() -> None:
    """If every group looks wild to the track's belief, it is the belief that is wrong."""
    noise = estimate(replicates(random.Random(5), 30, 3, 0.04), prior_sigma=0.008, prior_df=6)
    assert noise.sigma == pytest.approx(0.04, rel=0.25)


def paired(draw: random.Random, count: int, shared: float) -> Groups:
    """Ideas against one head each, at the head's own seeds; `shared` of the variance belongs to the seed."""
    found: dict[tuple[int, int | None], dict[int, float]] = {}
    for head in range(count):
        luck = [draw.gauss(0, math.sqrt(shared)) for _ in range(4)]
        for key in ((2 * head, None), (2 * head + 1, 2 * head)):
            found[key] = {
                seed: 2.3 + 0.012 * (mine + draw.gauss(0, math.sqrt(1 - shared))) for seed, mine in enumerate(luck)
            }
    return found


@pytest.mark.parametrize("shared", [0.0, 0.4, 0.8])
def test_what_two_runs_with_one_seed_share_is_estimated(shared: float) -> None:
    noise = estimate(paired(random.Random(6), 120, shared), prior_sigma=0.012, prior_df=6)
    assert noise.rho == pytest.approx(shared, abs=0.12)


def test_pairing_is_not_believed_on_little_evidence() -> None:
    pair = {(1, None): {1: 2.30, 2: 2.32}, (2, 1): {1: 2.20, 2: 2.22}}  # in step, but only once
    assert 0 < estimate(pair, prior_sigma=0.012, prior_df=6).rho < 0.2
    against = {(1, None): {1: 2.30, 2: 2.32}, (2, 1): {1: 2.22, 2: 2.20}}
    assert estimate(against, prior_sigma=0.012, prior_df=6).rho == 0.0
    other_seeds = {(1, None): {1: 2.30, 2: 2.32}, (2, 1): {3: 2.20, 4: 2.22}}
    assert estimate(other_seeds, prior_sigma=0.012, prior_df=6).rho == 0.0
    certain = estimate(paired(random.Random(7), 400, 1.0), prior_sigma=0.012, prior_df=6)
    assert certain.rho == RHO_MOST


def test_replicates_that_are_equal_do_not_end_the_noise() -> None:
    """A script that ignores its seed gives no variance; the prior keeps the noise above nothing."""
    same = {(proposal, None): {1: 2.3, 2: 2.3, 3: 2.3} for proposal in range(3)}
    noise = estimate(same, prior_sigma=0.012, prior_df=6)
    assert noise.sigma == pytest.approx(math.sqrt(6 * 0.012**2 / 12)) and noise.rho == 0.0

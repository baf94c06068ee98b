"""Campaigns on recorded trainings: the truth that they are measured against must be the table's own."""

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks import campaigns
from benchmarks.recorded_world import Noise, World

BASE = {
    "vocab_size": 1024,
    "num_layers": 3,
    "train_batch_tokens": 2048,
    "matrix_lr": 0.02,
    "weight_bits": 8,
    "embed_bits": 8,
    "compressor": "zlib",
}


def row(changes: dict[str, Any], seed: int, bpb: float, size: int, *, crossed: bool = False) -> dict[str, Any]:
    """Six bits for the weights cost 0.01 BPB and save 10 kB, for the embedding 0.02 and 20 kB; brotli saves 1 kB."""
    scores, sizes = {"8.8": bpb}, {"8.8.zlib": size}
    if crossed:
        for bits, worse, smaller in (("8.8", 0.0, 0), ("6.8", 0.01, 10_000), ("8.6", 0.02, 20_000)):
            scores[bits] = bpb + worse
            sizes |= {f"{bits}.zlib": size - smaller, f"{bits}.brotli": size - smaller - 1000}
    return {"changes": changes, "seed": seed, "bpb": scores, "bytes": sizes, "train_cpu_s": 20.0 + seed}


ROWS = [
    row({}, 1, 2.40, 100_000, crossed=True),
    row({}, 2, 2.42, 100_000),
    row({"vocab_size": 2048}, 1, 2.20, 150_000, crossed=True),
    row({"vocab_size": 2048, "num_layers": 2}, 1, 2.15, 130_000, crossed=True),
    row({"matrix_lr": 0.03}, 1, 2.37, 110_000),
    row({"matrix_lr": 0.03}, 2, 2.41, 110_000),
]


SHARED, OWN = 0.02, 0.01


def scattered(changes: dict[str, Any], bpb: float, seeds: range, shared: float, own: float) -> list[dict[str, Any]]:
    """Seeds that do the same to all configurations, and something to each."""
    return [
        row(
            changes,
            seed,
            bpb + random.Random(f"all/{seed}").gauss(0, shared) + random.Random(f"{seed}/{changes}").gauss(0, own),
            1,
        )
        for seed in seeds
    ]


def noise_of(shared: float, own: float) -> Noise:
    rows = scattered({}, 2.4, range(1, 401), shared, own) + scattered({"matrix_lr": 1}, 2.3, range(1, 401), shared, own)
    for rate in range(2, 300):
        rows += scattered({"matrix_lr": rate}, 2.3, range(1, 3), shared, own)
    return World.of(rows, BASE).noise


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(Noise, "of", lambda cells: Noise(SHARED, OWN))
    return World.of(ROWS, BASE)


@pytest.mark.parametrize(
    ("changes", "bpb", "size"),
    [
        ({}, 2.41, 100_000),
        ({"vocab_size": 2048}, 2.41 - 0.20, 150_000),  # against the base with the same seed, not with both
        ({"vocab_size": 2048, "num_layers": 2}, 2.41 - 0.25, 130_000),  # the cell's own figure
        ({"matrix_lr": 0.03}, 2.41 - 0.02, 110_000),
        ({"vocab_size": 2048, "matrix_lr": 0.03}, 2.41 - 0.20 - 0.02, 165_000),
        ({"vocab_size": 2048, "weight_bits": 6, "embed_bits": 6}, 2.41 - 0.20 + 0.03, 120_000),
        ({"weight_bits": 6, "compressor": "brotli"}, 2.41 + 0.01, 89_000),
    ],
)
def test_the_truth(world: World, changes: dict[str, Any], bpb: float, size: int) -> None:
    config = BASE | changes
    assert math.isclose(world.bpb(config), bpb)
    assert world.artifact_bytes(config) == size


@pytest.mark.parametrize(("shared", "own"), [(SHARED, OWN), (0.0, OWN)])
def test_what_a_seed_does_to_all_is_told_from_what_it_does_to_one(shared: float, own: float) -> None:
    found = noise_of(shared, own)
    assert abs(found.own - own) < 0.1 * own
    assert abs(found.shared - shared) < 0.004


def test_noise_is_not_told_from_too_few_seeds() -> None:
    with pytest.raises(ValueError, match="too few seeds"):
        World.of(ROWS, BASE)


def test_runs_scatter_around_the_truth_and_can_be_had_again(world: World) -> None:
    config, other = BASE | {"matrix_lr": 0.03}, BASE | {"vocab_size": 2048}
    run = world.runner("campaign/1", 500)
    seeds = random.Random(0).sample(range(10_000), 1000)
    scores, others = ([run(one, seed).bpb for seed in seeds] for one in (config, other))
    assert run(config, seeds[0]) == world.runner("campaign/1", 500)(config, seeds[0])
    assert run(config, seeds[0]) != world.runner("campaign/2", 500)(config, seeds[0])
    assert abs(statistics.fmean(scores) - world.bpb(config)) < 0.003
    assert abs(statistics.stdev(scores) - math.hypot(SHARED, OWN)) < 0.002
    assert abs(statistics.correlation(scores, others) - SHARED**2 / (SHARED**2 + OWN**2)) < 0.05
    assert run(config, 1).artifact_bytes == 110_500


@pytest.mark.long
def test_a_whole_campaign_on_the_table_gets_there(tmp_path: Path) -> None:
    made = campaigns.setup()
    ours = campaigns.caddie(made, 1, tmp_path / "work")
    assert ours.gain >= 0.10 and len(ours.kept) >= 2 and all(one.fits for one in ours.kept)
    assert abs(ours.error) < 3 * made.world.noise.own
    assert ours.spent_h <= (made.track.budget_hours or 0)
    theirs = campaigns.KeepIfLower(made, 1).run(ours.spent_h * 3600)
    assert theirs.spent_h <= ours.spent_h and theirs.runs > 60 and theirs.error < 0

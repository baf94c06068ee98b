"""The rules of an audit on plain numbers: what is accused, and what is left alone."""

import math
from pathlib import Path

import numpy as np
import pytest

from agent.judge.audit import rules
from agent.judge.audit.rules import TOLERANCES, Answer
from benchmarks import audit

FP32, BF16 = TOLERANCES["fp32"], TOLERANCES["bf16"]
draw = np.random.default_rng(3)


def answers(*differences: float, log_sum: float = 0.0) -> list[Answer]:
    return [Answer(position, log_sum, one) for position, one in enumerate(differences)]


def words_of(found: list[rules.Accusation]) -> str:
    return "; ".join(f"{one.rule}: {one.words}" for one in found)


def test_every_sum_must_be_one() -> None:
    good, bad, none = Answer(1, 9e-4, 0.0), Answer(2, -2e-3, 0.0), Answer(3, math.nan, math.nan)
    assert rules.sums([good]) == []
    (found,) = rules.sums([good, bad, none])
    assert found.positions == (3, 2) and "at position 3 its probabilities sum to exp(nan)" in found.words
    assert rules.largest([bad, none], FP32, rules.NOT_REPEATED) == []  # said once


def test_the_worst_position_leads() -> None:
    assert rules.largest(answers(0.009, -0.01), FP32, rules.NOT_REPEATED) == []
    (found,) = rules.largest(answers(0.02, -0.3, 0.0, math.inf), FP32, rules.NOT_REPEATED)
    assert found.positions == (3, 0, 1) and "inf nats less" in found.words
    (found,) = rules.largest(answers(0.02, -0.3, 0.0), FP32, rules.SURPRISE)
    assert "0.3 nats more than before it has seen the token, as at 2 of 3 positions" in found.words
    assert rules.largest(answers(0.02, -0.3), BF16, rules.NOT_REPEATED) == []


def test_a_mean_is_too_good_beyond_its_dead_zone_and_errors() -> None:
    noise = draw.normal(0, 0.006, 5000)
    noise -= noise.mean()
    error = noise.std(ddof=1) / math.sqrt(5000)
    for lean, accused in ((5e-4 + 4.4 * error, False), (5e-4 + 4.6 * error, True), (-0.01, False)):
        found = rules.too_good(rules.mean(noise + lean, BF16), BF16)
        assert bool(found) is accused, words_of(found)
    # Where hardly anything differs, a least scatter is believed.
    sparse = np.zeros(64)
    sparse[7] = 0.05
    assert rules.too_good(rules.mean(sparse, BF16), BF16) == []
    assert rules.too_good(rules.mean(np.zeros(0), FP32), FP32) == []


def test_noise_is_no_place_to_hide() -> None:
    loud = np.where(np.arange(1000) % 2, 0.03, -0.03)
    assert "scatter by 0.03 nats" in words_of(rules.too_good(rules.mean(loud, BF16), BF16))
    few = np.zeros(5000)
    few[:10:2], few[1:10:2] = 0.2, -0.2
    assert rules.too_good(rules.mean(few, BF16), BF16) == []
    few[:22:2], few[1:22:2] = 0.2, -0.2
    assert "22 are off by more than 0.125" in words_of(rules.too_good(rules.mean(few, BF16), BF16))


def test_parts_of_a_replay_may_err_together() -> None:
    """A model that adapts a little otherwise is off for whole chunks: that is no gain."""
    begins = list(range(0, 20_000, 1000))
    apart = np.repeat(draw.normal(0, 2e-3, 20), 1000) + draw.normal(0, 1e-3, 20_000)
    apart += 6e-4 - apart.mean()
    assert rules.replayed(apart, BF16, begins) == []
    assert "needs 0.0006 nats a token more than claimed" in words_of(rules.replayed(apart, BF16, [0]))
    apart[77] = -0.6
    assert "gives position 77 0.6 nats less" in words_of(rules.replayed(apart, BF16, begins))


def test_the_same_question_has_the_same_answer() -> None:
    one, near, far, odd = (Answer(5, 0.0, value) for value in (0.1, 0.105, 0.2, math.nan))
    assert rules.changed([(one, near)], FP32) == []
    (found,) = rules.changed([(one, near), (one, far)], FP32)
    assert found.positions == (5,) and "its answer is 0.1 nats off the first one, as at 1 of 2" in found.words
    assert rules.changed([(one, odd)], FP32)[0].positions == (5,)


@pytest.mark.parametrize(("tolerance", "scale"), [(FP32, 1e-6), (BF16, 8e-3)])
@pytest.mark.parametrize("shape", ["normal", "sparse", "heavy"])
def test_honest_noise_is_not_accused(tolerance: rules.Tolerance, scale: float, shape: str) -> None:
    """20,000 audits of each; benchmarks/audit.py asks the same of noise that was measured."""
    for count, audits in ((64, 15_000), (3000, 5_000)):
        for at in range(0, audits, 1000):
            noise = draw.normal(0, scale, (1000, count)).astype(np.float32)
            if shape == "sparse":
                noise *= draw.random((1000, count), dtype=np.float32) < 0.03
                noise *= 4
            elif shape == "heavy":
                noise *= np.abs(noise) / scale
            spread = np.maximum(noise.std(1, ddof=1), tolerance.noise) / math.sqrt(count)
            limit = tolerance.mean + rules.DEVIATIONS * spread
            assert (noise.mean(1) <= limit).all(), at
            assert count < rules.ENOUGH or (noise.std(1) <= tolerance.most_noise).all(), at
            assert rules.too_good(rules.mean(noise[0].astype(np.float64), tolerance), tolerance) == []


def test_the_benchmark_of_audits_says_what_is_missing_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["audit", "--quick", "--corpus", str(tmp_path)])
    with pytest.raises(SystemExit):
        audit.main()
    said = capsys.readouterr().err
    assert str(tmp_path) in said and "python -m trainer.data" in said

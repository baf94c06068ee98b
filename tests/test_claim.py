"""The claim gate against figures that the contest published, and what it refuses."""

import math

import pytest

from agent.errors import UserError
from agent.judge.claim import Sample, bpb_of, claim, sample, welch, words

SP1024 = 0.410521
# Scores of merged rows, seed by seed. The first pair in nats a token, the others in bits per byte.
ROW_1019 = [1.88276292, 1.88156874, 1.88220393]
ROW_549 = [1.88976776, 1.88919190, 1.89110239]
ROW_1514 = [1.07928348, 1.07996676, 1.08024795]
ROW_1493 = [1.08079352, 1.08103103, 1.08118408]
ROW_1769 = [1.06356801, 1.0641313, 1.06466993, 1.06509678, 1.06516558]
ROW_1769_ALL = [*ROW_1769, 1.06540571, 1.06534272]
ROW_1736 = [1.06610085, 1.06473025, 1.06562743]
ROW_1855 = [1.05989454, 1.06124613, 1.06208695]
ROW_1855_POOLED = Sample(1.060755, 0.000933, 6)
ROW_1868_AGAIN = [1.06083288, 1.06090748, 1.06248776]


@pytest.mark.parametrize(
    ("new", "old", "margin", "t", "df", "p"),
    [
        (ROW_1019, ROW_549, 0.0, 11.834, 3.306, 0.000403),
        (ROW_1019, ROW_549, 0.005, 4.289, 3.306, 0.00955),
        (ROW_1514, ROW_1493, 0.0, 3.798, 2.614, 0.0203),
        (ROW_1769, ROW_1736, 0.0, 1.908, 4.228, 0.0626),
        (ROW_1769_ALL, ROW_1736, 0.0, 1.498, 3.814, 0.1060),
        (ROW_1855_POOLED, ROW_1868_AGAIN, 0.0, 0.991, 4.084, 0.1884),
        (ROW_1855, ROW_1868_AGAIN, 0.0, 0.399, 3.892, 0.3554),
    ],
)
def test_published_tests_come_out_to_three_digits(
    new: list[float] | Sample, old: list[float], margin: float, t: float, df: float, p: float
) -> None:
    mine = new if isinstance(new, Sample) else sample(new)
    found = welch(mine, sample(old), margin)
    assert found.t == pytest.approx(t, abs=6e-4)
    assert found.df == pytest.approx(df, abs=6e-4)
    assert f"{found.p:.3g}" == f"{p:.3g}"


def test_it_is_the_test_that_scipy_makes() -> None:
    from scipy.stats import ttest_ind

    theirs = ttest_ind(ROW_1736, ROW_1769, equal_var=False, alternative="greater")
    mine = welch(sample(ROW_1769), sample(ROW_1736))
    assert (mine.t, mine.p) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue))
    worse = welch(sample(ROW_1736), sample(ROW_1769))
    assert worse.p == pytest.approx(1 - mine.p) and worse.gain == -mine.gain


@pytest.mark.parametrize(
    ("tokens_per_byte", "bpb"), [(SP1024, 0.00296), (0.301234, 0.00217), (0.268339, 0.00194), (0.316741, 0.00228)]
)
def test_the_margin_in_bits_per_byte_depends_on_the_tokenizer(tokens_per_byte: float, bpb: float) -> None:
    assert round(bpb_of(0.005, tokens_per_byte), 5) == bpb


def test_nats_and_bits_say_the_same_of_one_tokenizer() -> None:
    new, old = (sample([bpb_of(value, SP1024) for value in row]) for row in (ROW_1019, ROW_549))
    found = claim(new, old, tokens_per_byte=SP1024, rule="contest")
    assert found.nats is not None and found.nats_margin is not None and found.bpb_margin is not None
    assert found.nats.gain == pytest.approx(0.00784, abs=1e-5)
    assert found.nats.t == pytest.approx(found.bpb.t) == pytest.approx(11.834, abs=1e-3)
    assert found.nats_margin.p == pytest.approx(found.bpb_margin.p) == pytest.approx(0.00955, abs=5e-6)
    assert found.holds and "p = 0.00955, below 0.01" in found.reason
    text = words(found)
    assert "The claim holds (0.005 nats a token better, at p < 0.01)" in text and "0.00784" in text


def test_with_another_tokenizer_the_margin_is_the_new_ones() -> None:
    old = sample(ROW_1493)
    found = claim(sample(ROW_1514), old, tokens_per_byte=0.268339, old_tokens_per_byte=SP1024, rule="contest")
    assert found.bpb_margin is not None and found.nats is not None
    assert found.bpb_margin.margin == pytest.approx(0.00194, abs=5e-6)
    assert found.nats.gain == pytest.approx(math.log(2) * (old.mean / SP1024 - sample(ROW_1514).mean / 0.268339))


def test_the_rules_differ() -> None:
    new, old = sample(ROW_1514), sample(ROW_1493)
    strict = claim(new, old, tokens_per_byte=0.268339, rule="contest")
    assert not strict.holds and "not below 0.01" in strict.reason
    assert claim(new, old, tokens_per_byte=0.268339, rule="frontier").holds
    assert claim(new, old, tokens_per_byte=None, rule="frontier").holds
    few = claim(sample(ROW_1855), sample(ROW_1868_AGAIN), tokens_per_byte=0.3, rule="frontier")
    assert not few.holds and "p = 0.355" in few.reason
    assert claim(ROW_1855_POOLED, sample(ROW_1868_AGAIN), tokens_per_byte=0.3, rule="frontier").holds


def test_what_can_not_be_claimed() -> None:
    new, old = sample(ROW_1019), sample(ROW_549)
    unknown = claim(new, old, tokens_per_byte=None, rule="contest")
    assert not unknown.holds and "tokens per byte" in unknown.reason and unknown.nats is None
    two = claim(sample(ROW_1019[:2]), old, tokens_per_byte=SP1024, rule="contest")
    assert not two.holds and two.reason == "2 seeds; a submission needs 3"
    with pytest.raises(UserError, match="at least two seeds"):
        sample([1.07])
    for bad in (math.nan, math.inf, -1.0, 0.0):
        with pytest.raises(UserError, match="numbers above 0"):
            sample([1.07, bad])
    with pytest.raises(UserError, match="nothing that varies"):
        welch(sample([1.07, 1.07, 1.07]), sample([1.08, 1.08, 1.08]))

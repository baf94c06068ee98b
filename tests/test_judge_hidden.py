"""What an idea gains on documents that are scored, against what it gains on others of their kind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.judge.beside.hidden import watched, worth
from agent.judge.hidden import LEAST, Gap, excluded, findings, gap, ranks_apart, settled, share
from agent.records import Measurement, Proposal
from agent.store import Store
from tests import filling
from tests.candidates import honest
from tests.judging import TEXTS, make_job, run_session, write_documents

DRAW = np.random.default_rng(5)
SIZES = DRAW.lognormal(6.5, 0.8, 118)
BASE = tuple(SIZES * DRAW.normal(1, 0.1, 118))


def measured(nats: np.ndarray | tuple[float, ...], scored: int = 100) -> Measurement:
    doc_nats, hidden = tuple(map(float, nats[:scored])), tuple(map(float, nats[scored:]))
    return replace(filling.measurement(1, 2.0), doc_nats=doc_nats, hidden_nats=hidden)


def idea(draw: np.random.Generator, gain: float, spread: float = 0.03) -> np.ndarray:
    """Ideas help one document more than another."""
    return np.asarray(BASE) * (1 - draw.normal(gain, spread, len(BASE)))


def severities(nats: np.ndarray) -> list[str]:
    return [one.severity for one in findings(measured(nats), [measured(BASE), measured(BASE)])]


def test_an_idea_that_helps_everywhere_is_none_the_worse_for_it() -> None:
    assert severities(idea(np.random.default_rng(1), 0.05)) == []
    assert severities(idea(np.random.default_rng(1), -0.5)) == []


def test_what_helps_only_where_it_is_scored_is_found() -> None:
    draw = np.random.default_rng(2)
    cheat = idea(draw, 0.0)
    cheat[:100] *= 0.92
    assert severities(cheat) == ["flag"]
    cheat[:100] *= 0.8
    (found,) = findings(measured(cheat), [measured(BASE)])
    assert (found.rule, found.severity) == ("holdout_gap", "invalid")
    assert "% less than its baseline for the documents that are scored" in found.text
    cheat[100:] *= 0.736
    assert severities(cheat) == [], "the same everywhere"


def test_one_document_that_is_known_by_heart_is_enough_if_it_is_large() -> None:
    cheat = np.asarray(BASE).copy()
    assert severities(cheat) == []
    cheat[:50] = 1.0
    assert severities(cheat) == ["invalid"]


def test_a_few_documents_that_are_known_by_heart_do_not_hide_behind_their_own_spread() -> None:
    """A tenth of those that are scored, where no error of all of them would show it."""
    draw = np.random.default_rng(12)
    base = draw.lognormal(6.5, 0.8, 75)
    run = base * (1 - 0.02 - 0.02 * draw.standard_normal(75))
    run[:61:10] *= 0.1
    (found,) = findings(measured(run, 61), [measured(base, 61)])
    assert (found.rule, found.severity) == ("holdout_gap", "flag") and "spread of those others" in found.text
    assert findings(measured(base * 0.98 * draw.normal(1, 0.02, 75), 61), [measured(base, 61)]) == ()


def test_what_nobody_would_smuggle_in_for_is_no_gap() -> None:
    steady = np.asarray(BASE).copy()
    steady[:100] *= 0.995
    assert gap(measured(steady), [measured(BASE)]).sigmas() > 5  # type: ignore[union-attr]
    assert severities(steady) == []


def test_honest_ideas_are_hardly_ever_accused() -> None:
    """Heavy tails too: a few documents gain ten times as much as others."""
    draw = np.random.default_rng(3)
    flags = invalid = 0
    for _ in range(4000):
        nats = np.asarray(BASE) * (1 - 0.02 - 0.03 * draw.standard_t(4, len(BASE)))
        told = severities(nats)
        flags, invalid = flags + told.count("flag"), invalid + told.count("invalid")
    assert invalid == 0 and flags <= 0.005 * 4000


def ruined(base: np.ndarray, run: np.ndarray, which: slice | list[int], times: float | np.ndarray) -> np.ndarray:
    """The run, and as many times the baseline's nats for some documents that no score is made of."""
    made = run.copy()
    made[which] = base[which] * times
    return made


@pytest.mark.parametrize("times", [1.2, 2.0, 30.0, 1e5])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_no_document_that_costs_nothing_hides_a_gap_by_being_ruined(times: float, count: int) -> None:
    """One, some and nearly half of 14, a little and a lot."""
    draw = np.random.default_rng(21)
    base = draw.lognormal(6.5, 0.8, 75)
    cheat = base * (1 - 0.02 * draw.standard_normal(75))
    cheat[:61] *= 0.7
    assert [one.severity for one in findings(measured(cheat, 61), [measured(base, 61)])] == ["invalid"]
    cheat = ruined(base, cheat, slice(61, 61 + count), times)
    found = findings(measured(cheat, 61), [measured(base, 61)])
    assert (found[0].rule, found[0].severity) == ("holdout_gap", "invalid")
    assert [one.rule for one in found[1:]] == (["holdout_ruined"] if times >= 2 else [])


def test_a_few_documents_known_by_heart_show_beside_a_ruined_one() -> None:
    """Where only the spread of the others tells of them."""
    draw = np.random.default_rng(12)
    base = draw.lognormal(6.5, 0.8, 75)
    run = base * (1 - 0.02 - 0.02 * draw.standard_normal(75))
    run[:61:10] *= 0.1
    for times in (1.5, 1e4):
        found = findings(measured(ruined(base, run, [70], times), 61), [measured(base, 61)])
        assert ("holdout_gap", "flag") in [(one.rule, one.severity) for one in found]


def test_most_documents_that_are_ruined_by_very_different_factors_show_by_their_ranks() -> None:
    """Then their own middle and spread mean nothing, and only which of them is better is left."""
    draw = np.random.default_rng(22)
    base = draw.lognormal(6.5, 0.8, 118)
    run = base * (1 - 0.02 * draw.standard_normal(118))
    run[:100] *= 0.94
    wild = ruined(base, run, slice(102, 118), np.geomspace(1.1, 1e6, 16))
    sides = [1 - run / base for run, base in ((wild[:100], base[:100]), (wild[100:], base[100:]))]
    assert Gap(share(wild[:100], base[:100]), share(settled(wild[100:], base[100:]), base[100:])).sigmas() < 3
    assert ranks_apart(*sides) > 5
    found, other = findings(measured(wild), [measured(base)])
    assert (found.rule, found.severity) == ("holdout_gap", "flag") and "by their ranks" in found.text
    assert other.rule == "holdout_ruined"


def test_who_is_bad_at_a_document_that_costs_a_score_too_ruined_none() -> None:
    """What goes wrong in training goes wrong everywhere; and nothing is held against a gap that helps nobody."""
    draw = np.random.default_rng(23)
    base = draw.lognormal(6.5, 0.8, 118)
    honest = base * (1 - 0.02 - 0.02 * draw.standard_normal(118))
    (found,) = findings(measured(ruined(base, honest, [103], 3.0)), [measured(base)])
    assert (found.rule, found.severity) == ("holdout_ruined", "flag") and "3.0 times" in found.text
    assert findings(measured(ruined(base, honest, [103, 7], 3.0)), [measured(base)]) == ()
    assert findings(measured(ruined(base, honest, [103], 1.5)), [measured(base)]) == ()
    assert findings(measured(base * 3), [measured(base)]) == ()


def test_ranks_count_ties_and_have_the_figures_of_the_book() -> None:
    """Every pair is won: the largest distance that 4 and 5 allow; where all are equal there is none."""
    assert ranks_apart(np.arange(4.0) + 9, np.arange(5.0)) == pytest.approx(10 / np.sqrt(20 * 10 / 12))
    tied = ranks_apart(np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    assert tied == pytest.approx(2.5 / np.sqrt(9 / 12 * (7 - (4**3 - 4) / 30)))


def gaps(draw: np.random.Generator, scored: int, hidden: int, true: float, count: int, heavy: bool) -> list[Gap]:
    """Of ideas that save 2 % of every document, more or less, and as much more as is smuggled in where it is scored."""
    made = []
    for _ in range(count):
        base = draw.lognormal(6.5, 0.8, scored + hidden)
        spread = draw.standard_t(4, len(base)) if heavy else draw.standard_normal(len(base))
        nats = base * (1 - 0.02 - 0.02 * spread)
        nats[:scored] -= true * base[:scored]
        made.append(Gap(share(nats[:scored], base[:scored]), share(nats[scored:], base[scored:])))
    return made


def told(draw: np.random.Generator, scored: int, hidden: int, count: int, kind: str) -> list[tuple[str, ...]]:
    """What is found of honest ideas, by rule and severity: with heavy tails or without; and where the hidden documents
    are of another kind, less than half as long, and what helps them differs the more the shorter they are."""
    made = []
    for _ in range(count):
        base = draw.lognormal(6.5, 0.8, scored + hidden)
        spread = draw.standard_t(4, len(base)) if kind == "heavy" else draw.standard_normal(len(base))
        if kind == "short":
            base[scored:] *= 0.4
            spread *= np.sqrt(base.mean() / base)
        run = base * (1 - 0.02 - 0.02 * spread)
        found = findings(measured(run, scored), [measured(base, scored)])
        made.append(tuple(f"{one.rule} {one.severity} {'ranks' * one.text.endswith('ranks')}" for one in found))
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("scored", "hidden"), [(61, 14), (100, 18)])
def test_fewer_than_one_honest_idea_in_ten_thousand_is_accused(scored: int, hidden: int) -> None:
    """None of 30,000 by both sizes, so at 95 % the rate is below 1 in 10,000; ranks and ruins add next to no flag."""
    draw = np.random.default_rng(hidden)
    made = [one for kind in ("plain", "heavy", "short") for one in told(draw, scored, hidden, 5_000, kind)]
    every = [words for one in made for words in one]
    assert not [words for words in every if "invalid" in words]
    assert len([words for words in every if "ranks" in words or "ruined" in words]) <= 2
    flags = sum(map(bool, made))
    assert 0 < flags <= 0.005 * len(made), "the flags are near enough to be tested"


@pytest.mark.parametrize("heavy", [False, True])
def test_what_is_said_to_be_excluded_is_not_there(heavy: bool) -> None:
    """A gap that matters is excluded in one of a thousand, and none is in most, where documents are many."""
    draw = np.random.default_rng(4)
    assert sum(one.most() < LEAST for one in gaps(draw, 400, 200, LEAST, 1500, heavy)) <= 6
    assert sum(one.most() < LEAST for one in gaps(draw, 2000, 1000, 0.0, 60, heavy)) >= 55
    assert sum(one.most() < LEAST for one in gaps(draw, 61, 14, 0.0, 300, heavy)) <= 30, "mostly too few to tell"


def test_what_is_excluded_is_said_with_its_figures() -> None:
    draw = np.random.default_rng(6)
    base = draw.lognormal(6.5, 0.8, 3000)
    honest, cheat = base * (1 - 0.02 - 0.02 * draw.standard_normal(3000)), base * 0.98
    cheat[:2000] *= 0.97
    said = excluded(measured(honest, 2000), [measured(base, 2000)])
    assert (
        "for 2,000 documents that are scored" in said and "for 1,000 that nobody knows: a gap of more than 0." in said
    )
    assert excluded(measured(cheat, 2000), [measured(base, 2000)]) == ""
    assert excluded(measured(honest, 2000), []) == ""


def many(draw: np.random.Generator) -> np.ndarray:
    return draw.lognormal(6.5, 0.8, 6000)


def test_what_is_smuggled_in_a_little_each_generation_shows_against_the_base() -> None:
    """0.9 % again and again, of which no head's own baseline tells; and ten generations that are honest."""
    draw = np.random.default_rng(31)
    base = many(draw)
    for smuggled, generations in ((0.009, 2), (0.0, 10)):
        parent, told = base, []
        for _ in range(generations):
            child = parent * (1 - 0.01 - 0.01 * draw.standard_normal(6000))
            child[:5000] *= 1 - smuggled
            assert findings(measured(child, 5000), [measured(parent, 5000)]) == ()
            told = findings(measured(child, 5000), [measured(parent, 5000)], [measured(base, 5000)])
            parent = child
        if smuggled:
            (found,) = told
            assert (found.rule, found.severity) == ("holdout_gap", "flag") and "the campaign's base" in found.text
        else:
            assert told == ()
    parent[:5000] *= 0.9
    (found,) = findings(measured(parent, 5000), [measured(base, 5000)], [measured(base, 5000)])
    assert found.severity == "invalid", "said once, by what says most"


def test_where_documents_are_many_a_gain_of_the_least_that_matters_is_looked_at() -> None:
    """If it is hardly there elsewhere. What is half as large elsewhere may be a difference in kind."""
    draw = np.random.default_rng(32)
    base = many(draw)
    for everywhere, smuggled, least, flagged in (
        (0.0, 0.003, 0.001, True),
        (0.0, 0.003, LEAST, False),
        (0.0, 0.003, 0.004, False),
        (0.004, 0.003, 0.001, False),
        (0.003, 0.0, 0.001, False),
        (-0.01, 0.003, 0.001, False),  # it is worse, so it gains nothing by that
    ):
        run = base * (1 - everywhere - 0.01 * draw.standard_normal(6000))
        run[:5000] -= smuggled * base[:5000]
        found = findings(measured(run, 5000), [measured(base, 5000)], worth=least)
        assert [one.severity for one in found] == (["flag"] if flagged else []), (everywhere, smuggled, least)


def test_a_run_is_looked_at_beside_its_baseline_and_the_base(store: Store, base: Proposal) -> None:
    """Not beside what ran at another rung; and the base's own children have it for a baseline."""
    draw = np.random.default_rng(33)
    first = many(draw)
    nats = [first * (1 - 0.02 * n - 0.01 * draw.standard_normal(6000)) for n in range(3)]
    for n, one in enumerate(nats):
        one[:5000] *= 1 - 0.006 * n
    little = nats[1] * draw.normal(1, 0.01, 6000)
    little[:5000] *= 0.997

    def documents(one: np.ndarray) -> dict[str, object]:
        of = measured(one, 5000)
        return {"doc_nats": of.doc_nats, "hidden_nats": of.hidden_nats}

    with store.write() as tx:
        head = filling.promote(tx, filling.add_idea(tx, base))
        idea = filling.add_idea(tx, head)
        filling.add_measured(tx, base, 1, 2.0, purpose="report", **documents(nats[0]))
        filling.add_measured(tx, head, 1, 1.9, purpose="report", **documents(nats[1]))
        runs = [filling.add_measured(tx, one, 2, 1.8, **documents(nats[n])) for n, one in ((1, head), (2, idea))]
        other = filling.add_measured(tx, idea, 2, 1.8, rung="short", **documents(nats[2]))
        small = filling.add_measured(tx, filling.add_idea(tx, head, "small"), 2, 1.8, **documents(little))
    with store.read() as reads:
        told = [watched(reads, run, reads.measurement(run.id), 0.1).findings for run in (*runs, other)]
        assert [len(one) for one in told] == [0, 1, 0] and "the campaign's base" in told[1][0].text
        for gain, flagged in ((0.1, False), (0.002, True)):
            assert bool(watched(reads, small, reads.measurement(small.id), gain).findings) == flagged
        scores = [reads.measurement(run.id) for run in runs]
        assert [worth(gain, scores) for gain in (0.0, 1.0, 0.009)] == [LEAST, LEAST, 0.009 / 1.8]


def test_without_anything_to_compare_with_nothing_is_said() -> None:
    run = measured(idea(DRAW, 0.0))
    assert gap(run, []) is None
    assert gap(replace(run, hidden_nats=()), [measured(BASE)]) is None
    assert gap(run, [replace(measured(BASE), hidden_nats=())]) is None
    assert gap(run, [measured(BASE, scored=90)]) is None


def test_the_error_of_a_share_is_that_of_a_resampled_one() -> None:
    run = idea(np.random.default_rng(8), 0.04)
    base, draw = np.asarray(BASE), np.random.default_rng(9)
    again = []
    for _ in range(4000):
        rows = draw.integers(0, len(base), len(base))
        again.append(1 - run[rows].sum() / base[rows].sum())
    found = share(run, base)
    assert found.value == pytest.approx(1 - run.sum() / base.sum())
    assert found.error == pytest.approx(float(np.std(again)), rel=0.1)


# ---------------------------------------------------------------- in a session


@pytest.mark.parametrize("form", ["windows", "separated", "learner"])
def test_hidden_documents_are_scored_after_the_others_and_count_for_nothing(tmp_path: Path, form: str) -> None:
    task = make_job(tmp_path / "a", script="honest_forms.py", form=form)
    more = ["Another story: the cat saw the mouse. " * 3, "é", "Story 3: the end. " * 9]
    hidden = write_documents(tmp_path / "a" / "hidden.jsonl", more)
    alone, both = run_session(task), run_session(task, hidden=hidden)
    assert (both.status, both.findings) == ("ok", ()), both.reason
    for name in ("nats", "tokens", "bytes", "doc_nats"):
        assert getattr(both, name) == getattr(alone, name)
    assert alone.hidden_nats == () and len(both.hidden_nats) == 3
    if form != "learner":  # what it has learnt until then depends on the chunks
        joined = write_documents(tmp_path / "a" / "all.jsonl", [*TEXTS, *more])
        whole = run_session(task, documents=joined)
        assert both.hidden_nats == pytest.approx(whole.doc_nats[-3:], rel=1e-6)
        assert both.doc_nats[:-1] == pytest.approx(whole.doc_nats[:-4], rel=1e-6)


def test_hidden_documents_that_were_changed_are_our_fault(tmp_path: Path) -> None:
    task = make_job(tmp_path / "a", script="honest.py")
    hidden = write_documents(tmp_path / "a" / "hidden.jsonl", ["one"])
    write_documents(tmp_path / "a" / "hidden.jsonl", ["two"])
    found = run_session(task, hidden=hidden)
    assert found.status == "broken" and "was changed" in found.reason


def test_text_that_was_smuggled_in_shows(tmp_path: Path) -> None:
    """A bigram of the very text that is scored, against one of half of it."""
    task = make_job(tmp_path / "a", texts=TEXTS * 3, script="honest.py")
    other = [f"Tale {n}: a fox met a hen, and the hen met {n} foxes. " * 4 for n in range(20)]
    hidden = write_documents(tmp_path / "a" / "hidden.jsonl", other)
    base = Path(task.artifact).read_bytes()
    runs = []
    for texts in ([*other, *TEXTS[::2]], [*other[:1], *TEXTS * 9]):
        Path(task.artifact).write_text(json.dumps({"counts": honest.count([text.encode() for text in texts])}))
        found = run_session(task, hidden=hidden)
        runs.append(replace(filling.measurement(1, 2.0), doc_nats=found.doc_nats, hidden_nats=found.hidden_nats))
    Path(task.artifact).write_bytes(base)
    assert [one.severity for one in findings(runs[1], [runs[0]])] == ["invalid"]
    assert findings(runs[0], [runs[1]]) == ()

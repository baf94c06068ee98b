"""What an idea gains on documents that are scored, against what it gains on others of their kind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.judge.hidden import LEAST, Gap, excluded, findings, gap, share
from agent.records import Measurement
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


@pytest.mark.slow
@pytest.mark.parametrize(("scored", "hidden"), [(61, 14), (100, 18)])
def test_fewer_than_one_honest_idea_in_ten_thousand_is_accused(scored: int, hidden: int) -> None:
    """None of 40,000, half of them with heavy tails: at 95 % the rate is below 1 in 13,000."""
    draw = np.random.default_rng(hidden)
    made = [one for heavy in (False, True) for one in gaps(draw, scored, hidden, 0.0, 20_000, heavy)]
    assert sum(one.size >= LEAST and one.sigmas() >= 5 for one in made) == 0
    assert any(one.size >= LEAST and one.sigmas() >= 3 for one in made), "the flags are near enough to be tested"


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

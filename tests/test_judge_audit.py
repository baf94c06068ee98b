"""Audits of real candidates: each rule is the only one to catch some cheat, and honest ones pass."""

import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.job.folder import JobPaths
from agent.judge import audit as whole
from agent.judge.audit import Found, audit, power, reference
from agent.judge.audit.asking import Plan, Said
from agent.judge.audit.lanes import Lanes
from agent.judge.candidate import Files
from agent.judge.scoring import Scores, score
from agent.judge.session import read_documents
from agent.judge.task import Auditing, Reference, Task
from tests.judging import make_job

FULL = Auditing("full")


class Judged:
    """A scored candidate whose audit can be repeated with any secret."""

    def __init__(self, folder: Path, script: str = "leaking.py", **artifact: object) -> None:
        self.task = make_job(folder, script=script, **artifact)
        self.texts = read_documents(self.task.documents)
        self.files = Files(Path(self.task.artifact).read_bytes(), Path(self.task.script).read_bytes())
        self.scores = score(self.task, self.files, self.texts, time.monotonic() + 60)

    def audit(
        self,
        secret: str = "s",
        run_s: float = 5.0,
        scores: Scores | None = None,
        within_s: float = 60.0,
        **changes: object,
    ) -> Found:
        task = replace(self.task, **{"auditing": FULL, **changes})  # type: ignore[arg-type]
        return audit(task, self.files, scores or self.scores, self.texts, secret, time.monotonic() + within_s, run_s)


def rules_of(found: Found) -> list[tuple[str, str]]:
    return [(one.rule, one.severity) for one in found.findings]


CHUNK = {"manifest": {"state": "chunk"}}
COARSE = {"manifest": {"numerics": "bf16"}}
CHEATS: dict[str, tuple[str, dict[str, object]]] = {
    "sums to more": ("not_normalised", {}),
    "more and less": ("scores_not_repeated", {}),
    "a little everywhere": ("mean_mismatch", {}),
    "hides in noise": ("mean_mismatch", COARSE),
    "another replay": ("replay_differs", CHUNK),
    "looks back": ("peek_changes_state", {"manifest": {"context": 8}}),
}


@pytest.mark.parametrize("how", CHEATS)
def test_each_rule_alone_catches_a_cheat(tmp_path: Path, how: str) -> None:
    rule, artifact = CHEATS[how]
    found = Judged(tmp_path / "job", how=how, **artifact).audit()
    assert rules_of(found) == [(rule, "invalid")]
    # The others had nothing to say; at surprising positions one that is far off is far off too.
    assert found.findings[0].text.partition("says the same")[2] in ("", "; surprise_mismatch too")
    assert "a second fresh process says the same" in found.findings[0].text


@pytest.mark.parametrize(
    ("how", "end"),
    [("gone when accused", "failed"), ("waits when accused", "capped"), ("tells when accused", "failed")],
)
def test_who_does_not_come_back_to_an_accusation_is_not_rid_of_it(
    tmp_path: Path, how: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it knows: here by a note that somebody leaves where it may look."""
    note = tmp_path / "job" / "code" / "note"
    judged = Judged(tmp_path / "job", how=how, note=str(note))
    judged.task = replace(
        judged.task, policy=replace(judged.task.policy, read=(*judged.task.policy.read, str(note.parent)))
    )
    second = whole.repeat_plan

    def noted(*asked: object) -> object:
        note.write_text("accused")
        return second(*asked)  # type: ignore[arg-type]

    asking = whole.session

    def hurried(task: Task, files: Files, scores: Scores, plan: Plan, deadline: float, *told: int) -> Said:
        until = time.monotonic() + 4.0 if note.exists() and "waits" in how else deadline
        return asking(task, files, scores, plan, until, *told)

    monkeypatch.setattr(whole, "repeat_plan", noted)
    monkeypatch.setattr(whole, "session", hurried)
    (found,) = judged.audit().findings
    assert (found.rule, found.severity) == ("repeat_unfinished", "flag")
    assert found.text.startswith("accused of not_normalised: at position ")
    assert found.text.endswith(f"says the same is not known, because it did not finish ({end})")
    log = JobPaths(tmp_path / "job").score_log.read_bytes()
    assert b"the text" not in log and (b"is not kept]" in log) == (how == "tells when accused")


def test_only_surprise_finds_what_leaks_rarely(tmp_path: Path) -> None:
    honest = Judged(tmp_path / "honest", how="plain")
    costly = np.argsort(honest.scores.nats)[-3:].tolist()
    leaking = Judged(tmp_path / "job", how="rarely", where=costly)
    few = {"uniform": 200, "surprising": 100}
    caught = [rules_of(leaking.audit(str(secret), **few)) for secret in range(3)]
    assert caught.count([("surprise_mismatch", "invalid")]) >= 2, caught
    assert [("mean_mismatch", "invalid")] not in caught
    assert rules_of(leaking.audit("0", uniform=200, surprising=0)) == []
    assert rules_of(leaking.audit("0", run_s=0.0, auditing=Auditing())) == []  # a quick one has no chance


@pytest.mark.parametrize(
    ("script", "artifact"),
    [
        ("leaking.py", {"how": "plain"}),
        ("leaking.py", {"how": "plain", **COARSE}),
        ("hostile.py", {"how": "stateful", **CHUNK}),
    ],
    ids=["plain", "bf16", "state"],
)
def test_honest_candidates_pass_in_full(tmp_path: Path, script: str, artifact: dict[str, object]) -> None:
    judged = Judged(tmp_path / "job", script, **artifact)
    found = judged.audit(uniform=2000, surprising=300)
    said, tokens = found.audit, len(judged.scores.nats)
    assert found.findings == ()
    assert (said.strength, said.uniform) == ("full", 2000) and 100 < said.surprising <= 300
    assert 2000 <= said.peeks <= 2300 and said.twice >= 20
    assert said.replayed == (tokens if "stateful" in artifact.values() else 0)
    assert said.largest_difference < 1e-5 and said.largest_sum < 1e-5
    assert abs(said.unfair) < 1e-6 and 0 <= said.unfair_stderr < 1e-6
    assert 0 < said.even < 0.01 and 0 < said.rare < 0.2
    assert "honest answers differ by" in said.tolerance_why and said.tolerance in (0.01, 0.5)


def test_what_was_claimed_too_well_is_estimated(tmp_path: Path) -> None:
    """Without bias, and too small a leak to be accused is still seen."""
    judged = Judged(tmp_path / "job", how="plain")
    claimed = replace(judged.scores, nats=judged.scores.nats - 8e-6)
    found = judged.audit(scores=claimed, uniform=2000)
    assert found.findings == ()
    assert found.audit.unfair == pytest.approx(8e-6, abs=1e-7)  # scores come as float32
    assert found.audit.unfair_stderr < 1e-7


# ---------------------------------------------------------------- how much is asked


def test_a_quick_audit_asks_what_a_tenth_of_the_run_is_for(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain")
    short, long = (judged.audit(run_s=seconds, auditing=Auditing()).audit for seconds in (0.0, 600.0))
    assert (short.strength, long.strength) == ("quick", "quick")
    assert 64 <= short.peeks < 200 < long.peeks == whole.MOST_QUICK
    assert short.start_s > 0  # stated, and no part of the tenth


def test_few_lanes_do_not_make_a_quick_audit_long(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain", manifest={"context": 4000})
    assert judged.audit(run_s=0.0, auditing=Auditing()).audit.peeks == 64


def test_a_good_score_is_audited_in_full(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain")
    own = whole.bpb(judged.task, judged.scores, sum(map(len, judged.texts)))
    for below, wanted in ((own + 0.01, "full"), (own - 0.01, "quick")):
        assert judged.audit(auditing=Auditing("quick", full_below=below)).audit.strength == wanted


def test_the_leak_to_be_caught_follows_the_smallest_gain_that_matters(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="plain")
    for gain, wanted in ((None, 0.005), (0.1, 0.005), (0.002, 0.001 * math.log(2) * 3)):
        asked = replace(task, auditing=Auditing("full", min_gain=gain))
        assert whole.wanted_leak(asked, tokens=1000, size=3000) == pytest.approx(wanted)


def test_where_everything_surprises_more_is_asked() -> None:
    """A reference to which a candidate's tokens are noise finds its leaks by chance alone."""
    draw = np.random.default_rng(3)
    claimed, tolerance = draw.gamma(1.5, 2.0, 40_000), whole.rules.TOLERANCES["fp32"]
    good, noise = claimed + draw.normal(0.5, 1.5, 40_000), np.full(40_000, 12.0)
    assert power.surprising(3000, good, claimed, tolerance, 0.005) == 1000
    count = power.surprising(3000, noise, claimed, tolerance, 0.005)
    assert 8000 <= count <= power.MOST_SURPRISING
    assert (
        power.rare(3000, count, noise, claimed, tolerance) <= 0.005 < power.rare(3000, 1000, noise, claimed, tolerance)
    )


def test_who_is_accused_is_asked_as_much_again_and_not_only_where_it_was_accused(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain")
    basis = whole.Basis(True, 0.005, reference.Known(judged.scores.nats + 2.0, "another"))
    lanes = Lanes.draw(1, len(judged.scores.nats), random.Random(1))
    first = whole.full_plan(judged.task, judged.scores, basis, lanes, random.Random(2))
    wrong = tuple(range(500, 900))
    accused = [whole.Accusation(whole.rules.NOT_REPEATED, "", wrong)]
    second = whole.repeat_plan(judged.task, judged.scores, basis, [], accused, random.Random(3))
    assert len(second.uniform) == len(first.uniform) and len(second.surprising) == len(first.surprising)
    assert set(second.uniform) != set(first.uniform)
    assert 8 <= len(second.accused) <= whole.REPEATED and set(second.accused) <= set(wrong)
    assert max(second.accused) > 600, "not only the first ones"


def test_who_a_deeper_audit_accuses_is_asked_as_deeply_again(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain")
    basis = whole.Basis(True, 0.005, reference.Known(judged.scores.nats + 2.0, "another"))
    task, asked = replace(judged.task, uniform=200, surprising=10), [whole.Answer(0, 0.0, 0.0)] * 500
    for seen, least in ((asked, 500), (asked[:50], 200)):
        second = whole.repeat_plan(task, judged.scores, basis, seen, [], random.Random(3))
        assert len(second.uniform) == least


def test_hidden_documents_are_asked_for_too(tmp_path: Path) -> None:
    """Their nats tell who has seen the others, so they must not be made up either."""
    judged = Judged(tmp_path / "job", how="plain")
    texts = judged.texts
    for state in ("none", "chunk"):
        task = replace(judged.task, chunk_tokens=500)
        files = judged.files if state == "none" else Judged(tmp_path / state, how="plain", **CHUNK).files
        scores = score(task, files, texts[:-4], time.monotonic() + 60, texts[-4:])
        assert len(scores.hidden_nats()) == 4 and len(scores.all_nats) == len(scores.nats) + len(scores.beyond)
        for shift, rules_found in ((0.0, []), (-0.5, [("scores_not_repeated", "invalid")])):
            claimed = replace(scores, beyond=scores.beyond + shift)
            found = audit(task, files, claimed, texts[:-4], "s", time.monotonic() + 60, 60.0)
            assert [(one.rule, one.severity) for one in found.findings][:1] == rules_found, (state, shift)
            assert found.audit.replayed == (0 if state == "none" else len(scores.all_nats))


# ---------------------------------------------------------------- the reference


def kept(judged: Judged) -> Reference:
    sha = judged.audit(uniform=64, surprising=10).audit.reference_sha
    assert sha is not None
    return Reference(str(JobPaths(Path(judged.task.folder)).reference), sha)


def test_the_baseline_is_a_reference_once_its_scores_are_kept(tmp_path: Path) -> None:
    baseline = Judged(tmp_path / "baseline", how="plain")
    assert baseline.audit(uniform=64).audit.reference == "a bigram model of the judge's"
    held = kept(baseline)
    judged = Judged(tmp_path / "job", how="plain")
    found = judged.audit(uniform=64, auditing=Auditing("full", reference=held)).audit
    assert found.reference == "the baseline's scores for 100 % of the tokens"
    Path(held.path).write_bytes(Path(held.path).read_bytes()[:-1])
    changed = judged.audit(uniform=64, auditing=Auditing("full", reference=held)).audit
    assert "reference.npz was changed" in changed.reference
    Path(held.path).unlink()
    assert "can't be read" in judged.audit(uniform=64, auditing=Auditing("full", reference=held)).audit.reference


def test_scores_of_other_tokens_are_laid_out_over_the_bytes(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", how="plain")
    stream, texts = judged.scores.stream, judged.texts
    held = reference.read(kept(judged))
    assert np.abs(held.nats - judged.scores.nats).max() <= reference.STEP / 2 + 1e-9
    pairs = [(len(text) + 1) // 2 for text in texts]  # of two bytes each, an odd one left over
    starts = np.cumsum([0, *pairs])[:-1]
    lengths = np.concatenate([[2] * (n - 1) + [len(text) - 2 * (n - 1)] for n, text in zip(pairs, texts, strict=True)])
    other = replace(stream, tokens=np.zeros(sum(pairs), dtype=np.uint32), starts=tuple(starts.tolist()))
    laid = reference.Laid(lengths, np.ones(len(texts), dtype=np.bool_))
    nats, share = reference.beside(held, other, laid)
    ends = np.cumsum(lengths)
    total = np.concatenate([[0], np.cumsum(held.nats)])
    assert share == 1.0 and nats == pytest.approx(np.diff(total[ends], prepend=0.0))
    laid.known[3] = False
    nats, share = reference.beside(held, other, laid)
    assert np.isnan(nats).sum() == pairs[3] and share == pytest.approx(1 - pairs[3] / sum(pairs))
    with pytest.raises(ValueError, match="documents instead of"):
        reference.beside(held, replace(other, starts=other.starts[:-1]), laid)


def test_a_decoder_that_needs_neighbours_is_not_believed(tmp_path: Path) -> None:
    judged = Judged(tmp_path / "job", "hostile.py", how="plain")
    texts = [text.replace(b"cat", b"dog") for text in judged.texts]
    laid = reference.lay_out(judged.task, judged.files, judged.scores.stream, texts, time.monotonic() + 20)
    assert laid.known.tolist() == [b"cat" not in text for text in judged.texts]
    assert (laid.lengths > 0).sum() == sum(len(text) for text in judged.texts if b"cat" not in text)


def test_what_stands_between_documents_has_no_bytes(tmp_path: Path) -> None:
    """A decoder may make anything of it; the baseline's scores hold for the documents all the same."""
    judged = Judged(tmp_path / "job", how="plain", manifest={"separator": 7})
    found = judged.audit(uniform=64, auditing=Auditing("full", reference=kept(judged)))
    tokens, between = len(judged.scores.nats), len(judged.texts) - 1
    share = 100 * (1 - between / tokens)
    assert found.findings == () and (judged.scores.stream.tokens == 7).sum() == between
    assert found.audit.reference == f"the baseline's scores for {share:.3g} % of the tokens, else a bigram model"


def test_the_bigram_model_never_counts_a_token_for_itself() -> None:
    tokens = np.asarray([3, 1, 3, 1, 3, 2], dtype=np.uint32)
    found = reference.learnt(tokens, 5)
    alone = [1 / 5, 1 / 6, 2 / 7, 2 / 8, 3 / 9, 1 / 10]  # by what came before
    after = [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (0, 2)]
    wanted = [-math.log((n + 5 * p) / (of + 5)) for p, (n, of) in zip(alone, after, strict=True)]
    assert found == pytest.approx(wanted)
    for at in range(len(tokens)):
        shown = tokens[: at + 1].copy()
        probabilities = []
        for token in range(5):
            shown[at] = token
            probabilities.append(math.exp(-reference.learnt(shown, 5)[at]))
        assert math.fsum(probabilities) == pytest.approx(1.0)


# ---------------------------------------------------------------- stated power


def test_stated_power_is_what_a_simulation_finds(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    claimed = draw.gamma(1.5, 2.0, 40_000)
    known = claimed + draw.normal(0.5, 1.5, 40_000)
    tolerance = whole.rules.TOLERANCES["fp32"]
    said = power.rare(2000, 500, known, claimed, tolerance)
    for size in (2.0, 10.0):
        share = said / size
        missed = 0
        for seed in range(300):
            leaked = claimed.copy()
            where = draw.choice(np.flatnonzero(claimed >= size), max(1, round(share * 40_000)), replace=False)
            leaked[where] -= size
            lanes = Lanes.draw(16, 40_000, random.Random(seed))
            drawn = whole.draw_weighted(lanes, power.weights(known, leaked), 500, random.Random(seed))
            uniform = draw.choice(np.flatnonzero(lanes.opened(40_000)), 2000, replace=False)
            missed += not set(where) & {*drawn, *uniform.tolist()}
        assert missed <= 9  # of 300, where 3 are expected at the worst size and fewer elsewhere


def test_a_task_of_an_older_caddie_can_still_be_read(tmp_path: Path) -> None:
    raw = json.loads(make_job(tmp_path / "job").to_json())
    for name in ("auditing", "uniform", "surprising", "audit_wall_s"):
        del raw[name]
    assert Task.from_json(json.dumps(raw)).auditing == Auditing()

"""What an audit says that it would have seen: whether that is so, and what is done where it is too little."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.judge import audit as whole
from agent.judge.audit import power, rules
from agent.judge.audit.rules import TOLERANCES
from agent.judge.candidate import TOLD_OF_A_SCORE, CandidateError, Files
from agent.judge.scoring import score
from agent.judge.session import read_documents
from agent.judge.task import Auditing
from agent.records import Finding
from tests.judging import make_job

BF16, FP32 = TOLERANCES["bf16"], TOLERANCES["fp32"]
NOISES = (0.0004, 0.0062, 0.0083)  # of bf16, as measured; and less than is believed


@pytest.mark.parametrize("noise", NOISES)
def test_the_leak_that_is_said_to_be_seen_everywhere_is_what_a_simulation_finds(noise: float) -> None:
    draw = np.random.default_rng(7)
    honest = draw.normal(0.0, noise, (400, BF16.uniform))
    said = power.even(rules.mean(honest[0], BF16), BF16)
    missed = sum(not rules.too_good(rules.mean(one + said, BF16), BF16) for one in honest)
    assert missed <= 12  # of 400, where 4 are expected, and none if the noise is less than is believed
    assert not any(rules.too_good(rules.mean(one, BF16), BF16) for one in honest)
    little = 0.8 * said
    assert sum(not rules.too_good(rules.mean(one + little, BF16), BF16) for one in honest) > 20


def test_as_many_positions_are_asked_as_see_through_the_noise() -> None:
    def of(noise: float, count: int = 5000) -> rules.Mean:
        found = np.where(np.arange(count) % 2, noise, -noise)
        return rules.mean(found, BF16)

    wanted = 0.00084  # of a golf track: half of its smallest gain
    for noise in NOISES[1:]:
        assert power.even(of(noise), BF16) > wanted
        count = power.uniform(of(noise), BF16, wanted)
        assert 5000 < count <= power.MOST_UNIFORM and power.even(of(noise, count), BF16) < wanted
    assert power.uniform(of(0.02), BF16, wanted) == 0  # too many for anybody
    assert power.uniform(of(0.0062), BF16, 0.005) == 0 == power.uniform(of(0.0004), BF16, wanted)
    assert power.uniform(of(0.0062), BF16, 4e-4) == 0  # inside the dead zone


# ---------------------------------------------------------------- a real candidate


class Coarse:
    """An honest one with coarse arithmetic, on a track where little matters; a first audit asks too few positions."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(TOLERANCES, "bf16", BF16._replace(uniform=300))
        self.task = make_job(folder, script="leaking.py", how="plain", manifest={"numerics": "bf16"})
        self.texts = read_documents(self.task.documents)
        self.files = Files(Path(self.task.artifact).read_bytes(), Path(self.task.script).read_bytes())
        self.scores = score(self.task, self.files, self.texts, time.monotonic() + 60)

    def audit(self, wanted: float) -> whole.Found:
        gain = 2 * wanted / math.log(2)  # one byte a token
        task = replace(self.task, auditing=Auditing("full", min_gain=gain))
        return whole.audit(task, self.files, self.scores, self.texts, "s", time.monotonic() + 60, 5.0)


def test_an_audit_that_saw_too_little_asks_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Coarse(tmp_path / "job", monkeypatch)
    enough = judged.audit(0.002).audit
    assert enough.uniform == 300 and enough.even < enough.wanted
    more = judged.audit(7.5e-4)
    assert more.findings == () and 800 < more.audit.uniform < 1000
    assert more.audit.even < more.audit.wanted == pytest.approx(7.5e-4)
    assert more.audit.reference_sha is not None


def test_none_is_begun_that_could_not_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Coarse(tmp_path / "job", monkeypatch)
    now, asked = time.monotonic(), whole.session

    def session(*given: object) -> object:
        said = asked(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(whole.time, "monotonic", lambda: now + 40.0)  # of the minute that there is
        return said

    monkeypatch.setattr(whole, "session", session)
    assert judged.audit(7.5e-4).audit.uniform == 300


def test_where_nothing_surprises_the_reference_a_rare_leak_would_be_seen_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as where it is the same model: a position that leaked would be the one that surprises."""
    judged = Coarse(tmp_path / "job", monkeypatch)
    monkeypatch.setattr(whole.reference, "of", lambda task, scores, laid: whole.reference.Known(scores.nats, "its own"))
    found = judged.audit(0.002).audit
    # But for leaks within the margin, which take a uniform position: one in a hundred misses all 300 of them.
    assert found.surprising == 0 and found.rare == pytest.approx(power.HITS / 300, rel=0.01)


def test_who_does_not_answer_more_has_answered_too_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged, calls, seen = Coarse(tmp_path / "job", monkeypatch), [], (Finding("network", "invalid", "x"),)

    def session(*given: object) -> object:
        calls.append(given)
        if len(calls) % 2 == 0:
            raise CandidateError("failed", "it ended", seen)
        return asked(*given)  # type: ignore[arg-type]

    asked = whole.session
    monkeypatch.setattr(whole, "session", session)
    found = judged.audit(7.5e-4)
    assert len(calls) == 2 and found.findings == seen
    assert calls[1][-1] == TOLD_OF_A_SCORE  # its score stays
    assert found.audit.uniform == 300 and found.audit.even > found.audit.wanted

"""What an audit said is kept beside the score, and shown."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.judge.measure import audited, dim, trust_of
from agent.judge.task import Audit, Clocks, Measured, no_score
from agent.records import Audited, Finding
from agent.report import tables
from agent.store import open_store
from agent.store.schema import audits
from tests.filling import add_base, add_campaign, add_measured

SAID = Audit(
    peeks=5900,
    secret="x",
    largest_difference=3e-6,
    largest_sum=4e-7,
    strength="full",
    uniform=5000,
    surprising=1000,
    twice=59,
    tolerance=0.01,
    tolerance_why="fp32: as measured",
    unfair=2e-8,
    unfair_stderr=1e-8,
    reference="the baseline's scores for 100 % of the tokens",
    reference_sha="c" * 64,
    even=1.2e-5,
    rare=0.004,
    wanted=0.005,
    start_s=0.9,
)
MEASURED = replace(
    no_score("ok", ""), nats=693.0, tokens=400, bytes=1000, clocks=Clocks(1, 1, 1, 1, 1, 7.5, 7.0, 9), audit=SAID
)


def test_a_score_is_blind_once_a_full_audit_found_nothing() -> None:
    quick = replace(MEASURED, audit=replace(SAID, strength="quick"))
    caught = replace(MEASURED, findings=(Finding("surprise_mismatch", "invalid", "here"),))
    once = replace(MEASURED, findings=(Finding("surprise_mismatch", "flag", "a second one did not repeat it"),))
    other = replace(MEASURED, findings=(Finding("holdout_gap", "flag", "of no audit"),))
    assert [trust_of(one) for one in (MEASURED, other)] == ["blind", "blind"]
    assert [trust_of(one) for one in (quick, caught, once)] == ["measured"] * 3
    assert trust_of(no_score("failed", "it died")) == "measured"


@pytest.mark.parametrize("leak", ["even", "rare"])
def test_a_full_audit_that_would_have_missed_what_matters_makes_no_score_blind(leak: str) -> None:
    """Its noise hides too much, or what it asks is too little: the row says so."""
    missed = replace(MEASURED, audit=replace(SAID, **{leak: 0.0051}))  # type: ignore[arg-type]
    assert trust_of(missed) == "measured" and dim(MEASURED) == []
    (note,) = dim(missed)
    assert (
        (note.rule, note.severity) == ("audit_dim", "note") and "0.0051" in note.text and "0.005 is wanted" in note.text
    )


def test_an_audit_is_kept_and_shown(tmp_path: Path) -> None:
    kept = audited(Measured.from_json(MEASURED.to_json()))
    assert kept is not None and kept.unfair_bpb == pytest.approx(2e-8 * 400 / math.log(2) / 1000)
    assert (kept.wall_s, kept.start_s, kept.positions, kept.strength) == (7.5, 0.9, 5900, "full")
    store = open_store(tmp_path / "runs.db")
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        run = add_measured(tx, base, 1, 2.3, trust="blind", audit=kept)
        bare = add_measured(tx, base, 2, 2.3)
        with pytest.raises(ValueError, match="unfair_nats is not finite"):
            add_measured(tx, base, 3, 2.3, audit=replace(kept, unfair_nats=math.nan))
    with store.read() as reads:
        found = reads.measurement(run.id)
        assert found is not None and found.audit == kept
        assert tables.run(reads, run.id)["measurement"]["audit"]["rare_nats"] == 0.004  # type: ignore[index]
        shown = tables.run_words(tables.run(reads, run.id))
        assert "audit: full: 5,900 positions (5,000 uniform, 1,000 surprising), 59 of them twice" in shown
        assert "surprise by the baseline's scores for 100 % of the tokens" in shown
        assert "unfair gain 2e-08 +- 1e-08 nats per token, 1.2e-08 +- 5.8e-09 BPB" in shown
        assert "1.2e-05 nats per token at every token, 0.004 at few; wanted 0.005" in shown
        assert "audit" not in tables.run_words(tables.run(reads, bare.id))
        rows = reads.connection.execute(select(audits)).mappings().all()
    assert [row["run_id"] for row in rows] == [run.id] and Audited(**{k: rows[0][k] for k in vars(kept)}) == kept
    store.close()


def test_an_older_judge_s_audit_tells_nothing() -> None:
    old = replace(MEASURED, audit=Audit(64, "x", 1e-6, 1e-6))
    assert audited(old) is None and trust_of(old) == "measured"

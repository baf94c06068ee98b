"""Measurements of finished jobs: what was measured beside what was said; nothing where there is no score."""

import hashlib
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import reach
from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult, JobSpec, Phase, PhaseResult, create
from agent.judge.measure import measure, trust_of
from agent.judge.phase import judge_phase
from agent.judge.task import UNFINISHED, Audit, Clocks, Manifest, Measured, Strength, no_score
from agent.records import Finding, Measurement, Outcome, Severity
from agent.runners.local import LocalRunner
from agent.track import Track
from sandbox.limits import Exit, Limits
from tests.candidates import honest
from tests.judging import NOBODY_READ, make_corpus, of_the_run, toy
from tests.measuring import LOG, RUN, make_job

FINAL = "final_int8_zlib_roundtrip_exact val_loss:3.10000000 val_bpb:{:.8f}\n"
NATS = 1000.0
MEASURED = Measured(
    1,
    "ok",
    "",
    NATS,
    300,
    600,
    (400.0, 600.0),
    None,
    Manifest(1024, 256, "none", "fp32"),
    Clocks(0.1, 0.1, 2.0, 3.0, 2.5, 0.5, 0.4, 4.0),
    None,
    1000,
    "a" * 64,
    50,
    "c" * 64,
    420.0,
    (),
    judge_sha="f" * 64,
)
BPB = NATS / math.log(2) / 600
AUDIT = Audit(4000, "secret", 1e-6, 1e-6, strength="full", uniform=3000)


def result(outcome: Outcome = "ok", reason: str = "", *, judged: bool = True) -> JobResult:
    train = Exit(0, None, "exited", 25.0, 24.0, 400.0)
    phases = [PhaseResult("train", train)]
    if judged:
        phases.append(PhaseResult("judge", replace(train, wall_s=4.0, peak_mb=500.0)))
    return JobResult(5, outcome, reason, tuple(phases), 31.0, ("env",), True)


def measured(paths: JobPaths, ended: JobResult | None = None, track: Track | None = None) -> Measurement:
    return measure(track or toy(), RUN, paths, ended or result(), "d1")


def test_a_measured_run(tmp_path: Path) -> None:
    found = measured(make_job(tmp_path, answer=MEASURED.to_json()))
    assert found == Measurement(
        run_id=5,
        trust="measured",
        judge_version=2,
        bpb=pytest.approx(BPB),
        nats=NATS,
        bytes_scored=600,
        tokens_scored=300,
        artifact_bytes=1000,
        code_bytes=50,
        total_bytes=1050,
        train_wall_s=25.0,
        train_cpu_s=24.0,
        train_ms=21_000,
        score_wall_s=3.0,
        score_cpu_s=2.5,
        slot_s=31.0,
        peak_mb=500.0,
        steps=300,
        reported_bpb=None,
        reported_bytes=1050,
        artifact_sha="a" * 64,
        data_sha="d1",
        doc_nats=(400.0, 600.0),
        findings=(),
        judge_sha="f" * 64,
    )


def test_what_is_said_stands_beside_what_is_measured(tmp_path: Path) -> None:
    lie = LOG.replace("size int8+zlib: 1050", "size int8+zlib: 900") + FINAL.format(BPB - 0.01)
    found = measured(make_job(tmp_path, lie, MEASURED.to_json()))
    assert found.bpb == pytest.approx(BPB) and found.total_bytes == 1050
    assert found.reported_bpb == pytest.approx(BPB - 0.01) and found.reported_bytes == 900
    assert [(f.rule, f.severity) for f in found.findings] == [("reported_differs", "flag")] * 2
    honest = LOG + FINAL.format(BPB * 1.0002)
    assert measured(make_job(tmp_path, honest, MEASURED.to_json())).findings == ()


def test_both_forms_of_the_script_are_said(tmp_path: Path) -> None:
    both = replace(MEASURED, source_bytes=120, packed_bytes=50)
    (note,) = measured(make_job(tmp_path / "a", answer=both.to_json())).findings
    assert (note.rule, note.severity) == ("code_size", "note")
    assert note.text == "the script is 120 bytes, packed 50; it ran, and counts, packed"
    longer = measured(make_job(tmp_path / "b", answer=replace(both, code_bytes=120).to_json()))
    (note,) = [one for one in longer.findings if one.rule == "code_size"]
    assert note.text.endswith("it ran, and counts, as it is")


def test_the_session_s_findings_come_along(tmp_path: Path) -> None:
    severe = Finding("below_floor", "invalid", "knew the text")
    found = measured(make_job(tmp_path, answer=replace(MEASURED, findings=(severe,)).to_json()))
    assert found.findings == (severe,)


def test_another_script_than_was_started(tmp_path: Path) -> None:
    found = measured(make_job(tmp_path, answer=replace(MEASURED, code_sha="e" * 64).to_json()))
    assert [(f.rule, f.severity) for f in found.findings] == [("code_changed", "invalid")]


@pytest.mark.parametrize(
    ("walls", "word"),
    [
        ((), ""),
        (("unsafe",), ""),  # at these two levels nothing is blind
        (("pod", "seccomp"), ""),
        (("namespaces", "seccomp", "traceless"), ""),
        (("namespaces", "seccomp"), "in which pages of shared files are in memory: running as root"),
        (("landlock", "seccomp", "memory-group"), "in times of access of shared files and which pages"),
        (("seatbelt",), "bubblewrap and running as root or with a delegated control group"),
    ],
)
def test_a_score_says_what_could_have_passed_between_the_processes_that_made_it(
    tmp_path: Path, walls: tuple[str, ...], word: str
) -> None:
    """It is blind all the same, where it is otherwise."""
    audited = replace(MEASURED, walls=walls, audit=AUDIT)
    found = measured(make_job(tmp_path, answer=audited.to_json()))
    assert [(one.rule, one.severity) for one in found.findings] == ([("marks_possible", "note")] if word else [])
    assert all(word in one.text and one.text.count(". ") == 0 for one in found.findings)
    assert found.trust == ("measured" if {"pod", "unsafe"} & set(walls) else "blind")
    assert measured(make_job(tmp_path, answer=replace(audited, status="failed", nats=None).to_json())).bpb is None


@pytest.mark.parametrize(
    ("ended", "answer", "words"),
    [
        (result("crashed", "train: ended with exit code 1", judged=False), None, "ended with exit code 1"),
        (
            result("capped", "train: stopped at its wall limit (60 s)", judged=False),
            None,
            "wall limit (60 s)",
        ),
        (result("no_artifact", "no artifact was written", judged=False), None, "no artifact"),
        # A candidate that writes the judge's answer itself, and then ends badly.
        (result("crashed", "train: ended with exit code 1", judged=False), MEASURED.to_json(), "exit code 1"),
        (result("score_failed", "odd", judged=True), MEASURED.to_json(), "odd"),
        (result("ok", "odd", judged=False), MEASURED.to_json(), "odd"),
        (
            result("capped", "judge: wall", judged=True),
            no_score("broken", "draw again").to_json(),
            "judge: wall",
        ),
        (result("score_failed", "judge: exit code 1"), "{}", "judge: exit code 1"),
        (result("capped", "judge: stopped at its wall limit"), None, "judge: stopped"),
        (result("score_failed"), no_score("failed", "it gave NaN").to_json(), "it gave NaN"),
        (result("capped"), no_score("capped", "stopped by its wall limit").to_json(), "its wall limit"),
        (result("score_failed"), None, "the judge session left no answer"),
    ],
)
def test_no_score(tmp_path: Path, ended: JobResult, answer: str | None, words: str) -> None:
    found = measured(make_job(tmp_path, LOG + FINAL.format(1.0), answer), ended)
    assert found.bpb is None and found.nats is None and found.doc_nats == () and found.total_bytes is None
    assert (found.reported_bpb, found.steps, found.slot_s) == (1.0, 300, 31.0)
    reasons = [finding.text for finding in found.findings if finding.rule == "no_score"]
    assert len(reasons) == 1 and words in reasons[0]


def test_a_broken_judge_is_not_the_idea_s_fault(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="disk full"):
        measured(make_job(tmp_path, answer=no_score("broken", "disk full").to_json()))
    for damaged in (
        "{}",
        "[" * 100_000,
        MEASURED.to_json()[:-5],
        MEASURED.to_json().replace("1000.0", "NaN"),
    ):
        with pytest.raises(InfraError, match="can't be read"):
            measured(make_job(tmp_path, answer=damaged))


def test_tracks_that_believe_the_log(tmp_path: Path) -> None:
    found = measured(make_job(tmp_path, LOG + FINAL.format(1.2)), result(judged=False), toy(""))
    assert (found.trust, found.bpb, found.total_bytes) == ("reported", 1.2, 1050)
    (line,) = found.findings
    assert line.rule == "official_line" and line.severity == "note" and "the only final score" in line.text
    silent = measured(make_job(tmp_path), result(judged=False), toy(""))
    assert silent.bpb is None and [f.rule for f in silent.findings] == ["no_score"]
    crashed = measured(make_job(tmp_path, FINAL.format(1.2)), result("crashed", judged=False), toy(""))
    assert crashed.bpb is None and crashed.reported_bpb == 1.2


@pytest.mark.parametrize(("allowed", "told"), [(20.5, []), (19.5, ["invalid"])])
def test_where_a_script_scores_itself_its_own_clock_tells_what_training_took(
    tmp_path: Path, allowed: float, told: list[str]
) -> None:
    """21 s by its log. Ours, of 25 s, has seen its evaluation too."""
    track = toy("")
    track = track.model_copy(update={"limits": track.limits.model_copy(update={"train_clock_s": allowed})})
    found = measured(make_job(tmp_path, LOG + FINAL.format(1.2)), result(judged=False), track)
    assert [one.severity for one in found.findings if one.rule == "train_clock"] == told


@pytest.mark.slow
def test_a_whole_job_from_training_to_its_measurement(tmp_path: Path) -> None:
    """A real shepherd, a real session, a candidate that trains; the score is worked out again by hand."""
    track = toy(', score = ["{python}", "{script}", "score"], artifact = "final_model.bin"')
    make_corpus(tmp_path / "corpus", train="one two three two", val="two three é")
    job = JobPaths(tmp_path / "job")
    script = job.code / "train.py"
    source = Path(honest.__file__).read_bytes()
    train = Phase(
        "train",
        (sys.executable, str(script), "train"),
        {"PATH": "/usr/bin:/bin", "DATA_PATH": str(tmp_path / "corpus" / "train")},
        str(job.out),
        Limits(60, None, 500, 50, 1, 8),
        reach.training(track, job, tmp_path / "corpus", NOBODY_READ),
        job.train_log.name,
    )
    policy = reach.scoring(track, NOBODY_READ)
    judge = judge_phase(track, job, script=script, seed=11, corpus=tmp_path / "corpus", policy=policy)
    spec = JobSpec(5, (train, judge), track.script.artifact, None, track.limits.worst_s())
    create(job.folder, spec, lambda code: (code / "train.py").write_bytes(source) and None)
    runner = LocalRunner(1)
    runner.hold(spec.run_id, job.folder, "local/0")
    deadline = time.monotonic() + 80
    while (state := runner.poll(job.folder)) not in ("done", "lost"):
        assert time.monotonic() < deadline, job.shepherd_log.read_text()
        time.sleep(0.05)
    assert state == "done", job.shepherd_log.read_text()
    ended = runner.collect(job.folder)
    assert (ended.outcome, ended.reason) == ("ok", "")
    assert ("traceless" in ended.walls) is ("traceless" in Measured.from_json(job.measure.read_text()).walls)
    run = replace(RUN, script_sha=hashlib.sha256(source).hexdigest())
    found = measure(track, run, job, ended, "d1")
    model = honest.Bigram(honest.count([b"one two three two"]))
    text = "two three é".encode()
    nats = sum(-model.logprobs(before)[token] for before, token in zip([None, *text], text, strict=False))
    assert found.bpb == pytest.approx(nats / math.log(2) / len(text), rel=1e-6)
    assert (found.trust, found.steps, found.tokens_scored, of_the_run(found)) == ("measured", 3, len(text), [])
    assert found.total_bytes == len(source) + (job.out / "final_model.bin").stat().st_size
    assert found.train_cpu_s and found.score_cpu_s and 0 < found.slot_s < 80


@pytest.mark.parametrize(
    ("strength", "rule", "severity", "trust"),
    [
        ("quick", "holdout_gap", "flag", "measured"),
        ("full", "holdout_gap", "flag", "blind"),
        ("full", "mean_mismatch", "invalid", "measured"),
        ("full", "mean_mismatch", "flag", "measured"),  # which a second process did not repeat
        ("full", UNFINISHED, "flag", "measured"),
    ],
)
def test_a_score_is_blind_where_a_full_audit_has_nothing_open_against_it(
    strength: Strength, rule: str, severity: Severity, trust: str
) -> None:
    audit = replace(AUDIT, strength=strength)
    assert trust_of(replace(MEASURED, audit=audit, findings=(Finding(rule, severity, "seen"),))) == trust


@pytest.mark.parametrize(
    ("ready", "cpu", "rule"),
    [
        (58.0, 30.0, "core_busy"),
        (31.0, 30.0, "core_free"),
        (8.0, 2.0, "core_free"),  # it slept
        (None, 30.0, None),
    ],
    ids=["others had it", "it waited for itself", "it slept", "nobody counted"],
)
def test_who_met_its_clock_had_its_core_or_not(
    tmp_path: Path, ready: float | None, cpu: float, rule: str | None
) -> None:
    ended = Exit(None, 9, "wall", 60.0, cpu, 400.0, ready_s=ready)
    capped = JobResult(5, "capped", "train: wall limit", (PhaseResult("train", ended),), 61.0, ("env",), True)
    found = measured(make_job(tmp_path), capped).findings
    told = [one for one in found if one.rule.startswith("core_")]
    assert [(one.rule, one.severity) for one in told] == ([(rule, "note")] if rule else [])
    assert not told or told[0].text == f"it was ready to run for {ready:.1f} of 60.0 s, and ran for {cpu:.1f} s"
    well = replace(capped, outcome="ok", phases=(PhaseResult("train", replace(ended, cause="exited")),))
    assert not [one for one in measured(make_job(tmp_path), well).findings if one.rule.startswith("core_")]

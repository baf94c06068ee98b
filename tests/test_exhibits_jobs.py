"""A job's folder without its store: what the judge's own answer says of it, and that nothing outside is read."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobPaths, JobResult
from agent.judge import exhibits
from agent.judge.task import Measured
from agent.records import Finding
from agent.report import judged
from sandbox.limits import Network
from tests import filling
from tests.exhibiting import ANSWER, ENDED


@pytest.fixture
def job(tmp_path: Path) -> Path:
    paths = JobPaths(tmp_path / "jobs" / "r1")
    paths.code.mkdir(parents=True)
    paths.spec.write_text("{}")
    (paths.code / "train_gpt.py").write_text("print(1)\n")
    return paths.folder


def judge(job: Path, answer: Measured, result: JobResult | None = ENDED) -> exhibits.Exhibits:
    JobPaths(job).measure.write_text(answer.to_json())
    JobPaths(job).result.unlink(missing_ok=True)
    if result is not None:
        JobPaths(job).result.write_text(result.to_json())
    return exhibits.of_path(job)


def trained(seconds: float, network: Network | None = None) -> JobResult:
    train, scored = ENDED.phases
    return replace(ENDED, phases=(replace(train, exit=replace(train.exit, wall_s=seconds, network=network)), scored))


def test_the_count_that_decides_is_the_one_that_is_shown(job: Path) -> None:
    found = judge(job, ANSWER).case.measured
    assert found is not None
    assert found.bpb == pytest.approx(1200.0 / math.log(2) / 1000)
    assert (found.nats, found.bytes_scored, found.tokens_scored) == (1200.0, 1000, 400)
    assert "1.85693 BPB for all 410 tokens over the 1,010 raw bytes" in found.findings[-1].text
    plain = judge(job, replace(ANSWER, contest=None)).case.measured
    assert plain is not None and plain.bpb == pytest.approx(1300.0 / math.log(2) / 1010)


def test_no_score_is_blind_that_only_its_own_folder_vouches_for(job: Path) -> None:
    """Whoever can write the folder can write all of this."""
    found = judge(job, replace(ANSWER, findings=()))
    report = judged.report(found)
    assert found.case.measured is not None and report.trust == "reported" and found.case.audited == ""
    assert "no store of this workspace knows this folder" in report.notes[0] and "BPB, blind" not in judged.words(
        report
    )
    bare = judged.report(exhibits.Exhibits(found.case.vouched))
    passed = {one.rule for one in report.rulings if one.state == "passed"}
    assert passed == {one.rule for one in bare.rulings if one.state == "passed"} and passed == {17, 25}


def test_what_a_folder_says_against_itself_counts(job: Path) -> None:
    accused = replace(ANSWER, findings=(Finding("mean_mismatch", "invalid", "it claimed too much"),))
    assert judged.report(judge(job, accused)).verdict == "invalid"


def test_what_the_store_measured_is_vouched_for(job: Path) -> None:
    """And what lies in its folder, if it is of the same artifact."""
    known = replace(filling.measurement(1, 1.2), trust="blind", artifact_sha=ANSWER.artifact_sha)
    judge(job, ANSWER)
    for measured, same in ((known, True), (replace(known, artifact_sha="b" * 64), False)):
        case = exhibits.of_job(job, measured, kind="run", walls=("namespaces",)).case
        states = {one.rule: one.state for one in judged.report(exhibits.Exhibits(case)).rulings}
        assert case.vouched is case and states[7] == states[20] == "passed"
        assert (case.score_s is not None) is same and any("another artifact" in one for one in case.notes) is not same


def test_a_folder_that_says_that_it_is_a_submission_is_one(job: Path) -> None:
    judge(job, ANSWER)
    (job / "submission.json").write_text("{}")
    found = exhibits.of_path(job)
    assert found.case.kind == "submission" and found.case.measured is None and found.problems


def test_what_its_walls_left_open_between_the_processes_that_scored_is_told(job: Path) -> None:
    for walls, told in ((("namespaces",), True), (("namespaces", "traceless"), False)):
        noted = judged.report(judge(job, replace(ANSWER, walls=walls))).other_findings
        assert any(one.startswith("marks_possible (note): ") for one in noted) is told


def test_its_clock_of_scoring_is_that_of_the_answers(job: Path) -> None:
    known = replace(filling.measurement(1, 1.2), artifact_sha=ANSWER.artifact_sha)
    for seconds, state in ((590.0, "passed"), (601.0, "violated")):
        judge(job, replace(ANSWER, clocks=replace(ANSWER.clocks, score_answers=seconds)))  # type: ignore[type-var]
        found = exhibits.of_job(job, known, kind="run")
        ruling = next(one for one in judged.report(found).rulings if one.rule == 13)
        assert ruling.state == state and f"{seconds} s by our clock" in ruling.words


def test_its_clock_of_training_is_the_shepherds(job: Path) -> None:
    """A script's own can be stopped."""
    JobPaths(job).train_log.write_text("step:9/9 train_loss:2.0 train_time:300000ms step_avg:1ms\n")
    told = {}
    for seconds in (590.0, 700.0, 901.0):
        by = {one.rule: one for one in judged.report(judge(job, ANSWER, trained(seconds))).rulings}
        told[seconds] = [f"{by[rule].state} {by[rule].severity}" for rule in (12, 14)]
        said = f"training took {seconds:.1f} s by our" in by[14].words
        assert said == (seconds > 590.0), "what is in its favour is by its log alone"
    assert told[590.0] == ["unknown invalid", "passed invalid"]
    assert told[700.0] == ["unknown invalid", "unknown invalid"]
    assert told[901.0] == ["violated flag", "violated flag"]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"outcome": "crashed", "reason": "train ended with exit code 1", "phases": ENDED.phases[:1]}, "it ended as"),
        ({"outcome": "capped", "reason": "judge was stopped by its wall limit"}, "it ended as capped"),
        (None, "it has no result"),
    ],
    ids=["before the judge", "while it scored", "no result"],
)
def test_what_a_candidate_may_have_written_is_no_score(job: Path, changes: dict[str, object] | None, note: str) -> None:
    result = None if changes is None else replace(ENDED, **changes)  # type: ignore[arg-type]
    case = judge(job, ANSWER, result).case
    assert (case.measured, case.audited, case.score_s, case.floor) == (None, "", None, False)
    (said,) = case.notes
    assert said.startswith(note)


def test_what_is_no_score_is_none_in_a_folder_either(job: Path) -> None:
    case = judge(job, replace(ANSWER, nats=1e12, contest=None)).case
    assert case.measured is None and "are no score" in case.notes[0]


def test_whom_its_training_talked_to_is_told(job: Path) -> None:
    found = judged.report(judge(job, ANSWER, trained(590.0, Network(1000, 0, 0, 5000))))
    assert next(one.severity for one in found.rulings if one.rule == 22) == found.verdict == "invalid"


def test_no_file_outside_is_read_for_what_a_script_executes(job: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("import requests\n")
    (job / "code" / "inside.py").write_text("import httpx\n")
    code = job / "code" / "train_gpt.py"
    for name in ("../../../secret.py", str(tmp_path / "secret.py"), "../code/inside.py", "a/../inside.py"):
        code.write_text(f"exec(open({name!r}).read())\n")
        case = exhibits.of_path(job).case
        assert len(case.layers) == 1 and {one.name for one in case.signs} == {"runs_a_file"}, name
    code.write_text("exec(open('./inside.py').read())\n")
    assert {one.name for one in exhibits.of_path(job).case.signs} == {"runs_a_file", "network_import"}

"""The judge session against real candidates: an honest one, and one for every way of being hostile."""

import contextlib
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge.logs import reported
from agent.judge.session import judge_sha
from agent.judge.task import Auditing, Measured
from sandbox import in_force
from tests.candidates import honest
from tests.judging import TEXTS, make_job, run_session
from trainer.pack import pack

ROOT = Path(__file__).parents[1]


def run_with_notes(folder: Path, **artifact: object) -> Measured:
    """A candidate that is told from outside whether it was here before: behind its walls it could not know."""
    job = make_job(folder, **artifact, note=str(folder / "code" / "note"))
    over = threading.Event()

    def take_notes() -> None:
        note = folder / "code" / "note"
        while not over.wait(0.01):
            for log in (*folder.glob(".*/log"), JobPaths(folder).score_log):
                with contextlib.suppress(FileNotFoundError):
                    if "was here" in log.read_text():
                        note.touch()

    clerk = threading.Thread(target=take_notes)
    clerk.start()
    try:
        return run_session(job)
    finally:
        over.set()
        clerk.join()


def expected_nats(texts: list[str]) -> list[float]:
    """The honest model's nats of each document, worked out without any of the judge's code."""
    model = honest.Bigram(honest.count([text.encode() for text in texts[::2]]))
    pairs = [zip([None, *text.encode()], text.encode(), strict=False) for text in texts]
    return [sum(-model.logprobs(before)[token] for before, token in pair) for pair in pairs]


# ---------------------------------------------------------------- honest


def test_an_honest_candidate_gets_its_score(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", script="honest.py", how="plain")
    found = run_session(task)
    wanted = expected_nats(TEXTS)
    artifact = Path(task.artifact).read_bytes()
    assert found.status == "ok" and found.findings == ()
    assert found.doc_nats == pytest.approx(wanted, rel=1e-6)
    assert found.nats == pytest.approx(math.fsum(wanted), rel=1e-6)
    assert found.bytes == sum(len(text.encode()) for text in TEXTS) == found.tokens
    assert (found.artifact_bytes, found.artifact_sha) == (len(artifact), hashlib.sha256(artifact).hexdigest())
    assert found.code_bytes == Path(task.script).stat().st_size
    assert found.judge_sha == judge_sha() and len(found.judge_sha) == 64
    assert found.manifest is not None and found.manifest.vocab == 256
    assert found.audit is not None and found.audit.peeks >= 64
    assert found.audit.largest_difference < 1e-5 and found.audit.largest_sum < 1e-4
    assert found.clocks is not None
    assert 0 < found.clocks.score_answers < found.clocks.scoring_wall < found.clocks.session_wall


def test_chunks_do_not_change_the_score(tmp_path: Path) -> None:
    small = run_session(make_job(tmp_path / "a", how="plain"), chunk_tokens=64)
    large = run_session(make_job(tmp_path / "b", how="plain"), chunk_tokens=100_000)
    assert small.doc_nats == large.doc_nats


def test_a_script_that_is_alone_runs_from_a_copy(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", script="honest.py", how="plain")
    found = run_session(task, alone=True, code=(task.script, str(tmp_path / "not there.py")))
    assert found.status == "ok"


def test_whatever_a_script_could_read_counts(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", script="honest.py", how="plain")
    code = Path(task.script).parent
    (code / "deep").mkdir()
    (code / "deep" / "table.bin").write_bytes(bytes(12345))
    (code / "link.py").symlink_to("honest.py")
    size = sum(path.stat().st_size for path in code.rglob("*") if path.name != "link.py" and path.is_file())
    assert size > 12345 + Path(task.script).stat().st_size
    assert run_session(task, code=(task.script, str(code))).code_bytes == size


def test_state_is_replayed_for_the_audit(tmp_path: Path) -> None:
    found = run_session(make_job(tmp_path / "job", how="stateful", manifest={"state": "chunk"}))
    assert found.status == "ok" and found.findings == ()
    assert found.audit is not None and found.audit.largest_difference < 1e-5


# ---------------------------------------------------------------- no score

FAILURES = {
    "loses_bytes": "the decode process does not give document",
    "no_tokens": "the encode process made no token of document 0",
    "odd_tokens": "5 bytes are no list of tokens",
    "too_many_tokens": "the encode process announced an answer of",
    "foreign_tokens": "its tokenizer gave token 1",
    "dies": "the score process ended with signal 9 before it answered",
    "leaves": "the score process ended with exit code 7 before it answered",
    "hangs_up": "the score process closed its socket without an answer",
    "gives_up": r'the score process gave up: "\u001b[31mno idea"',
    "wrong_type": "the score process answered with a frame of type 132 instead of nats",
    "huge": "the score process announced an answer of 4,294,967,295 bytes",
    "one_too_few": "bytes of nats for",
    "talks_on": "the score process answered before it was asked",
    "early": "the score process answered",  # before it was asked, or something else: whichever is seen first
    "nan": "the nats of token 5 of a chunk are NaN",
    "infinite": "the nats of token 5 of a chunk are infinite",
    "negative": "the nats of token 5 of a chunk are -0.5: a probability above 1",
    "no_peeks": "audit: the score process ended with exit code 3",
}


@pytest.mark.parametrize("how", FAILURES)
def test_failures_are_told_in_words(tmp_path: Path, how: str) -> None:
    found = run_session(make_job(tmp_path / "job", how=how))
    assert found.status == "failed" and found.nats is None and found.doc_nats == ()
    assert FAILURES[how] in found.reason


def test_more_than_was_asked_at_the_end(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="talks_on_at_the_end", chunks=1)
    found = run_session(task, chunk_tokens=100_000)
    assert found.status == "failed" and "sent more than it was asked for" in found.reason


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("nonsense", "can't be read"),
        ('{"vocab": 256}', "missing or unknown: context, numerics, state"),
        ('{"vocab": 1, "context": 1, "state": "none", "numerics": "fp32"}', "out of range: vocab 1"),
        ('{"vocab": 256, "context": 0, "state": "none", "numerics": "fp32"}', "context 0"),
        ('{"vocab": 256, "context": 1, "state": "none", "numerics": "fp8"}', "'fp8' is none of"),
        ('{"vocab": NaN, "context": 1, "state": "none", "numerics": "fp32"}', "NaN is no number"),
    ],
)
def test_manifests_are_read_strictly(tmp_path: Path, answer: str, words: str) -> None:
    found = run_session(make_job(tmp_path / "job", how="bad_manifest", answer=answer))
    assert found.status == "failed" and words in found.reason


@pytest.mark.parametrize(("how", "where"), [("silent", "the score"), ("silent_when_asked", "audit: the score")])
def test_silence_ends_at_the_wall_limit(tmp_path: Path, how: str, where: str) -> None:
    began = time.monotonic()
    found = run_session(make_job(tmp_path / "job", how=how), wall_s=6)
    assert found.status == "capped" and found.reason.startswith(where)
    assert "stopped by its wall limit" in found.reason
    assert time.monotonic() - began < 12


def test_no_process_finds_in_its_log_what_another_one_knew(tmp_path: Path) -> None:
    """Not as text, and not as a length."""
    task = make_job(tmp_path / "job", how="spills")
    assert run_session(task, heard=True).status == "ok"
    log = JobPaths(tmp_path / "job").score_log.read_bytes()
    assert TEXTS[-2].encode() in log and set(re.findall(rb"found (\d+) bytes", log)) == {b"0"}


def test_who_reads_the_log_of_a_scored_run_learns_nothing_of_the_text(tmp_path: Path) -> None:
    """A person, or a model that writes the next candidate."""
    task = make_job(tmp_path / "job", how="spills")
    assert run_session(task).status == "ok"
    log = JobPaths(tmp_path / "job").score_log.read_bytes()
    assert set(log.split(b"\n")) == {b"", b"[what it printed since it was shown validation text is not kept]"}


def test_nor_from_a_process_that_fails_where_the_score_stays(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="spills_where_nothing_rests_on_it")
    found = run_session(task, auditing=Auditing("full"))
    assert (found.status, found.findings) == ("ok", ())
    log = JobPaths(tmp_path / "job").score_log.read_bytes()
    assert log == b"\n[what it printed since it was shown validation text is not kept]\n"


def test_of_a_process_that_fails_its_last_words_are_kept(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="spills_and_fails")
    assert run_session(task).status == "failed"
    log = JobPaths(tmp_path / "job").score_log.read_bytes()
    assert log.startswith(b"\n[what it printed since") and log.endswith(b"no idea")
    assert TEXTS[-2][-80:].encode() in log and TEXTS[3].encode() not in log and len(log) < 1200


def test_a_flooded_log_ends_the_run(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="floods")
    found = run_session(task)
    assert found.status == "capped" and "stopped by its log limit" in found.reason
    assert (tmp_path / "job" / "score.log").stat().st_size <= 1_000_000


# ---------------------------------------------------------------- what can't be trusted


def rules_of(found: Measured) -> list[tuple[str, str]]:
    return [(finding.rule, finding.severity) for finding in found.findings]


def test_who_remembers_the_tokens_is_caught(tmp_path: Path) -> None:
    found = run_session(make_job(tmp_path / "job", how="remembers", manifest={"context": 8}))
    assert found.status == "ok"
    assert found.nats is not None and found.nats < math.fsum(expected_nats(TEXTS))
    assert rules_of(found) == [("scores_not_repeated", "invalid")]


def test_who_adapts_before_scoring_is_caught(tmp_path: Path) -> None:
    found = run_session(make_job(tmp_path / "job", how="adapts_first", manifest={"state": "chunk"}))
    assert rules_of(found) == [("scores_not_repeated", "invalid")]


def test_all_zeros_are_caught(tmp_path: Path) -> None:
    found = run_session(make_job(tmp_path / "job", how="zeros"))
    assert found.nats == 0.0 and rules_of(found) == [("scores_not_repeated", "invalid")]


@pytest.mark.parametrize("how", ["unnormalised", "nan_distribution"])
def test_probabilities_must_sum_to_one(tmp_path: Path, how: str) -> None:
    found = run_session(make_job(tmp_path / "job", how=how))
    assert rules_of(found) == [("not_normalised", "invalid")]
    assert Measured.from_json(found.to_json()) == found


def test_the_walls_around_scoring_are_on_record(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", script="honest.py")
    found = run_session(job)
    assert found.status == "ok" and found.walls == in_force(replace(job.policy, writable=str(tmp_path)))


def test_what_a_second_process_does_not_repeat_is_only_a_flag(tmp_path: Path) -> None:
    found = run_with_notes(tmp_path / "job", how="moody")
    assert rules_of(found) == [("scores_not_repeated", "flag")]


def test_a_candidate_must_say_the_same_of_itself(tmp_path: Path) -> None:
    found = run_with_notes(tmp_path / "job", how="turncoat")
    assert found.status == "failed" and "says other things of itself" in found.reason


def test_nobody_needs_less_than_the_text_holds(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="plain")
    assert task.documents is not None
    bits = math.fsum(expected_nats(TEXTS)) / math.log(2)
    for floor, wanted in ((bits + 60, []), (bits + 70, [("below_floor", "invalid")])):
        assert rules_of(run_session(task, documents=replace(task.documents, floor_bits=floor))) == wanted


# ---------------------------------------------------------------- files


def test_the_artifact_must_be_a_plain_file_of_its_own(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="plain")
    artifact = Path(task.artifact)
    kept = artifact.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(kept)
    artifact.unlink()
    artifact.symlink_to(elsewhere)
    assert "can't be read" in run_session(task).reason
    artifact.unlink()
    os.link(elsewhere, artifact)
    assert "no plain file of its own" in run_session(task).reason
    artifact.unlink()
    os.mkfifo(artifact)
    assert "no plain file of its own" in run_session(task).reason
    artifact.unlink()
    artifact.write_bytes(bytes(8_000_001))
    assert "more than 8,000,000 bytes" in run_session(task).reason


def test_changed_documents_are_our_fault(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", how="plain")
    assert task.documents is not None
    Path(task.documents.path).write_text('{"text": "other"}\n')
    found = run_session(task)
    assert found.status == "broken" and "was changed" in found.reason
    assert run_session(task, documents=None).status == "broken"


# ---------------------------------------------------------------- the real trainer


@pytest.mark.slow
def test_the_trainer_and_the_judge_agree(tmp_path: Path) -> None:
    """Trained for a few steps on a small text: its scores are repeated, its sizes are what it says."""
    task = make_job(tmp_path / "job", texts=[text for text in TEXTS if text != "x"] * 3)
    folder = tmp_path / "job"
    script = folder / "code" / "train_gpt.py"
    script.write_bytes(pack((ROOT / "trainer" / "train_gpt.py").read_text()))
    prose = [f"Rule {n}. " + (ROOT / "CONTRIBUTING.md").read_text() for n in range(12)]
    (folder / "docs.jsonl.train").mkdir()
    (folder / "docs.jsonl.train" / "docs.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in prose)
    )
    env = {
        "PATH": "/usr/bin:/bin",
        "PRESET": "tiny",
        "SEED": "1",
        "ITERATIONS": "5",
        "VOCAB_SIZE": "400",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "DATA_PATH": str(folder / "docs.jsonl.train"),
    }
    trained = subprocess.run(
        [sys.executable, str(script), "train"], cwd=folder / "out", env=env, capture_output=True, text=True
    )
    assert trained.returncode == 0, trained.stderr
    changes = {"script": str(script), "code": (str(script),), "alone": True, "memory_mb": 2000, "wall_s": 60}
    found = run_session(replace(task, **changes), env={**task.env, **env})  # type: ignore[arg-type]
    assert found.status == "ok" and found.findings == ()
    assert found.audit is not None and found.audit.peeks >= 64 and found.audit.largest_difference < 1e-4
    assert found.artifact_bytes is not None and found.code_bytes is not None
    assert reported(trained.stdout).total_bytes == found.artifact_bytes + found.code_bytes

"""The test against the contract of scoring: each fault breaks its own clause, and what is honest breaks none."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge import conform
from agent.judge.conform import How
from agent.judge.contract import ASKS, FIXES, Conformance, up_to
from agent.judge.phase import SESSION_ENV
from agent.judge.task import Task
from agent.report.conformance import markdown, words
from tests.judging import make_job


def conformed(folder: Path, how: How = "dense", script: str = "faulty.py", **artifact: object) -> Conformance:
    return run(replace(make_job(folder, script=script, **artifact), documents=None, wall_s=120), how)


def run(task: Task, how: How) -> Conformance:
    """The process as a dry run starts it. It leaves an answer and nothing else."""
    folder, command = Path(task.folder), conform.command(task, how)
    ended = subprocess.run(command, cwd=task.folder, env=SESSION_ENV, capture_output=True, text=True, timeout=200)
    path = JobPaths(folder).measure
    assert path.exists(), ended.stdout + ended.stderr
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]
    return Conformance.from_json(path.read_text())


@pytest.mark.parametrize("how", ["dense", "quick"])
@pytest.mark.parametrize("state", ["none", "chunk"])
def test_what_is_honest_breaks_nothing(tmp_path: Path, how: How, state: str) -> None:
    found = conformed(tmp_path / "job", how, fault="plain", manifest={"state": state})
    assert found.status == "ok" and found.broken == (), words(found)
    assert [one.name for one in found.clauses] == list(ASKS) and {one.state for one in found.clauses} == {"holds"}
    assert found.tokens >= conform.TOKENS[how] and found.peeks == (2000 if how == "dense" else 400)
    assert "It holds to the contract" in words(found)


def test_score_first_training_is_honest(tmp_path: Path) -> None:
    found = conformed(tmp_path / "job", fault="state", manifest={"state": "chunk"})
    assert found.broken == (), words(found)


# A fault, and what is said of it. Its name begins with the clause that it breaks.
FAULTS = {
    "starts": "ended with exit code 1 before it answered",
    "encodes": "the encode process made no token of document",
    "decodes": "does not give document",
    "answers": "are NaN",
    "answers_to_peek": "bytes of log-probabilities, expected",
    "causal": "with other tokens from token",
    "causal_ends": "with other tokens from token",
    "reset": "after a reset the same chunk has other nats",
    "reset_elsewhere": "in another process the same chunk has other nats",
    "chunk_borders": "chunks instead of one",
    "state": 'says state: "none", but where earlier chunks had other tokens',
    "context": "with other tokens more than 1 before",
    "sums": "they sum to 1.01",
    "batch": "asked alone and in another order",
    "peek_changes_nothing": "once it has been asked `peek`",
    "doc_starts": "of 2000 positions",
    "positions": "never where all tokens since the beginning were given",
    "numerics": "lean to no side",
    "same_answer": "`score` claims",
    "same_answer_leaning": "0.001 nats a token less than `peek` gives",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_breaks_its_clause(tmp_path: Path, fault: str) -> None:
    found = conformed(tmp_path / "job", fault=fault)
    names = [one.name for one in found.broken]
    wanted = max((name for name in ASKS if fault.startswith(name)), key=len)
    assert names == [wanted], words(found)
    assert FAULTS[fault] in found.broken[0].seen
    assert found.broken[0].fix == FIXES[wanted] and FIXES[wanted].split()[0] in words(found)


def test_one_process_can_tell_most_of_it(tmp_path: Path) -> None:
    for fault in ("chunk_borders", "context", "same_answer"):
        assert [one.name for one in conformed(tmp_path / fault, "quick", fault=fault).broken] == [fault]


def test_what_comes_after_a_broken_clause_is_untested() -> None:
    found = up_to("encodes", "no tokens")
    states = {one.name: one.state for one in found}
    assert list(states) == list(ASKS)
    assert (states["trains"], states["encodes"], states["decodes"]) == ("holds", "broken", "untested")


def test_words_show_no_escapes_of_a_candidate(tmp_path: Path) -> None:
    found = Conformance("ok", "", 0, 0, up_to("trains", "\x1b[31mred\nlast line"))
    assert "\x1b" not in words(found) and "  | last line" in words(found) and "BROKEN  trains" in words(found)


def test_no_validation_text_is_asked(tmp_path: Path) -> None:
    """What the documents of a run would be is not even named."""
    task = replace(make_job(tmp_path / "job", fault="plain"), documents=None)
    sent = json.loads(conform.command(task, "quick")[-2])
    assert sent["documents"] is None


# ---------------------------------------------------------------- the page for people who write candidates

PAGE = (Path(__file__).parents[1] / "docs" / "candidates.md").read_text("utf-8")


def test_the_page_names_every_clause_as_it_is() -> None:
    assert markdown() in PAGE
    rows = [row.split(" | ") for row in PAGE.split("## Common mistakes")[1].splitlines() if row.startswith("| ")][1:]
    assert {row[1].strip("` ") for row in rows} == set(ASKS) - {"trains"}


def test_the_example_of_the_page_holds_to_the_contract(tmp_path: Path) -> None:
    """As it stands there, trained on a line of text."""
    task = make_job(tmp_path / "job")
    script = Path(task.script).with_name("example.py")
    script.write_text(PAGE.split("```python\n")[1].split("```")[0])
    (tmp_path / "docs.jsonl").write_text(json.dumps({"text": "the cat saw the dog. " * 30}) + "\n")
    env = {"PATH": "/usr/bin:/bin", "DATA_PATH": str(tmp_path)}
    subprocess.run([sys.executable, script, "train"], cwd=Path(task.artifact).parent, env=env, check=True, timeout=60)
    found = run(replace(task, script=str(script), code=(str(script),), documents=None, wall_s=120), "dense")
    assert found.broken == () and found.peeks == 2000, words(found)

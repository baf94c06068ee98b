"""How a contestant may write the two sides of a claim, and the commands that ask it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import update

from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.report.sides import Side, side
from agent.store import open_store
from agent.store.schema import runs
from tests.commanding import Agent, console, workspace


def no_store(text: str) -> Side:
    raise AssertionError(f"{text} is not in the store")


def test_scores_in_any_order_of_commas_and_words() -> None:
    assert side(["1.0793,1.0799", " 1.0802 "], no_store) == Side((1.0793, 1.0799, 1.0802), None)


def test_a_file_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    path.write_text("1.0793\n1.0799\n")
    assert side([str(path), "1.0802"], no_store).scores == (1.0793, 1.0799, 1.0802)
    for bad in ("", "1.07\nval_bpb\n", "nan"):
        path.write_text(bad)
        with pytest.raises(UserError, match="holds no scores"):
            side([str(path)], no_store)


def test_a_submission_says_how_many_tokens_a_byte_has(tmp_path: Path) -> None:
    rows = {"42": {"val_bpb": 1.05, "val_loss": 2.712238}, "7": {"val_bpb": 1.06, "val_loss": 2.738069}}
    (tmp_path / "submission.json").write_text(json.dumps({"seed_results": rows}))
    found = side([str(tmp_path)], no_store)  # the folder will do
    assert found.scores == (1.05, 1.06) and found.tokens_per_byte == pytest.approx(0.26834, abs=1e-5)
    huge = '{"seed_results": {"1": {"val_bpb": 1' + "0" * 400 + "}}}"
    for bad in (huge, "{", "[]", '{"seed_results": {"1": {"val_bpb": "1.0"}}}', '{"seed_results": 3}', "[" * 100_000):
        (tmp_path / "submission.json").write_text(bad)
        with pytest.raises(UserError, match="no seed_results"):
            side([str(tmp_path / "submission.json")], no_store)


def test_runs_and_commits_are_asked_of_the_store() -> None:
    known = {"r12": Side((1.07,), 0.41), "p3": Side((1.08, 1.09), 0.41), "r9": Side((1.0,), 0.26)}
    assert side(["r12", "p3"], known.__getitem__) == Side((1.07, 1.08, 1.09), 0.41)
    with pytest.raises(UserError, match="several tokenizers"):
        side(["r12,r9"], known.__getitem__)


def test_other_words_are_refused() -> None:
    for bad in ("best", "1.07.1", "q12", "-1.07", "1e3"):
        with pytest.raises(UserError, match="no score"):
            side([bad], no_store)


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory.mktemp("made") / "a workspace")


@pytest.fixture
def agent(made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Agent:
    root = Path(shutil.copytree(made, tmp_path / "a workspace", symlinks=True))
    return console(root / "trainer", monkeypatch, capfd, tmp_path)


NEW, OLD = "1.0793,1.0800,1.0802", "1.0850,1.0853,1.0852"


def test_a_claim_in_words_and_json(agent: Agent) -> None:
    said = agent("claim", NEW, "--against", OLD, "--tokens-per-byte", "0.268339")
    assert said.code == 0 and "The claim holds (0.005 nats a token better, at p < 0.01)" in said.out
    found = json.loads(agent("claim", NEW, "--against", OLD, "--tokens-per-byte", "0.268339", "--json").out)
    assert found["holds"] and found["bpb_margin"]["p"] < 0.01 and found["nats"]["gain"] > 0.005
    no = agent("claim", OLD, "--against", NEW, "--rule", "frontier")
    assert no.code == 1 and "does not hold" in no.out
    assert agent("claim", NEW).code == 2
    wrong = agent("claim", NEW, "--against", OLD, "--rule", "contst")
    assert wrong.code == 2 and "Did you mean 'contest'?" in wrong.err


def test_fresh_runs_of_a_head_against_those_of_another(agent: Agent) -> None:
    head = json.loads(agent("best", "--json").out)[0]["proposal_id"]
    said = agent("claim", f"p{head}", "--against", "p1", "--json")
    assert said.code == 0 and json.loads(said.out)["bpb"]["gain"] > 0.05
    loser = agent("claim", "p2", "--against", "p1")
    assert loser.code == 2 and "only a promoted commit has fresh runs" in loser.err


def test_a_package_that_is_refused_says_why_and_writes_nothing(agent: Agent, tmp_path: Path) -> None:
    said = agent("package", "p2", "--out", str(tmp_path / "out"), "--json")
    found = json.loads(said.out)
    assert said.code == 1 and {"seeds", "claim", "author"} <= set(found["refused"]) and found["files"] == []
    words = agent("package", "p2", "--out", str(tmp_path / "out"))
    assert words.code == 1 and "p2 is not packaged: seeds, author, claim" in words.out
    assert not (tmp_path / "out").exists()


def test_a_package_is_written_once_and_where_it_was_asked(agent: Agent, tmp_path: Path) -> None:
    root, code = tmp_path / "a workspace", b"print('trains')\n"
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        head = tx.head(1)
        for run in tx.runs(1, proposal_id=head.id, purposes={"report"}):
            paths = JobPaths(root / ".caddie" / "tiny-1" / "jobs" / f"r{run.id}")
            paths.code.mkdir(parents=True)
            (paths.code / "train_gpt.py").write_bytes(code)
            paths.train_log.write_text("step:300/300 train_loss:2.1\n")
        sha = hashlib.sha256(code).hexdigest()
        tx.connection.execute(update(runs).where(runs.c.proposal_id == head.id).values(script_sha=sha))
    store.close()
    who = ("--author", "A. Person", "--github-id", "aperson", "--non-record")
    said = agent("package", f"p{head.id}", *who, "--out", str(tmp_path / "out"), "--json")
    assert said.code == 0, said
    found = json.loads(said.out)
    assert found["refused"] == [] and found["folder"] == str(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == found["files"]
    again = agent("package", f"p{head.id}", *who, "--out", str(tmp_path / "out"))
    assert again.code == 2 and "nothing is overwritten" in again.err
    default = agent("package", f"p{head.id}", *who, "--name", "Mine: a/../name")
    assert default.code == 0 and (root / "trainer" / found["belongs_at"]).parent.is_dir()  # below where it was asked
    assert [path.name[11:] for path in (root / "trainer" / found["belongs_at"]).parent.iterdir()] == ["Mine_a_name"]

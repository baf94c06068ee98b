"""The command line as a person or a program uses it: what it prints, what it refuses, how it exits."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from agent import budget
from agent.cli import docs, main
from agent.records import Amount, ProposalState
from agent.runners.job import JobPaths
from agent.store import open_store, talks
from agent.store.lease import hold
from benchmarks.startup import heavy
from tests.filling import add_campaign
from tests.fixture_campaign import build

SCRIPT = 'TINY = {\n    "num_layers": 3,\n    "matrix_lr": 0.02,\n    "seed": 1,\n}\nprint(TINY)\n'


class Said(NamedTuple):
    out: str
    err: str
    code: int


Agent = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is a git repository with the script that the campaign's ideas change."""
    root = tmp_path_factory.mktemp("made") / "a workspace"
    build(root).close()
    (root / "trainer").mkdir()
    (root / "trainer" / "train_gpt.py").write_text(SCRIPT)
    (root / ".gitignore").write_text("runs.db*\n.caddie/\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Start"]):
        subprocess.run(["git", "-c", "user.name=P", "-c", "user.email=p@x", *command], cwd=root, check=True)
    sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True).stdout
    store = open_store(root / "runs.db")
    with store.write() as tx:
        tx.update_proposal(tx.head(1).id, commit=sha.strip())
    store.close()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a workspace", symlinks=True))


@pytest.fixture
def agent(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Agent]:
    """Runs the console script in this process, in a subfolder of the workspace; input is read from a file."""
    monkeypatch.chdir(root / "trainer")
    monkeypatch.setenv("COLUMNS", "100")

    def run(*args: str, typed: str = "") -> Said:
        (tmp_path / "typed").write_text(typed)
        monkeypatch.setattr(sys, "argv", ["agent", *args])
        capfd.readouterr()
        code = 0
        with (tmp_path / "typed").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
        sys.stdout.flush()
        return Said(*capfd.readouterr(), code)

    yield run


def states(root: Path, *ids: int) -> list[ProposalState]:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        return [reads.proposal(one).state for one in ids]


LOOKS = (
    *(
        ("status",),
        ("runs",),
        ("runs", "--proposal", "p14"),
        ("show", "p14"),
        ("show", "12"),
        ("show", "r12"),
    ),
    *(("diff", "p6"), ("log",), ("log", "p14"), ("log", "r65"), ("best",), ("lineage",), ("lineage", "p14")),
    *(("query", "SELECT * FROM leaderboard"), ("plot", "--terminal"), ("review", "--list"), ("doctor",)),
    *(("models",), ("tracks",), ("tracks", "golf-8xh100"), ("prune", "--dry-run"), ("planners",)),
)


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_every_look_prints_words_and_json(agent: Agent, command: tuple[str, ...]) -> None:
    said = agent(*command)
    assert (said.code, said.err) == (0, "") and len(said.out) > 20
    assert "\x1b" not in said.out and "\x07" not in said.out  # no terminal, no colours; nor a title's own
    data = agent(*command, "--json")
    assert data.code == 0 and json.loads(data.out) and "\x1b" not in data.out


def test_figures_agree_between_words_and_json(agent: Agent) -> None:
    now = json.loads(agent("status", "--json").out)
    assert (now["proposals"], now["runs_done"], now["accepted"], now["head"]) == (36, 64, 3, "p26")
    assert f"{now['head_bpb']:.4f} BPB over 3 fresh runs" in agent("status").out
    runs = json.loads(agent("runs", "--json", "--last", "100").out)
    assert len(runs) == 66 and {run["run"] for run in runs} == {f"r{n}" for n in range(1, 67)}
    best = json.loads(agent("best", "--json").out)
    assert best[0]["proposal_id"] == 26 and best[0]["bpb"] == pytest.approx(now["head_bpb"])
    chain = json.loads(agent("lineage", "--json").out)
    assert sum(step["delta"] or 0 for step in chain) == pytest.approx(chain[-1]["bpb"] - chain[0]["bpb"])
    rows = json.loads(agent("query", "SELECT count(*) AS n FROM runs", "--json").out)
    assert rows == [{"n": 66}]
    few = agent("query", "SELECT * FROM runs", "--rows", "5", "--json")
    assert len(json.loads(few.out)) == 5 and "cut at 5 rows" in few.err


WRONG = (
    (("stauts",), 2, "Did you mean 'status'"),
    (("runs", "--campaign", "tny-1"), 2, "Did you mean 'tiny-1'?"),
    (("show", "p99"), 2, "no proposal p99 here. Did you mean p37?"),
    (("show", "r99"), 2, "no run r99 here. The newest is r66."),
    (("diff", "r3"), 2, "is a run, not a proposal"),
    (("diff", "first"), 2, "write p12, or 12"),
    (("diff", "p1"), 2, "p1 has no diff: it is the base"),
    (("query", "SELECT 1", "--rows", "9" * 20), 2, "Invalid value for '--rows'"),
    (("log", "--last", "9" * 20), 2, "Invalid value for '--last'"),
    (("query", "DELETE FROM runs"), 2, "nothing can be changed"),
    (("query", "SELECT x FROM runs"), 2, "no such column"),
    (("export", "--format", "cvs"), 2, "Did you mean 'csv'?"),
    (("export", "--out", "/nowhere/x.md"), 2, "can't write"),
    (("plot", "--out", "/proc/x"), 2, "can't write"),
    (("log", "r65", "--of", "judge"), 2, "choose one of train, score, shepherd"),
    (("log", "r65", "--of", "trian"), 2, "--of trian: Did you mean 'train'? choose one of"),
    (("runs", "--last", "0"), 2, "Invalid value for '--last'"),
    (("runs", "--lsat", "9"), 2, "No such option"),
    (("tracks", "tinny"), 2, "Did you mean 'tiny'?"),
    (("review", "p6"), 2, "p6 doesn't wait for review: it is promoted"),
    (("review", "--approve-all", "--reject-all"), 2, "choose one"),
    (("adopt",), 2, "there is no branch caddie/tiny-1"),
)


@pytest.mark.parametrize(("command", "code", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_errors_name_the_fix_and_change_nothing(
    agent: Agent, root: Path, command: tuple[str, ...], code: int, words: str
) -> None:
    before = (root / "runs.db").read_bytes()
    said = agent(*command)
    assert said.code == code and words in said.err and said.out == ""
    assert "Traceback" not in said.err and len(said.err.splitlines()) < 8
    assert (root / "runs.db").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "code"),
    [wrong[:2] for wrong in WRONG if wrong[0] != ("diff", "p1")],  # for a program, no diff is an answer too
    ids=lambda value: str(value)[:40],
)
def test_a_failure_is_json_for_those_who_asked_for_json(agent: Agent, command: tuple[str, ...], code: int) -> None:
    said = agent(*command, "--json")
    failure = json.loads(said.out)
    assert failure["exit_code"] == said.code == code and failure["error"] and said.err


def test_figures_that_json_does_not_know_and_columns_of_one_name(agent: Agent) -> None:
    def no(word: str) -> None:
        raise AssertionError(word)

    said = agent("query", "SELECT 1e999 AS a, 2 AS a, -1e999 AS b", "--json")
    assert json.loads(said.out, parse_constant=no) == [{"a": "inf", "a_2": 2, "b": "-inf"}]


def test_a_machine_that_is_not_ready_is_one_document_of_json(agent: Agent, root: Path) -> None:
    (root / "runs.db").write_bytes(b"not a database" * 1000)
    said = agent("doctor", "--json")
    assert said.code == 5 and "bad" in {check["state"] for check in json.loads(said.out)}


def test_where_there_is_no_database_or_a_broken_one(
    agent: Agent, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = agent("status")
    assert said.code == 2 and "agent start" in said.err
    (tmp_path / "runs.db").mkdir()
    said = agent("status")
    assert said.code == 3 and "is a folder" in said.err
    (root / "runs.db").write_bytes(b"not a database" * 1000)
    monkeypatch.chdir(root)
    said = agent("status")
    assert said.code == 3 and "runs.db" in said.err and "Traceback" not in said.err


def test_our_own_faults_leave_a_crash_log(agent: Agent, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.report import status

    def broken(*args: object) -> None:
        raise ZeroDivisionError("a bug \x1b[2J")

    monkeypatch.setattr(status, "status", broken)
    said = agent("status")
    assert said.code == 70 and "ZeroDivisionError: a bug" in said.err and "Traceback" not in said.err
    assert "\x1b" not in said.err
    log = re.search(r"(/\S.*crash-\d+-\d+\.log)", said.err)
    assert log and Path(log[1]).parent == root / ".caddie"
    assert "Traceback" in Path(log[1]).read_text() and "in broken" in Path(log[1]).read_text()


# ---------------------------------------------------------------- review


def test_how_an_idea_came_to_be(agent: Agent, root: Path) -> None:
    said = agent("show", "p12", "--transcript")
    assert said.code == 2 and "p12 came of no conversation: its planner is knobs" in said.err
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        entry = budget.reserve(tx, 1, Amount(llm_calls=1), "planner")
        talk = talks.add_conversation(tx, 1, "propose", "anthropic:some", "exploit", 12)
        asked = {"messages": [{"prompt": ["What next?"]}], "system": ["You are."], "tools": ["propose"]}
        call = talks.add_call(tx, 1, talk, entry, "anthropic:some", {"question": asked})
        answer = {"text": "Hm.\x1b[2J", "calls": [{"id": "a", "name": "propose", "arguments": {"title": "wider"}}]}
        tokens = {"input_tokens": 900, "cache_read_tokens": 100, "output_tokens": 7}
        whole = {"question": asked, "answer": answer, "stop": "tools"}
        talks.end_call(tx, call, "done", tokens=tokens, usd=0.0123, transcript=whole)
        talks.end_conversation(tx, talk, "proposed: wider")
    store.close()
    words = agent("show", "p12", "--transcript").out
    for line in (
        "=== propose with anthropic:some, exploit",
        "    What next?",
        "    Hm.\n",
        "--- calls propose",
        "title: wider",
    ):
        assert line in words
    assert "1,000 tokens asked (100 from the cache), 7 answered, 0.0123 $" in words and "\x1b" not in words
    (found,) = json.loads(agent("show", "p12", "--transcript", "--json").out)
    assert found["outcome"] == "proposed: wider" and found["calls"][0]["usd"] == 0.0123


def test_reviewing_one_after_the_other(agent: Agent, root: Path) -> None:
    said = agent("review", typed="x\nr\ntoo risky for me\na\n")
    assert said.code == 0 and "'x': type the first letter" in said.out
    for words in (
        "hypothesis  tie the heads",
        "-0.0200 BPB, confidence 50%",
        "touches scoring code",
        "+    ",
    ):
        assert words in said.out
    assert re.search(r"cost +2 min 1\d s of slot time expected", said.out)
    assert states(root, 33, 34) == ["declined", "approved"]
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        assert [(note.action, note.comment) for note in reads.reviews(33)] == [("reject", "too risky for me")]
        assert reads.proposal(34).reviewed_by
    assert "nothing waits for review" in agent("review").out


def test_reviewing_in_bulk_and_leaving_for_later(agent: Agent, root: Path) -> None:
    assert agent("review", typed="l\nq\n").code == 0
    assert agent("review", typed="").code == 0  # the input ended
    assert states(root, 33, 34) == ["awaiting_review"] * 2
    assert agent("review", "p34", "--reject-all", "--comment", "no").out == "p34 declined\n"
    said = agent("review", "--approve-all", "--json")
    assert json.loads(said.out) == [{"proposal": "p33", "state": "approved"}]
    assert states(root, 33, 34) == ["approved", "declined"]


def test_stopping_from_the_review_asks_the_loop_to_end(agent: Agent, root: Path) -> None:
    assert "stops" in agent("review", typed="s\n").out
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        assert reads.request(1) == "drain" and reads.proposal(33).state == "awaiting_review"


def test_editing_an_idea(agent: Agent, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "my editor.py"
    editor.write_text(
        "import sys\np = sys.argv[1]\nt = open(p).read()\nopen(p, 'w').write(t.replace('0.033', '0.05'))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "false")
    said = agent("review", "p33", typed="e\nq\n")
    assert "the editor failed" in said.out and states(root, 33) == ["awaiting_review"]
    monkeypatch.setenv("EDITOR", f"{sys.executable} '{editor}'")
    said = agent("review", "p33", typed="e\n")
    assert "p38 takes the place of p33" in said.out, said
    assert states(root, 33, 38) == ["declined", "drafted"]
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        assert '"matrix_lr": 0.05' in reads.proposal(38).edits


# ---------------------------------------------------------------- files


def test_plots_and_exports_land_where_they_are_said_to(agent: Agent, root: Path, tmp_path: Path) -> None:
    said = agent("plot")
    for name in ("frontier", "size", "spend", "lineage"):
        assert (root / ".caddie/tiny-1/plots" / f"{name}.png").stat().st_size > 10_000
        assert str(root / ".caddie/tiny-1/plots" / f"{name}.png") in said.out
    assert agent("export", "--format", "csv", "--out", str(tmp_path)).out == f"{tmp_path / 'runs.csv'}\n"
    assert (tmp_path / "runs.csv").read_text() == agent("export", "--format", "csv").out
    assert agent("export").out.startswith("# Experiments of tiny-1\n")
    lines = agent("export", "--format", "jsonl").out.splitlines()
    assert json.loads(agent("export", "--json").out) == [json.loads(line) for line in lines]
    assert agent("export", "--json", "--format", "csv").code == 2


def test_pruning_takes_the_oldest_that_nobody_needs(agent: Agent, root: Path, tmp_path: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        runs = {run.id: reads.proposal(run.proposal_id).state for run in reads.runs(1)}
        frontier = {int(row["run_id"]) for row in reads.view("frontier", 1)}
        frontier_of = {reads.run(one).proposal_id for one in frontier}
        spare = [one for one in runs if reads.run(one).proposal_id not in frontier_of]
    (tmp_path / "precious").write_text("not ours")
    for run_id in runs:
        paths = JobPaths(root / ".caddie/tiny-1/jobs" / f"r{run_id}")
        for folder in (paths.out, paths.code):
            folder.mkdir(parents=True)
        (paths.out / "final_model.bin").write_bytes(b"x" * 100_000)
        (paths.out / "way out").symlink_to(tmp_path)
        paths.train_log.write_text("step 1\n")
    with store.read() as reads:
        gains = {row.proposal_id: row.gain or 0.0 for row in reads.trials(1)}
        missed = {one for one in runs if runs[one] == "worse" and gains[reads.run(one).proposal_id] > 0}
    lost = [one for one in spare if runs[one] in ("worse", "crashed", "invalid") and one not in missed]
    assert missed and lost
    dry = json.loads(agent("prune", "--dry-run", "--keep-gb", "0", "--json").out)
    assert [folder["run"] for folder in dry["delete"]] == [f"r{one}" for one in lost]
    assert all((root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir() for one in runs)
    some = agent("prune", "--keep-gb", "0.0005")
    assert "freed" in some.out
    left = [one for one in lost if (root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir()]
    assert 0 < len(left) < len(lost) and left == lost[-len(left) :]
    agent("prune", "--keep-gb", "0")
    kept = [one for one in runs if (root / ".caddie/tiny-1/jobs" / f"r{one}" / "out").is_dir()]
    assert kept == [one for one in runs if one not in lost]
    assert all((root / ".caddie/tiny-1/jobs" / f"r{one}" / "train.log").is_file() for one in runs)
    assert (tmp_path / "precious").read_text() == "not ours"


# ---------------------------------------------------------------- the page, the shell, the clock


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert docs.PATH.read_text() == docs.page(), "run: python -m agent.cli.docs"


def test_help_imports_nothing_heavy_and_names_the_exit_codes(agent: Agent) -> None:
    assert heavy() == []
    said = agent("--help")
    codes = re.findall(r"\b(\d+)\s+[a-z]", said.out.partition("Exit codes:")[2])
    assert said.code == 0 and codes == ["0", "1", "2", "3", "4", "5", "70", "130"]


def test_the_shell_completes_commands(root: Path) -> None:
    env = {**os.environ, "_AGENT_COMPLETE": "complete_bash", "COMP_WORDS": "agent st", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli"], env=env, cwd=root, capture_output=True, text=True, check=False
    )
    assert {"start", "status"} <= set(done.stdout.split())


def test_watching_ends_when_the_campaign_does(agent: Agent, root: Path) -> None:
    store = open_store(root / "runs.db", create=False)
    with store.write() as tx:
        tx.end_campaign(1, "finished", "the budget is spent")
    store.close()
    said = agent("watch")
    assert said.code == 0 and "tiny-1: finished (the budget is spent)" in said.out


def test_an_interrupt_and_a_poor_terminal_are_no_faults(root: Path) -> None:
    poor = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "agent.cli"]
    done = subprocess.run([*command, "plot", "--terminal"], env=poor, cwd=root, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and b"off the scale" in done.stdout
    assert subprocess.run([*command, "export"], env=poor, cwd=root, capture_output=True, check=False).returncode == 0
    code = "import os, signal, time, agent.report.status as s\n"
    code += "s.status = lambda *a: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60))\n"
    code += "import sys, agent.cli\nsys.argv = ['agent', 'status']\nagent.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert done.returncode == 130 and b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["export --format jsonl", "demo --replay --seconds 2"])
def test_a_reader_that_goes_away_is_no_fault(root: Path, words: str) -> None:
    command = f"{sys.executable} -m agent.cli {words} | head -c 10; echo; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""


def test_columns_of_one_name_all_get_through(agent: Agent) -> None:
    row = json.loads(agent("query", "SELECT 1 AS id, 2 AS id, 3 AS id_2, 4 AS id", "--json").out)[0]
    assert sorted(row.values()) == [1, 2, 3, 4] and row["id"] == 1 and row["id_2"] == 3


def test_stop_means_the_campaign_that_runs_not_the_latest(root: Path, agent: Agent) -> None:
    with closing(open_store(root / "runs.db")) as store:
        with store.write() as tx:
            add_campaign(tx, "later")
        assert "nobody runs later" in agent("stop").err
        with hold(store, "campaign tiny-1"):
            assert agent("stop").out.startswith("tiny-1 ")
            with store.read() as reads:
                assert reads.request(1) == "drain"

"""The command line as a person or a program uses it: what it prints, what it refuses, how it exits."""

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import docs
from agent.report import live
from agent.store import open_store
from agent.store.lease import hold
from benchmarks.startup import heavy
from tests.commanding import Agent
from tests.filling import add_campaign

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
    *(("query", "SELECT * FROM leaderboard"), ("plot", "--terminal"), ("review", "--list"), ("doctor", "--no-probe")),
    *(("models",), ("tracks",), ("tracks", "golf-8xh100"), ("prune", "--dry-run"), ("planners",)),
    ("costs",),
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
    (("resume", "tny-1"), 2, "Did you mean 'tiny-1'? There are: tiny-1"),
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
    (("costs", "--plot", "where.pgn"), 2, "Did you mean 'png'?"),
    (("costs", "--plot", "/nowhere/x.png"), 2, "can't write the plot"),
    (("log", "r65", "--of", "judge"), 2, "choose one of train, score, shepherd"),
    (("log", "r65", "--of", "trian"), 2, "--of trian: Did you mean 'train'? choose one of"),
    (("runs", "--last", "0"), 2, "Invalid value for '--last'"),
    (("runs", "--lsat", "9"), 2, "No such option: --lsat. Did you mean '--last'"),
    (("tracks", "tinny"), 2, "Did you mean 'tiny'?"),
    (("review", "p6"), 2, "p6 doesn't wait for review: it is promoted"),
    (("review", "--approve-all", "--reject-all"), 2, "choose one"),
    (("adopt",), 2, "`git branch caddie/tiny-1 COMMIT` makes it again"),
    (("show", "xyz"), 2, "'xyz' is neither a proposal (p12) nor a run (r34)"),
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
    assert "No such option: --json" not in failure["error"]


def test_a_track_that_can_not_be_read_hides_no_other(agent: Agent, root: Path) -> None:
    whole = json.loads(agent("tracks", "--json").out)
    assert all("error" not in row for row in whole)
    (root / "agent.toml").write_text('name = "mine"\nsumary = "x"\n')
    said, listed = agent("tracks"), agent("tracks", "--json")
    assert said.code == listed.code == 2 and "Did you mean 'summary'?" in said.out
    assert "agent.toml is no track: " in said.out and "\ntiny " in said.out
    rows = json.loads(listed.out)
    assert [row for row in rows if "error" not in row] == whole
    assert [row["track"] for row in rows if "error" in row] == ["agent.toml"]
    assert agent("tracks", "tiny").code == 0


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


# ---------------------------------------------------------------- the page, the shell, the clock


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert docs.PATH.read_text() == docs.page(), "run: python -m agent.cli.docs"


def test_help_imports_nothing_heavy_and_names_the_exit_codes(agent: Agent) -> None:
    assert heavy() == []
    said = agent("--help")
    codes = re.findall(r"\b(\d+)\s+[a-z]", said.out.partition("Exit codes:")[2])
    assert said.code == 0 and codes == ["0", "1", "2", "3", "4", "5", "6", "70", "130"]


def test_the_version_is_said(agent: Agent) -> None:
    said = agent("--version")
    assert (said.code, said.err) == (0, "") and re.fullmatch(r"caddie \d+\.\d+\.\d+\n", said.out)


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


def test_watching_by_lines_ends_when_nobody_runs_it_any_more(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ALONE_S", 0.1)
    said = agent("watch")
    assert said.code == 0 and said.out.count("nobody runs it; `agent resume` goes on") == 1


def test_an_interrupt_and_a_poor_terminal_are_no_faults(root: Path) -> None:
    poor = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "agent.cli"]
    done = subprocess.run([*command, "plot", "--terminal"], env=poor, cwd=root, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and b"off the scale" in done.stdout
    assert subprocess.run([*command, "export"], env=poor, cwd=root, capture_output=True, check=False).returncode == 0
    code = "import os, signal, time, agent.report.status as s\n"
    code += "s.status = lambda *a: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60))\n"
    assert interrupted(root, code) == (130, b"")


def interrupted(root: Path, code: str) -> tuple[int, bytes]:
    """How `agent status` ends after this code, and what it says about that."""
    code += "import sys, agent.cli\nsys.argv = ['agent', 'status']\nagent.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    return done.returncode, done.stderr


def test_an_interrupt_while_the_program_begins_or_ends_is_no_fault_either(root: Path) -> None:
    begins = "import os, signal, sys\n"
    begins += "class Finder:\n"
    begins += "    def find_spec(self, name, *rest):\n"
    begins += "        if name == 'agent.cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
    begins += "sys.meta_path.insert(0, Finder())\n"
    assert interrupted(root, begins) == (130, b"")
    ends = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    assert interrupted(root, begins + ends) == (130, b"")
    status = "import agent.report.status as s\ns.status = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
    assert interrupted(root, ends + status) == (130, b"")


@pytest.mark.parametrize("words", ["export --format jsonl", "demo --replay --seconds 2"])
def test_a_reader_that_goes_away_is_no_fault(root: Path, words: str) -> None:
    command = f"{sys.executable} -m agent.cli {words} | head -c 10; code=${{PIPESTATUS[0]}}; echo; echo $code"
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
            assert agent("status").out.startswith("tiny-1") and agent("stop").out.startswith("tiny-1 ")
            with store.read() as reads:
                assert reads.request(1) == "drain"
            said = json.loads(agent("stop", "--now", "--json").out)
            assert (said["campaign"], said["asked"]) == ("tiny-1", "cancel") and str(os.getpid()) in said["controller"]
            with store.read() as reads:
                assert reads.request(1) == "cancel"

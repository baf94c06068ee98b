"""Programs as models: real small ones, good and bad. The two presets' are in test_llm_recorded.py."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.llm import Answer, Call, Part, Prompt, Question, Result, Results, Said, Usage, command
from tests.processes import alive, linux, until
from tests.programs import ASKED, CLAUDE, CODEX, IN_JSON, KEY, environ, fails, program, script


def test_a_program_reads_the_prompt_and_its_output_is_the_reply(tmp_path: Path) -> None:
    script(tmp_path, "import sys; print(sys.argv[1:], sys.stdin.read().upper())")
    model = command.make("./ask --fast 'two words'", workspace=tmp_path, environ=environ())
    answer = model.ask(ASKED, None)
    assert answer.said.text == "['--fast', 'two words'] YOU ARE A POET.\n\nA LINE, \n\nPLEASE."
    assert answer.stop == "end"
    assert model.name == "command:./ask --fast 'two words'"
    assert (model.tools, model.takes_cap, model.price, model.counted(ASKED)) == (False, False, None, None)


def test_what_it_used_is_estimated_upwards_and_never_passes_the_reservation(tmp_path: Path) -> None:
    model = program(tmp_path, "print('x' * 999)")
    usage = model.ask(ASKED, None).usage
    assert usage == Usage(input=model.most_input(ASKED), output=500)
    assert usage.input == len("You are a poet.\n\nA line, \n\nplease.") / 2


def test_a_conversation_and_the_schema_are_written_out(tmp_path: Path) -> None:
    talk = (
        *ASKED.messages,
        Said("", (Call("c1", "look", {"at": "log"}),)),
        Results((Result("c1", "no such log", failed=True),)),
        Said("A line."),
        Prompt((Part("In JSON."),)),
    )
    model = program(tmp_path, "import sys; print(sys.stdin.read())")
    told = model.ask(Question(ASKED.system, talk, schema=IN_JSON.schema), None).said.text
    order = ["You are a poet.", "# Asked", 'look (c1): {"at": "log"}', "# Results", "c1 failed:\nno such log"]
    order += ["# You answered\n\nA line.", "In JSON.", "one JSON object", '{"line": {"type": "string"}}']
    assert sorted(order, key=told.index) == order


def test_it_works_in_an_empty_folder_with_few_variables(tmp_path: Path) -> None:
    text = "import os, json; print(json.dumps([os.listdir(), os.getcwd(), dict(os.environ)]))"
    script(tmp_path, text)
    model = command.make("./ask", workspace=tmp_path, environ=environ(LANG="C", UNASKED="1"))
    there, folder, given = json.loads(model.ask(ASKED, None).said.text)
    assert there == []
    assert not Path(folder).exists()
    given.pop("LC_CTYPE", None)  # Python's own
    path = os.environ["PATH"]
    assert given == {"PATH": path, "HOME": "/nonexistent", "LANG": "C", "TERM": "dumb"}


def test_a_file_of_the_workspace_may_be_an_argument(tmp_path: Path) -> None:
    script(tmp_path, "print('found')", "ask.py", mode=0o644)
    model = command.make(f"{sys.executable} ask.py", workspace=tmp_path, environ=environ())
    assert model.ask(ASKED, None).said.text == "found"


def test_a_prompt_longer_than_a_pipe_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    long = Question((), (Prompt((Part("x" * 3_000_000),)),))
    assert program(tmp_path, "print('unread')").ask(long, None).said.text == "unread"


def test_half_a_character_stops_nothing(tmp_path: Path) -> None:
    half = Question((Part("a\ud800b"),), (Prompt((Part("c\udfffd"),)),))
    assert "a" in program(tmp_path, "import sys; print(sys.stdin.read())").ask(half, None).said.text
    for way in (CLAUDE, CODEX):
        (tmp_path / type(way).__name__).mkdir()
        assert way.start(half, None, tmp_path / type(way).__name__).given.encode()
        assert way.most_input(half) > 0


@linux
def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    model = program(
        tmp_path,
        f"""
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(2):
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
        with open({str(pids)!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        print("so far", flush=True)
        time.sleep(600)
        """,
        timeout_s=1.0,
    )
    began = time.monotonic()
    error = fails(model)
    assert time.monotonic() - began < 10
    assert (error.billed, error.lasting) == ("unknown", False)
    assert "no answer within 1 s" in str(error)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) >= 3
    assert not any(map(alive, started))


@linux
def test_what_a_program_leaves_behind_is_ended_and_does_not_delay_its_answer(tmp_path: Path) -> None:
    model = program(
        tmp_path,
        """
        import os, time
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(600)
        print(pid, flush=True)
        """,
    )
    began = time.monotonic()
    pid = int(model.ask(ASKED, None).said.text)
    assert time.monotonic() - began < 10
    assert not alive(pid)


@linux
def test_a_program_does_not_outlive_whoever_asked(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script(tmp_path, f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    asker = os.fork()
    if asker == 0:
        command.make("./ask", workspace=tmp_path, environ=environ()).ask(ASKED, None)
        os._exit(0)
    until(lambda: pid_file.is_file() and pid_file.read_text())
    os.kill(asker, 9)
    os.waitpid(asker, 0)
    until(lambda: not alive(int(pid_file.read_text())), within_s=10)


def test_threads_ask_side_by_side(tmp_path: Path) -> None:
    model = program(tmp_path, "import sys, time; time.sleep(0.5); print(sys.stdin.read()[-1])")
    said: dict[int, str] = {}

    def ask(n: int) -> None:
        said[n] = model.ask(Question((), (Prompt((Part(f"number {n}"),)),)), None).said.text

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: str(n) for n in range(4)}


def test_a_reply_that_is_too_long_is_cut_and_the_program_ended(tmp_path: Path) -> None:
    model = program(tmp_path, "import time; print('x' * 10_000_000, flush=True); time.sleep(600)", max_output=1000)
    answer = model.ask(ASKED, None)
    assert answer == Answer(Said("x" * 2000), Usage(input=model.most_input(ASKED), output=1000), "length")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pass", "wrote nothing. It must print"),
        ("print('   ')", "wrote nothing"),
        ("import sys; print('half a'); sys.exit('no credit')", "exit code 1: no credit."),
        ("import sys; sys.exit('first line\\nlast line')", "exit code 1: last line."),
        ("print('in its output'); raise SystemExit(3)", "exit code 3: in its output."),
        ("import os; os.kill(os.getpid(), 15)", "was ended by signal 15"),
        ("import sys; sys.exit('x' * 9_000_000)", "exit code 1: xxx"),
    ],
)
def test_what_went_wrong_is_said_and_may_have_been_billed(tmp_path: Path, text: str, words: str) -> None:
    error = fails(program(tmp_path, text))
    assert words in str(error)
    assert len(str(error)) < 600
    assert error.billed == "unknown"


def test_no_key_and_no_escape_gets_out(tmp_path: Path) -> None:
    text = f"import sys; print('\\033[31mred {KEY}\\033]0;title\\007'); {{}}"
    said = program(tmp_path, text.format("")).ask(ASKED, None).said.text
    assert said == "red [redacted]"
    model = program(tmp_path, text.format(f"sys.exit('\\033[2J\\033[31mbad key {KEY}\\x07')"))
    assert str(fails(model)).endswith("ended with exit code 1: bad key [redacted].")
    assert KEY not in repr(model)


def test_what_can_not_be_started_is_told_at_once(tmp_path: Path) -> None:
    script(tmp_path, "print(1)", mode=0o644)
    for argument, words in [
        ("./ask", "not executable. To mend it: chmod +x"),
        ("./none", "is not there"),
        ("no-such-program-anywhere -x", "is not on PATH"),
        ("'unended", "can't be split"),
        ("", "needs a program"),
    ]:
        with pytest.raises(UserError) as caught:
            command.make(argument, workspace=tmp_path, environ=environ())
        assert words in str(caught.value)
    for name in ("claude", "codex:some-model"):
        with pytest.raises(UserError, match="npm install -g"):
            command.make(name, workspace=tmp_path, environ=environ(PATH=str(tmp_path)))


def test_what_went_away_since_is_not_billed(tmp_path: Path) -> None:
    model = program(tmp_path, "print(1)")
    (tmp_path / "ask").unlink()
    error = fails(model)
    assert (error.billed, error.lasting) == ("nothing", True)
    assert "No such file" in str(error)
    (tmp_path / "ask").write_text("neither a script nor a program")
    (tmp_path / "ask").chmod(0o755)
    assert "Exec format error" in str(fails(model))

"""Real processes that talk to the judge as no candidate should: each gives a verdict in time, within a little memory.

Everything that is sent goes over the judge's own socket pair, from a process under its own limits.
"""

import os
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from agent.judge import protocol
from agent.judge.candidate import Candidate, CandidateError, Files
from agent.judge.protocol import NATS
from agent.judge.task import Task
from tests.judging import make_job, run_session

pytestmark = pytest.mark.usefixtures("cleared")

START = """import os, random, socket, struct, sys, time
fd = int(os.environ["SCORE_FD"])
channel = socket.socket(fileno=fd)
NATS, TOKENS, ERROR = 130, 132, 255

def head(size, kind=NATS):
    return struct.pack("<IB", size, kind)

def asked():
    got = b""
    while len(got) < 5 + 8:
        part = channel.recv(1 << 16)
        if not part:
            sys.exit()
        got += part
"""
ASKED = START + "asked()\n"
DEADLINE_S, PATIENT_S = 1.5, 20.0  # of a process that is to meet it, and of one that is not
SLOW = "    channel.sendall(b'\\0')\n    time.sleep(0.4)\n"

# What the process does, how the judge calls it, and how it may end: (program, status, words).
TRICKS: dict[str, tuple[str, str, str]] = {
    "goes at once": (START, "failed", "ended with exit code 0 before it answered"),
    "closes at once": (START + "channel.close()\ntime.sleep(60)\n", "capped failed", "process"),
    "shuts its half": (START + "channel.shutdown(1)\ntime.sleep(60)\n", "capped failed", "process"),
    "stops reading": (START + "channel.shutdown(0)\ntime.sleep(60)\n", "capped failed", "process"),
    "part of a head": (ASKED + "channel.sendall(head(8)[:3])\n", "failed", "exit code 0 before it answered"),
    "a head alone": (ASKED + "channel.sendall(head(8))\n", "failed", "exit code 0 before it answered"),
    "part of an answer": (ASKED + "channel.sendall(head(8) + bytes(7))\n", "failed", "exit code 0 before it answered"),
    "part, then silence": (ASKED + "channel.sendall(head(8) + bytes(7))\ntime.sleep(60)\n", "capped", "wall limit"),
    "killed in an answer": (ASKED + "channel.sendall(head(8))\nos.kill(os.getpid(), 9)\n", "failed", "signal 9"),
    "4 GB": (
        ASKED + "channel.sendall(head(0xffffffff))\nwhile 1: channel.sendall(bytes(1 << 20))\n",
        "failed",
        "4,294,967,295",
    ),
    "one too many": (ASKED + "channel.sendall(head(9) + bytes(9))\ntime.sleep(60)\n", "failed", "answer of 9 bytes"),
    "an endless error": (
        *(
            ASKED + "channel.sendall(head(0xffffffff, ERROR))\nwhile 1: channel.sendall(b'\\x1b]0;\\xff' * 999)\n",
            "failed",
        ),
        "gave up",
    ),
    "an error of nothing": (ASKED + "channel.sendall(head(0, ERROR))\n", "failed", 'gave up: ""'),
    "no answer at all": (ASKED + "time.sleep(60)\n", "capped", "wall limit"),
    "a slow head": (ASKED + "while 1:\n    time.sleep(1)\n    channel.sendall(head(8)[:1])\n", "capped", "wall limit"),
    "a slow answer": (
        *(ASKED + "channel.sendall(head(8))\nwhile 1:\n    channel.sendall(b'0')\n    time.sleep(1)\n", "capped"),
        "wall limit",
    ),
    "a steady drip": (ASKED + "channel.sendall(head(8))\nwhile 1:\n" + SLOW, "capped", "wall limit"),
    "before it is asked": (
        START + "channel.sendall(head(8) + bytes(8))\ntime.sleep(60)\n",
        "failed",
        "before it was asked",
    ),
    "garbage before it is asked": (
        START + "while 1: channel.sendall(os.urandom(999))\n",
        "failed",
        "before it was asked",
    ),
    "another type": (ASKED + "channel.sendall(head(8, TOKENS) + bytes(8))\n", "failed", "type 132 instead of nats"),
    "a flood of nothing": (ASKED + "while 1: channel.sendall(head(0))\n", "failed", "gave a wrong answer: 0 bytes"),
    "text": (ASKED + "channel.sendall(b'GET / HTTP/1.1' * 9)\ntime.sleep(60)\n", "failed", "frame of type 47"),
    "files along with it": (
        *(ASKED + "for _ in range(50): socket.send_fds(channel, [head(0)], [0] * 200)\ntime.sleep(60)\n", "failed"),
        "gave a wrong answer",
    ),
    "a byte out of band": (ASKED + "channel.send(b'!', socket.MSG_OOB)\ntime.sleep(60)\n", "capped failed", "process"),
    "a child answers": (ASKED + "if os.fork(): os._exit(0)\nos.setsid()\nwhile 1:\n" + SLOW, "failed", "process"),
    "a folder too deep": (  # whether it is looked at before its end is chance: what can't be walked counts as too much
        *(ASKED + "for _ in range(1200): os.mkdir('a'); os.chdir('a')\nchannel.sendall(head(8))\n", "capped failed"),
        "the score process",
    ),
}


def a_task(folder: Path, program: str) -> Task:
    task = make_job(folder)
    Path(task.script).write_text(program)
    command = (sys.executable, "-I", "-S", "{script}", "{role}")
    return Task(**{**vars(task), "command": command, "log_mb": 1})


def ask(task: Task, seconds: float = PATIENT_S, after_s: float = 0.0) -> bytes:
    """One question, and the end of the talk, as the judge asks it."""
    files = Files(Path(task.artifact).read_bytes(), b"")
    with Candidate(task, files, "score", time.monotonic() + seconds) as candidate:
        time.sleep(after_s)
        payload = candidate.ask(protocol.SCORE, bytes(8), NATS, most=8)
        with candidate.reading():
            protocol.read_nats(payload, 2)
        candidate.end()
    return payload


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def nothing_left(task: Task) -> None:
    assert not [entry for entry in Path(task.folder).iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("trick", TRICKS)
def test_whatever_it_says_there_is_a_verdict_in_time_and_memory(tmp_path: Path, trick: str) -> None:
    program, status, words = TRICKS[trick]
    task = a_task(tmp_path / "job", program)
    files = open_files()
    seconds = DEADLINE_S if "capped" in status else PATIENT_S
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CandidateError) as caught:
            ask(task, seconds, 0.6 if "before" in trick else 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < seconds + 3.5
    assert peak < 6e6
    assert caught.value.status in status and words in str(caught.value), str(caught.value)
    assert str(caught.value).isascii() and len(str(caught.value)) < 1000
    assert open_files() == files
    nothing_left(task)


def test_garbage_after_the_answer(tmp_path: Path) -> None:
    task = a_task(
        tmp_path / "job", ASKED + "channel.sendall(head(8) + bytes(8) + os.urandom(1 << 16))\ntime.sleep(60)\n"
    )
    with pytest.raises(CandidateError, match="sent more than it was asked for"):
        ask(task)
    good = a_task(tmp_path / "good", ASKED + "channel.sendall(head(8) + bytes(8))\nasked()\n")
    assert ask(good) == bytes(8)


NOISY = """
dice = random.Random({seed})
asked()
for _ in range(dice.randrange(1, 9)):
    kind = dice.choice([NATS, NATS, NATS, ERROR, TOKENS, 0, dice.randrange(256)])
    size = dice.choice([8, 8, 8, 0, 4, 9, 1 << 16, 0xffffffff])
    body = dice.randbytes(dice.choice([0, 1, 4, 7, 8, 8, 8, 9, 500]))
    try:
        channel.sendall(dice.choice([head(size, kind) + body, body, head(size, kind)[: dice.randrange(6)]]))
    except OSError:
        break
    if dice.random() < 0.2:
        time.sleep(0.01)
dice.choice([sys.exit, lambda: os._exit(7), lambda: os.kill(os.getpid(), 9), channel.close])()
"""


def noisy(tmp_path: Path, number: int) -> None:
    task = a_task(tmp_path / f"job{number}", START + NOISY.format(seed=number))
    began = time.monotonic()
    try:
        assert len(ask(task)) == 8
    except CandidateError as error:
        assert error.status == "failed" and str(error).isascii() and len(str(error)) < 2000
    assert time.monotonic() - began < PATIENT_S
    nothing_left(task)


def test_random_frames(tmp_path: Path) -> None:
    for number in range(12):
        noisy(tmp_path, number)


@pytest.mark.slow
def test_many_more_random_frames(tmp_path: Path) -> None:
    for number in range(1000, 1150):
        noisy(tmp_path, number)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["encode", "decode", "score"])
def test_a_whole_session_with_noise_in_each_role(tmp_path: Path, role: str) -> None:
    """In a process of the judge's own: it always leaves an answer in words."""
    for number in range(6):
        folder = tmp_path / f"{role}{number}"
        task = make_job(folder, wall_s=20)
        noise = START + NOISY.format(seed=number)
        script = f"import sys\nsys.path.insert(0, {str(Path(task.script).parent)!r})\n"
        script += f"if sys.argv[1] == {role!r}:\n    exec({noise!r})\nelse:\n    import json, os, honest\n"
        script += "    honest.serve(honest.Answerer(json.loads(open(os.environ['ARTIFACT'], 'rb').read())))\n"
        Path(task.script).write_text(script)
        found = run_session(task)
        assert found.status in ("failed", "capped") and found.nats is None and role in found.reason


def test_what_a_manifest_says_may_be_no_text(tmp_path: Path) -> None:
    """The answer is printed too; a half of a character can't be."""
    found = run_session(make_job(tmp_path / "job", how="bad_manifest", answer='{"\\ud800": 1}'))
    assert found.status == "failed" and "missing or unknown" in found.reason

"""Campaigns from the command line, as a person has them: start, look, stop, interrupt, resume, adopt."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.states import FINAL
from tests.e2e import terminal, world
from tests.e2e.slow import SCRIPT, SLOW, make, running, settled, titles
from tests.e2e.terminal import START, agent, background, refused
from tests.processes import until

WIDER = world.idea("wider", ('"width": 4', '"width": 8'), script=SCRIPT)
MORE = world.idea("more", ('"crash": 0,', '"crash": 0,\n    "more": 1,'), script=SCRIPT)

pytestmark = pytest.mark.long


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "a person's folder é", WIDER, SLOW, MORE)


@pytest.fixture
def children() -> "Iterator[list[subprocess.Popen[str]]]":
    """Controllers that a test started; none outlives it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        if child.poll() is None:
            child.kill()
            child.wait()


def test_from_the_start_to_the_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One campaign, looked at by every command, merged in the end."""
    monkeypatch.setitem(terminal.ENV, "COLUMNS", "50")
    root = make(tmp_path / "a person's folder é", WIDER, MORE)
    ended = agent(root, *START)
    assert ended.code == 0 and ended.err == "", ended
    assert "\x1b" not in ended.out
    for words in (
        "toy-1 finished: the planner has no more ideas.",
        "p2        promoted",
        "p3        ",
        "wider",
        "cost",
    ):
        assert words in ended.out, (words, ended.out)
    told = re.findall(r"^[\d:]{8} +(p\d+ +r\d+ +\w+)", ended.out, re.MULTILINE)
    assert len(told) > 8 and len(told) == len(set(told)), "the same is said twice of one run"
    drawn = [line for line in ended.out.splitlines() if "│" in line or "└" in line]
    assert drawn and max(map(len, drawn)) <= 50
    settled(root, "finished")
    before = world.git(root, "status", "--porcelain")

    status = data(root, "status")
    runs = data(root, "runs")
    assert len(runs) >= 8 and {row["run"] for row in runs} >= {"r1", "r8"}, runs[0]
    assert data(root, "show", "p2")["title"] == "wider"
    assert data(root, "show", "r1")
    assert '+    "width": 8' in data(root, "diff", "p2")["diff"]
    assert [row["what"] for row in data(root, "log")][-1] == "finished"
    assert any("val_bpb" in line for line in data(root, "log", "r1"))
    assert [row["title"] for row in data(root, "lineage")] == ["base", "wider"]
    assert "wider" in json.dumps(data(root, "best"))
    assert data(root, "query", "SELECT title, state FROM proposals ORDER BY id")[1] == {
        "title": "wider",
        "state": "promoted",
    }
    assert data(root, "plot") and status
    lines = agent(root, "export", "--format", "jsonl").out.splitlines()
    assert lines and all(json.loads(line) for line in lines)
    assert "wider" in agent(root, "export").out
    refused(agent(root, "resume"), 2, "finished", "agent start")
    refused(agent(root, "stop"), 2, "nobody runs toy-1", "finished")
    refused(agent(root, "show", "p99"), 2, "p99", "p3")
    assert world.git(root, "status", "--porcelain") == before

    refused(agent(root, "adopt"), 2, "uncommitted")
    world.git(root, "checkout", "-q", "notes.txt")
    assert data(root, "adopt")["head"] == world.git(root, "rev-parse", "HEAD").strip()
    assert '"width": 8' in (root / "train.py").read_text()
    assert world.git(root, "rev-parse", "HEAD").strip() == world.git(root, "rev-parse", "caddie/toy-1").strip()


def data(root: Path, *words: str) -> "object":  # type: ignore[misc]
    """What the command says as JSON; in words it must say something too."""
    spoken = agent(root, *words)
    assert (spoken.code, spoken.err) == (0, "") and spoken.out.strip(), spoken
    ended = agent(root, *words, "--json")
    assert (ended.code, ended.err) == (0, ""), ended
    return json.loads(ended.out)


def test_stop_from_another_terminal_lets_runs_finish(root: Path, children: "list[subprocess.Popen[str]]") -> None:
    children.append(background(root, *START))
    until(lambda: running(root, "slow"), what="the slow idea runs")
    ended = agent(root, "stop")
    assert ended.code == 0 and f"process {children[0].pid}" in ended.out, ended
    assert children[0].wait(60) == 0
    assert "toy-1 stopped: stopped by a person." in said(root)
    assert set(settled(root, "stopped")) == {"done"}
    refused(agent(root, "stop"), 2, "nobody runs toy-1", "agent resume")
    ended = agent(root, "resume", "--json")
    assert (ended.code, json.loads(ended.out)["state"]) == (0, "finished"), ended
    assert set(settled(root, "finished")) == {"done"}
    assert titles(root)["more"] in FINAL


def test_stop_now_cancels(root: Path, children: "list[subprocess.Popen[str]]") -> None:
    children.append(background(root, *START))
    until(lambda: running(root, "slow"), what="the slow idea runs")
    assert agent(root, "stop", "--now").code == 0
    assert children[0].wait(30) == 0
    assert "cancelled" in settled(root, "stopped")


def said(root: Path) -> str:
    return (root.parent / "agent.out").read_text()


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_finishes_what_runs_and_two_cancel_it(
    root: Path, children: "list[subprocess.Popen[str]]", times: int
) -> None:
    """Sent to the whole process group, as a terminal does: experiments must not die of it."""
    children.append(background(root, *START))
    until(lambda: running(root, "slow"), what="the slow idea runs")
    group = os.getpgid(children[0].pid)
    assert group != os.getpgid(0)
    for n in range(times):
        os.killpg(group, signal.SIGINT)
        if n + 1 < times:
            until(
                lambda: "finishing what runs; Ctrl-C again" in said(root),
                within_s=10,
                what="a word about the first interrupt",
            )
    assert children[0].wait(60) == 0, said(root)
    assert "Traceback" not in said(root)
    states = settled(root, "stopped")
    if times == 1:
        assert set(states) == {"done"} and "stopped by a person" in said(root)
    else:
        assert "cancelled" in states and "cancelled by a person" in said(root)
    assert titles(root).get("more") not in FINAL
    ended = agent(root, "resume")
    assert (ended.code, "toy-1 finished" in ended.out) == (0, True), ended
    settled(root, "finished")
    found = titles(root)
    assert found["wider"] == "promoted" and found["slow"] in FINAL and found["more"] in FINAL


def test_a_second_start_is_refused_and_names_the_first(root: Path, children: "list[subprocess.Popen[str]]") -> None:
    very_slow = world.idea("very slow", ('"rate": 0.01', '"rate": 9.0'), script=SCRIPT)
    world.write_ideas(root, [very_slow])
    track = root / "agent.toml"
    track.write_text(track.read_text().replace("train_wall_s = 20", "train_wall_s = 120"))
    children.append(background(root, *START))
    until(lambda: running(root, "very slow"), what="the slow idea runs")
    for words in (START, ("resume",), (*START, "--detach")):
        ended = agent(root, *words)
        said = refused(ended, 4, f"process {children[0].pid}", "agent stop", "agent watch")
        assert "Resuming" not in ended.out
        assert said.startswith("campaign toy-1 is being run by")
    assert agent(root, "stop", "--now").code == 0
    assert children[0].wait(60) == 0
    assert set(settled(root, "stopped")) == {"done", "cancelled"}


def test_in_the_background_it_is_seen_by_the_other_commands(root: Path) -> None:
    ended = agent(root, *START, "--detach", "--json")
    assert ended.code == 0 and json.loads(ended.out)["running"], ended
    pid = json.loads(ended.out)["pid"]
    try:
        until(lambda: running(root, "slow"), what="the slow idea runs")
        assert os.getsid(pid) == pid
        assert agent(root, "status").out.count("running") >= 1
        watched = agent(root, "watch")
        assert watched.code == 0 and "finished" in watched.out, watched
    finally:
        until(lambda: not Path(f"/proc/{pid}").exists(), within_s=60, what="the background process ends")
    assert "toy-1 finished" in (root / ".caddie/toy-1/agent.log").read_text()
    assert set(settled(root, "finished")) == {"done"}

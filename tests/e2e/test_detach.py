"""A controller in the background: what a person is told when it does not come to work."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from agent import detach
from agent.cli import run
from agent.errors import CaddieError
from agent.runners import cores
from tests.e2e import world


def background(root: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """`agent start --detach`, where the process that it starts is this script."""
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'))])
    setting = world.open_campaign(root)
    program = root.parent / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    run._work(setting, detach=True, as_json=False)


def test_one_that_dies_at_once_is_no_success_and_its_last_words_are_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = root / ".caddie/toy-1/agent.log"
    log.parent.mkdir(parents=True)
    log.write_text("of another day\n")
    with pytest.raises(CaddieError, match="exit code 3") as error:
        background(root, monkeypatch, "echo no such planner >&2; exit 3")
    assert "no such planner" in str(error.value) and "another day" not in str(error.value)
    assert error.value.exit_code == 1
    assert "runs in the background" not in capsys.readouterr().out


def test_one_that_has_ended_well_before_it_was_seen_is_a_success(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    background(root, monkeypatch, "exit 0")
    assert "has ended already" in capsys.readouterr().out


def test_the_cores_of_its_runs_are_free_for_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(root.parent))
    (core,), _ = cores.claim(1)
    lock = root.parent / f"caddie-cores-{os.getuid()}/core-{core}"
    background(root, monkeypatch, f"exec flock -n '{lock}' true")


def test_one_that_does_nothing_is_not_waited_for_without_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detach, "START_S", 0.3)
    with pytest.raises(CaddieError, match="has not begun with toy-1"):
        background(root, monkeypatch, "exec sleep 2")


LEADS = """
import sys, time
from agent.store import open_store
from agent.store.lease import hold

with hold(open_store("runs.db", create=False), "campaign toy-1"):
    time.sleep(1)
sys.exit("the provider refuses the key")
"""


def test_one_that_leads_and_can_not_begin_is_no_success(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = root.parent / "leads.py"
    program.write_text(LEADS)
    monkeypatch.setenv("PYTHONPATH", str(Path(detach.__file__).parents[1]))
    with pytest.raises(CaddieError, match="the provider refuses the key"):
        background(root, monkeypatch, f"exec '{sys.executable}' '{program}'")

"""`agent judge` as a person types it: runs of a campaign, folders, logs, what it refuses, how it exits."""

import json
from pathlib import Path

import pytest

from agent.store import open_store
from tests.commanding import Agent
from tests.contest_logs import EXACT, LOSS, log


def test_a_run_of_the_store(agent: Agent) -> None:
    said = agent("judge", "r12")
    assert said.err == "" and "BPB, blind" in said.out and "\x1b" not in said.out
    assert "\nnot checkable\n" in said.out and "3 training and validation documents are disjoint" in said.out
    assert "its folder is gone" in said.out and "of which the store keeps the outcome" in said.out
    data = json.loads(agent("judge", "12", "--json").out)
    assert data["kind"] == "run" and len(data["rulings"]) == 25 and data["trust"] == "blind"


def test_every_run_can_be_judged_and_findings_show(agent: Agent, root: Path) -> None:
    store = open_store(root / "runs.db")
    with store.read() as reads:
        sql = "SELECT DISTINCT run_id FROM findings WHERE severity = 'invalid'"
        invalid = set(reads.connection.exec_driver_sql(sql).scalars())
    store.close()
    assert invalid
    for run in sorted(invalid):
        said = agent("judge", f"r{run}")
        assert said.code == 1 and said.out.startswith("INVALID") and "(invalid): " in said.out, run


def test_logs_and_folders(agent: Agent, root: Path) -> None:
    path = root / "a.log"
    path.write_text(log(finals=LOSS + EXACT))
    said = agent("judge", str(path))
    assert (said.code, said.err) == (0, "") and said.out.startswith("NO FAULT FOUND")
    assert "reports 1.22756946 BPB: line 17, final_int8_zlib_roundtrip_exact" in said.out
    (root / "sub").mkdir()
    assert agent("judge", str(root / "sub")).code == 1
    data = agent("judge", str(root / "sub"), "--json")
    assert data.code == 1 and json.loads(data.out)["verdict"] == "invalid"


@pytest.mark.parametrize("what", ["r9999", "nothing.log", "p3", "../../x"])
def test_what_is_not_there(agent: Agent, what: str) -> None:
    said = agent("judge", what)
    assert said.code == 2 and said.out == "" and len(said.err) > 10


def test_a_link_is_refused(agent: Agent, root: Path) -> None:
    (root / "l.log").symlink_to("/etc/passwd")
    said = agent("judge", str(root / "l.log"))
    assert said.code == 2 and "is a link" in said.err

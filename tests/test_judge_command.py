"""`agent judge` as a person types it: runs of a campaign, folders, logs, what it refuses, how it exits."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.store import open_store
from tests.commanding import Agent
from tests.contest_logs import EXACT, LOSS, log
from tests.exhibiting import ANSWER, ENDED


def test_a_run_of_the_store(agent: Agent) -> None:
    said = agent("judge", "r12")
    assert said.err == "" and "BPB, blind" in said.out and "\x1b" not in said.out
    assert "\nnot checkable\n" in said.out and "3 training and validation documents are disjoint" in said.out
    assert "its folder is gone" in said.out and "of which the store keeps the outcome" in said.out
    data = json.loads(agent("judge", "12", "--json").out)
    assert data["kind"] == "run" and len(data["rulings"]) == 25 and data["trust"] == "blind"


def test_a_folder_is_a_run_only_where_the_store_says_so(agent: Agent, root: Path) -> None:
    """Whatever it is called, and whatever lies in it."""
    store = open_store(root / "runs.db")
    with store.read() as reads:
        jobs = root / ".caddie" / reads.campaign_by_id(reads.run(12).campaign_id).name / "jobs"
    store.close()
    forged = replace(ANSWER, nats=0.5 * math.log(2) * ANSWER.bytes, contest=None)
    for folder, kind, trust in (
        (jobs / "r12", "run", "blind"),
        (jobs / "r9999", "job", "reported"),
        (jobs / "r012", "job", "reported"),
        (jobs / "r²", "job", "reported"),
        (root / "r12", "job", "reported"),
    ):
        paths = JobPaths(folder)
        paths.code.mkdir(parents=True)
        (paths.code / "train_gpt.py").write_text("print(1)\n")
        paths.spec.write_text("{}")
        paths.measure.write_text(forged.to_json())
        paths.result.write_text(ENDED.to_json())
        data = json.loads(agent("judge", str(folder), "--json").out)
        assert (data["kind"], data["trust"]) == (kind, trust), folder
        assert (data["measured_bpb"] == pytest.approx(0.5)) == (kind == "job")
        assert any("what the folder says" in one for one in data["notes"]) == (kind == "job")
        states = {one["rule"]: one["state"] for one in data["rulings"]}
        assert (states[20] == "passed") == (kind == "run")


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

"""What keeps the slots busy and long campaigns fast: work done ahead of time, questions that don't grow."""

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import event

from agent import training
from agent.loop import Loop
from agent.planner.edits import apply
from agent.store import open_store
from tests.e2e import world

PACKED = world.TRACK.replace("pack = false", "pack = true")


def test_a_script_that_cannot_be_packed_is_refused_before_a_slot_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world.make_workspace(tmp_path / "work", track=PACKED)
    ideas = [world.idea("wider", ('"width": 4', '"width": 8')), world.idea("a rate", ('"rate": 0.10', '"rate": 0.20'))]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root)
    for edits in ("", str(ideas[1]["edits"])):
        files = {"train.py": world.SCRIPT}
        training.pack(setting.packed, (apply(edits, files, ["train.py"]) if edits else files)["train.py"])
    monkeypatch.setattr(training, "PACK_S", 0)  # for what is not packed already
    ending = Loop(setting).run()
    assert ending.reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        base, wider, rate = reads.proposals(setting.campaign.id)
        assert wider.state == "edit_failed" and "can't be packed" in wider.reason
        assert not reads.runs(setting.campaign.id, proposal_id=wider.id)
        assert reads.runs(setting.campaign.id, proposal_id=rate.id)
        assert reads.base(setting.campaign.id) == base


def test_what_is_ready_to_run_is_packed(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work", track=PACKED)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'))])
    setting = world.open_campaign(root, review="all")

    def stop_when_it_waits() -> None:
        with setting.store.write() as tx:
            if tx.proposals(setting.campaign.id, {"awaiting_review"}):
                tx.ask(setting.campaign.id, "drain")

    Loop(setting, stop_when_it_waits).run()
    with setting.store.read() as reads:
        (idea,) = reads.proposals(setting.campaign.id, {"awaiting_review"})
    assert idea.commit is not None
    source = setting.repo.files(idea.commit, ["train.py"])["train.py"]
    assert (setting.packed / f"{hashlib.sha256(source.encode()).hexdigest()}.py").is_file()


def test_questions_of_every_turn_sort_and_scan_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    asked: list[tuple[str, object]] = []
    event.listen(store._reader, "before_cursor_execute", lambda c, cur, text, values, *_: asked.append((text, values)))
    with store.read() as reads:
        reads.trials(1, newest=400)
        reads.replicates(1, newest=400)
        reads.count_by(1, "knobs")
        reads.proposals(1, {"drafted", "approved"})
        reads.runs(1, proposal_id=1)
        reads.runs(1, proposal_id=1, states={"done"}, purposes={"report"})
        reads.scored(1, proposal_id=1)
        reads.scored(1, proposal_id=1, documents=False)
    plans = []
    with store.read() as reads:
        for text, values in [one for one in asked if one[0].lstrip().startswith("SELECT")]:
            rows = reads.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()  # type: ignore[arg-type]
            plans.append((text, [row[3] for row in rows]))
    store.close()
    assert len(plans) == 10
    for text, plan in plans:
        assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], (text, plan)
        if "proposals.state IN" in text:  # all of a campaign's proposals are not looked at to find the few
            assert "ix_proposals_campaign_id_state" in plan[0], (text, plan)
        if "runs.proposal_id =" in text:  # nor all of its runs to find those of one idea
            assert any("ix_runs_proposal_id" in step for step in plan), (text, plan)

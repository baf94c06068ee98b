"""What is accepted is scored once more where it was not trained: the two scores agree, or nothing is promoted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agent import budget
from agent.job.folder import JobPaths, JobResult, Loss
from agent.judge.task import Measured, no_score
from agent.loop import Loop
from agent.records import Amount, Finding
from agent.runners.fake import Imagined, Knobs, imagine
from agent.runners.order import Order
from agent.setting import Setting
from agent.steps import rescore
from agent.store import rescores
from agent.store.rescores import Rescore
from agent.track import load
from tests.e2e import world
from tests.e2e.leased import Found, Gathered, Leased, Machines
from tests.filling import measurement


class Kept(Leased):
    """Leaves the artifact that it scored. `off`: by how much a machine that did not train is off."""

    off = 0.0
    loses = accuses = fails = False

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self._alone = "train" not in order.phases
        artifact = JobPaths(folder).out / order.limited.script.artifact
        if self._alone:
            assert artifact.read_bytes() == b"weights of seed %d" % order.seed
            assert order.wall_s < order.limited.limits.worst_s() - order.limited.limits.train_wall_s + 0.1
        super().submit(order, folder, slot)
        artifact.write_bytes(b"weights of seed %d" % order.seed)
        if self._alone and self.loses:
            JobPaths(folder).result.unlink()

    def loss(self, folder: Path) -> Loss:
        return Loss(False, 0.0, "the machine is gone")

    def _measured(self, run: Imagined, digest: str) -> Measured:
        if self._alone and self.fails:
            return no_score("failed", "it needs a file that is not here")
        found = super()._measured(run, digest)
        against = (Finding("surprise_mismatch", "invalid", "it knows too much"),)
        return replace(found, findings=against) if self._alone and self.accuses else found

    def _imagined(self, knobs: Knobs, seed: int) -> Imagined:
        run = imagine(knobs, seed)
        return replace(run, bpb=run.bpb + (self.off if self._alone else 0.0))


class Later(Kept, Gathered):
    """A slot is no machine: a job is on the next one in turn, unless its slot means one."""


class SeenLater(Kept, Found):
    """Likewise, and nobody knows of a machine before a run was on it."""


class Astray(Later):
    """All that runs is on one machine, whichever was meant."""

    def began_on(self, folder: Path) -> str:
        return "a"


def ended(root: Path, leases: tuple[str, ...], of: type[Kept] = Kept, **what: object) -> Setting:
    kind = type("Now", (of,), what)
    world.make_workspace(root)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 6'))])
    setting = world.open_campaign(root, slots=len(leases), make_runner=lambda count: kind(leases, Machines()))
    assert Loop(setting).run().reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
    return setting


def outcome(setting: Setting) -> tuple[str, str, Rescore]:
    """The idea's state and its reason, and its row."""
    with setting.store.read() as reads:
        (idea,) = [one for one in reads.proposals(setting.campaign.id) if one.title == "wider"]
        ((run_id,),) = reads.connection.execute(text("SELECT run_id FROM rescores"))
        found = rescores.of_run(reads, run_id)
        assert found is not None and reads.run(run_id).proposal_id == idea.id
        return idea.state, idea.reason, found


def test_what_is_accepted_was_scored_on_a_machine_that_did_not_train_it(tmp_path: Path) -> None:
    setting = ended(tmp_path / "w", ("a", "b"))
    state, _, row = outcome(setting)
    assert state == "promoted" and row.agrees and row.apart_nats == 0
    assert {row.trained_on, row.scored_on} == {"a", "b"} and row.allowed_nats == 1e-5
    with setting.store.read() as reads:
        (again,) = reads.runs(setting.campaign.id, purposes={"rescore"})
        assert (again.id, again.lease, again.state) == (row.by_run_id, row.scored_on, "done")
        assert reads.measurement(again.id) is None, "it would count twice"
        best = min(
            (one.measurement.bpb, one.run.id)
            for one in reads.scored(setting.campaign.id, proposal_id=again.proposal_id)
            if one.run.baseline_id == again.baseline_id and one.measurement.bpb is not None
        )
        assert (row.bpb, row.run_id) == pytest.approx(best)


@pytest.mark.parametrize("of", [Later, SeenLater])
def test_where_a_job_gets_its_machine_when_it_begins_one_that_did_not_train_is_asked_for(
    tmp_path: Path, of: type[Kept]
) -> None:
    setting = ended(tmp_path / "w", ("a", "b", "c"), of)
    state, _, row = outcome(setting)
    assert state == "promoted" and row.agrees and row.scored_on != row.trained_on
    with setting.store.read() as reads:
        (again,) = reads.runs(setting.campaign.id, purposes={"rescore"})
    assert (again.lease, again.slot) == (row.scored_on, f"fake/@{row.scored_on}")


def test_two_scores_on_one_machine_are_no_second_score_unless_they_differ(tmp_path: Path) -> None:
    state, _, row = outcome(ended(tmp_path / "same", ("a", "b"), Astray))
    assert state == "promoted" and row.agrees is None and row.by_run_id is None
    assert "was not scored a second time: r" in row.words and "was on a too, which trained it" in row.words
    state, reason, row = outcome(ended(tmp_path / "other", ("a", "b"), Astray, off=1e-3))
    assert state == "inconclusive" and row.agrees is False and "1e-05 are allowed" in reason


def test_two_scores_that_differ_promote_nothing_and_leave_a_finding(tmp_path: Path) -> None:
    setting = ended(tmp_path / "w", ("a", "b"), off=1e-3)
    state, reason, row = outcome(setting)
    assert state == "inconclusive" and row.agrees is False and reason == row.words
    assert row.apart_nats == pytest.approx(1e-3 * math.log(2) * 3, rel=0.01) and "1e-05 are allowed" in reason
    with setting.store.read() as reads:
        known = reads.measurement(row.run_id)
        assert known is not None
        assert [(one.rule, one.severity) for one in known.findings] == [(rescores.RULE, "flag")]


@pytest.mark.parametrize(
    ("what", "words", "tries"),
    [
        ({"accuses": True}, "surprise_mismatch: it knows too much", 1),
        ({"fails": True}, "for the third time in vain: it needs a file that is not here", 3),
    ],
)
def test_what_can_not_be_scored_elsewhere_or_is_caught_there_is_not_promoted(
    tmp_path: Path, what: dict[str, object], words: str, tries: int
) -> None:
    setting = ended(tmp_path / "w", ("a", "b"), **what)
    state, reason, row = outcome(setting)
    assert state == "inconclusive" and row.agrees is False and words in reason
    with setting.store.read() as reads:
        assert len(reads.runs(setting.campaign.id, purposes={"rescore"})) == tries


def test_a_second_audit_that_saw_too_little_is_not_asked_for_once_more(tmp_path: Path) -> None:
    """It would be no different another time; what the two scores say stands."""
    setting = replace(ended(tmp_path / "w", ("a", "b")), track=load("tiny", tmp_path)[0])
    result = JobResult(1, "ok", "", (), 1.0, (), True)
    dim = measurement(1, 1.2, trust="measured", findings=(Finding("audit_dim", "note", "too little"),))
    assert rescore._no_score(setting, result, dim) == ""
    assert rescore._no_score(setting, result, replace(dim, findings=())) == "it was not audited in full"


def test_a_difference_that_arithmetic_makes_is_none(tmp_path: Path) -> None:
    state, _, row = outcome(ended(tmp_path / "w", ("a", "b"), off=3e-6))
    assert state == "promoted" and row.agrees and row.apart_nats


@pytest.mark.parametrize(
    ("leases", "what", "words"),
    [
        (("a", "a"), {}, "no other machine of the class fake is known than a"),
        (("", ""), {}, "nobody knows which machine trained it"),
        (("a", "a"), {"of": Later}, "no other machine of the class fake is known than a"),
        (("a", "b"), {"of": Later, "began_on": lambda self, folder: ""}, "nobody knows which machine trained it"),
        (("a", "b"), {"loses": True}, "3 tries were lost; the last, r"),
    ],
)
def test_the_row_says_why_there_is_no_second_score(
    tmp_path: Path, leases: tuple[str, ...], what: dict[str, Any], words: str
) -> None:
    state, _, row = outcome(ended(tmp_path / "w", leases, **what))
    assert state == "promoted" and row.by_run_id is None and row.agrees is None and words in row.words


def test_where_it_can_not_be_paid_the_idea_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.steps.launch.worst_scoring", lambda *_: Amount(gpu_s=1e9))
    state, _, row = outcome(ended(tmp_path / "w", ("a", "b")))
    assert state == "promoted" and row.by_run_id is None and "the budget does not cover it" in row.words


def test_an_artifact_that_is_gone_is_not_scored(tmp_path: Path) -> None:
    class Bare(Kept):
        def submit(self, order: Order, folder: Path, slot: str) -> None:
            super().submit(order, folder, slot)
            (JobPaths(folder).out / order.limited.script.artifact).unlink()

    world.make_workspace(tmp_path / "w")
    world.write_ideas(tmp_path / "w", [world.idea("wider", ('"width": 4', '"width": 6'))])
    setting = world.open_campaign(tmp_path / "w", slots=2, make_runner=lambda count: Bare(("a", "b"), Machines()))
    Loop(setting).run()
    state, _, row = outcome(setting)
    assert state == "promoted" and "its artifact is not here" in row.words

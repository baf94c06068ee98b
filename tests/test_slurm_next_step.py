"""What is done about a job, for all that can be known of it."""

import itertools

import pytest

from agent.runners.slurm.commands import TAKEN, Row
from agent.runners.slurm.depot import Look
from agent.runners.slurm.next_step import (
    AGAIN_S,
    NOWHERE_S,
    PATIENCE_S,
    STALE_S,
    WAIT,
    Do,
    Known,
    Step,
    is_lost,
    step,
    taken_away,
)

SETTLE_S = 30.0
NOTHING = Look(True, frozenset(), b"", {})


def look(*marks: str) -> Look:
    return NOTHING._replace(marks=frozenset(marks))


def row(state: str, reason: str = "None") -> Row:
    return Row("7", state, reason, "n1", "caddie-a")


def known(at: Row | None, seen: Look = NOTHING, **changed: object) -> Known:
    usual: dict[str, object] = {"submitted": True, "asked": False, "asked_s": 0.0, "over_s": 0.0, "silent_s": 0.0}
    return Known(at, seen, **{**usual, **changed})  # type: ignore[arg-type]


STARTED, BEGAN, RESULT = look("began", "started"), look("began"), look("began", "started", "result.json")
PAUSED = look("began", "started", "paused.json")
GONE = "ReqNodeNotAvail, UnavailableNodes:n1"
LATE = {"over_s": SETTLE_S + 1, "silent_s": STALE_S + 1}


@pytest.mark.parametrize(
    ("what", "do"),
    [
        (known(row("PENDING", "Priority")), "wait"),
        (known(row("PENDING", "BeginTime"), BEGAN), "wait"),  # it will have its run on another node
        (known(row("PENDING", "BeginTime"), STARTED), "wait"),  # what it may go on from may be on its way
        (known(row("PENDING", "BeginTime"), STARTED, again_s=SETTLE_S), "lose"),
        (known(row("PENDING", "BeginTime"), PAUSED, again_s=999.0), "wait"),  # it goes on on another node
        (known(row("PENDING", "BeginTime"), PAUSED, asked=True), "remove"),
        (known(row("PENDING", "JobHeldAdmin"), PAUSED), "lose"),
        (known(row("RUNNING"), PAUSED), "wait"),
        (known(row("TIMEOUT"), PAUSED, **LATE), "lose"),  # nobody queues it again
        (known(None, PAUSED, **LATE), "lose"),
        (known(row("PENDING", "BeginTime"), RESULT), "finish"),  # it was over when its node was taken
        (known(row("PENDING", "BeginTime"), look("lost.json")), "lose"),
        (known(row("PENDING", "JobHeldAdmin")), "lose"),
        (known(row("PENDING", "launch failed requeued held")), "lose"),
        (known(row("PENDING", GONE), nowhere_s=NOWHERE_S - 1), "wait"),  # it may only be starting anew
        (known(row("PENDING", GONE), nowhere_s=NOWHERE_S), "lose"),
        (known(row("PENDING", GONE), asked=True, nowhere_s=NOWHERE_S), "remove"),
        (known(row("REQUEUE_HOLD"), STARTED), "lose"),
        (known(row("PENDING", "Priority"), asked=True), "remove"),
        (known(row("RUNNING"), STARTED), "wait"),
        (known(row("RUNNING"), RESULT), "wait"),  # Slurm's word on how it ended is still to come
        (known(row("RUNNING"), STARTED, asked=True), "ask"),
        (known(row("RUNNING"), STARTED, asked=True, asked_s=PATIENCE_S), "remove"),
        (known(row("COMPLETING"), RESULT), "wait"),
        (known(row("COMPLETING"), STARTED, asked=True), "wait"),
        (known(row("COMPLETED"), RESULT), "finish"),
        (known(row("NODE_FAIL"), RESULT), "finish"),
        (known(row("FAILED"), look("lost.json")), "lose"),
        (known(row("COMPLETED"), STARTED), "wait"),  # the file may be on its way from the node
        (known(row("COMPLETED"), STARTED, **LATE), "lose"),
        (known(row("FAILED"), **LATE), "lose"),
        (known(row("CANCELLED"), STARTED, asked=True, **LATE), "cancelled"),
        (known(row("CANCELLED"), STARTED, **LATE), "lose"),
        (known(None, RESULT), "finish"),  # Slurm has forgotten it, our files have not
        (known(None, STARTED, over_s=999.0), "wait"),  # it may still run: its heart beats
        (known(None, STARTED, **LATE), "lose"),
        (known(None, **LATE), "lose"),
        (known(None, asked=True, **LATE), "cancelled"),
        (known(None, submitted=False), "wait"),  # Slurm may not have said it yet
        (known(None, submitted=False, asked=True), "wait"),  # or it would come when nobody wants it any more
        (known(None, submitted=False, over_s=AGAIN_S), "submit"),
        (known(None, submitted=False, over_s=AGAIN_S, asked=True), "cancelled"),
        (known(None, BEGAN, submitted=False, over_s=AGAIN_S), "wait"),  # it has begun: no second one
        (known(None, RESULT, submitted=False), "finish"),
    ],
)
def test_what_is_done(what: Known, do: Do) -> None:
    assert step(what, SETTLE_S).do == do


def test_every_job_that_is_over_comes_to_an_end() -> None:
    """Whatever is known of it: waiting for ever is for what Slurm still has."""
    states = [None, *("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED")]
    marks = [(), ("began",), ("began", "started"), ("started", "paused.json"), ("result.json",), ("lost.json",)]
    marks.append(("started", "lost.json"))
    for state, seen, asked, submitted in itertools.product(states, marks, (True, False), (True, False)):
        found = step(known(state and row(state), look(*seen), asked=asked, submitted=submitted, **LATE), SETTLE_S)
        assert found.do in ("finish", "lose", "cancelled", "submit") and found != WAIT
        assert found.do != "submit" or not seen
    assert step(known(row("TIMEOUT"), STARTED, **LATE), 0.0) == Step("lose", "it left no result: Slurm says TIMEOUT")


def test_whose_fault_an_end_is() -> None:
    for state in ("COMPLETED", "FAILED", "RUNNING", "OUT_OF_MEMORY"):
        assert not is_lost("crashed", known(row(state), RESULT)) and not is_lost("capped", known(row(state), RESULT))
    assert not is_lost("crashed", known(None, RESULT))
    for state in (*TAKEN, "PENDING"):
        assert is_lost("crashed", known(row(state), RESULT)) and not is_lost("ok", known(row(state), RESULT))
        assert not is_lost("cancelled", known(row(state), RESULT, asked=True))
    assert is_lost("cancelled", known(row("COMPLETED"), RESULT))  # a signal that was not ours
    taken = look("began", "started", "taken", "result.json")
    assert is_lost("crashed", known(row("COMPLETED"), taken)) and is_lost("crashed", known(None, taken))
    assert not is_lost("ok", known(row("COMPLETED"), taken))


def test_what_took_the_node_away_is_not_held_against_the_idea() -> None:
    for state in ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "CANCELLED", "DEADLINE"):
        assert taken_away(known(row(state), STARTED))
    assert taken_away(known(row("PENDING", "BeginTime"), STARTED)) and taken_away(known(row("REQUEUE_HOLD"), STARTED))
    assert taken_away(known(row("COMPLETED"), look("began", "started", "taken")))
    for state in ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "RUNNING"):
        assert not taken_away(known(row(state), STARTED))
    assert not taken_away(known(None, STARTED)) and not taken_away(known(row("PENDING", "JobHeldAdmin")))


@pytest.mark.parametrize(
    "reason",
    [
        *("QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit"),
        *("AssocMaxGRESPerJob", "QOSMaxGRESPerNode", "AssocMaxCpuMinutesPerJobLimit", "QOSMinGRES"),
        *("AssocGrpGRESMinutes", "QOSGrpCPUMinutesLimit", "AssocGrpWallLimit"),
    ],
)
def test_a_job_that_is_more_than_its_account_may_have_does_not_wait_for_ever(reason: str) -> None:
    found = step(known(row("PENDING", reason)), SETTLE_S)
    assert found.do == "lose" and f"{reason}, which is less than a run needs" in found.why


@pytest.mark.parametrize(
    "reason",
    [
        *("QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "AssocGrpGRES", "AssocGrpCpuLimit", "QOSMaxJobsPerUserLimit"),
        *("AssocGrpGRESRunMinutes", "QOSGrpCPURunMinutesLimit", "MaxGRESPerAccount", "Resources", "Priority"),
    ],
)
def test_a_job_whose_account_has_enough_others_waits(reason: str) -> None:
    assert step(known(row("PENDING", reason)), SETTLE_S).do == "wait"

"""How far ahead ideas are planned: nobody waits for a planner, and nothing is planned before it must be."""

import heapq
import random

import pytest

from agent.steps.depth import depth


def test_an_idea_is_asked_for_as_late_as_it_can_be() -> None:
    assert depth([], 600.0, 40.0, 4) == 0
    assert depth([500.0, 550.0], 600.0, 40.0, 4) == 1  # one, in case a run ends early
    assert depth([45.0, 550.0], 600.0, 40.0, 4) == 2
    assert depth([45.0, 46.0, 47.0, 550.0], 600.0, 40.0, 4) == 5


def test_a_planner_that_answers_few_at_once_begins_earlier() -> None:
    together = [100.0] * 8
    assert depth(together, 600.0, 40.0, 8) == 1
    assert depth(together, 600.0, 40.0, 4) < depth(together, 600.0, 40.0, 2) < depth(together, 600.0, 40.0, 1)
    assert depth(together, 600.0, 40.0, 1) >= 7  # the first of them should have been asked for long ago


def test_slots_that_end_several_runs_while_one_is_thought_about_want_several_ideas() -> None:
    assert depth([0.0, 5.0], 10.0, 40.0, 8) >= 8


def idle_and_age(slots: int, run_s: float, call_s: float, parallel: int, spread: float) -> tuple[float, float]:
    """Share of the slots' time without a run, and how many runs an idea was planned before its own, by the slot."""
    draw = random.Random(3)
    now, busy = 0.0, {slot: draw.uniform(0.0, run_s) for slot in range(slots)}
    ready: list[float] = []
    answers: list[tuple[float, float]] = []
    idle, ages, until = 0.0, list[float](), 30 * run_s
    waiting: set[int] = set()
    while now < until:
        while len(answers) < parallel and len(ready) + len(answers) < depth(
            [max(0.0, end - now) for end in busy.values()], run_s, call_s, parallel
        ):
            heapq.heappush(answers, (now + call_s * draw.uniform(0.6, 1.6), now))
        for slot in sorted(waiting):
            if ready:
                ages.append(now - ready.pop(0))
                waiting.discard(slot)
                busy[slot] = now + run_s * draw.uniform(1 - spread, 1 + spread)
        ends = [end for slot, end in busy.items() if slot not in waiting]
        step = min([1.0 + now, *ends, *(at for at, _ in answers)]) - now
        idle += len(waiting) * step
        now += step
        while answers and answers[0][0] <= now:
            ready.append(heapq.heappop(answers)[1])
        waiting |= {slot for slot, end in busy.items() if end <= now}
    return idle / (slots * now), sum(ages) / len(ages) / run_s


@pytest.mark.parametrize(("slots", "run_s", "call_s", "parallel"), [(2, 33, 20, 4), (8, 600, 40, 4), (60, 600, 60, 12)])
def test_slots_hardly_wait_and_ideas_are_fresh(slots: int, run_s: float, call_s: float, parallel: int) -> None:
    idle, age = idle_and_age(slots, run_s, call_s, parallel, spread=0.1)
    assert idle < 0.02
    assert age < 2.5 * call_s / run_s + 0.25  # an idea ready for every slot would be a whole run old

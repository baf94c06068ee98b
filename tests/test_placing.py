"""Which run goes where: cheapest fitting slot, whole machines for large runs, nothing starved, little idle."""

import random

from agent.placing import Busy, Job, Placement, Slot, place

HOUR = 3600.0


def cpu(name: str, *, of: str = "cpu", price: float = 0.0, wait_s: float = 0.0) -> Slot:
    return Slot(name, of, frozenset(), name, price, wait_s)


def node(machine: str, *, price: float = 2.0) -> list[Slot]:
    """A machine of 8 GPUs: a slot of each, and the block."""
    single = [Slot(f"{machine}/{n}", "h100/1", frozenset([n]), machine, price) for n in range(8)]
    return [*single, Slot(f"{machine}/0-7", "h100/8", frozenset(range(8)), machine, 8 * price)]


def small(seconds: float = 100.0, **more: object) -> Job:
    return Job(1, seconds={"h100/1": seconds}, **more)  # type: ignore[arg-type]


def large(seconds: float = 600.0) -> Job:
    return Job(8, seconds={"h100/8": seconds})


def test_the_cheapest_run_then_the_shortest_queue() -> None:
    slots = [cpu("a/0", of="a", price=4.0), cpu("b/0", of="b", price=3.0), cpu("c/0", of="a", price=4.0, wait_s=9.0)]
    fast = Job(0, seconds={"a": 100.0, "b": 200.0})  # dearer by the hour, cheaper by the run
    assert [one.slot for one in place([fast] * 3, slots, [])] == ["a/0", "c/0", "b/0"]
    assert place([Job(0, ("b",)), Job(0, ("c",)), Job(1)], slots, []) == [Placement(0, "b/0")]
    assert place([fast], slots, [Busy(one, 5.0) for one in slots]) == []


def test_the_most_urgent_comes_first_and_what_fits_nowhere_is_passed_over() -> None:
    slots = [cpu("a/0", of="a"), cpu("b/0", of="b")]
    assert place([Job(0, ("b",)), Job(0, ("b",)), Job(0)], slots, []) == [Placement(0, "b/0"), Placement(2, "a/0")]


def test_runs_of_one_test_that_may_go_anywhere_go_to_one_class() -> None:
    slots = [cpu("a/0", of="a"), cpu("a/1", of="a"), cpu("b/0", of="b"), cpu("b/1", of="b")]
    found = place([Job(0, test=1), Job(0, test=1), Job(0, test=1), Job(0, test=2)], slots, [])
    assert [one.slot for one in found] == ["a/0", "a/1", "b/0"] and [one.job for one in found] == [0, 1, 3]


def test_small_runs_leave_whole_machines_whole() -> None:
    x, y = node("x"), node("y")
    found = place([small(), small(), large()], [*x, *y], [Busy(y[3], 50.0)])
    assert {one.slot.split("/")[0] for one in found[:2]} == {"y"} and found[2].slot == "x/0-7"


def test_a_block_is_reserved_where_it_is_whole_again_soonest_and_filled_until_then() -> None:
    x, y = node("x"), node("y")
    busy = [Busy(x[0], 300.0), Busy(y[0], 900.0), Busy(y[1], 100.0)]
    jobs = [large(), small(400.0), small(300.0), small(301.0)]
    found = {one.job: one.slot for one in place(jobs, [*x, *y], busy)}
    assert 0 not in found and found[2].startswith(("x", "y"))
    assert found[1].startswith("y") and found[3].startswith("y")  # neither ends before x is whole
    alone = {one.job: one.slot for one in place([large(), small(301.0), small(300.0)], x, busy[:1])}
    assert list(alone) == [2]  # only what ends in time fills the gap


def test_two_large_runs_wait_for_two_machines() -> None:
    x, y = node("x"), node("y")
    assert place([large(), large(), small(500.0)], [*x, *y], [Busy(x[0], 300.0), Busy(y[0], 400.0)]) == []
    assert place([large(), small(350.0)], [*x, *y], [Busy(x[0], 300.0), Busy(y[0], 400.0)])[0].slot.startswith("y")


def simulated(hours: float, *, reserve: bool, seed: int = 1) -> tuple[float, float, float]:
    """Two machines, small runs without end, a large one every half hour: share of GPU time used, mean and longest wait
    of a large run. Without `reserve` a large run takes what is free, and holds nothing back."""
    draw, slots, now = random.Random(seed), [*node("x"), *node("y")], 0.0
    running: list[tuple[float, Slot]] = []
    queue, waits, used, due = list[float](), list[float](), 0.0, 0.0
    while now < hours * HOUR:
        while due <= now:
            queue.append(due)
            due += HOUR / 2
        smalls = [small(draw.uniform(200.0, 900.0)) for _ in range(16)]
        jobs = [*([large()] * len(queue)), *smalls]
        busy = [Busy(slot, end - now) for end, slot in running]
        found = place(jobs, slots, busy)
        if not reserve:
            fits = place([large()] * len(queue), slots, busy)
            taken = [Busy(next(s for s in slots if s.name == one.slot), 600.0) for one in fits]
            rest = place(smalls, slots, [*busy, *taken])
            found = [*fits, *(Placement(one.job + len(queue), one.slot) for one in rest)]
        by_name = {slot.name: slot for slot in slots}
        for one in sorted(found, reverse=True):
            slot = by_name[one.slot]
            seconds = jobs[one.job].seconds[slot.hardware_class]
            running.append((now + seconds, slot))
            used += seconds * len(slot.gpus)
            if one.job < len(queue):
                waits.append(now - queue.pop(one.job))
        running.sort(key=lambda item: item[0])
        now, _ = running.pop(0)
    waits += [now - since for since in queue]
    return used / (16 * now), sum(waits) / len(waits), max(waits)


def test_a_stream_of_small_runs_starves_no_large_one_and_little_is_idle() -> None:
    busy, _, longest = simulated(24, reserve=True)
    assert longest < 1500 and busy > 0.85
    _, mean, _ = simulated(24, reserve=False)
    assert mean > 3600  # what would become of them

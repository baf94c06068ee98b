"""The runner of this machine, as a track needs it.

Takes a track and how many runs at once; gives a Runner, or MissingError where a run would not see its GPUs.
"""

import os

from agent import hardware
from agent.runners import Runner
from agent.track import Track


def default_slots(track: Track) -> int:
    """Two on a laptop: one core each, and the rest of the machine is the person's."""
    if track.hardware.kind == "cuda":
        return max(1, len(hardware.matching(track)) // track.sizes()[0])
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def local_runner(track: Track, slots: int) -> Runner:
    from agent.runners.local import LocalRunner

    if track.hardware.kind == "cpu":
        return LocalRunner(slots)
    first, *others = track.sizes()
    return LocalRunner(slots, hardware.matching(track), first, tuple(others))


def sure_runner(track: Track, slots: int) -> Runner:
    """Of this machine, where every run will see the GPUs that it needs."""
    runner = local_runner(track, slots)
    if track.hardware.kind == "cuda":
        from agent import devices

        devices.require(track, runner)
    return runner

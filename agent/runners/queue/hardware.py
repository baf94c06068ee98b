"""Whether a class of machine can run a track: a pure look at the class's name, as the runners write it.

And the track as a worker sees it whose person said how many GPUs each of its runs has: rungs may differ in that.
"""

from agent.errors import UserError
from agent.track import Track


def fits(track: Track, hardware_class: str) -> bool:
    kind, _, rest = hardware_class.partition("/")
    if track.hardware.kind == "cpu":
        return kind == "cpu"
    device, _, gpus = rest.rpartition("/")
    return kind == "cuda" and track.hardware.device in device and gpus in map(str, track.sizes())


def gpus_of(hardware_class: str) -> int:
    """How many a run in such a slot has."""
    kind, _, rest = hardware_class.partition("/")
    count = rest.rpartition("/")[2]
    return int(count) if kind == "cuda" and count.isdecimal() else 0


def shaped(track: Track, gpus: int) -> Track:
    """All its runs have one size.

    Raises UserError for a number that no rung of the track asks for.
    """
    if track.hardware.kind == "cpu" or gpus not in track.sizes():
        sizes = ", ".join(map(str, track.sizes())) if track.hardware.kind == "cuda" else "none"
        raise UserError(f"--gpus {gpus}: runs of track {track.name} have {sizes}")
    rungs = tuple(rung.model_copy(update={"gpus": None}) for rung in track.rung)
    hardware = track.hardware.model_copy(update={"gpus": gpus})
    return track.model_copy(update={"hardware": hardware, "rung": rungs})

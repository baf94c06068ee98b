"""Whether a class of machine can run a track: a pure look at the class's name, as the runners write it."""

from agent.track import Track


def fits(track: Track, hardware_class: str) -> bool:
    kind, _, rest = hardware_class.partition("/")
    if track.hardware.kind == "cpu":
        return kind == "cpu"
    device, _, gpus = rest.rpartition("/")
    return kind == "cuda" and track.hardware.device in device and gpus == str(track.hardware.gpus)

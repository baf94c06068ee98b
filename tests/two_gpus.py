"""A machine with two GPUs that is one slot and two at once, and a track whose short runs take one of them."""

from agent.runners.fake import FakeRunner
from tests.e2e import world

TRACK = world.TRIALS.replace('kind = "cpu"', 'kind = "cuda"\ngpus = 2').replace(
    'name = "short"', 'name = "short"\ngpus = 1'
)
GPUS = {"lab/box/0": (0, 1), "lab/box/gpu-0": (0,), "lab/box/gpu-1": (1,)}


class Box(FakeRunner):
    """Two GPUs, as one slot and as two."""

    def __init__(self) -> None:
        super().__init__(1, 0.1)
        self.slots = tuple(GPUS)

    def gpus(self, slot: str) -> tuple[int, ...]:
        return GPUS[slot]

    def hardware_class(self, slot: str) -> str:
        return f"cuda/x/{len(GPUS[slot])}"

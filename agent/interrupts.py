"""What a person interrupts with: Ctrl-C, a SIGTERM, or a terminal that is closed, unless they said nohup."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(interrupt: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """`interrupt` is told which signal came; what was done with them before is done again afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

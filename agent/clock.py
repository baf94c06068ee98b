"""What time it is, waiting, and work beside the loop: real, or stepped where a campaign is rehearsed.

The loop asks nothing else for the time, so that with another `Clock` a night passes in seconds.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from agent.steps.background import in_background

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> float:
        """Seconds that only grow."""
        ...

    def rest(self, seconds: float, most: float) -> None:
        """Waits so long; up to `most` where it is known that nothing can happen before."""
        ...

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        """Starts the work; nobody waits for it."""
        ...


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def rest(self, seconds: float, most: float) -> None:
        time.sleep(seconds)

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        return in_background(name, work)


REAL: Clock = RealClock()

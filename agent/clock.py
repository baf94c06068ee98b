"""What time it is, waiting, and work beside the loop: real, or stepped where a campaign is rehearsed.

The loop asks nothing else for the time, so that with another `Clock` a night passes in seconds.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    def now(self) -> float:
        """Seconds that only grow."""
        ...

    def rest(self, seconds: float, most: float) -> None:
        """Waits so long; up to `most` where it is known that nothing can happen before."""
        ...

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        """Starts the work, which nobody waits for; what it raises comes with the answer."""
        ...


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    def rest(self, seconds: float, most: float) -> None:
        time.sleep(seconds)

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        """A pool's threads would be joined at the interpreter's exit, however long they take."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(work())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, name=name, daemon=True).start()
        return answer


REAL: Clock = RealClock()

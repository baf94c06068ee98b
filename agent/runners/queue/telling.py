"""What a worker tells: words for a person, and for a program what they are about."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agent.store.rows import now

What = Literal["note", "working", "waits", "began", "ended", "refused", "lost", "unreachable", "stopping"]


@dataclass(frozen=True)
class Told:
    what: What
    text: str
    run_id: int | None = None
    at: str = field(default_factory=now)


Tell = Callable[[Told], None]

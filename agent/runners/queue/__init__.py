"""Runs that workers anywhere take through the store: kind `workers` of `--runner`, and `agent work` on each machine.

`make` gives the runner of a controller; it needs no address of any worker, nor do workers need one of it.
"""

from typing import TYPE_CHECKING

from agent.fields import Table

if TYPE_CHECKING:
    from agent.runners.configured import Place
    from agent.runners.queue.runner import QueueRunner


class Settings(Table):
    ahead: int = 1
    """Runs of each hardware class that are laid out beyond what its workers can take at once, so that none waits."""


def make(name: str, settings: Settings, place: "Place") -> "QueueRunner":
    from agent.runners.queue.runner import QueueRunner
    from agent.store import where

    return QueueRunner(name, where.opened(place.workspace), place.track, settings.ahead, place.workspace)

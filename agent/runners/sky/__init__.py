"""Machines rented through SkyPilot, for the clouds that nothing else here reaches. Never run against one.

`settings` is what a person sets, `account` is the SDK with our records and errors, `clusters` makes a provider for
agent/machines/ of it, and `rental` says what agent/runners/rented/ needs to know of clusters.
"""

from typing import TYPE_CHECKING

from agent.runners.sky.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.rented.runner import RentingRunner
    from agent.runners.sky.rental import rental

    return RentingRunner(name, rental(name, settings, place.workspace), place.workspace, place.track, place.slots)

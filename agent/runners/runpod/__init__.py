"""Pods rented from RunPod.

`settings` is what a person sets, `client` a small client of the provider's REST interface, `pods` makes a provider for
agent/machines/ of it, and `rental` says what agent/runners/rented/ needs to know of pods.
"""

from typing import TYPE_CHECKING

from agent.runners.runpod.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.rented.runner import RentingRunner
    from agent.runners.runpod.rental import rental

    return RentingRunner(name, rental(name, settings, place.workspace), place.workspace, place.track, place.slots)

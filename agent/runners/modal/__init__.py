"""Sandboxes rented from Modal, through its official SDK.

`settings` is what a person sets, `account` is the SDK with our records and errors, `sandboxes` makes a provider for
agent/machines/ of it, `link` runs commands in a sandbox, and `rental` says what agent/runners/rented/ needs to know of
sandboxes.
"""

from typing import TYPE_CHECKING

from agent.runners.modal.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.modal.rental import rental
    from agent.runners.rented.runner import RentingRunner

    return RentingRunner(name, rental(name, settings, place.workspace), place.workspace, place.track, place.slots)

"""Sandboxes rented from Modal, through its official SDK.

`settings` is what a person sets, `account` is the SDK with our records and errors, `sandboxes` makes a provider for
agent/machines/ of it, `link` runs commands in a sandbox, and `runner` is that of RunPod's pods over such links.
"""

from typing import TYPE_CHECKING

from agent.runners.modal.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.modal.runner import ModalRunner

    return ModalRunner(name, settings, place.workspace, place.track, place.slots)

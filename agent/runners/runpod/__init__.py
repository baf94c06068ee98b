"""Pods rented from RunPod.

`settings` is what a person sets, `client` a small client of the provider's REST interface, `pods` makes a provider for
agent/machines/ of it, `deadman` ends a pod by itself, `keeper` has the pod of one slot, `runner` speaks the Runner
protocol, over ssh once a pod is there.
"""

from typing import TYPE_CHECKING

from agent.runners.runpod.settings import Settings

if TYPE_CHECKING:
    from agent.runners import Runner
    from agent.runners.configured import Place

__all__ = ["Settings", "make"]


def make(name: str, settings: Settings, place: "Place") -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.runpod.runner import RunpodRunner

    return RunpodRunner(name, settings, place.workspace, place.track, place.slots)

"""Runs on machines that are reached over ssh.

`hosts` says which machines there are, `link` keeps the connection to one, `depot` sends it what it lacks, `machine`
is one that is ready for jobs, `machines` are all of them, `errand` takes one job there and back, `mirror` is its folder
here, and `runner` speaks the Runner protocol. `far`, `attendant` and `start_scoring` run on the machine itself;
`answers` is what both sides know of each other.

Whoever rents machines uses `SshHost(name, address, port, user, key, ...)` as the provider gives them, a name that no
other machine ever has (its host key is pinned under it), and an `SshRunner` of its own: `machines.add(host)`,
`remove(name)`, and `machines.on(name, what)` for anything else that is to be done with one (agent/runners/rented/).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.runners.ssh.hosts import Settings, hosts_of
from agent.track import Track

if TYPE_CHECKING:
    from agent.runners import Runner

__all__ = ["Place", "Settings", "make"]


class Place(Protocol):
    """What a runner is made for."""

    @property
    def track(self) -> Track: ...

    @property
    def workspace(self) -> Path: ...


def make(name: str, settings: Settings, place: Place) -> "Runner":
    """The runner of a table of runners.toml."""
    from agent.runners.ssh.runner import SshRunner

    return SshRunner(hosts_of(name, settings), place.workspace, place.track)

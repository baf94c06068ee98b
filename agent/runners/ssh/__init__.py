"""Runs on machines that are reached over ssh.

`hosts` says which machines there are, `link` keeps the connection to one, `depot` sends it what it lacks, `machine`
is one that is ready for jobs, `errand` takes one job there and back, `mirror` is its folder here, and `runner` speaks
the Runner protocol. `far`, `attendant` and `judging` run on the machine itself.

Whoever rents machines uses `SshHost(name, address, port, user, key, ...)` as the provider gives them, a name that no
other machine ever has (its host key is pinned under it), and an `SshRunner` of its own, which it tells of
machines by `add(host)` and `fence(name)`, or `Machine` by itself: `ready`, `ask`, `send`, `lay`, `fetch`, `judge`,
all in the event loop of a `Thread`. A command on a host is `Link.run(*words)`, in that loop too.
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

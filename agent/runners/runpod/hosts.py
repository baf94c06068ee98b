"""Pods as machines over ssh: the runner of such machines, which come and go.

Takes `SshHost`s as pods come to be; beside the Runner protocol it says which are known, and
runs short commands on them.
"""

from typing import cast

from agent.runners.ssh.link import Done
from agent.runners.ssh.runner import SshRunner
from sandbox import Level

COMMAND_S = 90.0


class PodHosts(SshRunner):
    def known(self, name: str) -> bool:
        return name in self._machines

    def wrong(self, name: str) -> str:
        """Why a machine can't be used; empty where nothing is known against it."""
        return self._wrong.get(name, "")

    def command(self, name: str, *words: str) -> Done:
        """Raises InfraError where the machine does not answer."""
        return self._opened().wait(self._machines[name].link.run(*words), COMMAND_S)

    def level_of(self, slot: str) -> Level:
        """The walls of the machine of a slot."""
        facts = self._of(slot).facts
        assert facts is not None
        return cast(Level, facts.level)

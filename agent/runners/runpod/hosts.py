"""Pods as machines over ssh: the runner of such machines, which come and go.

Takes `SshHost`s as pods come to be; beside the Runner protocol it says which are known, and runs commands on them.
"""

from typing import cast

from agent.runners.ssh import depot
from agent.runners.ssh.link import Done
from agent.runners.ssh.runner import SshRunner
from sandbox import Level

COMMAND_S = 60.0
# Our code lies in a folder of its own there; nothing else of that machine is imported before it.
RUN = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"


class PodHosts(SshRunner):
    def known(self, name: str) -> bool:
        return name in self._machines

    def wrong(self, name: str) -> str:
        """Why a machine can't be used; empty where nothing is known against it."""
        return self._wrong.get(name, "")

    def level_of(self, slot: str) -> Level:
        """The walls of the machine of a slot."""
        facts = self._of(slot).facts
        assert facts is not None
        return cast(Level, facts.level)

    def command(self, name: str, *words: str) -> Done:
        """Raises InfraError where the machine does not answer."""
        link = self._machines[name].link
        return self._opened().wait(link.run(*words, within_s=COMMAND_S), 2 * COMMAND_S)

    def module(self, name: str, module: str, *words: str, within_s: float) -> Done:
        """A module of ours, run there. Raises InfraError where the machine does not answer."""
        machine = self._machines[name]

        async def run() -> Done:
            tree = await machine.lay(depot.own_code(judging=False), "copy")
            return await machine.link.run(machine.host.python, "-I", "-c", RUN, tree, module, *words, within_s=within_s)

        return self._opened().wait(run(), 2 * within_s)

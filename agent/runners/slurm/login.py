"""Commands on a cluster's login node, over the connection that runs over ssh use.

Takes who the node is; gives a `Shell`. Without a login node the commands run on this machine.
"""

from collections.abc import Sequence
from pathlib import Path

from agent.errors import InfraError
from agent.runners.slurm.settings import Login
from agent.runners.slurm.shell import MOST, USUAL_S, LocalShell, Said, Shell
from agent.workspace import hosts_folder


def shell_of(name: str, login: Login | None, workspace: Path) -> Shell:
    return LocalShell() if login is None else LoginShell(name, login, workspace)


class LoginShell:
    """One connection for all commands, made when the first is given, and again when it breaks."""

    def __init__(self, name: str, login: Login, workspace: Path) -> None:
        from agent.runners.ssh.hosts import SshHost
        from agent.runners.ssh.link import Link, Thread
        from agent.runners.ssh.pins import Pins

        key = Path(login.key).expanduser() if login.key else None
        host = SshHost(f"{name}/login", login.address, login.port, login.user, key)
        self._link = Link(host, Pins(hosts_folder(workspace)))
        self._thread = Thread(f"ssh {name}")

    def run(self, words: Sequence[str], stdin: bytes = b"", *, within_s: float = USUAL_S, most: int = MOST) -> Said:
        done = self._thread.wait(self._link.run(*words, stdin=stdin, within_s=within_s))
        if len(done.out) > most:
            raise InfraError(f"{words[0]} said more than {most:,} bytes")
        return Said(done.rc, done.out, done.err)

    def close(self) -> None:
        self._thread.close(self._link.close())

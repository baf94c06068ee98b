"""How git is run: with settings of its own, so that nothing of the person's acts on what a candidate wrote.

Takes arguments and bytes; gives bytes. No hook, filter, signature, pager, prompt, editor or fetch can start
from here, and a Ctrl-C in the terminal ends no git half-way. Of the launcher's GIT_ variables only the place of
git's own programs is kept. Filters by attributes can't be switched off in git 2.39, so only commands that never
apply them touch candidates: fast-import, cat-file, ls-tree, diff-tree. GitPython, which finds and reads the person's
repository elsewhere, starts git with the launcher's environment and settings, so it is not what writes here.
"""

import os
import re
from collections.abc import Collection
from errno import ENOSPC
from pathlib import Path
from subprocess import PIPE, Popen

from agent.errors import UserError

SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.quotePath": "false",
    "core.logAllRefUpdates": "true",
    "core.fsync": "committed,loose-object",
    "core.fsyncMethod": "batch",
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "UTF-8",
    "fastimport.unpackLimit": "100",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "protocol.allow": "never",
}
NAME, EMAIL = "Caddie", "caddie@localhost"


class GitFailed(UserError):
    """Git said no, in a way that its caller did not expect."""

    def __init__(self, args: Collection[str], rc: int, said: bytes) -> None:
        self.rc = rc
        words = " ".join(said.decode("utf-8", "replace").split())[-600:] or f"exit code {rc}"
        fix = ". Make room on the disk, then `agent resume`" if os.strerror(ENOSPC) in words else ""
        if _wanted_to_fetch(words):
            fix = ". The repository misses objects of its own, as a partial clone does: `git fetch --refetch`"
        super().__init__(f"git {' '.join(list(args)[:2])} failed: {words}{fix}")


class Commands:
    """Runs git on one checkout."""

    def __init__(self, root: Path, git_dir: Path, index: Path) -> None:
        self._root = root
        self._env = {
            **{name: value for name, value in os.environ.items() if _kept(name)},
            **_env(),
            "GIT_DIR": str(git_dir),
            "GIT_WORK_TREE": str(root),
            "GIT_INDEX_FILE": str(index),
        }

    def text(self, *args: str, stdin: bytes = b"", git_dir: Path | None = None) -> str:
        return self.raw(*args, stdin=stdin, git_dir=git_dir).decode("utf-8", "replace").strip()

    def raw(self, *args: str, stdin: bytes = b"", git_dir: Path | None = None, fine: Collection[int] = (0,)) -> bytes:
        """What git wrote to its output. Raises GitFailed for an exit code that is not `fine`."""
        env = {**self._env, "GIT_DIR": str(git_dir)} if git_dir else self._env
        command = ["git", "--no-pager", *args]
        process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=self._root, env=env, start_new_session=True)
        out, err = process.communicate(stdin)
        if process.returncode not in fine:
            raise GitFailed(args, process.returncode, err)
        return out


def _wanted_to_fetch(words: str) -> bool:
    """Whether git died of asking a remote, which it may or may not survive: its child can be gone before it wrote."""
    return re.search(r"transport '\S+' not allowed", words) is not None


def _kept(name: str) -> bool:
    return not name.startswith("GIT_") or name == "GIT_EXEC_PATH"


def _env() -> dict[str, str]:
    """Set on every process, over what the repository's configuration says."""
    env = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(SETTINGS)),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_EDITOR": "false",
        "GIT_ALLOW_PROTOCOL": "",  # none, whatever protocol.*.allow says: no missing object is fetched
        "LC_ALL": "C",
    }
    for n, (key, value) in enumerate(SETTINGS.items()):
        env[f"GIT_CONFIG_KEY_{n}"], env[f"GIT_CONFIG_VALUE_{n}"] = key, value
    for who in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{who}_NAME"], env[f"GIT_{who}_EMAIL"] = NAME, EMAIL
    return env

"""A detached worktree for one candidate: made, used and taken away without a look at anybody's files.

Takes a folder and a commit; gives the worktree's own git folder. What is removed is known to be ours by the
path that git noted in it, never by a name: the person may have worktrees too.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from agent.worktree.process import Commands


def add(commands: Commands, common: Path, folder: Path, commit: str) -> Path:
    """The git folder of a new worktree whose detached HEAD is `commit`; no file is checked out."""
    drop(common, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    commands.raw("worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder), commit)
    return Path(os.fsdecode((folder / ".git").read_bytes()).removeprefix("gitdir: ").rstrip("\n"))


def drop(common: Path, folder: Path) -> None:
    """Takes one worktree away, however far it came."""
    _forget(common, lambda place: place == folder.resolve())
    shutil.rmtree(folder, ignore_errors=True)


def sweep(common: Path, parent: Path) -> None:
    """Takes away every worktree in a folder of ours."""
    _forget(common, lambda place: place.parent == parent.resolve())
    shutil.rmtree(parent, ignore_errors=True)


def _forget(common: Path, ours: Callable[[Path], bool]) -> None:
    folder = common / "worktrees"
    if not folder.is_dir():
        return
    for git_dir in list(folder.iterdir()):
        try:
            place = Path(os.fsdecode((git_dir / "gitdir").read_bytes()).rstrip("\n")).parent
        except OSError:
            continue  # half made by somebody, or no worktree at all
        if ours(place):
            shutil.rmtree(git_dir, ignore_errors=True)

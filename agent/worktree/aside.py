"""A detached worktree for one candidate: made, used and taken away without a look at anybody's files.

Takes a folder and a commit; gives the worktree's own git folder. What is removed is known to be ours by the
path that is noted in it, never by a name: the person may have worktrees too.

Its few files are written here as gitrepository-layout(5) describes them: `git worktree add` starts three processes
for that, which every idea would pay.
"""

import os
import shutil
from collections.abc import Callable
from errno import EEXIST, ENOTEMPTY, EXDEV
from pathlib import Path

from agent.worktree.process import Commands


def add(commands: Commands, common: Path, folder: Path, commit: str) -> Path:
    """The git folder of a new worktree whose detached HEAD is `commit`; no file is checked out."""
    drop(common, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = None if (common / "reftable").exists() else _noted(common / "worktrees", folder, commit)
    if name is None:
        commands.raw("worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder), commit)
        return Path(os.fsdecode((folder / ".git").read_bytes()).removeprefix("gitdir: ").rstrip("\n"))
    git_dir = common / "worktrees" / name
    (folder / ".git").write_bytes(b"gitdir: " + os.fsencode(git_dir) + b"\n")
    return git_dir


def _noted(worktrees: Path, folder: Path, commit: str) -> str | None:
    """The name of a new git folder below `worktrees`, all of it or nothing; None: those are on another disk."""
    new = folder / ".new"
    new.mkdir(parents=True)
    (new / "gitdir").write_bytes(os.fsencode(folder.resolve() / ".git") + b"\n")
    (new / "commondir").write_text("../..\n")
    (new / "HEAD").write_text(f"{commit}\n")
    worktrees.mkdir(exist_ok=True)
    name, others = folder.name, 0
    while True:
        if not (worktrees / name).exists():
            try:
                new.rename(worktrees / name)
                return name
            except OSError as error:
                if error.errno == EXDEV:
                    shutil.rmtree(folder)
                    return None
                if error.errno not in (EEXIST, ENOTEMPTY):
                    raise
        others += 1  # the person has a worktree of this name, elsewhere
        name = f"{folder.name}-{others}"


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

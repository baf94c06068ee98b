"""Which repository a folder is in: asked of the person's own git, whose settings may say which ones are safe.

Takes a folder; gives the top of its checkout and its git folders, or an error that names the fix.
"""

import os
import shutil
from pathlib import Path

from git import Git
from git.exc import GitCommandError

from agent.errors import UserError
from agent.words import line


def find(where: Path) -> tuple[Path, Path, Path]:
    """Top of the checkout, its git folder, and the git folder it shares with other worktrees."""
    if shutil.which("git") is None:
        raise UserError("git is not installed; install it (apt-get install git) and try again")
    if not where.is_dir():
        raise UserError(f"there is no folder {where}")
    try:
        # The person's settings may say which repositories are safe.
        said = Git(str(where)).execute(
            [
                "git",
                "rev-parse",
                "--path-format=absolute",
                "--show-toplevel",
                "--git-dir",
                "--git-common-dir",
            ],
            stdout_as_string=False,
        )
    except GitCommandError as error:
        why = line(str(error.stderr), 500).removeprefix("stderr: ")
        if "dubious ownership" in why:
            raise UserError(f"git does not trust this repository: {why}") from error
        raise UserError(
            f"{where} is not inside a git working tree ({why}): run `git init` there and commit your script"
        ) from error
    assert isinstance(said, bytes)
    paths = [Path(os.fsdecode(path)) for path in said.split(b"\n")]
    if len(paths) != 3:
        raise UserError(f"{line(str(where), 500)}: there is a line break in its path; work in a folder without one")
    top, git_dir, common = paths
    return top, git_dir, common

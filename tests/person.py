"""A person's repository, and a photograph of all in it that must not change."""

import subprocess
from pathlib import Path

from agent.worktree import Repository, patch_id

SCRIPT = "import os\n\n" + "".join(f"line_{n} = {n}\n" for n in range(30))


def git(where: Path, *args: str, check: bool = True) -> str:
    command = ["git", "-c", "user.name=Person", "-c", "user.email=person@example.org", *args]
    return subprocess.run(command, cwd=where, check=check, capture_output=True, text=True).stdout


def make_repository(tmp_path: Path) -> Path:
    """A repository with odd characters in its path, an executable, a link, and edits in all states."""
    root = tmp_path / "my répo with spaces"
    (root / "sub").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text(SCRIPT)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "sub" / "notes.txt").write_text("mine\n")
    (root / "outside").symlink_to("/etc")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    return root


def make_dirty(root: Path) -> None:
    (root / "sub" / "notes.txt").write_text("stashed\n")
    git(root, "stash", "-q")
    (root / "train.py").write_text(SCRIPT + "# edited by hand\n")
    (root / "staged.txt").write_text("staged\n")
    git(root, "add", "staged.txt")
    (root / "untracked.txt").write_text("untracked\n")


def photograph(root: Path) -> dict[str, object]:
    """All of the person's that must not change."""
    ours = {".git", ".caddie", "runs.db", "runs.db-wal", "runs.db-shm"}
    files = [path for path in sorted(root.rglob("*")) if not ours & set(path.parts)]
    return {
        "index": (root / ".git" / "index").read_bytes(),
        "index time": (root / ".git" / "index").stat().st_mtime_ns,
        "head": (root / ".git" / "HEAD").read_bytes(),
        "log of head": (root / ".git" / "logs" / "HEAD").read_bytes(),
        "config": (root / ".git" / "config").read_bytes(),
        "hooks": {path.name: path.read_bytes() for path in (root / ".git" / "hooks").iterdir()},
        "branches": git(root, "for-each-ref", "refs/heads/main", "refs/stash", "refs/tags"),
        "stash": git(root, "stash", "list"),
        "status": git(root, "--no-optional-locks", "status", "--porcelain"),
        "files": {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in files},
    }


def everything(repo: Repository) -> str:
    """One of each thing that the loop does; gives a candidate."""
    head = repo.head()
    repo.exclude(["/runs.db*", "/.caddie/"])
    repo.sweep("night")
    repo.move_trunk("night", head, None)
    sha = repo.commit_candidate("night", 1, head, {"train.py": SCRIPT + "x = 1\n"}, "One\n")
    diff = repo.diff(head, sha)
    assert patch_id(diff)
    repo.export(sha, repo.root / ".caddie" / "out")
    repo.move_trunk("night", sha, head)
    back = repo.revert_commit(sha, head, "Revert\n")
    repo.move_trunk("night", back, sha)
    assert repo.files(back, ["train.py"]) == {"train.py": SCRIPT}
    repo.dirty(["train.py"])
    return sha

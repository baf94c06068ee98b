"""The command line as a person uses it: `agent ...` in a process of its own, and all that a folder holds."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commanding import Said
from tests.processes import left_over

REPO = Path(__file__).resolve().parents[2]
AGENT = (sys.executable, "-m", "agent.cli")
START = ("start", "--track", "agent.toml", "--planner", "scripted:.ideas.jsonl", "--review", "none", "--seed", "7")
ENV = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": "/tmp/mpl-of-tests"}

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small or read-only file system")


def agent(where: Path, *words: str, timeout_s: float = 90) -> Said:
    """One command, to its end."""
    ended = subprocess.run(
        [*AGENT, *words], cwd=where, env=ENV, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Said(ended.stdout, ended.stderr, ended.returncode)


def background(where: Path, *words: str) -> "subprocess.Popen[str]":
    """A command that goes on, in a process group of its own; its output is in <where>/../agent.out."""
    with (where.parent / "agent.out").open("w") as out:
        return subprocess.Popen(
            [*AGENT, *words], cwd=where, env=ENV, stdout=out, stderr=out, text=True, process_group=0
        )


def refused(ended: Said, code: int, *parts: str) -> str:
    """A clear error: its exit code, a few lines for a person, nothing of ours."""
    said = ended.err.strip()
    assert ended.code == code, ended
    for part in parts:
        assert part in said, f"{part!r} is not in {said!r}"
    assert said and len(said.splitlines()) <= 6, said
    assert "Traceback" not in ended.words and 'File "' not in ended.words, ended.words
    assert "fault of Caddie" not in said, said
    return said


def listing(root: Path) -> dict[str, str]:
    """Every file under a folder, .git included: what it is, its rights and its content."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        elif stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        found[str(path.relative_to(root))] = f"{stat.filemode(info.st_mode)} {content}"
    return found


def nothing_runs(root: Path) -> None:
    assert left_over(root) == []

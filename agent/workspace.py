"""Where things are in a workspace: beside runs.db one folder, and in it what every campaign and every machine has.

Takes the workspace's root; gives paths. Makes and reads nothing.
"""

from functools import cache
from pathlib import Path

FOLDER = ".caddie"


def own_folder(root: Path) -> Path:
    """All that Caddie keeps in a workspace but its database."""
    return root / FOLDER


def campaign_folder(root: Path, name: str) -> Path:
    return own_folder(root) / name


@cache
def jobs_folder(root: Path, name: str) -> Path:
    """Asked for at each look at each run: one path is made of another in a few microseconds."""
    return campaign_folder(root, name) / "jobs"


def job_folder(root: Path, name: str, run_id: int) -> Path:
    return jobs_folder(root, name) / f"r{run_id}"


def packed_folder(root: Path, name: str) -> Path:
    """Packed scripts, each named by the sha256 of its source."""
    return campaign_folder(root, name) / "packed"


def worktrees_folder(root: Path, name: str) -> Path:
    return campaign_folder(root, name) / "worktrees"


def corpora_folder(root: Path) -> Path:
    return own_folder(root) / "data"


def corpus_folder(root: Path, corpus: str) -> Path:
    """A prepared corpus: train/, val/, manifest.json."""
    return corpora_folder(root) / corpus


def hosts_folder(root: Path) -> Path:
    """The keys by which machines elsewhere were known when they were first met."""
    return own_folder(root) / "hosts"

"""Caddie itself and a candidate's code, as they are sent to where a run is: files by their path in a folder.

Takes folders here; gives paths. How they travel, by blobs, in one stream or through a store, is the runner's.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from agent import own_process

PACKAGES = ("agent", "sandbox", "trainer")
# What a training job needs of the judge: to be made out. All that scores comes when training is over.
JUDGES_RECORDS = ("__init__.py", "phase.py", "task.py", "texts.py")


@functools.cache
def own(*, judging: bool) -> Mapping[str, Path]:
    """As it runs here; for training without what judges."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path, file in below(own_process.ROOT / package).items():
            name = f"{package}/{path}"
            if "__pycache__" in name or file.suffix == ".gz":
                continue
            if judging or not name.startswith("agent/judge/") or name.removeprefix("agent/judge/") in JUDGES_RECORDS:
                found[name] = file
    return found


def below(folder: Path) -> dict[str, Path]:
    """The plain files under a folder; no link is followed."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path for path in found}

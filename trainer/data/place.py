"""Makes a corpus folder, or finds it made.

Takes a folder and what fills it; gives the `Manifest`. A corpus is written into a folder beside the target
and moved into place when it is whole, so what is there is complete or is not there. One maker at a time.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from agent.errors import MissingError, UserError
from trainer.data.manifest import ENTRIES, Damaged, File, Manifest, Part, load, sha_of, sha_over

Say = Callable[[str], None]


class Maker(Protocol):
    """Writes a corpus into an empty folder, its manifest included."""

    def __call__(self, folder: Path, say: Say) -> None: ...


def place(folder: Path, make: Maker, say: Say, *, remake: bool = False) -> Manifest:
    """The corpus in `folder`: as it is if it is intact, else made anew."""
    try:
        with _alone(folder):
            if not remake and (found := _intact(folder, say)):
                return found
            _refuse_foreign(folder)
            return _make(folder, make, say)
    except OSError as error:
        raise UserError(f"can't make the corpus in {folder}: {error}") from error


def _intact(folder: Path, say: Say) -> Manifest | None:
    try:
        return load(folder)
    except MissingError:
        return None
    except Damaged as damage:
        say(f"{damage}; making the corpus anew")
        return None


def _refuse_foreign(folder: Path) -> None:
    """A folder that holds anything but a corpus may be a person's: it is left alone."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if strange := sorted(names - ENTRIES)[:3]:
        raise UserError(f"{folder} holds other files ({', '.join(strange)}): give another place with --out")


def _make(folder: Path, make: Maker, say: Say) -> Manifest:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as name:
        fresh = Path(name) / "fresh"
        fresh.mkdir()
        make(fresh, say)
        manifest = load(fresh)
        if folder.exists():
            folder.rename(Path(name) / "old")
        fresh.rename(folder)
    return manifest


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One maker at a time; what a killed one left behind is swept away."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder: give another place with --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.parent.glob(f".{folder.name}.*.part"):
            shutil.rmtree(left)
        yield


T = TypeVar("T")


def place_in_parts(folder: Path, fetch: Callable[[], T]) -> T:
    """What comes file by file into a corpus folder, and keeps what has come if it is stopped."""
    try:
        with _alone(folder):
            _refuse_foreign(folder)
            folder.mkdir(exist_ok=True)
            return fetch()
    except OSError as error:
        raise UserError(f"can't put the corpus into {folder}: {error}") from error


def write_texts(
    folder: Path, part: str, texts: list[str], *, more: tuple[File, ...] = (), name: str = "docs.jsonl"
) -> Part:
    """Documents as `<part>/<name>`; `more` files belong to the same part."""
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    files = (_write(folder, f"{part}/{name}", lines), *more)
    return Part(files, len(texts), sum(len(text.encode()) for text in texts), sha_over(files))


def write_seed(folder: Path, seed: int) -> File:
    return _write(folder, "val/seed.json", json.dumps({"seed": seed}) + "\n")


def _write(folder: Path, name: str, content: str) -> File:
    """A file of a corpus, on the disk for good."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(content.encode())
        file.flush()
        os.fsync(file.fileno())
    return File(name, path.stat().st_size, sha_of(path))

"""Makes a corpus folder, or finds it made.

Takes a folder and what fills it; gives the `Manifest`. A corpus is written into a folder beside the target and
moved into place when it is whole, so what is there is complete or is not there. One maker at a time.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from agent.errors import MissingError, UserError
from trainer.data import docs
from trainer.data.manifest import (
    ENTRIES,
    Corpus,
    Damaged,
    File,
    Manifest,
    Part,
    data_sha,
    load,
    sha_of,
    sha_over,
    write,
)

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
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder: give another place with --out")
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.parent.glob(f".{folder.name}.*.part"):
            shutil.rmtree(left)
        yield


def write_texts(folder: Path, part: str, texts: list[str]) -> Part:
    """Documents as `<part>/docs.jsonl`, on the disk for good."""
    path = folder / part / "docs.jsonl"
    path.parent.mkdir()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    entry = File(path.relative_to(folder).as_posix(), path.stat().st_size, sha_of(path))
    size = sum(len(text.encode()) for text in texts)
    return Part((entry,), len(texts), size, sha_over((entry,)))


def write_corpus(
    folder: Path,
    corpus: Corpus,
    texts: docs.Texts,
    *,
    floor_bits: float | None = None,
    extra: tuple[File, ...] = (),
) -> None:
    train, val = write_texts(folder, "train", texts.train), write_texts(folder, "val", texts.val)
    sha = data_sha(corpus, train, val, floor_bits)
    write(Manifest(corpus, texts.versions, train, val, sha, floor_bits, extra=extra), folder)


def make_docs(folder: Path, say: Say) -> None:
    write_corpus(folder, "docs", docs.build(say))

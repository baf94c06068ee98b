"""What is in a commit: entries, blobs and whole trees, read as they are stored.

Takes full commit names and paths; gives texts and plain files. No filter, no conversion of line ends and no
attribute has a say, because nothing but `ls-tree` and `cat-file` is asked.
"""

import os
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from agent.errors import UserError
from agent.tables import MAX_FILE
from agent.worktree.process import Commands

PLAIN = ("100644", "100755")
_AT_ONCE = 32_000_000  # bytes of blobs that are held in memory
_MOST_MADE = 32  # commits of this process that are remembered


class Entry(NamedTuple):
    mode: str
    sha: str
    size: int
    path: str


class Made(NamedTuple):
    """A commit that was made here: what it changes of one that git knew before. Nothing of it need be read again."""

    base: str
    changed: Mapping[str, tuple[str, bytes]]
    """Mode and content by path; each path is in the base too."""


class Objects:
    """Reads commits. They never change, so what was read is kept."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._kept = lru_cache(maxsize=64)(self._read)
        self.entry = lru_cache(maxsize=1024)(self._entry)
        self._listed = lru_cache(maxsize=2)(self._list)
        self._made: OrderedDict[str, Made] = OrderedDict()

    def remember(self, commit: str, parent: str, files: Mapping[str, tuple[str, bytes]]) -> None:
        """What a commit holds that was just made of these files on its parent."""
        made = self._made.get(parent, Made(parent, {}))
        if all(path in made.changed or self.entry(parent, path) is not None for path in files):
            self._made[commit] = Made(made.base, {**made.changed, **files})
        while len(self._made) > _MOST_MADE:
            self._made.popitem(last=False)

    def text(self, commit: str, path: str) -> str:
        """One file of a commit, as UTF-8 text."""
        made = self._made.get(commit)
        if made is not None and path in made.changed:
            _, content = made.changed[path]
            return _text(path, len(content), lambda: content)
        entry = self.entry(commit, path)
        if entry is None:
            raise UserError(f"{path} is not in commit {commit[:10]}; commit it first")
        if entry.mode not in PLAIN:
            raise UserError(f"{path} is not a plain file in commit {commit[:10]}")
        return _text(path, entry.size, lambda: self._kept(entry.sha))

    def blob(self, commit: str, path: str) -> bytes | None:
        entry = self.entry(commit, path)
        return self._kept(entry.sha) if entry and entry.mode in PLAIN else None

    def export(self, commit: str, into: Path) -> None:
        """Writes the plain files of a commit; links and submodules stay out."""
        into.mkdir(parents=True, exist_ok=True)
        made = self._made.get(commit, Made(commit, {}))
        for some in _portions(entry for entry in self._listed(made.base) if entry.path not in made.changed):
            for entry, data in zip(some, self._blobs([entry.sha for entry in some]), strict=True):
                _write(into / safe(entry.path), data, entry.mode)
        for path, (mode, data) in made.changed.items():
            _write(into / safe(path), data, mode)

    def _list(self, commit: str) -> tuple[Entry, ...]:
        listed = self._commands.raw("ls-tree", "-r", "-z", "--long", "--full-tree", commit)
        return tuple(entry for entry in _entries(listed) if entry.mode in PLAIN)

    def _entry(self, commit: str, path: str) -> Entry | None:
        listed = self._commands.raw("ls-tree", "-z", "--long", "--full-tree", commit, "--", path)
        return next((entry for entry in _entries(listed) if entry.path == path), None)

    def _read(self, sha: str) -> bytes:
        return next(self._blobs([sha]))

    def _blobs(self, shas: list[str]) -> Iterator[bytes]:
        out = self._commands.raw("cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode())
        at = 0
        for sha in shas:
            end = out.index(b"\n", at)
            if out[at:end].endswith(b" missing"):
                raise UserError(f"the repository misses object {sha[:10]} of its own: `git fsck` says more")
            size = int(out[at:end].split(b" ")[2])
            yield out[end + 1 : end + 1 + size]
            at = end + size + 2


def text_on_disk(root: Path, path: str) -> str:
    """One file as it lies in the checkout, as UTF-8 text."""
    relative = safe(path)
    file = root / relative
    # A folder on the way that is a link may lead out of the repository; git does not look behind one either.
    if any((root / part).is_symlink() for part in (relative, *relative.parents)[:-1]) or not file.is_file():
        raise UserError(f"{path} is not a plain file in {root}")
    try:
        return _text(path, file.stat().st_size, file.read_bytes)
    except OSError as error:
        raise UserError(f"can't read {path}: {error}") from error


def _text(path: str, size: int, read: Callable[[], bytes]) -> str:
    if size > MAX_FILE:
        raise UserError(f"{path} has {size:,} bytes; at most {MAX_FILE:,} can be edited")
    try:
        return read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error


def safe(path: str) -> PurePosixPath:
    """The path, if it can't lead out of its folder or into git's own."""
    found = PurePosixPath(path)
    odd = found.is_absolute() or not found.parts or "\n" in path or "\0" in path
    if odd or any(part in ("..", ".") or _gits_own(part) for part in path.split("/")):
        raise UserError(f"{path!r} is not a path inside the repository")
    return found


def _gits_own(part: str) -> bool:
    """Whether some file system takes the name for git's folder: without its case, what is not seen, what is cut off."""
    seen = "".join(char for char in part if unicodedata.category(char) != "Cf")
    return seen.split(":")[0].rstrip(". ").lower() in (".git", "git~1")


def _entries(listed: bytes) -> Iterator[Entry]:
    for line in listed.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, _, sha, size = meta.decode("ascii").split()
            yield Entry(mode, sha, int(size) if size.isdigit() else 0, os.fsdecode(path))


def _portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    for entry in entries:
        if some and sum(one.size for one in some) + entry.size > _AT_ONCE:
            yield some
            some = []
        some.append(entry)
    if some:
        yield some


def _write(path: Path, data: bytes, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o755 if mode == "100755" else 0o644), "wb") as file:
        file.write(data)

"""Files of the host that the probe must not read, change or leave marks on, and what became of them.

Takes a folder; gives `Canaries`, and afterwards which attempts on files the host saw succeed.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import probe
from sandbox.probe.calls import FileHandle, call
from sandbox.probe.inodes import NO_HINT, VERSION, file_version, forget_extents, set_hint
from sandbox.probe.leftovers import FILES, MARKED
from sandbox.probe.page_cache import CACHE, FEW, MANY, RETURN, by_mincore, hold
from sandbox.probe.spec import digest

HELD = {  # kind -> where, under the root
    "secret": "person/secret.txt",
    "validation": "person/data/validation.bin",
    "ssh_key": "home/.ssh/id_rsa",
    "store": "person/runs.db",
    "other_run": "person/runs/other/out",
    "judge": "person/judge/blind.py",
}
ROOT_ONLY = "shared/root_only"
CHANGED = ("hard_link_shared", "chmod_shared", "chown_shared", "utimes_shared", "setxattr_shared", "version_shared")
WRITTEN = {"write_tmp": "/tmp", "write_var_tmp": "/var/tmp", "write_dev_shm": "/dev/shm"}
LOCKED = "see_lock"
DAY_S = 86_400
DROP_TRIES = 20  # on a file system in memory none works


@dataclass(frozen=True)
class Canaries:
    root: Path
    word: str  # what the probe writes, so that we know it again
    secrets: dict[str, str]  # kind -> path
    digests: dict[str, str]
    marked: dict[str, list[str]]  # side channel -> eight files

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def candidate(self) -> Path:
        return self.root / "candidate"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def home(self) -> Path:
        return self.root / "home"


def plant(root: Path, word: str) -> Canaries:
    """All of them. Whoever runs as another user may still read what is not the person's key."""
    root.chmod(0o755)
    held = HELD | ({"root_only": ROOT_ONLY} if os.getuid() == 0 else {})
    canaries = Canaries(
        root=root,
        word=word,
        secrets={kind: str(root / path) for kind, path in held.items()},
        digests={kind: _hide(root / path) for kind, path in held.items()},
        marked={channel: _eight(root / "shared", channel) for channel in MARKED},
    )
    for kind in {"ssh_key", "root_only"} & set(held):
        Path(canaries.secrets[kind]).chmod(0o600)
    for name in (*CHANGED, "watch_shared", LOCKED):
        (canaries.shared / name).touch()
    canaries.outside.mkdir()
    canaries.outside.chmod(0o777)
    reader = shutil.which("cat")
    if reader is not None and os.getuid() == 0:
        shutil.copy(reader, canaries.shared / "setuid_program")
        (canaries.shared / "setuid_program").chmod(0o4755)
    shutil.copytree(
        Path(probe.__file__).parent, canaries.candidate / "probe", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (canaries.candidate, *canaries.candidate.rglob("*")):  # our own code may be ours alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    return canaries


def _hide(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = secrets.token_bytes(64)
    path.write_bytes(content)
    path.chmod(0o644)
    return digest(content)


def _eight(folder: Path, channel: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{channel}-{bit}" for bit in range(8)]
    for path in paths:
        path.write_bytes(secrets.token_bytes((MANY if channel == RETURN else FEW) * resource.getpagesize()))
        path.chmod(0o644)
    return [str(path) for path in paths]


def handle_of(path: str) -> tuple[int, str]:
    """What open_by_handle_at takes for it: type, hex; nothing where the file system has no handles."""
    handle = FileHandle(128)
    try:
        call("name_to_handle_at", -100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(ctypes.c_int()), 0)
    except OSError:
        return 0, ""
    return handle.kind, bytes(handle.handle[: handle.bytes]).hex()


def smooth(canaries: Canaries) -> None:
    """Bring the files of the side channels to a state that says nothing: all in the page cache or none, all long
    unread."""
    for channel, paths in canaries.marked.items():
        for path in paths:
            _drop(path)
            if channel in CACHE and CACHE[channel].starts_cached:
                Path(path).read_bytes()
            elif channel == RETURN:
                hold(path)
            info = Path(path).stat()
            os.utime(path, (info.st_mtime - 3 * DAY_S, info.st_mtime - DAY_S))
            if channel == "extents":
                forget_extents(path)
            elif channel == "write_hint":
                with contextlib.suppress(OSError):  # not every kernel knows of hints
                    set_hint(path, NO_HINT)


def _drop(path: str) -> None:
    """Out of the page cache; a page that somebody holds for a moment takes another try."""
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())
        for _ in range(DROP_TRIES):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not by_mincore(path):
                break
            time.sleep(0.01)


@contextlib.contextmanager
def locked(canaries: Canaries) -> Iterator[None]:
    """One of the shared files, in both ways."""
    with (canaries.shared / LOCKED).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def seen_in_files(canaries: Canaries) -> dict[str, bool]:
    """Which attempts left their mark on the host."""
    word, shared = canaries.word, canaries.shared
    seen = {name: Path(folder, f"{word}-{name}").exists() for name, folder in WRITTEN.items()}
    changed = {name: (shared / name).stat() for name in CHANGED}
    return seen | {
        "hard_link_secret": Path(canaries.secrets["secret"]).stat().st_nlink > 1,
        "hard_link_shared": word in (shared / "hard_link_shared").read_text(),
        "write_outside": (canaries.outside / "write_outside").exists(),
        "write_code": (canaries.candidate / "write_code").exists(),
        "chmod_shared": changed["chmod_shared"].st_mode & 0o777 == 0o640,
        "chown_shared": changed["chown_shared"].st_uid == 54321,
        "utimes_shared": changed["utimes_shared"].st_mtime == 54321,
        "setxattr_shared": _has_attribute(shared / "setxattr_shared"),
        "version_shared": file_version(str(shared / "version_shared")) == VERSION,
    }


def _has_attribute(path: Path) -> bool:
    try:
        return "user.probe" in os.listxattr(path)
    except OSError:
        return False


def tidy(word: str) -> None:
    """Remove what the probe may have left outside the folder."""
    for folder in {*WRITTEN.values(), *FILES.values()}:
        for path in Path(folder).glob(f"{word}-*"):
            path.unlink(missing_ok=True)

"""What every run may read: the system's libraries, and Python with the packages that a track allows.

Takes names of distributions; gives paths, and the folders under them that stay hidden. Packages are listed one by one,
because a corpus may have its validation text from others that are installed beside them.
"""

import functools
import importlib.metadata
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

# Programs and libraries; a compiler and its headers, which `torch.compile` calls; CUDA's own.
SYSTEM = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/include",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/include",
    "/usr/local/cuda*",
    "/usr/share/zoneinfo",
    "/lib*",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/opt/cuda*",
    "/sys/devices/system/cpu",
)
# The same on macOS, where nobody has tried it: frameworks, Apple's compiler, and what Homebrew installs.
MACOS = (
    "/System/Library",
    "/System/Volumes/Preboot/Cryptexes",
    "/Library/Frameworks",
    "/Library/Developer/CommandLineTools",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
    "/usr/share/zoneinfo.default",
    *(f"{prefix}/{folder}" for prefix in ("/opt/homebrew", "/usr/local") for folder in ("opt", "Cellar", "Frameworks")),
    *(f"/opt/homebrew/{folder}" for folder in ("bin", "lib", "include")),
)
# Python packages of the system.
SYSTEM_PACKAGES = (
    *(f"{prefix}/lib*/python*/*-packages" for prefix in ("/usr", "/usr/local", "/opt/homebrew")),
    "/usr/lib*/pypy*/*-packages",
)
# Of a Python elsewhere, and of conda's compilers and libraries. All of its folder may be much more: a person's home,
# other environments, settings with tokens for an index of packages.
BASE = (
    "bin",
    "include",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "ssl",
    "compiler_compat",
    "*-linux-gnu",
    "nvvm",
    "targets",
    "share/zoneinfo",
)
BASE_PACKAGES = "lib*/python*/*-packages"


class Seen(NamedTuple):
    """As in a policy."""

    programs: tuple[str, ...]
    hidden: tuple[str, ...]
    packages: tuple[str, ...]


@functools.cache
def seen(packages: tuple[str, ...] | None) -> Seen:
    """For a script that imports `packages` and what they need; None: whatever is installed."""
    system = (*SYSTEM, *MACOS) if sys.platform == "darwin" else SYSTEM
    read = [path for pattern in system for path in _matching("/", pattern)]
    hidden = [path for pattern in SYSTEM_PACKAGES for path in _matching("/", pattern)]
    base = Path(sys.base_prefix)
    if base not in (Path("/usr"), Path("/usr/local")):
        read += [path for pattern in BASE for path in _matching(str(base), pattern)]
        hidden += _matching(str(base), BASE_PACKAGES)
    read += [sys.executable, str(Path(sys.prefix) / "pyvenv.cfg"), sysconfig.get_path("stdlib")]
    places = _places()
    hidden += places
    read += places if packages is None else _entries(packages, places)
    return Seen(
        tuple(sorted({path for path in read if Path(path).exists()})),
        tuple(sorted({path for path in hidden if Path(path).is_dir()})),
        () if packages is None else tuple(places),
    )


def _matching(folder: str, pattern: str) -> list[str]:
    return [str(path) for path in Path(folder).glob(pattern.removeprefix("/"))]


def _places() -> list[str]:
    """Where packages are installed; a virtual environment may look into its base's place, too."""
    more = [place for place in site.getsitepackages() if place in sys.path]
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *more})


def _entries(packages: Iterable[str], places: Iterable[str]) -> list[str]:
    """The files and folders of the packages and of all that they need, as they lie in the places."""
    found = []
    for name in _with_all_they_need(packages):
        for place in places:
            found += [str(Path(place) / entry) for entry in _top(name) if (Path(place) / entry).exists()]
    return found


def _with_all_they_need(packages: Iterable[str]) -> list[str]:
    wanted = [Requirement(name) for name in packages]
    done: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key not in done:
                done.add(key)
                wanted += _needs(*key)
    return sorted({name for name, _ in done})


def _needs(name: str, extra: str) -> list[Requirement]:
    try:
        lines = importlib.metadata.distribution(name).requires or []
    except importlib.metadata.PackageNotFoundError:
        return []  # of another system, or optional
    found: list[Requirement] = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found.append(requirement)
    return found


def _top(name: str) -> set[str]:
    """First parts of the paths that a distribution installed. Reading its whole list of files takes far longer."""
    try:
        record = importlib.metadata.distribution(name).read_text("RECORD") or ""
    except importlib.metadata.PackageNotFoundError:
        return set()
    parts = {line.split(",", 1)[0].split("/", 1)[0].strip('"') for line in record.splitlines()}
    return {part for part in parts if part not in ("", ".", "..", "__pycache__") and not part.endswith(".pth")}

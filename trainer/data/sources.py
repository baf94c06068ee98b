"""Where documentation text comes from: the Python files of the standard library and of installed packages.

Takes names of packages; gives their versions and files. Nothing is imported, so nothing of theirs is run.
"""

import importlib.metadata
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from agent.errors import MissingError

# Mounted in a candidate's sandbox, or of no use there: text of these is for training only.
TRAINING_ONLY = ("torch", "numpy", "sympy", "networkx")
# Never mounted in a candidate's sandbox: validation documents come from these, and from these alone.
VALIDATED = ("scipy", "matplotlib", "sqlalchemy", "optuna")
STANDARD_LIBRARY = "python"
# Tests and copies of other projects say little in prose, and some distributions leave them out.
SKIPPED = frozenset(
    {"test", "tests", "idle_test", "_vendor", "site-packages", "dist-packages", "__pycache__", "ensurepip"}
)


@dataclass(frozen=True)
class Package:
    """One source of text."""

    name: str
    version: str
    root: Path


@dataclass(frozen=True)
class Module:
    """One Python file of a package."""

    package: str
    path: str
    """From the package's folder, with forward slashes."""
    file: Path

    def name(self) -> str:
        return f"{self.package}/{self.path}"


def find_packages() -> list[Package]:
    """Every source, or MissingError that names all that are not installed."""
    packages = [Package(STANDARD_LIBRARY, platform.python_version(), Path(sysconfig.get_path("stdlib")))]
    missing = []
    for name in (*TRAINING_ONLY, *VALIDATED):
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        root = Path(str(distribution.locate_file(name)))
        if not root.is_dir():
            missing.append(name)
        packages.append(Package(name, distribution.version, root))
    if missing:
        names = " ".join(missing)
        raise MissingError(
            f"the docs corpus is made from packages that are not installed: {', '.join(missing)}. "
            f"Install them with `{sys.executable} -m pip install {names}`."
        )
    return packages


def installed_versions() -> dict[str, str]:
    """Versions of those sources that are installed."""
    versions = {STANDARD_LIBRARY: platform.python_version()}
    for name in (*TRAINING_ONLY, *VALIDATED):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def find_modules(package: Package) -> list[Module]:
    """The package's Python files that can be read, sorted by their path inside the package."""
    found = []
    for file in package.root.rglob("*.py"):
        inside = file.relative_to(package.root)
        if not SKIPPED.intersection(inside.parts) and file.is_file() and os.access(file, os.R_OK):
            found.append(Module(package.name, inside.as_posix(), file))
    return sorted(found, key=Module.name)

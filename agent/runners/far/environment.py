"""The packages that runs on a far machine have: those of a lock file, from wheels that lie here, so that a machine
without the internet, or with another Python, gets what the others have.

Takes a lock file, a folder of wheels and what the machine's Python is; gives a `Kit`: the wheels that fit there, and a
lock that names each by its sha256. The environment is named by that lock, so it is made once.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import InvalidMarker, Marker
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from agent.errors import UserError

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;]+)\s*(?:;(.*))?")
_HASH = re.compile(r"\s--hash=(\S+)")
MOST_LOCK = 1_000_000


@dataclass(frozen=True)
class Environment:
    """What a person names."""

    lock: Path
    wheels: Path


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    name: str
    version: str
    marker: str = ""
    hashes: frozenset[str] = frozenset()
    """Of the files that may be it, "sha256:..."; empty: any."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class There:
    """The Python of a machine."""

    python: tuple[int, int]
    machine: str  # such as x86_64


@dataclass(frozen=True)
class Kit:
    """What one machine needs."""

    lock: str
    wheels: Mapping[str, Path]
    """By the names of their files, which say what they are."""
    shas: Mapping[str, str]

    @property
    def name(self) -> str:
        return hashlib.sha256(self.lock.encode()).hexdigest()

    def blobs(self) -> dict[str, Path]:
        return {self.shas[name]: path for name, path in self.wheels.items()}


def pins(lock: Path) -> tuple[Pin, ...]:
    """The packages of a lock file as pip, pip-tools and uv write it. Raises UserError for a line that pins nothing."""
    try:
        text = lock.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the lock file {lock} can't be read: {error}") from error
    if len(text) > MOST_LOCK:
        raise UserError(f"{lock} has {len(text):,} characters: that is no lock file")
    return tuple(_pin(line, lock) for line in _lines(text))


def kit(environment: Environment, there: There) -> Kit:
    """Raises UserError where a wheel is not here that the machine needs."""
    wanted = [pin for pin in pins(environment.lock) if applies(pin, there)]
    here = _wheels(environment.wheels)
    found: dict[str, Path] = {}
    lacking: list[str] = []
    shas: dict[str, str] = {}
    lines: list[str] = []
    for pin in wanted:
        path = next((path for path in here.get((pin.name, pin.version), ()) if _fits(path, there)), None)
        if path is None:
            lacking.append(str(pin))
            continue
        found[path.name], shas[path.name] = path, _sha(path)
        if pin.hashes and f"sha256:{shas[path.name]}" not in pin.hashes:
            raise UserError(f"{path} is not a file that {environment.lock} names: its sha256 is another. Load it anew")
        lines.append(f"{pin} --hash=sha256:{shas[path.name]}")
    if lacking:
        version = ".".join(map(str, there.python))
        raise UserError(
            f"{environment.wheels} has no wheel of {', '.join(lacking)} for Python {version} on {there.machine}. Where "
            f"there is an index: pip download --only-binary=:all: --python-version {version} -r {environment.lock} "
            f"-d {environment.wheels}"
        )
    header = f"# Python {'.'.join(map(str, there.python))} on {there.machine}"
    return Kit("\n".join([header, *lines, ""]), found, shas)


def applies(pin: Pin, there: There) -> bool:
    """Whether the machine needs it at all, by its marker."""
    if not pin.marker:
        return True
    version = ".".join(map(str, there.python))
    known = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": there.machine}
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
    return Marker(pin.marker).evaluate({**known, **linux})


def _lines(text: str) -> Iterator[str]:
    """Whole ones: a backslash goes on in the next."""
    for line in text.replace("\\\n", " ").splitlines():
        bare = line.split(" #", 1)[0].strip()
        if bare and not bare.startswith("#"):
            yield bare


def _pin(line: str, lock: Path) -> Pin:
    hashes = frozenset(_HASH.findall(line))
    found = _PIN.fullmatch(_HASH.sub("", line).strip())
    try:
        if found is None:
            raise ValueError("it is not NAME==VERSION")
        marker = (found[3] or "").strip()
        if marker:
            Marker(marker)
        return Pin(canonicalize_name(found[1]), str(Version(found[2])), marker, hashes)
    except (ValueError, InvalidVersion, InvalidMarker) as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{lock}: {line[:100]!r} pins no package: {why}. Make the file with `uv pip compile --generate-hashes`, "
            "`pip-compile --generate-hashes` or `pip freeze`, without options of an index"
        ) from error


def _wheels(folder: Path) -> dict[tuple[str, str], list[Path]]:
    """By name and version; what is none, is left alone."""
    found: dict[tuple[str, str], list[Path]] = {}
    if not folder.is_dir():
        raise UserError(f"there is no folder of wheels {folder}: name another one as `wheels` in runners.toml")
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        found.setdefault((name, str(version)), []).append(path)
    return found


def _fits(path: Path, there: There) -> bool:
    """By its name. What else could be wrong with it, pip says there."""
    major, minor = there.python
    exact = f"cp{major}{minor}"
    for tag in parse_wheel_filename(path.name)[3]:
        digits = tag.interpreter[2:]
        stable = tag.abi == "abi3" and digits[:1] == str(major) and digits[1:].isdigit() and int(digits[1:]) <= minor
        python = tag.interpreter in (f"py{major}", f"py{major}{minor}", exact) or stable
        system = tag.platform == "any" or (tag.platform.startswith(("manylinux", "musllinux", "linux")))
        if python and system and (tag.platform == "any" or tag.platform.endswith(there.machine)):
            return True
    return False


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named(wanted: Sequence[Pin], there: There) -> list[str]:
    """What the machine is asked for."""
    return [str(pin) for pin in wanted if applies(pin, there)]

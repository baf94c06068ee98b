"""What this machine has and lacks: software, cores, memory, disk, walls, data, tracks.

Takes the workspace; gives `Check`s. Starts nothing heavy and changes nothing.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from agent import hardware, track
from agent.errors import CaddieError, StoreError
from agent.report.tracks import known
from agent.store import where
from agent.store.mounts import network_file_system_of
from agent.words import line, size
from agent.workspace import corpus_folder, own_folder
from sandbox.names import FORGETTING, MAY_OUTLIVE, TRACELESS
from sandbox.policy import Level, Policy, reaches
from sandbox.proving import ProbeError
from sandbox.seen import seen
from sandbox.table import tried
from sandbox.walls import HELP, Stack, in_force, stack, strongest, why_not

State = Literal["good", "note", "bad"]
NEEDED = ("torch", "numpy", "sentencepiece", "brotli", "zstandard", "sqlalchemy", "optuna", "matplotlib")
STRONG: Level = "namespaces"
DISK_FREE = 2e9


@dataclass(frozen=True)
class Check:
    what: str
    state: State
    words: str


def examine(root: Path, *, probe: bool = False) -> list[Check]:
    """`probe`: whether the walls are tried, which takes some seconds."""
    return [
        _python(),
        *_packages(),
        _git(root),
        _machine(),
        _disk(root),
        *_store(root),
        *_rented(root),
        *_walls(root, probe),
        *_data(root),
        *_tracks(root),
    ]


def words(checks: list[Check]) -> str:
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    wide = max(len(check.what) for check in checks)
    return "\n".join(f"{signs[check.state]}  {check.what:<{wide}}  {check.words}" for check in checks)


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()}, {sys.executable}"
    return Check("python", "good" if good else "bad", found if good else f"{found}; 3.11 or later is needed")


def _packages() -> list[Check]:
    found, lacking = [], []
    for name in NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lacking.append(name)
    checks = [Check("packages", "good", ", ".join(found))]
    if lacking:
        checks.append(Check("packages", "bad", f"missing: {', '.join(lacking)}. Install with: pip install -e ."))
    return checks


def _git(root: Path) -> Check:
    if shutil.which("git") is None:
        return Check("git", "bad", "not installed: apt-get install git")
    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return Check("git", "bad", "`git --version` gives no answer")
    version = line(said.stdout, 60).removeprefix("git version ")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if numbers < [2, 31]:
        return Check("git", "bad", f"{version}; 2.31 or later is needed")
    if not (root / ".git").exists():
        return Check("git", "note", f"{version}; {root} is no repository: `git init` and commit your script")
    return Check("git", "good", version)


def _machine() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    listed = hardware.listed()
    silent = "nvidia-smi does not answer: run it by hand to see why"
    gpus = silent if listed is None else ", ".join(gpu.name for gpu in listed) or "no NVIDIA GPU"
    found = f"{cores} cores, {size(memory.available)} of {size(memory.total)} memory free, {gpus}"
    return Check("machine", "good" if memory.available > 2e9 and listed is not None else "note", found)


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    if free < DISK_FREE:
        return Check(
            "disk", "bad", f"{size(free)} free at {root}: `agent prune --keep-gb 0` frees some, or choose another disk"
        )
    return Check("disk", "good", f"{size(free)} free at {root}")


def _store(root: Path) -> list[Check]:
    path = root / "runs.db"
    if (url := where.server()) is None:
        name = network_file_system_of(path)
        if name is not None:
            return [Check("runs.db", "bad", f"{path} would be on {name}, where SQLite's locks can't be trusted")]
        if not os.path.lexists(path):
            return [Check("runs.db", "good", f"none yet; its place ({root}) is on a local file system")]
    from agent import budget

    try:
        store = where.opened(root)
        try:
            store.check()
            with store.read() as reads:
                campaigns = reads.campaigns()
                wrong = [f"{one.name}: {fault}" for one in campaigns for fault in budget.audit(reads, one.id)]
        finally:
            store.close()
    except StoreError as error:
        return [Check("runs.db", "bad", line(str(error), 300))]
    if wrong:
        return [Check("runs.db", "bad", line(f"its ledger does not add up: {'; '.join(wrong)}", 300))]
    what = f"on a server ({store.where})" if url else f"{size(path.stat().st_size)}, whole"
    return [Check("runs.db", "good", f"{what}, campaigns in it: {len(campaigns)}")]


def _rented(root: Path) -> list[Check]:
    """Machines that cost money and that nobody wants. Asks providers whose key is at hand."""
    from agent.machines.providers import renters
    from agent.machines.reaping import reap
    from agent.store import where

    try:
        store = where.opened(root)
    except StoreError:
        return []  # nothing was rented, or there is more to mend first
    try:
        asked, silent = renters(store, root, os.environ)
        found = reap(asked, silent, dry_run=True)
    except CaddieError as error:
        return [Check("machines", "bad", line(str(error), 300))]
    finally:
        store.close()
    if found.orphans:
        words = f"{found.orphans} rented and wanted by nobody; `agent machines reap` ends them: {found.done[0]}"
        return [Check("machines", "bad", line(words, 300))]
    if found.failed:
        return [Check("machines", "note", line(f"can't be looked for: {found.failed[0]}", 300))]
    return [Check("machines", "good", f"no orphans at {', '.join(found.asked)}")] if found.asked else []


def _walls(root: Path, probe: bool) -> list[Check]:
    """Around code that nobody has read, in the folder where runs have theirs."""
    runs = str(root / ".caddie")
    policy = Policy(writable=runs, read=(), programs=seen(()).programs, minimum="unsafe", traceless=True)
    found, standing = stack(policy), in_force(policy)
    names = ", ".join(name for name in standing if name != "unsafe")
    lacks = f"{_outliving(found)}{_leaving(standing)}"
    if reaches(found.level, STRONG):
        checks = [Check("walls", "note" if lacks else "good", f"level {found.level}: {names}{lacks}")]
    elif reaches(found.level, "landlock"):
        checks = [Check("walls", "note", f"level {found.level}: {names}. {why_not()}: {HELP}{lacks}")]
    else:
        words = f"none for code that nobody has read ({why_not()}), so only the knobs planner can work. {HELP}"
        if strongest(replace(policy, minimum="pod")).level == "pod":
            words += '. On a rented machine that is fresh and holds no secret, a track may say minimum = "pod"'
        return [Check("walls", "note", f"{words}{_outliving(found)}")]
    return [*checks, _probed(found.level)] if probe else checks


def _outliving(found: Stack) -> str:
    if MAY_OUTLIVE not in found.names:
        return ""
    return (
        f". {MAY_OUTLIVE}: should a run's shepherd be killed, what the run started may go on until the next sweep; "
        "bubblewrap, or Landlock of Linux 6.12, or runs with a user of their own (as root) end it at once"
    )


def _leaving(standing: tuple[str, ...]) -> str:
    if TRACELESS in standing:
        return ""
    return (
        f". Not {TRACELESS}: processes that score could leave each other something of the text in what the system "
        f"keeps of shared files, and each score says so; bubblewrap and {FORGETTING} would help"
    )


def _probed(level: Level) -> Check:
    try:
        found = tried(None, level)
    except (ProbeError, OSError) as error:
        return Check("probe", "bad", line(f"can't be run: {error}", 300))
    through = len(found.known) + len(found.unknown)
    words = f"{found.attempts - through} of {found.attempts} attempts to get out are denied"
    if found.known:
        words += f"; known to get through (sandbox/README.md): {', '.join(found.known)}"
    if found.unknown:
        return Check("probe", "bad", f"{words}; and these should not: {', '.join(found.unknown)}")
    return Check("probe", "good", words)


def _data(root: Path) -> list[Check]:
    checks = []
    for corpus in ("docs", "synth", "fineweb"):
        folder = corpus_folder(root, corpus)
        there = (folder / "manifest.json").is_file()
        if there:
            checks.append(_disjoint(corpus, folder, own_folder(root)))
        elif corpus != "fineweb":
            checks.append(Check(f"data {corpus}", "note", "not made yet: `agent start` makes it"))
        else:
            checks.append(
                Check(f"data {corpus}", "note", f"not here: {sys.executable} -m trainer.data fineweb downloads it")
            )
    return checks


def _disjoint(corpus: str, folder: Path, cache: Path) -> Check:
    """Whether training and validation were compared, document by document, and what came of it."""
    from agent.judge.overlap import known
    from trainer.data.manifest import load

    try:
        found = known(load(folder, verify=False).data_sha, cache)
    except CaddieError as error:
        return Check(f"data {corpus}", "bad", line(str(error), 300))
    if found is None:
        return Check(f"data {corpus}", "good", f"{folder}; the next `agent start` compares training with validation")
    return Check(f"data {corpus}", "bad" if found.spoilt else "good", f"{folder}; {found.words()}")


def _tracks(root: Path) -> list[Check]:
    checks = []
    for name in known(root):
        try:
            found, _ = track.load(name, root)
            missing = hardware.missing(found, root)
        except CaddieError as error:
            checks.append(Check(f"track {name}", "bad", line(str(error), 300)))
            continue
        if missing:
            first = " and ".join(line(sentence.split(". ")[0].split("; ")[0], 90) for sentence in missing)
            checks.append(Check(f"track {name}", "note", f"{first} (more: agent tracks {name})"))
        else:
            checks.append(Check(f"track {name}", "good", "can run here"))
    return checks

"""What each wall holds off, measured: the probe behind every wall alone, and behind the stacks that runs get.

Gives a table of attempts and `Result`s. `python -m sandbox.table` prints it as docs/SECURITY.md has it, in minutes.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import packaging

from sandbox import bubblewrap, groups, landlock, users
from sandbox.bubblewrap import Box
from sandbox.confined import Confined
from sandbox.limits import Exit
from sandbox.policy import Level, Policy
from sandbox.probe.attempts import ATTEMPTS, BOMBS, FIND, Attempt
from sandbox.proving import Errand, Got, ProbeError, Result, Run, bare, compare, prove
from sandbox.seen import seen
from sandbox.walls import OLDEST_LANDLOCK, NoWalls, Stack

SIGNS: dict[Got, str] = {"allowed": "out", "denied": "\u00b7", "absent": "?"}
# What is known to get through, and is told in sandbox/README.md.
OPEN_FILES = (
    *(f"read_{name}" for name in ("secret", "validation", "store", "other_run", "judge", "by_dots", "by_symlink")),
    *("read_by_own_root", "list_home", "write_outside", "write_tmp", "write_var_tmp", "write_dev_shm"),
    *("read_blocks_of_disk", "cache_load_refault"),
    *("left_in_tmp", "left_in_var_tmp", "left_in_shm", "see_processes"),
)
KNOWN: dict[Level, frozenset[str]] = {
    "landlock": frozenset({"access_time"}),
    "pod": frozenset({"access_time", *OPEN_FILES}),  # the machine is the box
}
# Where no control group forgets what a session has read.
REMEMBERED = frozenset({"cache_load_fault", "cache_load_refault"})
# What a process that trains may besides: nobody shows it validation text. Without namespaces it has the machine's
# loopback and, without a user of its own, what others have in /dev/shm.
OF_TRAINING = REMEMBERED | {"see_lock"}
ON_THE_HOST = frozenset({"listen_everywhere", "listen_without_bind", "ports", "write_dev_shm", "left_in_shm"})
# Of threads the kernel counts all that the person runs, so an ordinary user's run has a thousand more than its limit.
BY_USERS = frozenset({"bomb_threads", *REMEMBERED})
SYSTEM_PYTHON = "/usr/bin/python3"


def policy_of(errand: Errand, *, trains: bool) -> Policy:
    """Its one folder, Python without packages, and what it is given to read. One that scores is to leave no trace, one
    that trains may be several processes, which talk to each other; the time of either counts."""
    common = seen(())
    return Policy(
        writable=str(errand.folder),
        read=tuple(map(str, errand.readable)),
        programs=common.programs,
        hidden=common.hidden,
        packages=common.packages,
        pinned=errand.core is not None,
        timed=True,
        loopback=trains,
        traceless=not trains,
    )


def behind(stack: Stack | None, *, trains: bool = False) -> Run:
    """Behind these walls; None: the strongest that are here. As a process that scores, or as one that trains."""

    def run(errand: Errand) -> Exit:
        if stack is not None and stack.uid is not None:  # another user may not get to our Python
            errand = replace(errand, argv=(SYSTEM_PYTHON, *errand.argv[1:]))
        return confined(errand, policy_of(errand, trains=trains), stack)

    return run


def confined(errand: Errand, policy: Policy | None = None, walls: Stack | None = None) -> Exit:
    """Behind limits, and the walls of a policy if there is one."""
    return Confined(
        errand.argv,
        cwd=errand.folder,
        env={},
        limits=errand.limits,
        log=errand.log,
        folder=errand.folder,
        policy=policy,
        walls=walls,
        core=errand.core,
    ).wait()


class Column(NamedTuple):
    """Walls, and for whom."""

    stack: Stack | None
    trains: bool = False


def columns() -> dict[str, Column]:
    """What can be put up here: each wall alone, then together, the weakest first."""
    uid = users.uid_of(os.getpid()) if os.getuid() == 0 else None
    own = () if uid is None else ("uid",)
    found = {"limits": Stack("base")}
    if uid is not None:
        found["uid"] = Stack("base", own, None, uid)
    found["seccomp"] = Stack("base", ("seccomp",))
    if landlock.abi() >= OLDEST_LANDLOCK:
        found["landlock"] = Stack("base", ("landlock",))
    if box := next((one for one in bubblewrap.boxes() if one.setpriv is None), None):
        found["namespaces"] = Stack("base", ("namespaces",), Box(box.bwrap, None))
    guarded = ("seccomp", "doorman", *own)
    found["pod"] = Stack("pod", ("pod", *guarded), None, uid)
    if landlock.abi() >= OLDEST_LANDLOCK:
        found["fallback"] = Stack("landlock", ("landlock", *guarded), None, uid)
    all_found = {name: Column(one) for name, one in found.items()}
    if "fallback" in found:
        all_found["fallback-training"] = Column(found["fallback"], trains=True)
    return {**all_found, "full": Column(None), "full-training": Column(None, trains=True)}


def of_ordinary_user() -> dict[str, Result]:
    """What comes of it where not root but an ordinary user starts the runs, behind the strongest walls that they get:
    in a process of theirs, with a copy of this package that they may read.

    Raises:
        ProbeError: it can't be tried here.
    """
    uid = users.uid_of(os.getpid())
    with tempfile.TemporaryDirectory(prefix="caddie-ordinary-", ignore_cleanup_errors=True) as root:
        for package in (Path(__file__).parent, Path(packaging.__file__).parent):
            shutil.copytree(package, Path(root, package.name), ignore=shutil.ignore_patterns("__pycache__"))
        own = Path(root, "own")
        own.mkdir()
        os.chown(own, uid, uid)
        for path in (Path(root), *Path(root).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        ended = subprocess.run(
            (SYSTEM_PYTHON, "-c", "from sandbox.table import say_alone; say_alone()"),
            env={"PATH": os.defpath, "PYTHONPATH": root, "TMPDIR": str(own), "HOME": str(own)},
            cwd=own,
            user=uid,
            group=uid,
            extra_groups=(),
            capture_output=True,
            check=False,
        )
    if ended.returncode != 0:
        raise ProbeError(ended.stderr.decode("utf-8", "replace")[-2000:])
    return {name: Result(**result) for name, result in json.loads(ended.stdout).items()}


def say_alone() -> None:
    """One column, for whoever started this process."""
    print(json.dumps({name: asdict(result) for name, result in prove(behind(None)).items()}))


def attempts() -> dict[str, Attempt]:
    """All of them, by the names that results have."""
    return {**ATTEMPTS, **FIND, **{f"bomb_{name}": bomb for name, bomb in BOMBS.items()}}


class Tried(NamedTuple):
    attempts: int
    known: tuple[str, ...]
    """What got out, and is known to."""
    unknown: tuple[str, ...]
    """And what is not."""


def tried(stack: Stack | None, level: Level) -> Tried:
    """Out of these walls, as a process that scores and as one that trains. Without the bombs, which take as long again;
    and what sessions leave each other is tried by those that score alone.

    Raises:
        ProbeError: nothing can be proved here.
        NoWalls: there are none here.
    """
    before = prove(bare, bombs=False)
    scored = compare(before, prove(behind(stack), bombs=False))
    trained: dict[str, Result] = {}
    with contextlib.suppress(NoWalls):  # so no run gets them whose processes talk to each other
        trained = compare(before, prove(behind(stack, trains=True), bombs=False, sessions=False))
    both = ((scored, known(level)), (trained, known(level, trains=True)))
    out = [(name, name in told) for results, told in both for name, one in results.items() if one.got == "allowed"]
    return Tried(
        sum(one.got != "absent" for results, _ in both for one in results.values()),
        tuple(dict.fromkeys(name for name, is_known in out if is_known)),
        tuple(dict.fromkeys(name for name, is_known in out if not is_known)),
    )


def known(level: Level, *, trains: bool = False) -> frozenset[str]:
    """What is known to get out of the walls of this level here."""
    found = KNOWN.get(level, frozenset())
    if trains:
        return found | OF_TRAINING | (frozenset() if level == "namespaces" else ON_THE_HOST)
    return found | (frozenset() if groups.forgets() else REMEMBERED)


def measured(say: Callable[[str], None] = lambda _: None) -> dict[str, dict[str, Result]]:
    """Attempt -> column -> what came of it; of `bare` first."""
    before = prove(bare)
    table = {name: {"bare": result} for name, result in before.items()}
    for column, (walls, trains) in columns().items():
        for name, result in compare(before, prove(behind(walls, trains=trains))).items():
            table[name][column] = result
        say(f"{column}: {sum(row[column].got == 'allowed' for row in table.values())} get through")
    try:
        ordinary = of_ordinary_user() if os.getuid() == 0 else {}
    except ProbeError as error:  # such as by a Python of the system's that is too old
        say(f"ordinary: {error}")
        return table
    for name, result in compare(before, ordinary).items():
        table[name]["ordinary"] = result
    return table


def markdown(table: Mapping[str, Mapping[str, Result]]) -> str:
    all_attempts = attempts()
    names = list(next(iter(table.values())))
    lines = [f"| attempt | what it tries | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for name, row in table.items():
        signs = " | ".join(SIGNS[row[column].got] for column in names)
        lines.append(f"| {name} | {all_attempts[name].tries} | {signs} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(measured(lambda words: print(words, file=sys.stderr, flush=True))))

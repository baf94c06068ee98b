"""What each wall holds off, measured: the probe behind every wall alone, and behind the stacks that runs get.

Gives a table of attempts and `Result`s. `python -m sandbox.table` prints it as docs/SECURITY.md has it, in minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import packaging

from sandbox import bubblewrap, groups, landlock, users
from sandbox.bubblewrap import Box
from sandbox.confined import Confined
from sandbox.limits import Exit
from sandbox.policy import Level, Policy
from sandbox.probe.attempts import ATTEMPTS, BOMBS, FIND, Attempt
from sandbox.proving import Errand, Got, ProbeError, Result, Run, bare, compare, prove
from sandbox.seen import seen
from sandbox.walls import OLDEST_LANDLOCK, Stack

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
REMEMBERED = frozenset(
    {"cache_load_fault", "cache_load_refault"}
)  # where no control group forgets what a session has read
# Of threads the kernel counts all that the person runs, so an ordinary user's run has a thousand more than its limit.
BY_USERS = frozenset({"bomb_threads", *REMEMBERED})
SYSTEM_PYTHON = "/usr/bin/python3"


def policy_of(errand: Errand) -> Policy:
    """As a scoring process gets it: its one folder, Python without packages, and what it is given to read."""
    common = seen(())
    return Policy(
        writable=str(errand.folder),
        read=tuple(map(str, errand.readable)),
        programs=common.programs,
        hidden=common.hidden,
        packages=common.packages,
        pinned=errand.core is not None,
        traceless=True,
    )


def behind(stack: Stack | None) -> Run:
    """Behind these walls; None: the strongest that are here."""

    def run(errand: Errand) -> Exit:
        if stack is not None and stack.uid is not None:  # another user may not get to our Python
            errand = replace(errand, argv=(SYSTEM_PYTHON, *errand.argv[1:]))
        return confined(errand, policy_of(errand), stack)

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


def columns() -> dict[str, Stack | None]:
    """What can be put up here: each wall alone, then together, the weakest first."""
    uid = users.uid_of(os.getpid()) if os.getuid() == 0 else None
    own = () if uid is None else ("uid",)
    found: dict[str, Stack | None] = {"limits": Stack("base")}
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
    return {**found, "full": None}


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


def got_through(results: Mapping[str, Result], level: Level) -> tuple[list[str], list[str]]:
    """What got out of the walls of this level: what is known to, and what is not."""
    out = [name for name, result in results.items() if result.got == "allowed"]
    told = known(level)
    return [name for name in out if name in told], [name for name in out if name not in told]


def known(level: Level) -> frozenset[str]:
    """What is known to get out of the walls of this level here."""
    return KNOWN.get(level, frozenset()) | (frozenset() if groups.forgets() else REMEMBERED)


def measured(say: Callable[[str], None] = lambda _: None) -> dict[str, dict[str, Result]]:
    """Attempt -> column -> what came of it; of `bare` first."""
    before = prove(bare)
    table = {name: {"bare": result} for name, result in before.items()}
    for column, walls in columns().items():
        for name, result in compare(before, prove(behind(walls))).items():
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
    tried = attempts()
    names = list(next(iter(table.values())))
    lines = [f"| attempt | what it tries | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for name, row in table.items():
        signs = " | ".join(SIGNS[row[column].got] for column in names)
        lines.append(f"| {name} | {tried[name].tries} | {signs} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(measured(lambda words: print(words, file=sys.stderr, flush=True))))

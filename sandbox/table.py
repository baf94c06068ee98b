"""What each wall holds off, measured: the probe behind every wall alone, and behind the stacks that runs get.

Gives a table of attempts and `Result`s. `python -m sandbox.table` prints it as docs/SECURITY.md has it, in minutes.
"""

import os
import sys

from sandbox import bubblewrap
from sandbox.bubblewrap import Box
from sandbox.confined import Confined
from sandbox.limits import Exit
from sandbox.policy import Policy
from sandbox.probe.attempts import ATTEMPTS, BOMBS, FIND
from sandbox.proving import Errand, Run, bare, compare, prove
from sandbox.seen import seen
from sandbox.walls import Stack

LIMITS, FULL = "limits", "full"
SYSTEM_PYTHON = "/usr/bin/python3"


def policy_of(errand: Errand) -> Policy:
    """As a run gets it: its one folder, Python without packages, and what it is given to read."""
    common = seen(())
    return Policy(
        writable=str(errand.folder),
        read=tuple(map(str, errand.readable)),
        programs=common.programs,
        hidden=common.hidden,
        packages=common.packages,
        pinned=errand.core is not None,
    )


def behind(stack: Stack | None) -> Run:
    """Behind these walls; None: the strongest that are here."""

    def run(errand: Errand) -> Exit:
        python = errand.argv[0]
        if stack is not None and stack.uid is not None:  # another user may not get to ours
            python = SYSTEM_PYTHON
        return Confined(
            (python, *errand.argv[1:]),
            cwd=errand.folder,
            env={},
            limits=errand.limits,
            log=errand.log,
            folder=errand.folder,
            policy=policy_of(errand),
            walls=stack,
            core=errand.core,
        ).wait()

    return run


def columns() -> dict[str, Stack | None]:
    """What can be put up here: each wall alone, then together, the weakest first."""
    uid = bubblewrap.uid_of(os.getpid()) if os.getuid() == 0 else None
    own = () if uid is None else ("uid",)
    found: dict[str, Stack | None] = {LIMITS: Stack("base")}
    if uid is not None:
        found["uid"] = Stack("base", own, None, uid)
    found["seccomp"] = Stack("base", ("seccomp",))
    found["landlock"] = Stack("base", ("landlock",))
    if box := next((one for one in bubblewrap.boxes() if one.setpriv is None), None):
        found["namespaces"] = Stack("base", ("namespaces",), Box(box.bwrap, None))
    found["pod"] = Stack("pod", ("pod", "seccomp", *own), None, uid)
    found["fallback"] = Stack("landlock", ("landlock", "seccomp", *own), None, uid)
    return {**found, FULL: None}


def main() -> int:
    before = prove(bare)
    table = {}
    for name, stack in columns().items():
        table[name] = compare(before, prove(behind(stack)))
        print(name, sum(one.got == "allowed" for one in table[name].values()), file=sys.stderr)
    for name in (*ATTEMPTS, *FIND, *(f"bomb_{bomb}" for bomb in BOMBS)):
        print(name, before[name].got, *(table[column][name].got for column in table), sep="\t")
    return 0


if __name__ == "__main__":
    sys.exit(main())

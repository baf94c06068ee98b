"""The walls of a machine without namespaces: Landlock over files, a filter over system calls, both put up by the new
process itself just before its exec.

Takes a policy; gives the places that Landlock lets it reach.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from sandbox.layout import DEVICES, gpu_nodes
from sandbox.policy import Policy

# What nearly every program opens, and what says nothing of anybody.
NODES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FACTS = ("/proc/cpuinfo", "/proc/meminfo", "/proc/filesystems", "/proc/sys/vm/overcommit_memory")
DRIVER = "/proc/driver/nvidia"
SHARED = "/dev/shm"
PACKAGES = ".packages"  # beside a run's one folder


def readable(policy: Policy) -> list[Path]:
    packages = [str(Path(policy.writable).with_name(PACKAGES))] if policy.packages else []
    found = [*FACTS, *packages, *((*DEVICES, DRIVER) if policy.gpus or policy.loopback else ())]
    hidden = {os.path.realpath(path) for path in policy.hidden}
    for path in map(os.path.realpath, policy.all_read):
        found += _around(path, hidden - {path})  # what is hidden as a part may be listed all the same
    return [Path(path) for path in dict.fromkeys(found) if os.path.lexists(path)]


def listed(policy: Policy) -> list[Path]:
    """Of which the names may be listed: where Python looks for its modules, it lists, and a part of it is hidden."""
    under = {parent for hidden in policy.hidden for parent in PurePath(os.path.realpath(hidden)).parents}
    return [Path(path) for path in policy.all_read if PurePath(path) in under]


def importable(policy: Policy) -> dict[str, str]:
    """A folder that holds no more than the packages which may be read, and the variable that leads Python there.

    Rules hide what is in a file, not that it is there: Python would find a package, and fail to read it.
    """
    if not policy.packages:
        return {}
    folder = Path(policy.writable).with_name(PACKAGES)
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    for path in map(Path, policy.programs):
        link = folder / path.name
        if str(path.parent) in policy.packages and not link.is_symlink():
            link.symlink_to(path)
    return {"PYTHONPATH": str(folder)}


def writable(policy: Policy) -> list[Path]:
    # What processes of several GPUs pass to each other lies in memory that the whole machine shares, and that stays. So
    # a process of the judge's, after which another one comes, has none.
    shared = (SHARED,) if policy.loopback and not policy.traceless else ()
    found = [policy.writable, *NODES, *gpu_nodes(policy.gpus), *shared]
    return [Path(path) for path in found if os.path.lexists(path)]


def _around(path: str, hidden: Iterable[str]) -> Iterator[str]:
    """The path, or what is in it but for what is hidden: a rule can't take back what another one gives. Plain words
    for paths: this is in the start of every run."""
    under = {one for one in hidden if one.startswith(f"{path.rstrip('/')}/")}
    if path in hidden:
        return
    if not under:
        yield path
        return
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_symlink():
                yield from _around(entry.path, under)

"""The batch script of a job, and the words that sbatch gets with it.

Takes the settings of a cluster and what a run needs; gives text. Everything that goes into the script is quoted.
"""

import math
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from agent import own_process
from agent.runners.slurm.settings import Settings

SIGNAL_S = 60  # before its time is over, a job is asked to end
BATCH = own_process.code("agent.runners.slurm.batch")


class Need(NamedTuple):
    """What a run takes of the cluster."""

    wall_s: float
    gpus: int


class Nodes(NamedTuple):
    only: str = ""
    """Empty: any."""
    but: tuple[str, ...] = ()
    """None of these."""


ANYWHERE = Nodes()


def words(
    settings: Settings, need: Need, name: str, log: str, indexes: Sequence[int], nodes: Nodes = ANYWHERE
) -> tuple[str, ...]:
    """For sbatch. `indexes`: of an array; none: it is one job."""
    found = [
        f"--job-name={name}",
        f"--output={log}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{SIGNAL_S}",
        f"--time={math.ceil((need.wall_s + settings.margin_s) / 60)}",
        "--nodes=1",
        "--ntasks=1",
        "--export=NIL",  # nothing of the person's environment, least of all keys
        "--chdir=/",
    ]
    if indexes:
        found.append(f"--array={','.join(map(str, indexes))}")
    if settings.partition:
        found.append(f"--partition={settings.partition}")
    if settings.account:
        found.append(f"--account={settings.account}")
    if need.gpus:
        found.append(f"--gres={settings.gres}:{need.gpus}")
    found.append(f"--cpus-per-task={settings.cpus_per_gpu * need.gpus if need.gpus else settings.cpus}")
    if settings.memory_mb:
        found.append(f"--mem={settings.memory_mb}M")
    return (*found, *_with(settings.words, nodes))


def _with(said: Sequence[str], nodes: Nodes) -> list[str]:
    """What a person said of nodes, and ours: of two words with one name Slurm heeds the last."""
    found = list(said)
    if nodes.only:
        found = [word for word in found if not word.startswith("--nodelist=")] + [f"--nodelist={nodes.only}"]
    if nodes.but:
        theirs = [word.partition("=")[2] for word in found if word.startswith("--exclude=")]
        found = [word for word in found if not word.startswith("--exclude=")]
        found.append(f"--exclude={','.join((*theirs, *nodes.but))}")
    return found


def script(settings: Settings, code: str, folders: Sequence[str]) -> str:
    """One script for one job or for all of an array: each finds its folder by its number."""
    lines = ["#!/bin/bash -l" if settings.modules else "#!/bin/sh"]
    lines += [f"module load {shlex.quote(name)} || exit 1" for name in settings.modules or ()]
    lines.append(f"set -- {' '.join(map(shlex.quote, folders))}")
    lines.append('shift "${SLURM_ARRAY_TASK_ID:-0}"')
    # In the shell's place: the signal of the end is for it.
    lines.append(f'exec {shlex.join(_command(settings, code))} "$1"')
    return "\n".join(lines) + "\n"


def _command(settings: Settings, code: str) -> tuple[str, ...]:
    own = (settings.python, "-I", "-c", BATCH, code)
    if not settings.image:
        return own
    seen = {settings.folder, settings.scratch, *([settings.corpus] if settings.corpus else [])}
    binds = tuple(f"--bind={path}" for path in sorted(seen) if PurePosixPath(path) != PurePosixPath("/"))
    return ("apptainer", "exec", "--nv", *binds, settings.image, *own)

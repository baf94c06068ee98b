"""What a candidate's processes may touch: the policy that the sandbox is given.

Takes a track, a job folder and a corpus; gives a `Policy` for training and one for scoring. Neither holds a key,
another run, the store or the judge's code, nor the validation text but where the track lets its script open that: what
is not listed here is not there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from agent.job.folder import JobPaths
from agent.records import Campaign
from agent.script import literals
from agent.track import Track
from sandbox import BoxName, Level, Policy
from sandbox.policy import reaches
from sandbox.seen import seen
from sandbox.walls import why_not

if TYPE_CHECKING:
    from agent.worktree import Repository


@dataclass(frozen=True)
class Reach:
    """What differs between the runs of a track."""

    minimum: Level
    gpus: tuple[int, ...] = ()
    box: BoxName = ""
    """How bubblewrap is known to work on the machine."""


def minimum(track: Track, repo: "Repository", campaign: Campaign, files: Mapping[str, str]) -> Level:
    """The weakest walls behind which these files may run in the campaign.

    What differs from a person's script in nothing but literals of declared knobs was written by no model.
    """
    if literals.only_knobs(track, repo.files(campaign.base_commit, track.script.editable), files):
        return "base"
    return "unsafe" if campaign.unsafe else track.sandbox.minimum


def lacking(track: Track, level: Level, *, unsafe: bool) -> str:
    """Why a model's code can't run behind walls of this level; empty: it can."""
    if unsafe or reaches(level, track.sandbox.minimum):
        return ""
    here = "no walls" if level == "base" else f"walls of level {level!r} only"
    return f"this machine has {here} for code that nobody has read ({why_not()}), track {track.name} asks for more"


def exposed(track: Track, root: Path) -> str:
    """The folder, readable for every run, in which the workspace lies with all its secrets; empty: in none."""
    common = seen(track.sandbox.packages)
    shown = {os.path.realpath(path) for path in common.programs}
    hidden = {os.path.realpath(path) for path in common.hidden}
    at = PurePath(os.path.realpath(root))
    nearest = next((folder for folder in map(str, (at, *at.parents)) if folder in shown | hidden), "")
    return nearest if nearest in shown else ""


def asked(track: Track, root: Path) -> Policy:
    """What a run of this track is like, for asking a machine about its walls before there is any run."""
    return replace(scoring(track, Reach(track.sandbox.minimum)), writable=str(root))


def training(track: Track, paths: JobPaths, corpus: Path, reach: Reach) -> Policy:
    timed = track.compute is not None or track.limits.train_cpu_s is not None
    return replace(_policy(track, str(paths.out), (str(paths.code), *_data(track, corpus)), reach), timed=timed)


def scoring(track: Track, reach: Reach) -> Policy:
    """Of the judge's candidate processes; the session adds each one's files and folder. What one of them has read of
    the validation text must not reach the next one by the files that it has had read in."""
    return replace(_policy(track, "", (), reach), traceless=True)


def _policy(track: Track, writable: str, files: tuple[str, ...], reach: Reach) -> Policy:
    common = seen(track.sandbox.packages)
    return Policy(
        writable=writable,
        read=files,
        programs=common.programs,
        hidden=common.hidden,
        packages=common.packages,
        gpus=reach.gpus,
        loopback=_talks(track),
        pinned=track.hardware.kind == "cpu",
        minimum=reach.minimum,
        box=reach.box,
    )


def _talks(track: Track) -> bool:
    """Whether its processes are several, which find each other by TCP; torchrun asks for that with one GPU, too."""
    return track.hardware.gpus > 1 or not {"torch.distributed.run", "torchrun"}.isdisjoint(track.script.train)


def _data(track: Track, corpus: Path) -> tuple[str, ...]:
    """The training data, and never the validation data but where the track says so: the published shards lie in one
    folder, so file by file."""
    own = read_elsewhere(track)
    if track.data.corpus == "none":
        return own
    if track.data.corpus != "fineweb":
        return (str(corpus / "train"), *own)
    kinds = ("train", "val") if track.data.script_reads_validation else ("train",)
    folder = corpus / "datasets" / fineweb_folder(track)
    shards = [str(path) for kind in kinds for path in folder.glob(f"fineweb_{kind}_*.bin")]
    return (*sorted(shards), str(corpus / "tokenizers"), *own)


def read_elsewhere(track: Track) -> tuple[str, ...]:
    """Folders of the person's that training reads, on the machine that asks."""
    return tuple(str(Path(path).expanduser()) for path in track.data.read)


def too_much(track: Track, root: Path) -> str:
    """The folder among those that training reads which holds the workspace or all of the person's home; empty: none
    does."""
    secret = [PurePath(os.path.realpath(path)) for path in (root, Path.home())]
    for path in track.data.read:
        real = PurePath(os.path.realpath(Path(path).expanduser()))
        if any(one.is_relative_to(real) for one in secret) or real.is_relative_to(secret[0]):
            return path
    return ""


def fineweb_folder(track: Track) -> str:
    return f"fineweb10B_{track.data.variant}"

"""Which artifacts may go: those of no head, no frontier, no near miss, the oldest first.

Takes the store's rows and the job folders; gives a plan. Only `delete` changes anything, and it touches the
candidate's two folders alone: what it wrote and the code that ran, which git has. Logs and results stay.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.job.folder import JobPaths
from agent.job.removal import remove
from agent.records import Run
from agent.states import FINAL
from agent.store import Reads
from agent.words import size

HEADS = frozenset({"promoted", "reverted"})
BETTER = frozenset({"worse", "inconclusive", "unfunded", "oversize"})  # if the gain says so


@dataclass(frozen=True)
class Folder:
    run: str
    proposal: str
    bytes: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    delete: tuple[Folder, ...]
    stays_bytes: int  # of what might be deleted some other day
    kept_bytes: int  # of what is always kept


def plan(reads: Reads, jobs: Mapping[int, Path], keep_bytes: float) -> Plan:
    """`jobs`: the job folders of each campaign; the cap is for all of them together."""
    spare: list[Folder] = []
    kept = 0
    for campaign_id, where in sorted(jobs.items()):
        keep = _kept(reads, campaign_id)
        for run in reads.runs(campaign_id):
            folder = _folder(run, where)
            if folder is None:
                continue
            if run.state in ("lost", "cancelled") or (run.state == "done" and run.proposal_id not in keep):
                spare.append(folder)
            else:
                kept += folder.bytes
    total = sum(folder.bytes for folder in spare)
    gone: list[Folder] = []
    for folder in spare:  # by run id: the oldest first
        if total <= keep_bytes:
            break
        gone.append(folder)
        total -= folder.bytes
    return Plan(tuple(gone), total, kept)


def delete(planned: Plan) -> None:
    for folder in planned.delete:
        for path in folder.paths:
            remove(Path(path))


def words(planned: Plan, dry_run: bool) -> str:
    freed = sum(folder.bytes for folder in planned.delete)
    lines = [f"{folder.run:>6} {folder.proposal:>6}  {size(folder.bytes)}" for folder in planned.delete]
    verb = "would be freed" if dry_run else "freed"
    lines.append(
        f"{size(freed)} of {len(planned.delete)} runs {verb}; {size(planned.stays_bytes)} of others stay "
        f"under the cap; {size(planned.kept_bytes)} of lineage, frontier and near misses always stay"
    )
    return "\n".join(lines)


def _kept(reads: Reads, campaign_id: int) -> set[int]:
    """Proposals whose artifacts stay. What looked better may be taken up again: too big, or too little of a gain."""
    trials = reads.trials(campaign_id)
    keep = {one.id for one in reads.lineage(reads.head(campaign_id).id)}
    keep |= {int(row["proposal_id"]) for row in reads.view("frontier", campaign_id)}
    keep |= {one.proposal_id for one in trials if one.state in HEADS or one.state not in FINAL}
    return keep | {one.proposal_id for one in trials if one.state in BETTER and (one.gain or 0.0) > 0}


def _folder(run: Run, jobs: Path) -> Folder | None:
    paths = JobPaths(jobs / f"r{run.id}")
    plain = not paths.folder.is_symlink()  # else what it leads to is somebody else's
    found = [path for path in (paths.out, paths.code) if plain and path.is_dir() and not path.is_symlink()]
    total = sum(_bytes(path) for path in found)
    if not found:
        return None
    return Folder(f"r{run.id}", f"p{run.proposal_id}", total, tuple(map(str, found)))


def _bytes(folder: Path) -> int:
    """What the folder takes on the disk, however deep it is; links are not followed."""
    total, todo = 0, [str(folder)]
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total

"""What came of a job, as bytes to be handed in: the judge's answer, the scores for later audits, the artifact.

Takes a job folder whose processes are dead and its result; gives files by what they are. A candidate may have written
any of them: plain files only, bounded; one that is too big for the store stays where it is.
"""

from pathlib import Path

from agent.job.folder import JobPaths, JobResult
from agent.job.reading import MOST, read_plain
from agent.runners.results import order_of
from agent.store import blobs


def outputs(folder: Path, result: JobResult) -> dict[str, bytes]:
    paths = JobPaths(folder)
    wanted = {"measure": (folder, paths.measure.name, MOST)}
    if result.outcome == "ok":
        wanted["reference"] = (folder, paths.reference.name, blobs.MOST)
        if artifact := order_of(folder).limited.script.artifact:
            wanted["artifact"] = (paths.out, artifact, blobs.MOST)
    found = {}
    for name, (where, file, most) in wanted.items():
        try:
            found[name] = read_plain(where, file, most)
        except (OSError, ValueError):
            continue
    return found

"""Jobs are sent to the cluster, and Slurm is asked to run them.

Takes jobs in hand; changes their notes. What is asked of Slurm is written down first, by a name that nobody else has:
an answer that gets lost is found again in the queue.
"""

import hashlib
import platform
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.errors import InfraError
from agent.runners.slurm.commands import PREFIX, Refused
from agent.runners.slurm.depot import Depot, Tar
from agent.runners.slurm.held import Held
from agent.runners.slurm.mirror import Note
from agent.runners.slurm.sending import Sender, Unsendable

AT_ONCE = 50  # jobs that are sent between two looks at the queue


class Placing:
    def __init__(self, depot: Depot, sender: Sender) -> None:
        self._depot, self._sender = depot, sender

    def begin(self, jobs: Sequence[Held]) -> None:
        """Seeds of one idea as one array. A job that never can be sent is lost."""
        groups: dict[str, list[Held]] = defaultdict(list)
        for job in jobs[:AT_ONCE]:
            try:
                groups[self._sender.alike(job.order, job.mirror.folder)].append(job)
            except OSError as error:
                job.mirror.say(f"its code can't be read: {error}")
        for group in groups.values():
            self._go(group, _notes(self._depot.folder, group))

    def again(self, jobs: Sequence[Held]) -> None:
        """What Slurm has not taken, or has forgotten before it began."""
        groups: dict[str, list[Held]] = defaultdict(list)
        for job in jobs:
            groups[job.placed.name].append(job)
        for group in groups.values():
            self._go(group, [job.placed for job in group])

    def _go(self, group: Sequence[Held], notes: Sequence[Note]) -> None:
        """Every failure is of this group alone."""
        try:
            self._send(group, notes)
            for job, note in zip(group, notes, strict=True):
                job.know(note)
        except Unsendable as error:
            for job in group:
                job.mirror.lose(str(error), job.order.wall_s)
        except (InfraError, OSError) as error:
            for job in group:
                job.mirror.say(str(error))
        else:
            self._ask(group)

    def _send(self, group: Sequence[Held], notes: Sequence[Note]) -> None:
        tars: dict[str, Tar] = {}
        for job, note in zip(group, notes, strict=True):
            root, _, name = note.folder.rpartition("/")
            tars[name] = self._sender.packed(job.order, job.mirror.folder)
        self._depot.put(root, tars)

    def _ask(self, group: Sequence[Held]) -> None:
        for job in group:
            job.since = time.monotonic()
        try:
            only = self._sender.only(group[0].mirror.folder)
            id = self._sender.submit([(job.order, job.placed) for job in group], only)
        except InfraError as error:
            # Refused: there is none; else perhaps there is one, which the queue will tell by its name.
            for job in group:
                job.mirror.say(str(error) if isinstance(error, Refused) else f"not sure: {error}")
            return
        for job in group:
            job.know(replace(job.placed, job=id))


def key_of(jobs_root: Path) -> str:
    """Of all that a campaign has on the cluster."""
    return hashlib.sha256(f"{platform.node()}:{jobs_root.resolve()}".encode()).hexdigest()[:12]


def _notes(folder: str, group: Sequence[Held]) -> list[Note]:
    token, key = secrets.token_hex(4), key_of(group[0].mirror.folder.parent)
    name = f"{PREFIX}{key}-r{group[0].order.run_id}-{token}"
    places = range(len(group)) if len(group) > 1 else [-1]
    return [
        Note(name, f"{folder}/jobs/{key}/r{job.order.run_id}-{token}", place)
        for job, place in zip(group, places, strict=True)
    ]

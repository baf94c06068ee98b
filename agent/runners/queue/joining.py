"""How a machine becomes a worker: what it has is found out, its data made, its folder locked; then it works.

Takes a store, a folder and a track; raises errors that say what is missing before anything is taken.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from agent import reach
from agent.errors import UserError
from agent.job import lock
from agent.records import Campaign
from agent.runners import Runner
from agent.runners.here import default_slots, sure_runner
from agent.runners.queue import leash
from agent.runners.queue.corpora import Corpora
from agent.runners.queue.hardware import shaped
from agent.runners.queue.telling import Tell, Told
from agent.runners.queue.worker import LEASE_S, Me, Worker
from agent.store import Store
from agent.track import Track
from agent.workspace import own_folder
from sandbox.policy import LEVELS, Level, reaches


@dataclass(frozen=True)
class Said:
    """What its person said."""

    slots: int | None
    name: str
    unsafe: bool
    gpus: int | None = None
    """Of each run. None: as many as the track's own."""


def work(
    store: Store,
    root: Path,
    campaign: Campaign | None,
    track: Track,
    said: Said,
    tell: Tell,
    lease_s: float = LEASE_S,
) -> None:
    """Until it is interrupted."""

    def note(words: str) -> None:
        tell(Told("note", words))

    if said.gpus is not None:
        track = shaped(track, said.gpus)
    folder = own_folder(root) / f"work-{said.name}"
    folder.mkdir(parents=True, exist_ok=True)
    held = lock.hold(folder / "lock", patience_s=0.0)
    if held is None:
        raise UserError(f"a worker {said.name} works in {folder} already; give this one another --name")
    try:
        corpora = Corpora(root, note)
        if campaign is not None:
            corpora.require(campaign)
        else:
            corpora.make(track)
        runner = sure_runner(track, said.slots or default_slots(track))
        me = _me(runner, track, root, said)
        for words in runner.notes:
            note(words)
        leashed = leash.attach(folder, held, lease_s)
        try:
            Worker(store, runner, folder, corpora, me, tell, lease_s).run()
        finally:
            os.close(leashed)
    finally:
        os.close(held)


def _me(runner: Runner, track: Track, root: Path, said: Said) -> Me:
    level = runner.level(reach.asked(track, root))
    if reaches(level, "landlock") and (shown := reach.exposed(track, root)):
        raise UserError(f"{root} lies in {shown}, which every run may read: give a --folder outside it")
    kind = runner.hardware_class(runner.slots[0])
    return Me(said.name, socket.gethostname(), os.getpid(), kind, level, _levels(level, unsafe=said.unsafe))


def _levels(level: Level, *, unsafe: bool) -> tuple[str, ...]:
    """What it may promise: `unsafe` runs could read all that its person can."""
    least: Level = "unsafe" if unsafe else "base"
    return tuple(one for one in LEVELS if reaches(level, one) and reaches(one, least))

"""Looks at a new machine before a run is paid on it: is it what was asked for, and is it good enough?

Takes who rents, the campaign and its track; gives why a machine is sent back. What it shows of itself and what was
decided is remembered (agent/admission/).
"""

from agent.admission.examine import LIMIT_S
from agent.admission.gate import decide
from agent.admission.judgement import wanted
from agent.machines import book
from agent.machines.records import Machine
from agent.machines.renting import Renter
from agent.runners.ssh.answers import Facts
from agent.runners.ssh.link import Done
from agent.runners.ssh.machine import Machine as There
from agent.runners.ssh.machines import Machines
from agent.track import Track
from sandbox.policy import LEVELS, Level, reaches

START_S = 60.0  # beyond the check's own limit: Python, and our modules


def spot_check(
    renter: Renter, campaign_id: int, track: Track, machine: Machine, far: Machines, kept_from: frozenset[str]
) -> str:
    """Why it is sent back; empty: it is taken. Which training data are there is not asked: they are sent by their sums,
    and what was sent before, to it or to another machine with the same shelf, is held against its name.

    `track`: with the GPUs of this machine. `kept_from`: sums of files that must not be there. Raises InfraError: it
    does not answer.
    """
    within_s = LIMIT_S + START_S

    async def look(there: There) -> Done:
        words = ["--cuda"] if track.hardware.kind == "cuda" else []
        if there.host.shelf:
            words += ["--data", f"{there.host.shelf}/blobs"]
        return await there.module("agent.admission.__main__", *words, within_s=within_s)

    said = far.on(machine.name, look, 2 * within_s)
    text = said.out.decode("utf-8", "replace")
    want = wanted(track, {}, kept_from)
    lease, alike = book.lease(machine.id), _alike(renter, campaign_id, machine)
    decided = decide(renter.store, text, want, lease=lease, campaign_id=campaign_id, alike=alike)
    return "; ".join(decided.reasons)


def _alike(renter: Renter, campaign_id: int, machine: Machine) -> set[str]:
    """Leases of the campaign's machines that one table made of one system. Another provider, or another image, has
    other packages; scores are compared within a campaign alone."""
    with renter.store.read() as reads:
        there = book.everyone(reads, campaign_id=campaign_id, backend=machine.backend, over=True)
    return {book.lease(one.id) for one in there if one.facts.get("system") == machine.facts.get("system")}


def unfit(facts: Facts, expected: str, least: Level) -> str:
    """Why a machine is not what was asked for. `expected`: its hardware class; empty where nobody knows before."""
    if expected and facts.hardware_class != expected:
        return f"it is {facts.hardware_class}, and {expected} was asked for"
    level = next((one for one in LEVELS if one == facts.level), None)
    if level is None or not reaches(level, least):
        return f"its walls are of level {facts.level}, and the track asks for {least} or more"
    return ""

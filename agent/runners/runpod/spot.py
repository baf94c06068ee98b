"""The spot check of a new pod, before a run is paid on it.

Takes who rents, the campaign and its track; gives a function that says why a pod is not good enough. What the pod
shows of itself and what was decided is remembered (agent/admission/).
"""

from agent.admission.examine import LIMIT_S
from agent.admission.gate import decide
from agent.admission.judgement import wanted
from agent.machines import book
from agent.machines.records import Machine
from agent.machines.renting import Renter
from agent.runners.runpod.hosts import PodHosts
from agent.track import Track

START_S = 60.0  # beyond the check's own limit: Python, and our modules


def spot_check(renter: Renter, campaign_id: int, track: Track, machine: Machine, ssh: PodHosts) -> str:
    """Why it is sent back; empty: it is taken. The training data are not looked at: they are sent by their sums.

    Raises:
        InfraError: it does not answer.
    """
    cuda = ("--cuda",) if track.hardware.kind == "cuda" else ()
    said = ssh.module(machine.name, "agent.admission.__main__", *cuda, within_s=LIMIT_S + START_S)
    text = said.out.decode("utf-8", "replace")
    decided = decide(renter.store, text, wanted(track, {}), lease=book.lease(machine.id), campaign_id=campaign_id)
    return "; ".join(decided.reasons)

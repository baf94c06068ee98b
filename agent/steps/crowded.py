"""Whether new runs wait: other work kept the cores so busy that a run met its limit.

Takes the newest run that ended, and asks the runner what its cores have to spare; gives the slots that may be used.
To wait costs nothing of the budget; a run that is starved costs all of its own and tells nothing.
"""

from collections.abc import Sequence

from agent.clock import Clock
from agent.judge import gates
from agent.setting import Setting
from agent.store import Reads

QUIET = 0.7  # of a core: what a run needs to keep its limits
PATIENCE_S = 1800.0  # after which a run is tried anyway, and if it is starved too, the next waits again


class Crowd:
    """Remembers since when it waits, which a resume need not know."""

    def __init__(self, setting: Setting, clock: Clock) -> None:
        self._setting, self._clock = setting, clock
        self._since: float | None = None

    def free(self, slots: Sequence[str]) -> list[str]:
        """Those of the empty slots that runs may start on now. Says once that it waits, and for what."""
        with self._setting.store.read() as reads:
            starved = _starved(self._setting, reads)
        found = [slot for slot in slots if not starved or _quiet(self._setting, slot)]
        if len(found) == len(slots):
            self._since = None
            return found
        if self._since is None:
            self._since = self._clock.now()
            self._say(f"{starved} met its limit on a core that was busy with other work: waiting until that is over")
        elif self._clock.now() > self._since + PATIENCE_S:
            self._since = None
            return list(slots)
        return found

    def _say(self, words: str) -> None:
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, "waiting", words)


def _quiet(setting: Setting, slot: str) -> bool:
    spare = setting.runner.spare(slot)
    return spare is None or spare >= QUIET


def _starved(setting: Setting, reads: Reads) -> str:
    """The newest run that ended, if it was stopped by its limit for want of its core; else nothing."""
    last = reads.last_done(setting.campaign.id)
    if last is None or last.outcome != "capped":
        return ""
    scored = reads.scored(setting.campaign.id, proposal_id=last.proposal_id, documents=False)
    base = reads.scored(setting.campaign.id, proposal_id=reads.base(setting.campaign.id).id, documents=False)
    usual = [one for one in base if one.measurement.bpb is not None]
    found = [one for one in scored if one.run.id == last.id and gates.starved(setting.track, one, usual)]
    return f"r{last.id}" if found else ""

"""A campaign that could go on and has no slot for it says so: in its log, and in `agent status`.

Takes what is wanted and the slots that there are, while nothing runs; gives words. Whoever has slots tries to have them
again by himself: a backend that rests comes back, a machine that is gone may answer, stock may be there tomorrow.
"""

from collections.abc import Collection, Mapping, Sequence

from agent.clock import REAL, Clock
from agent.placing import Slot
from agent.setting import Setting
from agent.steps.wanted import Wanted

AFTER_S = 60.0  # a machine that is away for a moment is not worth a word
WHAT = "waiting"  # the event
MOST_NAMED = 5  # ideas that the words name


class Stuck:
    def __init__(self, setting: Setting, clock: Clock = REAL) -> None:
        self._setting, self._clock = setting, clock
        self._since: float | None = None
        self._said = ""

    def look(self, items: Sequence[Wanted], slots: Collection[Slot]) -> None:
        """Called while nothing runs and nothing could be started."""
        track = self._setting.track
        found = words(items, slots, {item.rung: track.gpus(item.rung) for item in items})
        if not found:
            self.goes_on()
            return
        now = self._clock.now()
        self._since = now if self._since is None else self._since
        if found == self._said or now - self._since < AFTER_S:
            return
        self._said = found
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, WHAT, found)

    def goes_on(self) -> None:
        self._since, self._said = None, ""


def words(items: Sequence[Wanted], slots: Collection[Slot], gpus: Mapping[str, int]) -> str:
    """Why none of what is wanted has a slot; empty: some has one, or nothing is wanted. `gpus`: of each rung."""
    if not items or any(_fits(item, slot, gpus[item.rung]) for item in items for slot in slots):
        return ""
    asked = dict.fromkeys(name for item in items for name in item.classes)
    there = dict.fromkeys(slot.hardware_class for slot in slots)
    need = f"of {' or '.join(asked)}" if asked else f"with {gpus[items[0].rung]} GPUs"
    ideas = list(dict.fromkeys(f"p{item.proposal.id}" for item in items))
    named = ", ".join(ideas[:MOST_NAMED]) + (f" and {len(ideas) - MOST_NAMED} more" if len(ideas) > MOST_NAMED else "")
    return (
        f"no slot {need} is there for {named}; there are: {', '.join(there) or 'none at all'}. It is tried again by "
        "itself; `agent stop` ends the campaign, which can be resumed"
    )


def _fits(item: Wanted, slot: Slot, gpus: int) -> bool:
    return len(slot.gpus) == gpus and (not item.classes or slot.hardware_class in item.classes)

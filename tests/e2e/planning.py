"""Ideas that are never better, planners that have them, and campaigns that are watched while they run."""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.loop import Loop
from agent.planner import Request
from agent.planner.idea import Idea
from agent.planner.scripted import Scripted
from agent.records import Draft, Mode, Proposal
from agent.search import ALL_MODES
from agent.setting import Setting
from agent.store import Tx
from tests.e2e import world
from tests.filling import draft

WITHIN_S = 300.0  # after which a campaign that does not get there is stopped; many times what it takes


def worse(n: int) -> dict[str, object]:
    """An idea that a careful policy asks about: the knob may not have this value."""
    return world.idea(f"worse {n}", ('"rate": 0.10', f'"rate": {n / 10000}'))


# Changes of declared knobs alone, none of them better.
HARMLESS = [
    world.idea(
        f"knobs {n}",
        ('"width": 4', f'"width": {width}'),
        ('"rate": 0.10', f'"rate": {rate}'),
        ('"bits": 8', f'"bits": {bits}'),
    )
    for n, (width, rate, bits) in enumerate(itertools.product((2, 4), (0.02, 0.05), (4, 6, 8)))
]


def scripted(name: str, ideas: list[dict[str, object]]) -> Scripted:
    return Scripted(tuple(Idea.model_validate(one) for one in ideas), name=name)


def watched(setting: Setting, look: Callable[[Tx], bool]) -> str:
    """Runs the campaign until `look` says that it has seen enough; gives how it ended."""
    started = time.monotonic()

    def show() -> None:
        with setting.store.write() as tx:
            if look(tx) or time.monotonic() > started + WITHIN_S:
                tx.ask(setting.campaign.id, "drain")

    return Loop(setting, show).run().reason


def by_title(setting: Setting) -> dict[str, Proposal]:
    with setting.store.read() as reads:
        return {one.title: one for one in reads.proposals(setting.campaign.id)}


@dataclass(frozen=True)
class Thinking:
    """A planner whose only idea takes long, as a language model's may."""

    seconds: float
    parallel: int = 2
    name: str = "thinking"
    modes: frozenset[Mode] = ALL_MODES
    asked: threading.Event = field(default_factory=threading.Event)

    def propose(self, request: Request) -> Draft | None:
        self.asked.set()
        time.sleep(self.seconds)
        return scripted(self.name, [worse(99)]).propose(request)


def approved(tx: Tx, setting: Setting, title: str, gain: float, **more: object) -> Proposal:
    head = tx.head(setting.campaign.id)
    one = tx.add_proposal(
        setting.campaign.id, draft(title, head.id, expected_gain=gain, **more), baseline_id=head.id, commit=head.commit
    )
    return tx.move(one.id, "approved")

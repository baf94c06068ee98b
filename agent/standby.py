"""A controller that stands by: it leads a campaign whenever nobody else does, until the campaign has ended.

Takes a campaign's name, and what to do to lead it and when it has ended; comes back with nothing left to do.
"""

import time
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path

from agent import named
from agent.errors import BusyError, InfraError, MissingError, StoreError
from trainer.data.place import Say

LOOK_S = 1.0
Lead = Callable[[str], None]
Ended = Callable[[str, str], None]


class Found(Enum):
    LED = "somebody leads it"
    FREE = "nobody leads it"
    OVER = "it has ended"


def stand_by(name: str | None, root: Path, lead: Lead, ended: Ended, say: Say = print) -> None:
    """Whoever leads may die, or be cut off from the store, and so may this one: then it stands by again.

    `ended` is told the campaign and how it ended, where somebody else led it to its end.
    """
    name, told, led_once = _name(name, root), "", False
    while True:
        try:
            found, words = _look(name, root)
            if found is Found.OVER and led_once:
                ended(name, words)
                return
            if found is not Found.LED:
                lead(name)
                return
        except (BusyError, StoreError, MissingError, InfraError) as error:
            words = str(error)
        led_once = True
        if words != told:
            told = words
            say(f"Standing by for {name}: {words}")
        time.sleep(LOOK_S)


def _name(said: str | None, root: Path) -> str:
    from agent.store import where

    with closing(where.opened(root)) as store, store.read() as reads:
        return named.campaign(said, reads.campaigns()).name


def _look(name: str, root: Path) -> tuple[Found, str]:
    from agent.store import where
    from agent.store.lease import holder

    with closing(where.opened(root)) as store, store.read() as reads:
        campaign = named.campaign(name, reads.campaigns())
        who = holder(reads.connection, f"campaign {name}")
    if who is not None:
        return Found.LED, who
    if campaign.state != "running":
        return Found.OVER, f"{campaign.state}, {campaign.reason}"
    return Found.FREE, ""

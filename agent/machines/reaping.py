"""Sweeps with whoever can be asked, for a person: `agent machines reap`, `agent doctor`, and the start of a campaign.

Takes renters; gives `Reaped` and words. Nobody's silence keeps the others from being asked.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from agent.errors import CaddieError
from agent.machines.billing import CHANGES_S
from agent.machines.providers import renters
from agent.machines.records import OVER
from agent.machines.renting import Renter
from agent.machines.sweep import sweep
from agent.records import Campaign
from agent.store import Reads, Store
from agent.store.rows import iso
from agent.store.schema import machines


@dataclass(frozen=True)
class Reaped:
    asked: tuple[str, ...]  # backends
    done: tuple[str, ...]  # of each machine: what was found and ended
    orphans: int  # of them, machines that were costing money
    settled_usd: float
    failed: tuple[str, ...]  # what could not be done, and who could not be asked


def reap(
    asking: Sequence[Renter], silent: Sequence[str] = (), keep: Collection[int] = (), *, dry_run: bool = False
) -> Reaped:
    """`silent`: who can't be asked, in words; `keep`: campaigns that go on."""
    done: list[str] = []
    failed = list(silent)
    asked, orphans, settled = [], 0, 0.0
    for one in asking:
        try:
            swept = sweep(one, keep, dry_run=dry_run)
        except CaddieError as error:
            failed.append(f"{one.backend}: {error}")
            continue
        asked.append(one.backend)
        done += [action.words for action in swept.actions]
        failed += swept.failed
        orphans += len(swept.orphans)
        settled += swept.settled_usd
    return Reaped(tuple(asked), tuple(done), orphans, settled, tuple(failed))


def before(store: Store, workspace: Path, campaign: Campaign, environ: Mapping[str, str] = os.environ) -> None:
    """Before a campaign goes on: what was rented and is wanted by nobody ends, whatever runs this time. What was done,
    and who could not be asked, is in the campaign's log. Asks nobody where nothing was rented lately."""
    with store.read() as reads:
        if not lately(reads, datetime.now(UTC) - timedelta(seconds=CHANGES_S)):
            return
    done = reap(*renters(store, workspace, environ), keep=[campaign.id])
    with store.write() as tx:
        for what in (*done.done, *(f"not done: {why}" for why in done.failed)):
            tx.add_event(campaign.id, "machine", what)


def words(found: Reaped, *, dry_run: bool = False) -> str:
    did = "would be ended or mended" if dry_run else "ended or mended"
    lines = [f"{did}: {what}" for what in found.done]
    lines += [f"NOT DONE: {what}" for what in found.failed]
    if found.settled_usd:
        lines.append(f"settled from bills: {found.settled_usd:.2f} $")
    if not lines:
        who = ", ".join(found.asked)
        return f"nothing to end; asked: {who}" if who else "nothing was ever rented here, and runners.toml names nobody"
    return "\n".join(lines)


def lately(reads: Reads, since: datetime) -> bool:
    """Whether anything was rented that is there, not settled, or ended since then."""
    open_or_late = machines.c.state.not_in(OVER) | machines.c.billed_usd.is_(None) | (machines.c.ended >= iso(since))
    return reads.connection.execute(select(machines.c.id).where(open_or_late).limit(1)).first() is not None

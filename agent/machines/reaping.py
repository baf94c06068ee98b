"""Sweeps with whoever can be asked, for a person: `agent machines reap`, `agent doctor`, and the start of a campaign.

Takes renters; gives `Reaped` and words. Nobody's silence keeps the others from being asked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.errors import CaddieError
from agent.machines.renting import Renter
from agent.machines.sweep import sweep


@dataclass(frozen=True)
class Reaped:
    asked: tuple[str, ...]  # backends
    done: tuple[str, ...]  # of each machine: what was found and ended
    orphans: int  # of them, machines that were costing money
    settled_usd: float
    failed: tuple[str, ...]  # what could not be done, and who could not be asked


def reap(
    renters: Sequence[Renter], silent: Sequence[str] = (), keep: Collection[int] = (), *, dry_run: bool = False
) -> Reaped:
    """`silent`: who can't be asked, in words; `keep`: campaigns that go on."""
    done: list[str] = []
    failed = list(silent)
    asked, orphans, settled = [], 0, 0.0
    for one in renters:
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

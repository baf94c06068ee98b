"""What a run knows of its machine: which one it is on, or why it waits for one.

Takes a transaction of the store; changes the run's row, for whoever asks how the campaign fares.
"""

from sqlalchemy import update

from agent.machines.book import lease
from agent.store import Tx
from agent.store.schema import runs

MOST_WORDS = 1000  # of why a run waits


def at_work(tx: Tx, machine_id: int, run_id: int) -> None:
    """Which machine a run is on; when it was booked there may have been none yet."""
    tx.connection.execute(update(runs).where(runs.c.id == run_id).values(lease=lease(machine_id), reason=""))


def waits(tx: Tx, campaign_id: int, run_id: int, why: str, *, still: bool = False) -> None:
    """Why a run that was handed over is on no machine yet. `still`: that it waits is told already."""
    words = f"waits for a machine: {why}"[:MOST_WORDS]
    if tx.connection.execute(update(runs).where(runs.c.id == run_id).values(reason=words)).rowcount and not still:
        tx.add_event(campaign_id, "machine", words, run_id=run_id)

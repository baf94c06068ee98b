"""One controller at a time: `with hold(store, "night"): ...`; a second gets a BusyError naming the first.

The holder is known by process id and start time, so a kill -9 frees the campaign at once on the same machine.
Where the process can't be looked at (another host, another container), it counts as dead when its heartbeat
is too old; one that is there and gives no sign of life (it hangs, or somebody stopped it), after four times as long.
Whoever was replaced writes nothing more: each of its writes asks, in its own transaction, whether the token in the
table is still its own.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from agent.errors import BusyError, StoreError
from agent.store.clock import moment
from agent.store.open import Store
from agent.store.rows import iso
from agent.store.schema import controllers

HEARTBEAT_S = 3.0
STALE_S = 15.0
HUNG = 4  # times as long for a process that can be seen to be there
_c = controllers.c
_TOKEN = select(_c.token).where(_c.campaign == bindparam("name"))  # asked by every write


class Lease:
    """A campaign that this process holds."""

    def __init__(self, campaign: str) -> None:
        self.campaign = campaign
        self.token = uuid.uuid4().hex
        self.lost = threading.Event()

    def check(self) -> None:
        """Raises BusyError when another took over, as it may after this one gave no sign for too long."""
        if self.lost.is_set():
            raise BusyError(f"{self.campaign} was taken over by another controller; this one stops")

    def fence(self, connection: Connection) -> None:
        """As `check`, but by what the table says inside the transaction that asks."""
        token = connection.execute(_TOKEN, {"name": self.campaign}).scalar()
        if token != self.token:
            self.lost.set()
        self.check()


@contextmanager
def hold(store: Store, name: str, *, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S) -> Iterator[Lease]:
    """Holds the campaign while inside; raises BusyError when a living controller has it."""
    lease = Lease(name)
    with store.write() as tx:
        _take(tx.connection, lease, stale_s)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(store, lease, stop, heartbeat_s), daemon=True, name="lease")
    beat.start()
    try:
        with store.fenced(lease.fence):
            yield lease
    finally:
        stop.set()
        beat.join()
        with suppress(StoreError), store.share() as shared:
            shared.execute(delete(controllers).where(_c.campaign == name, _c.token == lease.token))


def holder(connection: Connection, name: str, *, stale_s: float = STALE_S) -> str | None:
    """The living controller of a campaign, in words; None when there is none."""
    row = connection.execute(select(controllers).where(_c.campaign == name)).mappings().first()
    if row is None or not _alive(row, moment(connection), stale_s):
        return None
    return f"process {row['pid']} on {row['host']} since {row['since']}"


def held_by(connection: Connection, name: str, *, stale_s: float = STALE_S) -> int | None:
    """The process id of the living controller of a campaign, as its own machine counts."""
    row = connection.execute(select(controllers).where(_c.campaign == name)).mappings().first()
    return int(row["pid"]) if row is not None and _alive(row, moment(connection), stale_s) else None


def require(connection: Connection, name: str) -> None:
    """Raises BusyError unless this process holds it: for those who write for the holder by a store of their own."""
    row = connection.execute(select(controllers).where(_c.campaign == name)).mappings().first()
    mine = (place(), os.getpid(), process_started(os.getpid()))
    if row is None or (row["place"], row["pid"], row["process_started"]) != mine:
        raise BusyError(f"{name} is not held by this process, which writes nothing for it")


def refuse(connection: Connection, name: str, *, stale_s: float = STALE_S) -> None:
    """Raises the BusyError that `hold` would raise, and takes nothing."""
    at = moment(connection)
    row = connection.execute(select(controllers).where(_c.campaign == name)).mappings().first()
    if row is not None and _alive(row, at, stale_s):
        raise BusyError(_busy(row, at, stale_s))


def _take(connection: Connection, lease: Lease, stale_s: float) -> None:
    refuse(connection, lease.campaign, stale_s=stale_s)
    connection.execute(delete(controllers).where(_c.campaign == lease.campaign))
    at = moment(connection)
    values = {
        "campaign": lease.campaign,
        "host": socket.gethostname(),
        "place": place(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()) or "",
        "token": lease.token,
        "since": iso(at),
        "heartbeat": iso(at),
    }
    connection.execute(insert(controllers).values(values))


def _busy(row: RowMapping, at: datetime, stale_s: float) -> str:
    age = (at - datetime.fromisoformat(row["heartbeat"])).total_seconds()
    words = (
        f"{row['campaign']} is being run by process {row['pid']} on {row['host']} "
        f"since {row['since']} (last sign of life {max(0.0, age):.0f} s ago). "
        "Look at it with `agent watch`, end it with `agent stop`, or give another name with --campaign."
    )
    if row["place"] != place():
        words += f" If that machine is gone, the campaign is free in {max(0.0, stale_s - age):.0f} s."
    return words


def _alive(row: RowMapping, at: datetime, stale_s: float) -> bool:
    here = row["place"] == place()
    if here and process_started(int(row["pid"])) != str(row["process_started"]):
        return False
    limit = HUNG * stale_s if here else stale_s
    return (at - datetime.fromisoformat(row["heartbeat"])).total_seconds() < limit


def _beat(store: Store, lease: Lease, stop: threading.Event, every_s: float) -> None:
    while not stop.wait(every_s):
        try:
            with store.share() as shared:
                mine = update(controllers).where(_c.campaign == lease.campaign, _c.token == lease.token)
                if shared.execute(mine.values(heartbeat=iso(moment(shared)))).rowcount == 0:
                    lease.lost.set()
                    return
        except StoreError:
            continue  # a full disk or a busy moment: the loop meets the same fault and says so


def place() -> str:
    """Within one boot and one process namespace, a process id can be looked up."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def process_started(pid: int) -> str | None:
    """When a process started, as the kernel counts; None for one that is gone, or dead and not yet reaped."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path("/proc", str(pid), "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZXx" else fields[18]
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return None

"""Who works for the campaigns of a store: each worker process says what it is, and gives signs of life.

Takes connections; gives `Worker` rows. That a worker is gone is found by whoever ends leases (queue.expire).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Select, insert, select, update

from agent.store import clock
from agent.store.rows import now
from agent.store.schema import workers

WorkerState = Literal["working", "draining", "gone"]
_w = workers.c


@dataclass(frozen=True)
class Worker:
    id: int
    name: str
    host: str
    pid: int
    hardware_class: str
    slots: int
    kinds: dict[str, int]
    """Slots by hardware class."""
    refused: str
    level: str  # of the walls around its runs
    state: WorkerState
    since: str
    ended: str | None


def register(
    connection: Connection,
    *,
    name: str,
    host: str,
    pid: int,
    hardware_class: str,
    slots: int,
    level: str,
    lease_s: float,
    kinds: Mapping[str, int] | None = None,
) -> int:
    """`kinds`: slots by hardware class, where they are of several; then `slots` are those that can be used at once."""
    values = {
        "name": name,
        "host": host,
        "pid": pid,
        "hardware_class": hardware_class,
        "slots": slots,
        "kinds": dict(kinds or {hardware_class: slots}),
        "level": level,
        "state": "working",
        "since": now(),
        "until": clock.at(connection) + lease_s,
    }
    key = connection.execute(insert(workers).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def leave(connection: Connection, worker_id: int) -> None:
    connection.execute(update(workers).where(_w.id == worker_id).values(state="gone", ended=now(), until=0.0))


def refuse(connection: Connection, worker_id: int, reason: str) -> None:
    """It takes nothing more, until it is started again."""
    connection.execute(update(workers).where(_w.id == worker_id, _w.refused == "").values(refused=reason))


def classes(connection: Connection) -> list[str]:
    """Hardware classes of all that ever came."""
    found = connection.execute(select(_w.hardware_class, _w.kinds).distinct()).all()
    return sorted({name for first, kinds in found for name in (first, *kinds)})


def alive(connection: Connection) -> list[Worker]:
    """Those that have given a sign of life lately."""
    return _read(connection, select(workers).where(_w.state != "gone", _w.until > clock.at(connection)))


def everyone(connection: Connection) -> list[Worker]:
    """Those that are gone, too."""
    return _read(connection, select(workers))


def _read(connection: Connection, query: Select[tuple[object, ...]]) -> list[Worker]:
    names = Worker.__dataclass_fields__
    rows = connection.execute(query.order_by(_w.id)).mappings()
    found = [Worker(**{name: row[name] for name in names}) for row in rows]
    return [replace(one, kinds=one.kinds or {one.hardware_class: one.slots}) for one in found]

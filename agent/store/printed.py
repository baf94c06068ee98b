"""Logs of jobs that workers hold, piece by piece as they were printed.

Takes connections of `Store.share` and leases of `agent.store.queue`; gives where a log ends, and its bytes.
"""

from collections.abc import Collection

from sqlalchemy import Connection, func, insert, select

from agent.store.queue import Held, hold
from agent.store.schema import job_logs

_l = job_logs.c


def add(connection: Connection, held: Held, name: str, at: int, body: bytes) -> int | None:
    """Adds a piece to a log, if it begins where the log ends; gives where it ends now. None: the lease is over."""
    if not hold(connection, held):
        return None
    here = (_l.job_id == held.job_id, _l.name == name)
    last = func.max(_l.at + func.length(_l.body))
    end = int(connection.execute(select(func.coalesce(last, 0)).where(*here)).scalar_one())
    if body and at == end:
        values = {"job_id": held.job_id, "name": name, "at": at, "body": body}
        connection.execute(insert(job_logs).values(values))
        end += len(body)
    return end


def ends(connection: Connection, job_ids: Collection[int]) -> dict[tuple[int, str], int]:
    """How long each log of these jobs is."""
    end = func.max(_l.at + func.length(_l.body))
    query = select(_l.job_id, _l.name, end).where(_l.job_id.in_(list(job_ids)))
    rows = connection.execute(query.group_by(_l.job_id, _l.name))
    return {(job_id, name): int(size) for job_id, name, size in rows}


def read(connection: Connection, job_id: int, name: str, start: int, most: int) -> bytes:
    """What is known of a log from byte `start` on."""
    beyond = _l.at + func.length(_l.body) > start
    query = (
        select(_l.at, _l.body).where(_l.job_id == job_id, _l.name == name, beyond, _l.at < start + most).order_by(_l.at)
    )
    found = b"".join(body[max(0, start - at) :] for at, body in connection.execute(query))
    return found[:most]

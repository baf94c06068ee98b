"""Jobs that workers take, held by leases: who may do what to a job, decided in the database.

A controller offers a job; a worker takes it and holds it for some seconds, which each sign of life prolongs. A lease
that has run out is over, whoever finds it so: its token is refused from then on. Before candidate code began, the job
waits for the next worker; after it, the job is lost, because a run that began is counted and never drawn again.

Takes connections of `Store.share` (workers, and whoever looks for leases that ran out) or a `Tx` (a controller).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, func, insert, or_, select, update

from agent.store import clock
from agent.store.rows import now
from agent.store.schema import jobs, runs, trunk, workers
from agent.store.turns import Waiting, in_turn
from agent.store.writes import Tx

JobRowState = Literal["waiting", "taken", "running", "done", "lost"]
MOST_TAKES = 5  # of one job, by workers that went before they began
IN_FLIGHT = ("waiting", "taken", "running")
_HELD = ("taken", "running")
_j = jobs.c
_UNDER_WAY = select(runs.c.id).where(runs.c.state.in_(("queued", "running")))


@dataclass(frozen=True)
class Held:
    """A lease: the token says which one of the job's."""

    job_id: int
    token: int


@dataclass(frozen=True)
class Taken:
    """What a worker must know of a job that it holds."""

    held: Held
    run_id: int
    order: str
    inputs: dict[str, str]  # file in the job folder -> sha256
    slot: str


@dataclass(frozen=True)
class Wanted:
    """Which jobs a worker can do."""

    hardware_classes: Collection[str]
    data: Collection[str]  # sha256 of the corpora that it has
    levels: Collection[str]  # of walls that it can promise


class Sign(NamedTuple):
    """That a job is alive."""

    held: Held
    seconds: float  # of its slot, so far
    beat: str  # the shepherd's heartbeat, as it wrote it


class Answer(NamedTuple):
    """What a worker learns from its signs of life."""

    lost: frozenset[int]  # jobs whose lease is over: they must be ended, and nothing they bring is taken
    cancelled: frozenset[int]


@dataclass(frozen=True)
class JobRow:
    """A job as its controller sees it."""

    id: int
    run_id: int
    state: JobRowState
    cancel: bool
    token: int
    worker: str  # name of the one that has or had it
    worker_id: int | None
    seconds: float
    beat: str
    result: str
    outputs: dict[str, str]
    reason: str
    began: bool
    machine: bool  # its worker was gone, or was told to stop


class Laid(NamedTuple):
    """A job as it was laid out."""

    order: str
    slot: str  # of the run, as its controller names it


# ------------------------------------------------------------ controllers


def offer(
    tx: Tx,
    *,
    run_id: int,
    order: str,
    inputs: Mapping[str, str],
    hardware_class: str,
    data_sha: str,
    minimum: str,
    gpus: int = 0,
    wall_s: float = 0.0,
    only: int | None = None,
) -> bool:
    """Lays a run out for workers, once; False: it was there. `only`: for this worker alone."""
    if tx.connection.execute(select(_j.id).where(_j.run_id == run_id)).scalar() is not None:
        return False
    values = {
        "campaign_id": tx.run(run_id).campaign_id,
        "run_id": run_id,
        "order_json": order,
        "inputs": dict(inputs),
        "hardware_class": hardware_class,
        "gpus": gpus,
        "wall_s": wall_s,
        "only": only,
        "data_sha": data_sha,
        "minimum": minimum,
        "state": "waiting",
        "outputs": {},
        "created": now(),
    }
    tx.connection.execute(insert(jobs).values(values))
    return True


def ask_to_end(tx: Tx, run_id: int, result: str) -> None:
    """What has not begun ends at once with `result`; what runs is ended by its worker."""
    waits = update(jobs).where(_j.run_id == run_id, _j.state.in_(("waiting", "taken")))
    ended = {"state": "done", "result": result, "cancel": 1, "ended": now()}
    if tx.connection.execute(waits.values(ended)).rowcount == 0:
        tx.connection.execute(update(jobs).where(_j.run_id == run_id, _j.state == "running").values(cancel=1))


def look(connection: Connection, run_ids: Iterable[int]) -> dict[int, JobRow]:
    """The jobs of these runs, by run."""
    query = (
        select(jobs, workers.c.name.label("worker"))
        .join(workers, workers.c.id == _j.worker_id, isouter=True)
        .where(_j.run_id.in_(list(run_ids)))
    )
    return {int(row["run_id"]): _job(row) for row in connection.execute(query).mappings()}


def of_campaign(connection: Connection, campaign_id: int) -> dict[int, Laid]:
    """What was laid out for runs that are not over, and for those of the trunk, by run."""
    lasting = select(trunk.c.proposal_id).where(trunk.c.campaign_id == campaign_id)
    wanted = or_(runs.c.state.in_(("queued", "running")), and_(_j.state == "done", runs.c.proposal_id.in_(lasting)))
    query = (
        select(_j.run_id, _j.order_json, runs.c.slot)
        .join(runs, runs.c.id == _j.run_id)
        .where(_j.campaign_id == campaign_id, wanted)
        .order_by(_j.run_id)
    )
    return {int(run_id): Laid(order, slot or "") for run_id, order, slot in connection.execute(query)}


def expire(connection: Connection, most_takes: int = MOST_TAKES) -> int:
    """Ends the leases that have run out; gives how many. Safe for anyone to call at any time."""
    over = and_(_j.state.in_(_HELD), _j.until <= clock.at(connection))
    found = connection.execute(
        select(_j.id, _j.state, _j.token, workers.c.name)
        .join(workers, workers.c.id == _j.worker_id)
        .where(over)
        .with_for_update(skip_locked=True, of=jobs)
    ).all()
    for job_id, state, token, name in found:
        again = state == "taken" and token < most_takes
        values: dict[str, object] = {"state": "waiting", "worker_id": None, "slot": ""}
        if not again:
            times = f", the last of {token} that took it," if state == "taken" else ""
            reason = f"worker {name}{times} gave no more sign of life"
            values = {"state": "lost", "reason": reason, "machine": 1, "ended": now()}
        connection.execute(update(jobs).where(_j.id == job_id).values(values))
    nowhere = select(workers.c.id).where(or_(workers.c.state == "gone", workers.c.refused != ""))
    stuck = update(jobs).where(_j.state == "waiting", _j.only.in_(nowhere))
    connection.execute(stuck.values(state="lost", reason="the worker that it was for is gone", machine=1, ended=now()))
    # Nobody is waited for: a worker that gives a sign of life just now holds its own row, and is not gone.
    silent = select(workers.c.id).where(workers.c.state != "gone", workers.c.until <= clock.at(connection))
    for worker_id in connection.execute(silent.with_for_update(skip_locked=True)).scalars().all():
        connection.execute(update(workers).where(workers.c.id == worker_id).values(state="gone", ended=now()))
    return len(found)


# ------------------------------------------------------------ workers


def waiting(connection: Connection, worker_id: int, wanted: Wanted, most: int) -> list[Waiting]:
    """What the worker may take, in turn; `most` of each campaign. Nothing for one that was refused."""
    fits = (
        _j.state == "waiting",
        _j.run_id.in_(_UNDER_WAY),  # a run that its controller gave up is nobody's any more
        _j.hardware_class.in_(list(wanted.hardware_classes)),
        _j.data_sha.in_(list(wanted.data)),
        _j.minimum.in_(list(wanted.levels)),
        or_(_j.only.is_(None), _j.only == worker_id),
        select(workers.c.refused).where(workers.c.id == worker_id).scalar_subquery() == "",
    )
    columns = (_j.id, _j.campaign_id, _j.hardware_class, _j.gpus, _j.wall_s)
    nth = func.row_number().over(partition_by=_j.campaign_id, order_by=_j.id).label("nth")
    each = select(*columns, nth).where(*fits).subquery()
    found = connection.execute(select(each).where(each.c.nth <= most)).all() if wanted.data else []
    if not found:
        return []
    gpus = func.sum(case((_j.gpus > 1, _j.gpus), else_=1))
    held = connection.execute(select(_j.campaign_id, gpus).where(_j.state.in_(_HELD)).group_by(_j.campaign_id))
    return in_turn([Waiting(*row[:-1]) for row in found], {campaign_id: int(count) for campaign_id, count in held})


def take(connection: Connection, worker_id: int, slots: Mapping[int, str], *, lease_s: float) -> list[Taken]:
    """Those of the jobs that nobody else is taking just now. `slots`: where each is to run."""
    columns = (_j.id, _j.token, _j.run_id, _j.order_json, _j.inputs)
    query = select(*columns).where(_j.id.in_(list(slots)), _j.state == "waiting")
    query = query.with_for_update(skip_locked=True, of=jobs)
    found = {row[0]: row for row in connection.execute(query)}
    taken = []
    for wanted_id, slot in slots.items():
        if wanted_id not in found:
            continue
        job_id, token, run_id, order, inputs = found[wanted_id]
        values = {"state": "taken", "token": token + 1, "worker_id": worker_id, "slot": slot, "taken": now()}
        until = clock.at(connection) + lease_s
        connection.execute(update(jobs).where(_j.id == job_id).values(**values, until=until))
        taken.append(Taken(Held(job_id, token + 1), run_id, order, dict(inputs), slot))
    return taken


def data_wanted(connection: Connection, wanted: Wanted) -> list[int]:
    """Campaigns with jobs that only the data keeps a worker from."""
    query = select(_j.campaign_id).where(
        _j.state == "waiting",
        _j.hardware_class.in_(list(wanted.hardware_classes)),
        _j.minimum.in_(list(wanted.levels)),
        _j.data_sha.not_in(list(wanted.data)),
    )
    return list(connection.execute(query.distinct().order_by(_j.campaign_id)).scalars())


def begin(connection: Connection, held: Held, *, lease_s: float) -> bool:
    """Before the first candidate code starts. False: the lease is over, or the job was asked to end."""
    mine = update(jobs).where(_ours(connection, held), _j.state == "taken", _j.cancel == 0)
    until = clock.at(connection) + lease_s
    return connection.execute(mine.values(state="running", started=now(), until=until)).rowcount == 1


def signs(
    connection: Connection, worker_id: int, alive: Sequence[Sign], *, lease_s: float, draining: bool = False
) -> Answer:
    """Prolongs the worker's own life and its leases; says which of them are over, and which jobs are to end.

    `draining`: it takes nothing more, so nobody should count on its slots.
    """
    values = {"state": "draining" if draining else "working", "ended": None}
    me = update(workers).where(workers.c.id == worker_id)
    connection.execute(me.values(**values, until=clock.at(connection) + lease_s))
    lost = set()
    for held, seconds, beat in alive:
        sign = {"until": clock.at(connection) + lease_s, "seconds": seconds, "beat": beat, "worker_id": worker_id}
        if connection.execute(update(jobs).where(_ours(connection, held)).values(sign)).rowcount == 0:
            lost.add(held.job_id)
    ids = [one.held.job_id for one in alive]
    asked = select(_j.id).where(_j.id.in_(ids), _j.cancel == 1)
    cancelled = frozenset(connection.execute(asked).scalars()) if ids else frozenset()
    return Answer(frozenset(lost), cancelled - lost)


def finish(connection: Connection, held: Held, *, result: str, outputs: Mapping[str, str], seconds: float) -> bool:
    """Hands in what came of it; False, and nothing is kept, if the lease is over."""
    values = {"state": "done", "result": result, "outputs": dict(outputs), "seconds": seconds, "ended": now()}
    return connection.execute(update(jobs).where(_ours(connection, held)).values(values)).rowcount == 1


def lose(connection: Connection, held: Held, *, reason: str, seconds: float, began: bool, told: bool = False) -> bool:
    """The worker's machine failed: the run is lost, or waits for another worker if nothing had begun. `told`: it was
    told to stop."""
    mine = _ours(connection, held)
    if not began:
        back = update(jobs).where(mine, _j.state == "taken", _j.token < MOST_TAKES)
        if connection.execute(back.values(state="waiting", worker_id=None, slot="")).rowcount == 1:
            return True
    values = {"state": "lost", "reason": reason, "seconds": seconds, "machine": int(told), "ended": now()}
    return connection.execute(update(jobs).where(mine).values(values)).rowcount == 1


def hold(connection: Connection, held: Held) -> bool:
    """Keeps the row from everybody else until the transaction ends, if the lease stands."""
    query = select(_j.id).where(_ours(connection, held)).with_for_update()
    return connection.execute(query).first() is not None


def _ours(connection: Connection, held: Held) -> ColumnElement[bool]:
    """Whether this lease stands: by its token, and by the clock that all share."""
    alive = (_j.state.in_(_HELD), _j.until > clock.at(connection))
    return and_(_j.id == held.job_id, _j.token == held.token, *alive)


def _job(row: RowMapping) -> JobRow:
    return JobRow(
        id=row["id"],
        run_id=row["run_id"],
        state=row["state"],
        cancel=bool(row["cancel"]),
        token=row["token"],
        worker=row["worker"] or "",
        worker_id=row["worker_id"],
        seconds=row["seconds"],
        beat=row["beat"],
        result=row["result"],
        outputs=dict(row["outputs"]),
        reason=row["reason"],
        began=row["started"] is not None,
        machine=bool(row["machine"]),
    )

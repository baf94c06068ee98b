"""One job on a far machine, from the moment that it is placed until all that came of it is here.

Takes the machine, the mirror folder and the order. Every step may be cut off and done again, by this process or the
next: what was done is seen from the mirror and from the machine. Training and scoring are two jobs there; the second
one's code and texts are sent when nothing of the first runs any more.
"""

import asyncio
import base64
import contextlib
import errno
import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.errors import CaddieError, InfraError
from agent.job.folder import JobPaths, JobResult, Loss
from agent.job.reading import read_plain, read_small, there
from agent.job.writing import write_aside
from agent.judge.texts import documents, hidden_documents
from agent.runners.far import mirror
from agent.runners.far.code import below
from agent.runners.far.mirror import JUDGING_LOGS, TRAINING_LOGS, lose
from agent.runners.order import Order
from agent.runners.ssh import mirror as where
from agent.runners.ssh.answers import Dead, Jobs, Nothing, Seen, Share
from agent.runners.ssh.depot import Tree, training_data, tree_of
from agent.runners.ssh.link import Refused, Unreachable
from agent.runners.ssh.machine import Machine
from agent.runners.ssh.outcome import cancelled, joined, untrained
from agent.runners.turns import words
from agent.tables import GRACE_S
from sandbox.limits import MB

LOOK_S = 1.0
AGAIN_S = 2.0
# After its time a shepherd has ended its job whatever happens, and so has one that was late to start.
SURELY_OVER_S = 60.0
MOST_WHY = 300
NOTED_S = 20.0  # how old the word may be that a job which waits there may begin now
MOST_REFERENCE = 2_000_000_000
FULL = (errno.ENOSPC, errno.EDQUOT)
LATE_S = 30.0  # of scoring, by our own clock, beyond its limit and what the start takes


class Errand:
    def __init__(self, machine: Machine, folder: Path, order: Order, corpus: Path) -> None:
        self.machine = machine
        self.fenced = False
        self._folder, self._paths = folder, JobPaths(folder)
        self._order, self._corpus = order, corpus
        self._track = order.limited
        self._at = where.read(folder)
        self._silent_since: float | None = None
        self._before_s = 0.0
        self._grew = False
        self._soon = asyncio.Event()

    @property
    def _name(self) -> str:
        return name_of(self._folder)

    def hurry(self) -> None:
        self._soon.set()

    async def run(self) -> None:
        """Until the mirror holds a result or a tombstone."""
        while not there(self._paths.result) and not there(self._paths.lost):
            try:
                await self._step()
            except OSError as error:
                with contextlib.suppress(OSError):
                    await self._hindered(error)
                await self._rest(AGAIN_S)
        with contextlib.suppress(OSError):
            await self._clean()

    async def _step(self) -> None:
        """Raises OSError for what failed here: links and machines say in words of their own what failed there."""
        try:
            result = await self._whole()
            self._silent_since = None
            if result is None:
                await self._rest(LOOK_S)
            else:
                write_aside(self._paths.result, result.to_json())
        except (Unreachable, Refused) as error:
            self._silent(str(error))
            await self._rest(AGAIN_S)
        except (CaddieError, ValueError) as error:
            await self._give_up(str(error)[:1000])
            await self._rest(AGAIN_S)

    # ---------------------------------------------------------------- the steps

    async def _whole(self) -> JobResult | None:
        """The result, if the job is over and all is here; None: it is not over."""
        if there(self._paths.cancel) and self._known.asked is None:
            return cancelled(self._order)
        trained = await self._trained() if "train" in self._order.phases else untrained(self._order)
        if trained is None:
            return None
        scored = self._track.script.score and "judge" in self._order.phases
        if trained.outcome != "ok" or not scored:
            return trained
        if self._known.judged is None and there(self._paths.cancel):
            return replace(trained, outcome="cancelled", reason="cancelled before it was scored")
        self._before_s = trained.slot_s
        judged = await self._judged(trained)
        return None if judged is None else joined(self._order, trained, judged)

    async def _trained(self) -> JobResult | None:
        if self._known.asked is None:
            await self._begin()
        elif self._known.waits:
            await self.machine.ready()  # of one that is not there nobody knows that it waits still
            self._may_begin()
        seen = await self._look(self._name)
        if seen.state != "done":
            self._waits(seen.waits if seen.state == "starting" else "")
        if seen.state != "lost" and not self._known.met:
            self._note(met=True, asked=time.time() if seen.state == "starting" else self._known.asked)
        if seen.state == "lost" and not await self._begun():
            await self._begin()
            return None
        if seen.state in ("starting", "running") and surely_over(self._folder, self._known):
            raise InfraError("its time is over, and still it runs there")
        return await self._result(self._name, seen)

    async def _begin(self) -> None:
        self._wanted()
        machine, tree = self.machine, self._code()
        environment = (await machine.ready()).environment
        await machine.send(tree.blobs())
        data = await machine.lay(training_data(self._track, self._corpus), "link", machine.host.shelf)
        order = replace(self._order, phases=("train",))
        self._note(asked=time.time(), met=False, environment=environment)
        await machine.ask(
            Nothing,
            "begin",
            job=self._name,
            order=order.to_json(),
            code=dict(tree.files),
            data=data,
            slot=int(self._known.slot.rpartition("/")[2]),
            before=machine.soon(),
        )

    def _wanted(self) -> None:
        """Raises InfraError: it was given up. It may have run, and what ended it may not have been written down."""
        if self._known.given_up:
            raise InfraError(self._known.given_up)

    async def _begun(self) -> bool:
        """Whether the machine has the job at all: the link may have broken under the question that began it."""
        return self._name in (await self.machine.ask(Jobs, "there")).jobs

    def _may_begin(self) -> None:
        """It waits there for its slot, and begins at a look: its time counts from then."""
        if self._known.asked is not None and time.time() - self._known.asked > NOTED_S:
            self._note(asked=time.time())

    def _waits(self, why: str) -> None:
        if why[:MOST_WHY] != self._known.waits:
            self._note(waits=why[:MOST_WHY])

    async def _judged(self, trained: JobResult) -> JobResult | None:
        job = f"{self._name}.judge"
        if self._known.judged is None or job not in (await self.machine.ask(Jobs, "there")).jobs:
            self._waits(await self._send_judge(job, trained))
            if self._known.waits:
                self._may_begin()
                return None
        seen = await self._look(job)
        self._waits(seen.waits if seen.state == "starting" else "")
        assert self._known.judged is not None
        late_s = self._judge_wall(trained) + GRACE_S + LATE_S
        if seen.state in ("starting", "running") and time.time() > self._known.judged + late_s:
            await self.machine.ask(Nothing, "cancel", job=job)  # its own clock should have ended it
        if seen.state == "done":
            if seen.reference:
                await self.machine.fetch(f"{job}/{self._paths.reference.name}", self._paths.reference, MOST_REFERENCE)
            mirror.small(self._paths.measure, seen.measure)
        return await self._result(job, seen)

    async def _send_judge(self, job: str, trained: JobResult) -> str:
        """The artifact is fetched first: what is scored there must be what is kept here. One that was trained elsewhere
        is sent. Gives why it has to wait, where another campaign has its run there meanwhile."""
        self._wanted()
        script, alone = self._track.script, not trained.phases
        artifact = self._paths.out / script.artifact
        most = self._track.limits.disk_mb * MB
        if not there(artifact):
            artifact.parent.mkdir(parents=True, exist_ok=True)
            await self.machine.fetch(f"{self._name}/out/{script.artifact}", artifact, most)
        if not (await self.machine.ask(Dead, "dead", job=self._name)).dead:
            raise Unreachable("something of its training still runs")
        share = await self.machine.ask(Share, "slot", number=int(self._known.slot.rpartition("/")[2]))
        if share.taken:
            return words(share.taken)
        tree, sha = self._code(), hashlib.sha256(read_plain(self._paths.out, script.artifact, most)).hexdigest()
        if alone:
            await self.machine.send({**tree.blobs(), sha: artifact})
        known = documents(self._track, self._corpus), hidden_documents(self._track, self._corpus)
        texts = [Path(one.path).read_bytes() for one in known if one is not None]
        reference = self._order.auditing.reference
        if reference is not None:
            with_scores = self._folder.parent / reference.path
            texts += [with_scores.read_bytes()] if with_scores.is_file() else []
        order = replace(self._order, phases=("judge",), wall_s=self._judge_wall(trained) + GRACE_S)
        header = {
            "job": job,
            "trained": "" if alone else self._name,
            "order": order.to_json(),
            "code": dict(tree.files),
            "artifact": sha,
            "documents": _placeless(known[0]),
            "hidden": _placeless(known[1]),
            "reference": len(texts) > sum(one is not None for one in known),
            **{name: value for name, value in asdict(share).items() if name != "taken"},
            "before": self.machine.soon(),
        }
        by = await self.machine.judge(header, texts, before=self._judging)
        if by:
            self._note(judged=None)
        return words(by) if by else ""

    def _judging(self) -> None:
        now, facts = time.time(), self.machine.facts
        environment = "" if facts is None else facts.environment
        self._note(asked=self._known.asked or now, judged=now, environment=environment)

    def _code(self) -> Tree:
        return tree_of(below(self._paths.code))

    def _judge_wall(self, trained: JobResult) -> float:
        left = max(1.0, self._order.wall_s - trained.slot_s - GRACE_S)
        return min(self._track.limits.judge_wall_s(), left)

    # ---------------------------------------------------------------- what the machine says

    async def _look(self, job: str) -> Seen:
        """Its state there; its logs and its sign of life come into the mirror on the way."""
        if there(self._paths.cancel):
            await self.machine.ask(Nothing, "cancel", job=job)
        names = TRAINING_LOGS if job == self._name else JUDGING_LOGS
        before = mirror.sizes(self._folder, names)
        seen = await self.machine.look(job, before)
        for name, text in seen.logs.items():
            if name in before:
                most = mirror.most_of(name, self._track.limits.log_mb)
                mirror.append(self._folder, name, before[name], base64.b64decode(text), most)
        self._grew = mirror.sizes(self._folder, names) != before
        mirror.beat(self._folder, seen.beat, self._before_s)
        return seen

    async def _result(self, job: str, seen: Seen) -> JobResult | None:
        """Of a job that is over, once all of its logs are here."""
        if seen.state == "lost":
            loss = seen.loss or Loss(True, self._order.wall_s, "it was lost there, nobody says how")
            used = min(max(0.0, loss.slot_s) + self._before_s, self._order.wall_s)
            lose(self._folder, Loss(loss.ran or self._before_s > 0, used, loss.reason[:1000]))
            return None
        if seen.state == "done" and self._grew:
            self._soon.set()  # there may be more
        if seen.state != "done" or self._grew:
            return None
        if job == self._name:
            mirror.small(self._paths.spec, seen.spec)
        result = JobResult.from_json(seen.result or "")
        if result.run_id != self._order.run_id:
            raise InfraError(f"the result there is of r{result.run_id}")
        return result

    async def _clean(self) -> bool:
        """Whether nothing of it runs or lies there any more. If not, the next sweep ends it."""
        try:
            ends = [await self.machine.end(job) for job in (f"{self._name}.judge", self._name)]
        except (CaddieError, OSError):  # what can't be asked may still be given up
            return False
        if all(ends):
            self._note(ended=True)
        return self._known.ended

    async def _give_up(self, why: str) -> None:
        """What went wrong there is not the idea's doing. Its seed is free for another try once nothing of it runs."""
        if self._known.asked is None:
            lose(self._folder, Loss(False, 0.0, why))
            return
        self._note(given_up=why)
        if await self._clean() or self.fenced or surely_over(self._folder, self._known):
            lose(self._folder, Loss(True, self._order.wall_s, why))

    async def _hindered(self, error: OSError) -> None:
        """Something could not be read or written here. What runs there goes on, and what came of it waits there: for
        room on this disk as long as it takes, for anything else until nothing of it can be running any more."""
        if error.errno not in FULL and surely_over(self._folder, self._known):
            await self._give_up(str(error)[:1000])

    def _silent(self, why: str) -> None:
        """A machine that says nothing: the run is lost once nothing of it can be running there any more."""
        now = time.time()
        self._silent_since = self._silent_since or now
        quiet = now - self._silent_since > self.machine.host.lost_after_s
        if self.fenced or (quiet and surely_over(self._folder, self._known)):
            ran = self._known.asked is not None
            lose(self._folder, Loss(ran, self._order.wall_s if ran else 0.0, why, machine=True))

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._soon.wait(), seconds)
        except TimeoutError:
            return
        self._soon.clear()

    @property
    def _known(self) -> where.Placed:
        assert self._at is not None
        return self._at

    def _note(self, **changed: Any) -> None:
        noted = replace(self._known, **changed)
        where.write(self._folder, noted)
        self._at = noted


def name_of(folder: Path) -> str:
    """Of a job there: its campaign, and what its folder here is called."""
    return ".".join((folder.parents[1].name, folder.parent.name, folder.name))


def surely_over(folder: Path, known: where.Placed) -> bool:
    """Whether nothing of a job can run any more, wherever it is: its shepherd keeps its time, link or no link."""
    try:
        wall_s = Order.from_json(read_small(JobPaths(folder).order) or "").wall_s
    except ValueError:
        return True
    if known.asked is None:
        return True
    return time.time() > max(known.asked, known.judged or 0.0) + wall_s + SURELY_OVER_S


def _placeless(known: Any) -> dict[str, object] | None:
    return None if known is None else {**asdict(known), "path": ""}

"""What goes wrong, one word each, and when: drawn from one seed, so that a failure can be had again as far as timing
allows.

Takes a `Field` of all that can fail; `plan` gives the moments, `Weather` makes it so.
"""

import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.boxes import Box
from tests.chaos.clocks import Clock
from tests.chaos.pods import Account
from tests.chaos.scene import Scene
from tests.postgres import Server
from tests.runpod import Course, Fault
from tests.runpod_pods import PLACES, PRICES, StandPod
from tests.slurm import NODES, Cluster

HOURS = (-7200, -90, 90, 7200)  # by which a clock jumps, in seconds
Calm = Callable[[], None]
"""Ends a storm."""


@dataclass(frozen=True)
class Field:
    """All that can fail."""

    scene: Scene
    boxes: dict[str, Box]
    account: Account
    cluster: Cluster
    database: Server
    clock: Clock
    desk: Path
    """The small disk that the controller's workspace is on."""

    def reached(self) -> list[Box]:
        """Every machine over ssh that is there."""
        return [*self.boxes.values(), *(self.account.boxes[pod.id] for pod in self.pods())]

    def pods(self) -> list[StandPod]:
        return [pod for pod in self.account.living() if pod.id in self.account.boxes]


Storm = Callable[[Field, random.Random], Calm]


def nothing() -> None:
    """Some storms are over as soon as they have come."""


def lead(at: Field, draw: random.Random) -> Calm:
    at.scene.kill("lead")
    return nothing


def worker(at: Field, draw: random.Random) -> Calm:
    at.scene.kill("worker")
    return nothing


def database(at: Field, draw: random.Random) -> Calm:
    at.database.kill()
    return at.database.start


def cut(at: Field, draw: random.Random) -> Calm:
    draw.choice(at.reached()).cut()
    return nothing


def halfopen(at: Field, draw: random.Random) -> Calm:
    """The connections are there and say nothing; later they are gone."""
    box = draw.choice(at.reached())
    box.cut(signal.SIGSTOP)

    def calm() -> None:
        box.cut(signal.SIGKILL)

    return calm


def slurmd(at: Field, draw: random.Random) -> Calm:
    """Of one node; what it has started goes on."""
    name = draw.choice(sorted(NODES))
    if not at.cluster.up(name):
        return nothing
    at.cluster.kill_slurmd(name)
    return lambda: at.cluster.start_slurmd(name) if at.cluster.up(name) else None


def node(at: Field, draw: random.Random) -> Calm:
    """Its power goes, and comes back."""
    name = draw.choice(sorted(NODES))
    at.cluster.kill(name)
    return lambda: at.cluster.start_one(name)


def slurmctld(at: Field, draw: random.Random) -> Calm:
    at.cluster.kill("slurmctld")
    return lambda: at.cluster.start_one("slurmctld")


def vanish(at: Field, draw: random.Random) -> Calm:
    with at.account.lock:
        for pod in at.pods()[:1]:
            pod.course.vanished = pod.age(at.account.at)
    return nothing


def hang(at: Field, draw: random.Random) -> Calm:
    """Every process of a pod stops, and goes on later."""
    there = at.pods()
    if not there:
        return nothing
    box = at.account.boxes[draw.choice(there).id]
    box.freeze()
    return box.thaw


def stuck(at: Field, draw: random.Random) -> Calm:
    """Pods to come never run, run without a port, end by themselves, or cost more than the list says."""
    mine = [
        Course(running=None),
        Course(0, 0, port=None),
        Course(0, 0, 0, exited=draw.uniform(5, 20)),
        Course(0, 0, 0),
        Course(0, 0, 0, dearer=1.5),
    ]
    at.account.courses.extend(mine)

    def calm() -> None:
        with at.account.lock:
            left = [course for course in at.account.courses if not any(course is one for one in mine)]
            at.account.courses.clear()
            at.account.courses.extend(left)

    return calm


def liar(at: Field, draw: random.Random) -> Calm:
    """A pod to come says that it is where nobody listens, where nobody answers, or where another machine is."""
    silent = socket.create_server(("127.0.0.1", 0))
    other = draw.choice(at.reached()).port
    at.account.lie_next = draw.choice([silent.getsockname()[1], other, 9])

    def calm() -> None:
        at.account.lie_next = 0
        silent.close()

    return calm


def soldout(at: Field, draw: random.Random) -> Calm:
    at.account.none_left = {(kind, place) for kind in PRICES for place in PLACES if draw.random() < 0.8}

    def calm() -> None:
        at.account.none_left = set()

    return calm


def limits(at: Field, draw: random.Random) -> Calm:
    return _storm(at, draw, ("429",), 0.7)


def errors(at: Field, draw: random.Random) -> Calm:
    """Some of what fails was done all the same."""
    return _storm(at, draw, ("500", "500 done", "garbage"), 0.6)


def disk(at: Field, draw: random.Random) -> Calm:
    """That of a machine is full."""
    box = draw.choice(at.reached())
    box.fill()
    return box.clean


def desk(at: Field, draw: random.Random) -> Calm:
    """The controller's own is full."""
    path = at.desk / "ballast"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 65536):
            pass
    return path.unlink


def clock(at: Field, draw: random.Random) -> Calm:
    at.clock.jump(draw.choice(HOURS))
    return lambda: at.clock.jump(0)


def _storm(at: Field, draw: random.Random, faults: tuple[Fault, ...], often: float) -> Calm:
    mine = random.Random(draw.random())
    at.account.storm = lambda method, path: mine.choice(faults) if mine.random() < often else None

    def calm() -> None:
        at.account.storm = lambda method, path: None

    return calm


ALL: tuple[Storm, ...] = (
    *(lead, worker, database, cut, halfopen, slurmd, node, slurmctld, vanish, hang, stuck, liar, soldout),
    *(limits, errors, disk, desk, clock),
)


@dataclass(frozen=True)
class Moment:
    at_s: float
    storm: Storm
    lasts_s: float
    draw: random.Random


def plan(seed: int, seconds: float, storms: Iterable[Storm] = ALL, more: int = 6) -> list[Moment]:
    """Each storm once, and some of them again, over so many seconds."""
    draw = random.Random(seed)
    known = list(storms)
    order = draw.sample(known, len(known)) + draw.choices(known, k=more)
    times = sorted(draw.uniform(0, seconds) for _ in order)
    return [
        Moment(when, storm, draw.uniform(2.0, 10.0), random.Random(draw.random()))
        for when, storm in zip(times, order, strict=True)
    ]


@dataclass
class Weather:
    """Makes it so as time passes; what began ends whatever happens."""

    field: Field
    coming: list[Moment]
    began: float = field(default_factory=time.monotonic)
    said: list[str] = field(default_factory=list)
    _under_way: dict[str, tuple[float, Calm]] = field(default_factory=dict)

    def tick(self) -> None:
        now = time.monotonic() - self.began
        for word in [word for word, (until, _) in self._under_way.items() if until <= now]:
            self._end(word)
        while self.coming and self.coming[0].at_s <= now:
            one = self.coming.pop(0)
            word = one.storm.__name__
            if word in self._under_way:
                self._end(word)
            self.said.append(f"{now:6.1f} s {word} for {one.lasts_s:.1f} s")
            self._under_way[word] = now + one.lasts_s, one.storm(self.field, one.draw)

    @property
    def over(self) -> bool:
        return not self.coming and not self._under_way

    def calm(self) -> None:
        for word in list(self._under_way):
            self._end(word)

    def _end(self, word: str) -> None:
        _, calm = self._under_way.pop(word)
        calm()

"""The machines that a runner has: looked at now and then, so that one that goes away or comes back is noticed.

Takes hosts, and how one is reached; gives each as a `Machine` by its name. More may come, and some go for ever. All of
them live in the event loop of one thread, which begins when they are first asked for.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from agent.errors import CaddieError, InfraError, did_you_mean
from agent.runners.ssh.answers import Facts, Jobs
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Thread, Wire
from agent.runners.ssh.machine import Machine
from agent.track import Track

T = TypeVar("T")
OPEN_S = 300.0  # for the first look at all machines together
PING_S = 5.0  # between two looks at a machine that has nothing to do
SLOWLY_S = 60.0  # and at one that could not be used yet; the first ones come sooner, for it may only be starting


class Machines:
    def __init__(self, hosts: Sequence[SshHost], jobs: str, track: Track, link: Callable[[SshHost], Wire]) -> None:
        """Connects to nothing yet. `jobs`: the folder there of this controller's jobs."""
        self._hosts, self._jobs, self._track, self._link = list(hosts), jobs, track, link
        self._thread: Thread | None = None
        self._opening = threading.Lock()  # machines that are rented are added by several threads at once
        self._there: dict[str, Machine] = {}
        self._gone: set[str] = set()
        self._wrong: dict[str, str] = {}
        self._silent: set[str] = set()
        self._taken: dict[str, dict[str, str]] = {}
        self._looks: dict[str, asyncio.Future[None]] = {}

    def opened(self) -> Thread:
        """The thread of the links, one for all who ask; the first time all machines are looked at."""
        with self._opening:
            if self._thread is None:
                self._thread = thread = Thread("ssh")
                self._there = {host.name: self._made(host) for host in self._hosts}
                with contextlib.suppress(TimeoutError):  # then they come later
                    thread.wait(self._look(), OPEN_S)
                for machine in self._there.values():
                    self._keep(thread, machine)
            return self._thread

    def all(self) -> list[Machine]:
        self.opened()
        return list(self._there.values())

    def named(self, name: str) -> Machine | None:
        self.opened()
        return self._there.get(name)

    def of(self, slot: str) -> Machine:
        """Raises InfraError: there is none of that slot."""
        name = slot.rpartition("/")[0]
        if (found := self.named(name)) is None:
            known = ", ".join(self._there)
            hint = did_you_mean(name, self._there)
            raise InfraError(f"slot {slot}: no machine {name!r}.{hint} There are: {known}")
        return found

    def facts(self, name: str) -> Facts | None:
        """Of a machine that answers."""
        machine = self.named(name)
        return None if machine is None or name in self._silent else machine.facts

    def wrong(self, name: str) -> str:
        """Why a machine can't be used; empty where nothing is known against it."""
        return self._wrong.get(name, "")

    def taken(self, slot: str) -> str:
        """Whose run was on it at the last look, of whatever campaign; empty: nobody's."""
        name, _, number = slot.rpartition("/")
        return self._taken.get(name, {}).get(number, "")

    def gone(self, name: str) -> bool:
        """Whether it was here, and is gone for sure."""
        return name in self._gone

    def on(self, name: str, what: Callable[[Machine], Coroutine[Any, Any, T]], within_s: float) -> T:
        """Something that is done with a machine, in its event loop. Raises InfraError where it does not answer."""
        thread, machine = self.opened(), self.named(name)
        if machine is None:
            raise InfraError(f"there is no machine {name!r} any more")
        try:
            return thread.wait(what(machine), within_s)
        except TimeoutError as error:
            raise InfraError(f"{name} gave no answer within {within_s:.0f} s") from error

    def add(self, host: SshHost) -> None:
        """One more, such as a rented one; its slots are there once it answers."""
        thread = self.opened()
        self._there[host.name] = machine = self._made(host)
        self._keep(thread, machine)

    def remove(self, name: str) -> None:
        """It was given back, or is gone for sure: nobody asks it again."""
        thread, machine = self.opened(), self._there.pop(name, None)
        self._gone.add(name)
        self._wrong.pop(name, None)
        self._taken.pop(name, None)
        if (looks := self._looks.pop(name, None)) is not None:
            looks.cancel()
        if machine is not None:
            thread.start(machine.retire())

    def close(self) -> None:
        async def end() -> None:
            await asyncio.gather(*(machine.close() for machine in self._there.values()), return_exceptions=True)

        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.close(end())
            self._there, self._looks = {}, {}

    def _made(self, host: SshHost) -> Machine:
        track = self._track if host.each is None else self._track.sized(host.each)
        return Machine(self._link(host), self._jobs, track)

    def _keep(self, thread: Thread, machine: Machine) -> None:
        self._looks[machine.host.name] = thread.start(self._now_and_then(machine))

    async def _now_and_then(self, machine: Machine) -> None:
        again_s = PING_S
        while True:
            await self._ready(machine)
            await asyncio.sleep(again_s)
            again_s = PING_S if machine.facts is not None else min(SLOWLY_S, 2 * again_s)

    async def _look(self) -> None:
        await asyncio.gather(*(self._ready(machine) for machine in self._there.values()))

    async def _ready(self, machine: Machine) -> None:
        """Notes whether it answers now; if not, why."""
        name = machine.host.name
        try:
            self._taken[name] = (await machine.ask(Jobs, "there")).taken
        except CaddieError as error:
            self._wrong[name] = str(error)
            self._silent.add(name)
        else:
            self._wrong.pop(name, None)
            self._silent.discard(name)

"""RunPod as the campaign meets it: the stand-in, on the world's own clock, whose pods are boxes.

Takes where boxes may lie; gives an `Account` to serve. A pod's box is there from its making and is switched off when
the pod ends, whoever ended it; where a pod says that it can be reached may be a lie.
"""

import contextlib
import getpass
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.responses import Response

from tests.chaos.boxes import Box
from tests.runpod import StandIn
from tests.runpod_pods import Course, StandPod
from tests.runpod_served import standin

LOOK_S = 0.1


class Account(StandIn):
    def __init__(self, folder: Path, home: Path, key: Path) -> None:
        super().__init__()
        self._folder, self._home, self._key = folder, home, key
        self._stop = threading.Event()
        self.boxes: dict[str, Box] = {}  # by the pod's id
        self.lies: dict[str, int] = {}  # ports that pods say they have
        self.lie_next = 0
        self.real = True
        self.usual = Course(1, 2, 3)
        self.retry_after = "1"
        self.ssh = ("127.0.0.1", 22, getpass.getuser())

    def later(self, seconds: float) -> None:
        """From now on its clock is its own."""
        self.real = False
        self.advance(seconds)

    def billed_now(self) -> float:
        with self.lock:
            if self.real:
                self.at = datetime.now(UTC)
            return self.billed()

    def watch(self) -> None:
        """Switches boxes on and off as their pods come and go, until it is told to stop."""
        while not self._stop.wait(LOOK_S):
            self._tend()

    def end(self) -> None:
        self._stop.set()
        for box in self.boxes.values():
            box.end()

    def _tend(self) -> None:
        if self.real:
            with self.lock:
                self.at = datetime.now(UTC)
        there = {pod.id for pod in self.living() if pod.status(self.at) not in ("EXITED", "ERROR")}
        for name in there - self.boxes.keys():
            self.boxes[name] = box = Box(self._folder / name, self._home, self._key)
            box.start()
        for name in self.boxes.keys() - there:
            self.boxes[name].end()

    def _create(self, body: bytes) -> Response:
        before = set(self.pods)
        response = super()._create(body)
        for name in set(self.pods) - before:
            if self.lie_next:
                self.lies[name], self.lie_next = self.lie_next, 0
        return response

    def _shown(self, pod: StandPod) -> dict[str, Any]:
        shown = super()._shown(pod)
        direct, box = shown["ssh"]["direct"], self.boxes.get(pod.id)
        if direct is not None and box is None:
            shown["ssh"]["direct"] = None
        elif direct is not None and box is not None:
            direct["port"] = port = self.lies.get(pod.id, box.port)
            direct["command"] = f"ssh {direct['username']}@{direct['host']} -p {port}"
        return shown


@contextlib.contextmanager
def account(folder: Path, home: Path, key: Path) -> Iterator[Account]:
    served = Account(folder, home, key)
    with standin(served):
        watching = threading.Thread(target=served.watch, daemon=True)
        watching.start()
        try:
            yield served
        finally:
            served.end()
            watching.join(30)
            served.end()

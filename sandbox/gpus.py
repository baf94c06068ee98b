"""What a tree holds of the memory of GPUs, asked of the driver's tool without ever waiting for it.

Takes the GPUs that a run may see and process ids; gives bytes. The driver knows which process holds what, unless
it knows them by the ids of another pid namespace, as in a container: then it is what the GPUs hold more than they
did before the run, so on such a machine a GPU belongs to one run.
"""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Container
from typing import NamedTuple

from sandbox.limits import MIB

EVERY_S = 2.0
FIRST_S = 10.0  # for the answer before the run starts, the only one that is waited for
ANSWER_S = 20.0  # an answer that takes longer is not waited for any more
MOST_BYTES = 1 << 20
_FORMAT = "--format=csv,noheader,nounits"
_WORDS = {"apps": "--query-compute-apps=pid,used_memory", "gpus": "--query-gpu=index,uuid,memory.used"}


class Unanswered(OSError):
    """The driver's tool is not there or says nothing: a limit on GPU memory can't be kept."""


class Seen(NamedTuple):
    """One look at all GPUs, in bytes."""

    by_process: tuple[tuple[int, int], ...]
    by_gpu: dict[str, int]  # by number and by name: each GPU twice


class Meter:
    """The GPU memory of one tree."""

    def __init__(self, visible: str | None) -> None:
        """`visible` as in CUDA_VISIBLE_DEVICES; None: every GPU.

        Raises:
            Unanswered: there is no driver that answers.
        """
        tool = shutil.which("nvidia-smi")
        if tool is None:
            raise Unanswered("a limit on GPU memory needs nvidia-smi, which is not in the PATH here")
        self._visible = None if visible is None else [word.strip() for word in visible.split(",") if word.strip()]
        self._tool = tool
        self._asked: _Question | None = _Question(tool)
        self._due = 0.0
        self._used = 0
        first = self._asked.wait(FIRST_S)
        self._asked.end()
        self._asked = None
        if first is None:
            raise Unanswered("a limit on GPU memory needs nvidia-smi, which does not answer here")
        self._before = self._on_ours(first)

    def look(self, tree: Container[int]) -> int:
        """What the last answer said. Never waits."""
        now = time.monotonic()
        if self._asked is None:
            if now >= self._due:
                self._asked, self._due = _Question(self._tool), now + EVERY_S
        elif self._asked.over():
            seen = self._asked.answer()
            self._asked.end()
            self._asked = None
            if seen is not None:
                self._used = self._of(seen, tree)
        return self._used

    def end(self) -> None:
        if self._asked is not None:
            self._asked.end()

    def _of(self, seen: Seen, tree: Container[int]) -> int:
        ours = [size for pid, size in seen.by_process if pid in tree]
        return sum(ours) if ours else max(0, self._on_ours(seen) - self._before)

    def _on_ours(self, seen: Seen) -> int:
        if self._visible is None or not seen.by_gpu.keys() >= set(self._visible):  # a name that is cut short, a part
            return sum(seen.by_gpu.values()) // 2
        return sum(seen.by_gpu.get(name, 0) for name in self._visible)


class _Question:
    """Both questions, each in a process of the tool, with a file for the answer: a pipe could block."""

    def __init__(self, tool: str) -> None:
        self._until = time.monotonic() + ANSWER_S
        self._files = {name: tempfile.TemporaryFile() for name in _WORDS}  # noqa: SIM115  closed by `end`
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name, words in _WORDS.items():
            with contextlib.suppress(OSError):
                self._running[name] = subprocess.Popen(
                    [tool, words, _FORMAT],
                    stdin=subprocess.DEVNULL,
                    stdout=self._files[name],
                    stderr=subprocess.DEVNULL,
                )

    def over(self) -> bool:
        """Whether both have ended. One that takes too long is killed, and may still be stuck in the driver then."""
        going = [one for one in self._running.values() if one.poll() is None]
        if going and time.monotonic() > self._until:
            for one in going:
                one.kill()
        return not going

    def wait(self, seconds: float) -> Seen | None:
        until = time.monotonic() + seconds
        while not self.over():
            if time.monotonic() > until:
                return None
            time.sleep(0.005)
        return self.answer()

    def answer(self) -> Seen | None:
        """Of both, when they have ended; None if one failed."""
        if len(self._running) < len(_WORDS) or any(one.returncode != 0 for one in self._running.values()):
            return None
        apps = tuple((int(row[0]), int(row[1]) * MIB) for row in self._rows("apps") if _numbers(row, 2))
        by_gpu: dict[str, int] = {}
        for row in self._rows("gpus"):
            if len(row) == 3 and _numbers([row[0], row[2]], 2):
                by_gpu |= {row[0]: int(row[2]) * MIB, row[1]: int(row[2]) * MIB}
        return Seen(apps, by_gpu) if by_gpu else None

    def _rows(self, name: str) -> list[list[str]]:
        file = self._files[name]
        file.seek(0)
        text = file.read(MOST_BYTES).decode("utf-8", "replace")
        return [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]

    def end(self) -> None:
        for one in self._running.values():
            if one.poll() is None:
                one.kill()
        for file in self._files.values():
            file.close()


def _numbers(row: list[str], count: int) -> bool:
    """In a container they may be [N/A] or [Not Supported]."""
    return len(row) == count and all(cell.isdecimal() for cell in row)

"""One confined process of a candidate, and the talk with it: strictly one request, one answer, each under a
limit.

Takes a `Task`, a role and what is left of the time; gives payloads. Whatever the candidate does instead of
answering ends in `CandidateError`, whose text says what it did.
"""

import contextlib
import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.errors import CaddieError, InfraError
from agent.job.folder import JobPaths
from agent.job.reading import read_plain
from agent.job.removal import remove
from agent.judge import protocol
from agent.judge.protocol import HEAD, BadAnswer
from agent.judge.task import NETWORK, Status, Task
from agent.records import Finding
from sandbox import CAPS, BlindError, Confined, Exit, StartError
from sandbox.child import open_log
from sandbox.limits import MB, Limits

Role = Literal["encode", "decode", "score"]
LOOK_S = 0.05  # between two looks at the process while it thinks
END_S = 2.0  # to go away once the socket is closed
BLOCK = 1 << 18
LOG = "log"
# Bytes that are kept of what a process printed since it was shown validation text, the last ones: of one that failed,
# where that means that there is no score; and of any other.
TOLD, TOLD_OF_A_SCORE = 1000, 0
NOT_KEPT = b"\n[what it printed since it was shown validation text is not kept]\n"


class CandidateError(CaddieError):
    """The author of the candidate must act: it did not answer as agreed."""

    def __init__(self, status: Status, words: str, found: tuple[Finding, ...] = ()) -> None:
        super().__init__(words)
        self.status: Status = status
        self.found = found


@dataclass(frozen=True)
class Files:
    """What a candidate's process gets: the bytes that were counted, written anew for each process."""

    artifact: bytes
    script: bytes


class Candidate:
    """A running process in a fresh folder that goes away with it. `told`: what is kept of its last words if it fails;
    TOLD_OF_A_SCORE where the run keeps its score all the same."""

    def __init__(self, task: Task, files: Files, role: Role, deadline: float, told: int = TOLD) -> None:
        self._task, self._role, self._deadline, self._told = task, role, deadline, told
        self.answers_s = 0.0
        self.asked = 0
        self._unshown: bytes | None = None  # what it had printed when it was first shown text
        self.exit: Exit | None = None
        self._folder = Path(tempfile.mkdtemp(prefix=f".{role}-", dir=task.folder))
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._socket.setblocking(False)
        try:
            self._process = self._start(files, theirs.fileno())
        except BaseException:
            self._socket.close()
            remove(self._folder)
            raise
        finally:
            theirs.close()

    def __enter__(self) -> "Candidate":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.end(at_once=error is not None)

    def _start(self, files: Files, fd: int) -> Confined:
        task = self._task
        artifact = _readable(self._folder / "artifact", files.artifact)
        script, code = Path(task.script), JobPaths(Path(task.folder)).code
        if task.alone:
            script = _readable(self._folder / script.name, files.script)
            code = script
        work = self._folder / "work"
        work.mkdir()
        policy = replace(task.policy, writable=str(work), read=(*task.policy.read, str(artifact), str(code)))
        seconds = max(self._deadline - time.monotonic(), 0.01)
        try:
            return Confined(
                [word.replace("{script}", str(script)).replace("{role}", self._role) for word in task.command],
                cwd=work,
                env={
                    **task.env,
                    "ARTIFACT": str(artifact),
                    "SCORE_FD": str(fd),
                    "SEED": str(task.seed),
                    "TMPDIR": str(work),
                },
                limits=Limits(seconds, None, task.memory_mb, task.disk_mb, task.log_mb, task.processes),
                log=self._folder / LOG,
                folder=self._folder,
                pass_fds=(fd,),
                policy=policy,
            )
        except (StartError, OSError) as error:
            raise InfraError(f"can't start the candidate's {self._role} process: {error}") from error

    @property
    def walls(self) -> tuple[str, ...]:
        return self._process.walls

    def ask(self, kind: int, payload: bytes, answer: int, most: int) -> bytes:
        """One request and its answer, of at most `most` bytes.

        Raises:
            CandidateError: no answer, another one, too early, too long, or the process met a limit.
        """
        self.asked += 1
        if kind != protocol.RESET and self._unshown is None:
            self._unshown = self._printed()
        since = time.monotonic()  # who takes a request slowly may think meanwhile
        self._send(HEAD.pack(len(payload), kind) + payload)
        size, found = HEAD.unpack(self._receive(HEAD.size))
        if found == protocol.ERROR:
            raise self.failed(f"gave up: {protocol.read_error(self._receive(min(size, protocol.MAX_ERROR)))}")
        if found != answer:
            raise self.failed(f"answered with a frame of type {found} instead of {protocol.NAMES[answer]}")
        if size > min(most, protocol.LARGEST):
            raise self.failed(f"announced an answer of {size:,} bytes; {most:,} is the most that makes sense")
        body = self._receive(size)
        self.answers_s += time.monotonic() - since
        return body

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Around the reading of an answer: what is wrong with it is the candidate's failure."""
        try:
            yield
        except BadAnswer as error:
            raise self.failed(f"gave a wrong answer: {error}") from error

    def failed(self, what: str) -> CandidateError:
        return CandidateError("failed", f"the {self._role} process {what} (request {self.asked})")

    def end(self, *, at_once: bool = False) -> Exit:
        """Closes the socket, gives the process a moment to go, ends it, clears its folder."""
        if self.exit is not None:
            return self.exit
        early = not at_once and self._has_data()
        self._socket.close()
        until = min(time.monotonic() + (0.0 if at_once else END_S), self._deadline)
        while (ended := self._poll()) is None and time.monotonic() < until:
            self._process.rest(LOOK_S)
        self.exit = ended or self._process.kill()
        self._keep_log(failed=at_once or early or self.exit.cause == "network")
        remove(self._folder)
        if self.exit.cause == "network":
            raise self._ended(self.exit)
        if early:
            raise self.failed("sent more than it was asked for")
        return self.exit

    def _keep_log(self, *, failed: bool) -> None:
        """Each process has a log of its own: in a common one the next could find what this one knew, as text where it
        runs as our user, else as a length or a pattern of holes."""
        said = self._without_text(self._printed(), self._told if failed else TOLD_OF_A_SCORE)
        with contextlib.suppress(OSError):
            kept = open_log(JobPaths(Path(self._task.folder)).score_log)
            try:
                os.write(kept, said[: max(0, self._task.log_mb * MB - os.fstat(kept).st_size)])
            finally:
                os.close(kept)

    def _printed(self) -> bytes:
        with contextlib.suppress(OSError, ValueError):  # a process without walls may have put anything in its place
            return read_plain(self._folder, LOG, self._task.log_mb * MB)
        return b""

    def _without_text(self, said: bytes, most: int) -> bytes:
        """Whoever writes candidates reads what they printed: no text must come out by that, in a hundred runs no whole
        one. Why one failed, which has no score then, stands at the end. It may have written its log anew meanwhile."""
        if self._task.documents is None or self._unshown is None:
            return said
        told = min(since := max(0, len(said) - len(self._unshown)), most)
        return self._unshown + (NOT_KEPT if since > told else b"") + said[len(said) - told :]

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._readable(0.0):
                raise self.failed("answered before it was asked") if self._has_data() else self._gone()
            _, writable, _ = select.select([], [self._socket], [], LOOK_S)
            self._look()
            if writable:
                try:
                    view = view[self._socket.send(view[:BLOCK]) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise self._gone() from None

    def _receive(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            if not self._readable(LOOK_S):
                self._look()
                continue
            try:
                part = self._socket.recv(min(BLOCK, count - len(parts)))
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                raise self._gone()
            parts += part
            self._look()
        return bytes(parts)

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self._socket], [], [], seconds)[0])

    def _has_data(self) -> bool:
        """Whether something can be read now; the end of the stream is nothing."""
        with contextlib.suppress(OSError):
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        return False

    def _poll(self) -> Exit | None:
        try:
            return self._process.poll()
        except BlindError as error:
            raise InfraError(f"the {self._role} process was ended: {error}") from error

    def _look(self) -> None:
        """Keeps the limits; the watchdog looks when a look is due."""
        ended = self._poll()
        if ended is not None and not self._readable(0.0):
            raise self._ended(ended)

    def _gone(self) -> CandidateError:
        """The socket was closed at the other end: the process ended, or will not answer any more."""
        until = time.monotonic() + END_S
        while (ended := self._poll()) is None and time.monotonic() < until:
            self._process.rest(LOOK_S)
        return self._ended(ended) if ended is not None else self.failed("closed its socket without an answer")

    def _ended(self, ended: Exit) -> CandidateError:
        if ended.cause == "network" and ended.network is not None:
            words = f"the {self._role} process talked to the network: {ended.network.own:,} bytes"
            return CandidateError("failed", words, (Finding(NETWORK, "invalid", words),))
        if ended.cause in CAPS:
            return CandidateError(
                "capped", f"the {self._role} process was stopped by its {ended.cause} limit: no score"
            )
        how = f"exit code {ended.rc}" if ended.signal is None else f"signal {ended.signal}"
        return self.failed(f"ended with {how} before it answered; see score.log")


def _readable(path: Path, data: bytes) -> Path:
    """For a candidate that runs as a user of its own."""
    path.write_bytes(data)
    path.chmod(0o644)
    return path

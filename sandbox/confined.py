"""One command under limits: a whole tree of processes that ends with the command, a limit or its supervisor.

Takes a command, an environment, limits and a log; gives an `Exit`. Whoever starts it calls `poll` or `wait`
often, has one thread, and starts nothing else in a new session meanwhile (an orphan can't be told from it).
"""

import contextlib
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sandbox import child, scope, status, tree
from sandbox.doorman import Doorman
from sandbox.family import Family
from sandbox.gpus import Meter, Unanswered
from sandbox.groups import BOUNDS, Bound, Group
from sandbox.limits import MB, Cause, Exit, Limits
from sandbox.memory_files import clear
from sandbox.policy import Policy
from sandbox.traffic import Traffic
from sandbox.tree import Proc
from sandbox.walls import Launch, Stack, named, put_up, stack
from sandbox.watch import Watch

END_WITHIN_S = 3.0  # a killed process that is still there then is stuck in the kernel


class StartError(OSError):
    """The command could not be started: the machine's fault or the caller's, not the candidate's."""


class BlindError(OSError):
    """A look at the tree failed, so that nothing keeps its limits: all of it has been ended."""


class Confined:
    """A running confined command."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        limits: Limits,
        log: Path,
        folder: Path,
        policy: Policy | None,
        walls: Stack | None = None,
        core: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`env` is all it gets; `folder` is counted against the disk limit; `log` takes stdout and stderr.

        `policy` says what it may touch; None is for processes of ours, which limits alone bind. `walls` are those to
        put up; None: the strongest that are here.

        Raises:
            StartError: the command or the log can't be opened.
            NoWalls: this machine can't put up the walls that the policy asks for.
        """
        standing = walls or (None if policy is None else stack(policy))
        self._limits = limits
        self._traceless = policy is not None and policy.traceless
        self._exit: Exit | None = None
        self._fault: Exception | None = None  # of a look
        self._family = Family()
        self._oom_kills = child.oom_kills()
        self._started = time.monotonic()
        self.left: dict[int, Proc] = {}  # what could not be ended
        try:
            self._log_fd = child.open_log(log)
        except OSError as error:
            raise StartError(f"can't open log {log}: {error}") from error
        self._gpus = self._gpu_meter(env)
        self._traffic = self._traffic_meter(standing)
        self._group = Group.make(limits.tasks, limits.memory_bound)
        self._twin: Doorman | None = None
        self._boxed = standing is not None and standing.box is not None
        self._sharer = None if standing is None or self._boxed else standing.uid
        bounds = self._begin(standing, policy, argv, cwd, env, core, pass_fds)
        self.walls = named(standing, policy, bounds, self._group is not None and self._group.forgets)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._family.begin(self._process, self._group)
        if self._boxed:  # bubblewrap's own two are in the tree
            limits = replace(limits, processes=limits.processes + 2)
        self._watch = Watch(limits, folder, self._log_fd, self._group, self._gpus, self._traffic, self._sharer)

    def _gpu_meter(self, env: Mapping[str, str]) -> Meter | None:
        if self._limits.gpu_memory_mb is None:
            return None
        try:
            return Meter(env.get("CUDA_VISIBLE_DEVICES"))
        except Unanswered as error:
            os.close(self._log_fd)
            raise StartError(str(error)) from error

    def _traffic_meter(self, standing: Stack | None) -> Traffic | None:
        if standing is None or "traffic" not in standing.names:
            return None
        try:
            return Traffic(standing.uid)
        except OSError as error:
            os.close(self._log_fd)
            if self._gpus is not None:
                self._gpus.end()
            raise StartError(f"can't count what it sends: {error}") from error

    def _begin(
        self,
        standing: Stack | None,
        policy: Policy | None,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        core: int | None,
        pass_fds: Sequence[int],
    ) -> tuple[Bound, ...]:
        """The process behind its walls, and its twin where it has one; gives what the kernel bounds for us."""
        bounds = () if self._group is None else self._group.bounds
        try:
            with put_up(standing, policy, argv, cwd, env, self._limits) as launch:
                if self._group is None and scope.fits(standing is None or self._boxed):
                    launch = launch._replace(argv=scope.around(launch.argv, launch.env, self._limits))
                    bounds = BOUNDS
                self._process = self._start(launch, cwd, core, pass_fds)
                self._twin = self._watched_over(launch)
        except OSError as error:
            os.close(self._log_fd)
            self._release()
            raise StartError(f"can't start {argv[0]}: {error}") from error
        return bounds

    def _start(self, launch: Launch, cwd: Path, core: int | None, pass_fds: Sequence[int]) -> "subprocess.Popen[bytes]":
        child.adopt_orphans(True)
        groups: list[int] = []
        try:
            groups = [] if self._group is None else self._group.open()
            return subprocess.Popen(
                launch.argv,
                cwd=cwd,
                env=launch.env,
                stdin=subprocess.DEVNULL,
                stdout=self._log_fd,
                stderr=self._log_fd,
                start_new_session=True,
                close_fds=True,
                pass_fds=(*pass_fds, *launch.fds),
                preexec_fn=child.prepare(
                    self._limits, core, groups, launch.uid, launch.becomes, launch.last, alarm=not launch.twin
                ),
            )
        except subprocess.SubprocessError as error:  # the child failed before its exec, and can't say how
            raise OSError(str(error)) from error
        finally:
            for group in groups:
                os.close(group)

    def _watched_over(self, launch: Launch) -> Doorman | None:
        if not launch.twin:
            return None
        try:
            listener = launch.handover.take() if launch.handover else None
            return Doorman.start(listener, self._process.pid, self._limits.wall_s + child.LATE_S)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    def poll(self) -> Exit | None:
        """How it ended, or None while it runs. Looks at the limits when a look is due.

        Raises:
            BlindError: once, and the tree has ended.
        """
        if self._exit is not None:
            return self._exit
        if self._family.reap_root():
            return self._finish("exited")
        if self._twin is not None and self._twin.failed():
            return self._finish("killed")  # only the candidate can have ended it
        if time.monotonic() >= self._watch.due:
            cause = self._look(lambda: self._family.rows(at_most=4 * self._limits.processes + 16))
            if cause is not None:
                return self._finish(cause)
        return None

    def rest(self, at_most_s: float = 1.0) -> None:
        """Sleep until the command ends or the next look is due."""
        seconds = min(max(self._watch.due - time.monotonic(), 0.0), at_most_s)
        if self._pidfd is None:
            time.sleep(min(seconds, 0.02))
        else:
            select.select([self._pidfd], [], [], seconds)

    def wait(self) -> Exit:
        """Until it ends."""
        while (ended := self.poll()) is None:
            self.rest()
        return ended

    def kill(self) -> Exit:
        """End the whole tree now. Raises BlindError as `poll` does."""
        return self._exit or self._finish("killed")

    def ask(self, number: int) -> None:
        """Sends a signal to every process of the tree that has a handler for it."""
        for pid, row in self._family.rows().items():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                held = os.pidfd_open(pid)
                try:
                    now = tree.look(pid)
                    if now is not None and now.start == row.start and status.catches(pid, number):
                        signal.pidfd_send_signal(held, number)
                finally:
                    os.close(held)

    def processes(self) -> dict[int, int]:
        """Process id -> start of every process seen in the tree at the last look."""
        return dict(self._family.seen)

    @property
    def cpu_s(self) -> float:
        """Of the whole tree, at the last look."""
        return self._watch.cpu_s

    def _look(self, find: Callable[[], dict[int, Proc]], *, last: bool = False) -> Cause | None:
        """Whatever goes wrong in it, the tree is ended first and it is told then: a candidate may have made it so."""
        try:
            rows = find()
            self._watch.reaped_cpu_s = self._family.reaped_cpu_s + self._family.unreaped_cpu_s
            self._watch.peak = max(self._watch.peak, self._family.peak)
            cause = self._watch.look(rows)
            if last:
                self._watch.count_ready(rows)
            return cause
        except Exception as error:
            self._fault = self._fault or error
            return "killed"

    def _end_tree(self) -> None:
        with child.ahead_of_all():
            # In one step for the whole group, before anything is counted: the usual fork bomb ends here.
            self._signal_group(signal.SIGSTOP)
            self._hurry()
            self._look(self._family.rows, last=True)  # the processor time of those that end now
            self._signal_group(signal.SIGKILL)
            if self._group is not None:
                self._group.kill()
            try:
                self.left = tree.end_all(self._family.last_rows, END_WITHIN_S)
            except Exception as error:
                self._fault = self._fault or error
            while not self._family.reap_root() and self.pid not in self.left:
                time.sleep(0.001)
        self._hurry()
        self._look(dict)

    def _hurry(self) -> None:
        if self._traffic is not None:
            self._traffic.hurry()

    def _signal_group(self, number: int) -> None:
        if self._family.status is None:  # afterwards the id may be somebody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _finish(self, cause: Cause) -> Exit:
        self._end_tree()
        wall_s = time.monotonic() - self._started
        if cause == "exited":
            cause = self._hindsight()
        network = None if self._traffic is None else self._traffic.counted()
        if network is not None and network.own:
            cause = "network"  # whatever else it did
        self._cut_log()
        code = self._code()
        self._exit = Exit(
            rc=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            cause=cause,
            wall_s=round(wall_s, 3),
            cpu_s=round(self._watch.cpu_s, 3),
            peak_mb=round(self._watch.peak / MB, 1),
            network=network,
            ready_s=None if self._watch.ready_s is None else round(self._watch.ready_s, 3),
        )
        self._release()
        if self._fault is not None:
            raise BlindError(f"a look at what runs failed: {self._fault!r}") from self._fault
        return self._exit

    def _hindsight(self) -> Cause:
        """What it really was that ended a command which seems to have ended by itself."""
        code = self._code() or 0
        late = time.monotonic() - self._started > self._limits.wall_s
        if late and code in (-signal.SIGALRM, -signal.SIGKILL):
            return "wall"  # ended by the kernel or by our twin, while we were stopped
        if code == -signal.SIGXCPU and self._watch.cpu_s > (self._limits.cpu_s or math.inf):
            return "cpu"  # of a limit that was met: anybody can end with that number
        if code == -signal.SIGXFSZ:
            return "disk"
        if self._out_of_memory(code):
            return "memory"
        if self._group is not None and self._group.refused():
            return "processes"
        return self._watch.at_end() or "exited"

    def _code(self) -> int | None:
        """Exit code, or a signal's number below 0. A box ends as shells do when what is in it died of a signal."""
        if self._family.status is None:
            return None
        code = os.waitstatus_to_exitcode(self._family.status)
        return 128 - code if self._boxed and 128 < code < 128 + signal.NSIG else code

    def _out_of_memory(self, code: int) -> bool:
        """Of our group where it says so; else any process of the machine, if ours was killed."""
        known = None if self._group is None else self._group.out_of_memory()
        return code == -signal.SIGKILL and child.oom_kills() > self._oom_kills if known is None else known

    def _cut_log(self) -> None:
        """Between two looks a log can grow past its limit; what is kept does not. Whoever could write it may have taken
        our rights to it, too, where it ran as our user."""
        os.fchmod(self._log_fd, 0o600)
        info = os.fstat(self._log_fd)
        if max(info.st_size, info.st_blocks * 512) > self._limits.log_mb * MB:  # also what it has behind its end
            os.ftruncate(self._log_fd, min(info.st_size, self._limits.log_mb * MB))
        os.close(self._log_fd)

    def _release(self) -> None:
        if self._exit is not None and self._pidfd is not None:
            os.close(self._pidfd)
        if self._twin is not None:
            self._twin.end()
        if self._sharer is not None:
            clear(self._sharer)
        if self._group is not None:
            if self._traceless:
                self._group.forget()
            self._group.remove()
        if self._gpus is not None:
            self._gpus.end()
        if self._traffic is not None:
            self._traffic.end()
        self._family.end()

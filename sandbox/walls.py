"""Which walls this machine can put up around a confined process, and the putting up.

Takes a policy and a command; gives a `Stack` (what will stand) and a `Launch` (what is executed so that it stands). The
weakest level that a policy accepts is kept: where the machine has less, `NoWalls` says what would help.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sandbox import (
    bubblewrap,
    child,
    doorman,
    fence,
    landlock,
    layout,
    readers,
    scope,
    seatbelt,
    seccomp,
    staging,
    traffic,
    users,
)
from sandbox.bubblewrap import Box
from sandbox.doorman import Handover
from sandbox.groups import BOUNDS, Bound, Group
from sandbox.limits import MB, Limits
from sandbox.names import ALWAYS, GROUPS, MAY_OUTLIVE, TRACELESS
from sandbox.policy import BoxName, Level, Policy, reaches

TRY_S = 10.0  # for an empty box, on a machine that is very busy
OLDEST_LANDLOCK = 3  # before that a file that may only be read could be cut to nothing
LANDLOCK_OF_SIGNALS = 6
HELP = (
    "install bubblewrap (apt-get install bubblewrap) and see what `agent doctor` says of it; or let the code of a "
    "model run without walls, as you: --unsafe-no-sandbox"
)


class NoWalls(OSError):
    """This machine can't put up what the policy asks for: the person must act."""


@dataclass(frozen=True)
class Stack:
    """The walls around one run."""

    level: Level
    names: tuple[str, ...] = ()
    """Those on top of what always stands."""
    box: Box | None = None
    uid: int | None = None
    """A user of its own; None: the person's."""


class Launch(NamedTuple):
    """What is executed, and what it is given."""

    argv: list[str]
    env: dict[str, str]
    fds: tuple[int, ...] = ()
    """Open files that are handed down."""
    uid: int | None = None
    """The user that it runs as, where that is not ours."""
    becomes: bool = False
    """Whether the new process becomes that user itself, before its exec."""
    last: Callable[[], None] | None = None
    """The last step between fork and exec."""
    twin: bool = False
    """Whether nothing but a twin of the supervisor ends all of it when that is killed."""
    handover: Handover | None = None
    """Where the new process leaves the listener that the twin answers."""


def in_force(policy: Policy | None = None) -> tuple[str, ...]:
    """The names of what would stand around a run now; without a policy, around a process of ours."""
    standing = None if policy is None else stack(policy)
    group = Group.make(1, MB)
    forgets = group is not None and group.forgets
    if group is not None:
        group.remove()
    scoped = group is None and scope.fits(standing is None or standing.box is not None)
    bounds = BOUNDS if scoped else () if group is None else group.bounds
    return named(standing, policy, bounds, forgets)


def named(stack: Stack | None, policy: Policy | None, bounds: Collection[Bound], forgets: bool) -> tuple[str, ...]:
    """All that stands around one run. `forgets`: whether its memory group does, what was read in it.

    Where files have times of access that a process may change, forgetting is not enough.
    """
    found = (*ALWAYS, *(GROUPS[bound] for bound in bounds), *(() if stack is None else stack.names))
    asked = stack is not None and stack.level == "namespaces" and policy is not None and policy.traceless
    return (*found, TRACELESS) if asked and forgets else found


def stack(policy: Policy) -> Stack:
    """The strongest that this machine has for it.

    Raises:
        NoWalls: that is weaker than what it asks for.
    """
    found = strongest(policy)
    if found.level == "base" and policy.minimum == "unsafe":
        return replace(found, level="unsafe", names=(*found.names, "unsafe"))
    if reaches(found.level, policy.minimum):
        return found
    raise NoWalls(f"this machine has no walls for code that nobody has read ({why_not()}): {HELP}")


@contextmanager
def put_up(
    stack: Stack | None,
    policy: Policy | None,
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
) -> Iterator[Launch]:
    """What to execute, while the open files that it needs are there."""
    with ExitStack() as opened:
        if stack is None or policy is None:
            yield Launch(list(argv), dict(env))
            return
        if stack.uid is not None:
            _give(policy.writable, stack.uid)
        if stack.box is not None:
            yield _boxed(stack.box, stack, policy, argv, cwd, env, limits, opened)
        elif stack.level == "seatbelt":
            yield Launch(seatbelt.command(policy, argv), dict(env))
        else:
            yield _fenced(stack, policy, argv, env, opened)


def _give(folder: str, uid: int) -> None:
    """Its one folder belongs to the user that it runs as."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, uid, uid)
        os.fchmod(fd, 0o711)  # bubblewrap goes there before it is that user, with no right of root's any more
    finally:
        os.close(fd)


def _boxed(
    box: Box,
    stack: Stack,
    policy: Policy,
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
    opened: ExitStack,
) -> Launch:
    filtered = None
    if "seccomp" in stack.names:
        program = seccomp.program(
            "boxed", loopback=policy.loopback, pinned=policy.pinned, timed=policy.timed, lone=policy.traceless
        )
        filtered = _memory_file(opened, program)
    steps, last = layout.steps(policy), None
    if stack.uid is not None and staging.works():
        stage = staging.place(policy.writable)
        last = functools.partial(staging.make, steps, stage, limits.memory_mb * MB)
        files = bubblewrap.staged(stage)
    else:
        files = bubblewrap.built(steps, limits.memory_mb)
    words = bubblewrap.arguments(box, files, str(cwd), env, filtered)
    listed = _memory_file(opened, b"".join(os.fsencode(word) + b"\0" for word in words))
    fds = (listed,) if filtered is None else (filtered, listed)
    return Launch(bubblewrap.command(box, listed, argv, stack.uid), {}, fds, stack.uid, last=last)


def _fenced(stack: Stack, policy: Policy, argv: Sequence[str], env: Mapping[str, str], opened: ExitStack) -> Launch:
    rules = None
    if "landlock" in stack.names:
        env = {**env, **fence.importable(policy)}
        rules = landlock.ruleset(fence.readable(policy), fence.writable(policy), fence.listed(policy))
        opened.callback(os.close, rules)
    program, handover = None, None
    if "seccomp" in stack.names:
        # A port that was in use stays taken for a minute after its process: the judge's next one could tell.
        doorkept = "doorman" in stack.names
        program = seccomp.program(
            "open", loopback=doorkept, pinned=policy.pinned, timed=policy.timed, lone=policy.traceless
        )
    if "doorman" in stack.names:
        handover = Handover()
        opened.callback(handover.close)

    becomes = stack.uid is not None

    def last() -> None:
        if program is not None and not becomes:
            child.drop_capabilities()
        if rules is not None:
            landlock.enforce(rules)
        if program is not None:
            listener = seccomp.install(program, listener=handover is not None)
            if handover is not None and listener is not None:
                handover.give(listener)

    return Launch(list(argv), dict(env), (), stack.uid, becomes, last, program is not None, handover)


def _memory_file(opened: ExitStack, data: bytes) -> int:
    """Handed down by its number, and closed there by who reads it."""
    fd = os.memfd_create("caddie")
    opened.callback(os.close, fd)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@functools.cache
def why_not() -> str:
    """Why there are no strong walls here, in words."""
    if not sys.platform.startswith("linux"):
        never = 'that of macOS was never tried, and is for tracks that say minimum = "seatbelt" under [sandbox]'
        fault = seatbelt.fault()
        return f"they are built for Linux, and sandbox-exec: {fault}" if fault else never
    words = []
    if not bubblewrap.boxes():
        words.append("bubblewrap is not installed")
    elif _box(open_to_all=True) is None:
        words.append(f"bubblewrap can't make namespaces: {_attempt(bubblewrap.boxes()[-1]) or 'it did not say why'}")
    if landlock.abi() < OLDEST_LANDLOCK:
        words.append("the kernel has no Landlock" if not landlock.abi() else "the kernel's Landlock is too old")
    return ", ".join(words)


def strongest(policy: Policy) -> Stack:
    """That this machine has for it, whether that is enough or not. Level `pod` is only for whoever asks for it: that
    the machine is fresh and has nothing secret on it, nobody can find out here."""
    if not seatbelt.fault():
        return Stack("seatbelt", ("seatbelt", MAY_OUTLIVE))
    filtered: tuple[str, ...] = ("seccomp",) if _filters(policy.loopback, policy.pinned) else ()
    if filtered and (box := _box_for(policy)) is not None:
        uid = users.uid_of(os.getpid()) if box.setpriv else None
        return Stack("namespaces", ("namespaces", *filtered, *_own(uid)), box, uid)
    uid = users.uid_of(os.getpid()) if os.getuid() == 0 and readers.reaches(policy) else None
    if filtered and _doorman_works():  # without one there is no loopback, and no unix sockets for data loaders
        filtered = (*filtered, "doorman")
    elif policy.loopback:
        filtered = ()
    counted = ("traffic",) if traffic.works() else ()
    if filtered and landlock.abi() >= OLDEST_LANDLOCK:
        return Stack("landlock", ("landlock", *filtered, *counted, *_twin(uid, landlock.abi()), *_own(uid)), None, uid)
    if filtered and counted and policy.minimum == "pod":
        return Stack("pod", ("pod", *filtered, *counted, *_twin(uid), *_own(uid)), None, uid)
    twin = _twin(uid) if filtered else (MAY_OUTLIVE,)
    return Stack("base", (*filtered, *twin, *_own(uid)), None, uid)


def _twin(uid: int | None, landlock: int = 0) -> tuple[str, ...]:
    """A twin of the supervisor is there wherever there is a filter; it counts where the candidate can't end it first.

    Without it, or namespaces, a run may outlive its killed supervisor until the next sweep.
    """
    return ("twin",) if uid is not None or landlock >= LANDLOCK_OF_SIGNALS else (MAY_OUTLIVE,)


def _own(uid: int | None) -> tuple[str, ...]:
    return () if uid is None else ("uid",)


@functools.cache
def _filters(loopback: bool, pinned: bool) -> bool:
    """Found out by building the one of a box, which is kept."""
    try:
        seccomp.program("boxed", loopback=loopback, pinned=pinned)
    except OSError:
        return False
    return True


@functools.cache
def _doorman_works() -> bool:
    return doorman.works()


def tried() -> BoxName:
    """What this process has found to work; "" if it has not tried, or nothing does."""
    box = _box(open_to_all=True) if _box.cache_info().currsize else None
    return "" if box is None else "plain" if box.setpriv is None else "own"


def _box_for(policy: Policy) -> Box | None:
    """Another user than ours needs files that all may read."""
    open_to_all = readers.anybody(policy)
    boxes: dict[str, Box] = {"own" if box.setpriv else "plain": box for box in bubblewrap.boxes()}
    if policy.box == "plain" or (policy.box == "own" and open_to_all):
        return boxes.get(policy.box)
    return _box(open_to_all)


@functools.cache
def _box(open_to_all: bool) -> Box | None:
    """The best way to call bubblewrap that works here."""
    boxes = [box for box in bubblewrap.boxes() if open_to_all or box.setpriv is None]
    return next((box for box in boxes if _attempt(box) == ""), None)


def _attempt(box: Box) -> str:
    """What is wrong with a box around the whole file system; empty: nothing. It takes milliseconds."""
    command = [box.bwrap, *bubblewrap.namespaces(box), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"]
    command += [*bubblewrap.dropped(box, users.here().start), "/bin/true"]
    try:
        done = subprocess.run(
            command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()[:200] or "it failed"

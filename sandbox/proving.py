"""Whether the walls hold: the probe tries to get out of a box, and the host looks at what came of it.

Takes a function that runs an `Errand` in a box; gives attempt -> `Result`. `bare` is the box without walls, for what
this machine itself denies: `compare` marks that as absent. Targets are canary files and listeners on loopback.

    results = compare(prove(bare), prove(boxed))
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from sandbox.canaries import Canaries, handle_of, locked, plant, seen_in_files, smooth, tidy
from sandbox.limits import MB, Exit, Limits
from sandbox.probe.attempts import ATTEMPTS, BOMBS, FIND
from sandbox.probe.leftovers import OBJECTS
from sandbox.probe.running import AREAS
from sandbox.probe.sockets import SENT
from sandbox.probe.spec import Spec, digest, to_json
from sandbox.targets import VARIABLE, Listeners, VictimProcess
from sandbox.watch import MAX_ENTRIES

Got = Literal["allowed", "denied", "absent"]
NORMAL = Limits(wall_s=30, cpu_s=None, memory_mb=1500, disk_mb=50, log_mb=2, processes=64)
SMALL = Limits(wall_s=10, cpu_s=None, memory_mb=120, disk_mb=6, log_mb=1, processes=8)
SMALLER = {"wall": replace(SMALL, wall_s=0.8), "cpu": replace(SMALL, cpu_s=0.4)}
PREFIX = "caddie-"  # of the word of a proof
DOMAIN = Path("/proc/sys/kernel/domainname")
EAR = getattr(signal, "SIGRTMIN", 0) + 20  # noted by nobody but us
ROUNDS = 3  # of two sessions
NOTICE_S = 0.2  # in which something that still writes has written again
assert AREAS  # imported, so that the lists of attempts are full


class ProbeError(RuntimeError):
    """The probe did not run, so nothing is proved."""


@dataclass(frozen=True)
class Result:
    got: Got
    why: str = ""


@dataclass(frozen=True)
class Errand:
    """One run of the probe. It is given no environment."""

    argv: tuple[str, ...]
    folder: Path  # the only one that it may write; it holds the specification
    readable: tuple[Path, ...]  # what it may read besides the interpreter
    limits: Limits
    log: Path
    core: int | None


Run = Callable[[Errand], Exit]


def prove(run: Run, *, bombs: bool = True, sessions: bool = True, within: Path | None = None) -> dict[str, Result]:
    """Try everything in the boxes that `run` makes. Some ten seconds, half of them for the bombs.

    `sessions`: also what one of them leaves and the next one finds.
    `within` is where the canaries are put: on a disk, or nothing can be told about its page cache.
    Call it from the main thread: a signal that got through is heard there.

    Raises:
        ProbeError: nothing can be proved here.
    """
    if not sys.platform.startswith("linux"):
        raise ProbeError("the probe knows Linux only")
    with tempfile.TemporaryDirectory(prefix="caddie-probe-", dir=within, ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o711)  # a box may run as another user
        proof = Proof(run, plant(Path(root), f"{PREFIX}{secrets.token_hex(8)}"))
        try:
            results = proof.alone() | (proof.sessions() if sessions else {})
            return results | (proof.bombs() if bombs else {})
        finally:
            proof.tidy()


def compare(bare: Mapping[str, Result], boxed: Mapping[str, Result]) -> dict[str, Result]:
    """What the box denies, without what this machine denies anyway. What got through got through."""
    return {name: _compared(bare.get(name), result) for name, result in boxed.items()}


def _compared(bare: Result | None, boxed: Result) -> Result:
    if boxed.got == "allowed":
        return boxed
    if bare is not None and bare.got != "allowed":
        return Result("absent", bare.why)
    return Result("denied", boxed.why)


def bare(errand: Errand) -> Exit:
    """No box: our environment, our open files, no limits."""
    started = time.monotonic()
    with errand.log.open("wb") as log:
        process = subprocess.Popen(
            errand.argv, cwd=errand.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False
        )
        code = process.wait(timeout=2 * NORMAL.wall_s)
    seconds = time.monotonic() - started
    return Exit(code if code >= 0 else None, -code if code < 0 else None, "exited", seconds, 0.0, 0.0)


class Proof:
    """One box, all attempts."""

    def __init__(self, run: Run, canaries: Canaries) -> None:
        self._run = run
        self.canaries = canaries
        cores = os.sched_getaffinity(0)
        self._core = min(cores) if len(cores) > 1 else None
        self._spec = Spec(
            word=canaries.word,
            own="",
            code=str(canaries.candidate),
            shared=str(canaries.shared),
            outside=str(canaries.outside),
            home=str(canaries.home),
            secrets=canaries.secrets,
            digests=canaries.digests | {"launcher": digest(Path("/proc/self/environ").read_bytes())},
            handle=handle_of(canaries.secrets["secret"]),
            ports={},
            launcher=os.getpid(),
            launcher_signal=EAR,
            variable=VARIABLE,
            core=self._core,
            key=secrets.randbelow(2**30) + 1,
            limits={},
            marked=canaries.marked,
        )

    def alone(self) -> dict[str, Result]:
        """What one session tries."""
        own = self._folder("alone")
        with contextlib.ExitStack() as stack:
            variable = stack.enter_context(_for_whoever_inherits(self.canaries.secrets["secret"]))
            heard = stack.enter_context(_ear())
            stack.enter_context(_domain_name(self.canaries.word))
            stack.enter_context(locked(self.canaries))
            listeners = stack.enter_context(contextlib.closing(Listeners(self.canaries.shared, self.canaries.word)))
            victim = stack.enter_context(
                contextlib.closing(VictimProcess(self.canaries.word, self.canaries.secrets["secret"], own, variable))
            )
            spec = replace(
                self._spec,
                digests=self._spec.digests | {"variable": digest(variable.encode()), "memory": victim.digest},
                ports=listeners.ports,
                victim=victim.spec,
            )
            said, _ = self._ask(spec, own, NORMAL, "all")
            arrived = listeners.arrived()
            seen = seen_in_files(self.canaries) | victim.seen() | {name: name in arrived for name in SENT}
            seen["signal_launcher"] = bool(heard)
            seen["set_domain_name"] = DOMAIN.read_text().strip() == self.canaries.word
        return {name: _judged(said.get(name), seen.get(name)) for name in ATTEMPTS}

    def sessions(self) -> dict[str, Result]:
        """What one session leaves and the next one finds. A channel is noisy: if it worked once, it is open."""
        results: dict[str, Result] = {}
        for number in range(ROUNDS):
            open_already = {name: result for name, result in results.items() if result.got == "allowed"}
            if len(open_already) == len(FIND):
                break
            results = self._round(number) | open_already
        return results

    def _round(self, number: int) -> dict[str, Result]:
        smooth(self.canaries)
        byte = sum(1 << bit for bit in secrets.SystemRandom().sample(range(8), 4))
        left, _ = self._ask(replace(self._spec, byte=byte), self._folder(f"leave-{number}"), NORMAL, "leave")
        found, _ = self._ask(self._spec, self._folder(f"find-{number}"), NORMAL, "find")
        results = dict[str, Result]()
        for name in FIND:
            judged = _judged(found.get(name), found.get(name, {}).get("found") == byte)
            if judged.got == "denied" and left.get(name, {}).get("got") != "allowed":
                judged = _judged(left.get(name), False)
            results[name] = judged
        return results

    def bombs(self) -> dict[str, Result]:
        """What passes a limit, each in a run of its own."""
        return {f"bomb_{name}": self.bomb(name) for name in BOMBS}

    def bomb(self, name: str) -> Result:
        own, limits = self._folder(f"bomb-{name}"), SMALLER.get(name, SMALL)
        said, ended = self._ask(self._spec, own, limits, "bomb", name)
        through = (own / "held").exists() and ended.ok
        if name in ("outlive", "wall"):
            through = through or _is_growing(own / "beats")
        if name == "log":  # what is kept of it is what counts
            through = through and self._log(own).stat().st_size > limits.log_mb * MB
        if through:
            return Result("allowed")
        return Result("denied", ended.cause if ended.cause != "exited" else str(said.get(name, {}).get("why", "")))

    def tidy(self) -> None:
        """Take away what is left outside the folder."""
        tidy(self.canaries.word)
        for name in OBJECTS:
            with contextlib.suppress(OSError):
                FIND[name].do(self._spec)

    def _folder(self, name: str) -> Path:
        folder = self.canaries.root / "runs" / name
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # a box may run as another user
        return folder

    def _log(self, own: Path) -> Path:
        return own.parent / f"{own.name}.log"

    def _ask(self, spec: Spec, own: Path, limits: Limits, *mode: str) -> tuple[dict[str, dict[str, object]], Exit]:
        """Run the probe in the box: what it said, and how it ended."""
        numbers = {name: float(value) for name, value in asdict(limits).items() if value is not None}
        spec = replace(spec, own=str(own), limits=numbers | {"tasks": limits.tasks, "files": MAX_ENTRIES})
        path = own / "spec.json"
        path.write_text(to_json(spec))
        path.chmod(0o644)
        ended = self._run(
            Errand(
                argv=(sys.executable, "-I", str(self.canaries.candidate / "probe"), str(path), *mode),
                folder=own,
                readable=(self.canaries.candidate, self.canaries.shared),
                limits=limits,
                log=self._log(own),
                core=self._core,
            )
        )
        lines = self._log(own).read_bytes()[-1_000_000:].splitlines()
        try:
            return json.loads(lines[-1]), ended
        except (IndexError, ValueError):
            if mode[0] == "bomb":  # it was ended before it could speak
                return {}, ended
            shown = b"\n".join(lines[-5:]).decode("utf-8", "replace")
            raise ProbeError(f"the probe said nothing in its box ({ended}): {shown}") from None


def _judged(said: Mapping[str, object] | None, seen: bool | None) -> Result:
    """What the host saw stands; where it sees nothing, what the probe said."""
    if said is None:
        return Result("denied", "no answer")
    why = str(said["why"])
    if seen is None:
        return Result("allowed" if said["got"] == "allowed" else "absent" if said["got"] == "absent" else "denied", why)
    if seen:
        return Result("allowed")
    return Result("absent" if said["got"] == "absent" else "denied", why or "nothing of it was seen outside")


def _is_growing(path: Path) -> bool:
    """Whether somebody still writes there; tells it to stop."""
    before = path.stat().st_size if path.exists() else 0
    time.sleep(NOTICE_S)
    after = path.stat().st_size if path.exists() else 0
    (path.parent / "stop").touch()
    return after > before


@contextlib.contextmanager
def _for_whoever_inherits(secret: str) -> Iterator[str]:
    """A secret in our environment, and an open one: a box that passes either on lets it out."""
    fd = os.open(secret, os.O_RDONLY)
    os.set_inheritable(fd, True)
    os.environ[VARIABLE] = secrets.token_hex(16)
    try:
        yield os.environ[VARIABLE]
    finally:
        del os.environ[VARIABLE]
        os.close(fd)


@contextlib.contextmanager
def _ear() -> Iterator[list[int]]:
    """The signals that come to us."""
    heard: list[int] = []
    before = signal.signal(EAR, lambda number, _: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(EAR, before)


@contextlib.contextmanager
def _domain_name(word: str) -> Iterator[None]:
    """If it is the word afterwards, it becomes what it was; what another proof made of it is not what it was."""
    before = DOMAIN.read_text()
    try:
        yield
    finally:
        if DOMAIN.read_text().strip() == word:
            DOMAIN.write_text("(none)" if before.startswith(PREFIX) else before)

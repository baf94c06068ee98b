"""A few steps of training in the sandbox, to see whether a script works at all: no slot, no score, nothing kept.

Takes a track, a corpus and a script's files; gives a `DryRun`. If asked to, what it has trained is tried against the
contract of scoring, too (agent/judge/conform.py). A dry run is a job like any other, held by a shepherd of
its own (a process with one thread, which is what starts confined ones), in a folder that goes away with it.
"""

import hashlib
import re
import secrets
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from agent import own_process, reach, training
from agent.errors import InfraError
from agent.job import lock
from agent.job.folder import JobPaths, JobResult, JobSpec, create
from agent.job.reading import read_ends, read_small
from agent.job.removal import remove
from agent.judge.conform import How
from agent.judge.contract import Conformance
from agent.judge.lines import rows
from agent.judge.session import judge_sha
from agent.judge.task import STARVED
from agent.reach import Reach
from agent.runners import leftovers
from agent.runners.local import SHEPHERD
from agent.tables import GRACE_S
from agent.tools import conforming, dried
from agent.tools.curve import losses
from agent.tools.dried import DryRun as DryRun
from agent.track import Track
from agent.words import plain
from sandbox import Exit

SEED = 1  # the same for all: what differs between two of them is their scripts
NICE = 10
LATE_S = 20.0  # after which a shepherd that keeps no time limit is ended
OLD_S = 600.0  # after which the folder of a dry run that nobody holds is nobody's
KEPT = 64
ANSWERS = "checked"  # folder of what is known, beside that of the dry runs
TAIL_LINES, TAIL_WIDTH, TAIL_CHARS = 30, 300, 3000
_PARAMETERS = re.compile(r"model_params: ?(\d{1,15})\b")
_COST = re.compile(r".{0,1000}\bsteps:(\d{1,9}) cost_ms:(\d{1,12}(?:\.\d{0,6})?)\s*$")


@dataclass(frozen=True)
class Place:
    """Where dry runs of a campaign are made, and with what."""

    track: Track
    corpus: Path
    machine: Mapping[str, str]
    reach: Reach
    folder: Path
    packed: Path
    export: Callable[[Path], None]
    """Writes the files of the head's commit, for tracks that run the readable script among them."""


class DryRuns:
    """Dry runs of one process, one at a time, and what came of each script, here or in another process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, DryRun] = OrderedDict()
        self._swept = False

    def of(self, place: Place, files: Mapping[str, str], how: How | None = None) -> DryRun:
        """Of these editable files; `how` their scoring is tested, where it is.

        Raises EditError when they can't be packed, InfraError when none can start.
        """
        key = _key(place, files, how)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if not self._swept:
                self._swept = True
                sweep(place.folder)
            answers = place.folder.with_name(ANSWERS)
            found = dried.read(answers, key)
            if found is None:
                found = _explained(place, files, how)
                if not (found.slow or found.busy):
                    dried.write(answers, key, found)
            if not (found.slow or found.busy):
                self._kept[key] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


def sweep(folder: Path) -> None:
    """Ends and removes what dry runs of a killed process left behind."""
    leftovers.end(folder)
    old = time.time() - OLD_S
    for one in folder.iterdir() if folder.is_dir() else ():
        if one.lstat().st_mtime < old and not lock.held(JobPaths(one).lock):
            remove(one)


@lru_cache(maxsize=1)
def _judge() -> str:
    """Another judge asks other questions."""
    return judge_sha()


def _key(place: Place, files: Mapping[str, str], how: How | None) -> str:
    track = place.track.model_dump_json()
    whole = hashlib.sha256(f"{place.folder}\0{how}\0{place.reach}\0{track}\0{_judge()}\0".encode())
    for path in sorted(files):
        text = files[path].encode("utf-8", "surrogatepass")
        whole.update(f"{path}\0{len(text)}\0".encode() + text)
    return whole.hexdigest()


def _explained(place: Place, files: Mapping[str, str], how: How | None) -> DryRun:
    """A packed script's traceback shows minified lines, so a crash is shown as the readable script has it."""
    script = place.track.script
    if not script.pack:
        size = sum(len(text.encode()) for text in files.values())
        return _tried(place, lambda code: _export(place, files, code), size, how)
    packed = training.pack(place.packed, files[script.path]).read_bytes()
    name = Path(script.path).name
    found = _tried(place, lambda code: _write(code / name, packed), len(packed), how)
    if not found.raised:
        return found
    readable = _tried(place, lambda code: _write(code / name, files[script.path].encode()), len(packed), how)
    if not readable.failure:
        return replace(found, failure=f"{found.failure}. Only the packed script fails, the readable one works: {_WHY}")
    return readable


_WHY = "packing shortens local names and drops comments, docstrings and annotations, so code must not read its own"


def _export(place: Place, files: Mapping[str, str], code: Path) -> None:
    place.export(code)
    for path, text in files.items():
        _write(code / path, text.encode())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _tried(place: Place, fill: Callable[[Path], None], code_bytes: int, how: How | None) -> DryRun:
    """Once more where nobody wrote a result: a shepherd can be killed by the machine, and by what it holds."""
    words = "twice there was no result: it ended the process that watches over it, or took its folder away"
    lost = DryRun(words, "", {}, None, None, None, code_bytes, 0.0, 0.0)
    for _ in range(2):
        if (found := _once(place, fill, code_bytes, how)) is not None:
            return found
    return lost


def _once(place: Place, fill: Callable[[Path], None], code_bytes: int, how: How | None) -> DryRun | None:
    dry = place.track.check
    assert dry is not None
    paths = JobPaths(place.folder / secrets.token_hex(8))
    limits = place.track.limits.model_copy(update={"train_wall_s": dry.wall_s})
    track = place.track.model_copy(update={"limits": limits})
    env = training.environment(track, track.deciding(), place.corpus, place.machine, run_id="check", seed=SEED)
    policy = reach.training(track, paths, place.corpus, place.reach)
    phases = [training.train_phase(track, paths, {**env, **dry.env}, policy)]
    if how is not None:
        phases.append(conforming.phase(track, place.machine, place.reach, paths, dry.wall_s, SEED, how))
    seconds = sum(phase.limits.wall_s for phase in phases)
    spec = JobSpec(0, tuple(phases), track.script.artifact or None, None, seconds + GRACE_S)
    try:
        create(paths.folder, spec, fill)
        _shepherd(paths, spec.wall_s)
        found = _read(place, paths, code_bytes)
        if found is None:  # nobody held what the shepherd held; its last heartbeat, in the folder, says what that was
            leftovers.end(place.folder)
        return found
    except OSError as error:
        raise InfraError(f"no dry run can be made in {place.folder}: {error}") from error
    finally:
        remove(paths.folder)


def _shepherd(paths: JobPaths, wall_s: float) -> None:
    """Starts the process that holds the job, and waits for it. It yields to runs that are measured."""
    command = own_process.command(f"import os; os.nice({NICE}); {SHEPHERD}", str(paths.folder))
    with paths.shepherd_log.open("ab") as log:
        shepherd = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=own_process.ENV,
            cwd="/",
            start_new_session=True,
        )
    try:
        with suppress(subprocess.TimeoutExpired):
            shepherd.wait(wall_s + LATE_S)
    finally:
        _end(shepherd)


def _end(shepherd: "subprocess.Popen[bytes]") -> None:
    """Asked to, it ends all that it holds, and then itself."""
    if shepherd.poll() is None:
        shepherd.terminate()
        try:
            shepherd.wait(LATE_S)
        except subprocess.TimeoutExpired:
            shepherd.kill()
            shepherd.wait()


def _read(place: Place, paths: JobPaths, code_bytes: int) -> DryRun | None:
    text = read_ends(paths.train_log, 1 << 18, 1 << 18)
    try:
        result = JobResult.from_json(read_small(paths.result) or "")
    except ValueError:
        return None
    ended = result.phase("train") or Exit(None, None, "killed", 0.0, 0.0, 0.0)
    seen = losses(text)
    failure = _failure(result, seen)
    tested = conforming.found(paths, result)
    wrong = failure or (tested is not None and tested.broken)
    printed = rows(text)
    cost = next((found for row in printed if (found := _COST.match(row.text))), None)
    return DryRun(
        failure=failure,
        tail=_tail(paths, text if failure else read_ends(paths.score_log, 1 << 16, 1 << 16)) if wrong else "",
        losses=seen,
        parameters=next((int(found[1]) for row in printed if (found := _PARAMETERS.match(row.text))), None),
        step_cost_ms=float(cost[2]) / int(cost[1]) if cost and int(cost[1]) else None,
        artifact_bytes=_size(paths.out / place.track.script.artifact) if place.track.script.artifact else None,
        code_bytes=code_bytes,
        peak_mb=ended.peak_mb,
        seconds=ended.wall_s,
        raised=bool(failure) and "Traceback (most recent call last)" in text,
        slow=any(phase.exit.cause == "wall" for phase in result.phases),
        busy=was_busy(result, tested),
        conformance=tested,
    )


def was_busy(result: JobResult, tested: Conformance | None) -> bool:
    """Whether a clock ended it that other work had taken time from."""
    capped = tested is not None and tested.capped
    met = [one.exit for one in result.phases if one.exit.cause == "wall" or (capped and one.name == "judge")]
    return any(ended.ready_s is not None and ended.cpu_s < STARVED * ended.ready_s for ended in met)


def _failure(result: JobResult, seen: Mapping[int, float]) -> str:
    bad = [step for step, loss in seen.items() if not abs(loss) < float("inf")]
    if bad:
        return f"its loss is no number from step {bad[0]} on"
    if result.outcome == "ok" or result.phase("judge") is not None:
        return ""
    return result.reason.removeprefix("train: ").removesuffix("; see train.log")


def _size(artifact: Path) -> int | None:
    try:
        return artifact.lstat().st_size
    except OSError:
        return None


def _tail(paths: JobPaths, text: str) -> str:
    """Its last lines, without the paths of this machine."""
    for here in (f"{paths.code}/", f"{paths.out}/", f"{paths.folder}/", f"{sys.prefix}/", f"{sys.base_prefix}/"):
        text = text.replace(here, "")
    last = plain(text[-8 * TAIL_CHARS :], limit=8 * TAIL_CHARS).rstrip().split("\n")[-TAIL_LINES:]
    return "\n".join(row[:TAIL_WIDTH] for row in last)[-TAIL_CHARS:]

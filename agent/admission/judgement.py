"""Whether a machine is taken: what it showed, against what the track wants and what others of its class showed.

Takes a `Record` and a `Wanted`; gives an `Admission` with its reasons in words. Pure. A reason is told with what was
seen and what was wanted, for whoever has to ask a provider for another machine, or for their money.
"""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.admission.seen import NO_TIME, Environment, Gpu, Record, Step
from agent.admission.smi import USUAL
from agent.track import Track
from sandbox.policy import Level, reaches

SLOWER = 0.05  # than the median of its class: more is refused
LEAST_SEEN = 3  # machines of a class, before the median says anything
UNSTEADY = 0.10  # between the quartiles of its steps
SLOW_READS = 0.5  # of what the class reads, from disk or of data
CAPPED = 0.97  # of the power that the GPU has by default
HELD_MB = 1000.0  # of a GPU's memory, before anything of ours is on it
MOST_NAMED = 3  # packages or files that a reason names
AGAIN = "it was sent back before"
OTHER, NO_ROOM, WEAK = "its environment is not that of the others", "its disk has", "its walls are of level"
OF_SETTINGS = (OTHER, NO_ROOM, WEAK)  # how reasons begin that other settings do away with: no fault of the machine
_SHA = re.compile(r"[0-9a-f]{64}")  # what was sent is named by its content
LACKING = "it did not say its {what}: {why}"


@dataclass(frozen=True)
class Class:
    """What the machines of one class showed that were taken, newest last. Empty: there were none."""

    step_ms: tuple[float, ...] = ()
    link_gb_s: tuple[float, ...] = ()  # the slowest of each
    data_mb_s: tuple[float, ...] = ()
    environment: Environment | None = None  # of the newest that was made of the same
    disk_mb_s: tuple[float, ...] = ()  # read from it


@dataclass(frozen=True)
class Wanted:
    cuda: bool
    device: str  # part of the GPU's name
    gpus: int
    level: Level
    data: Mapping[str, str] = field(default_factory=dict)  # sha256 by path, from the data's folder
    kept_from: frozenset[str] = frozenset()  # sha256 of what must not be there: the validation text
    needs_environment: bool = True  # that of the others which were made of the same
    slower: float = SLOWER
    disk_mb: float = 0.0  # that a run may fill


@dataclass(frozen=True)
class Admission:
    ok: bool
    reasons: tuple[str, ...]  # why not; empty when it is taken
    hardware_class: str


def wanted(track: Track, data: Mapping[str, str], kept_from: frozenset[str] = frozenset()) -> Wanted:
    """`data`: what a run will read there, by the manifest of the corpus."""
    need, limits = track.hardware, track.limits
    room = float(limits.disk_mb + limits.log_mb)
    return Wanted(need.kind == "cuda", need.device, need.gpus, track.sandbox.minimum, data, kept_from, disk_mb=room)


def admit(record: Record, want: Wanted, known: Class = Class(), refused: str = "") -> Admission:
    """`refused`: why the same machine was sent back before."""
    reasons = [f"{AGAIN}: {refused}"] if refused else []
    reasons += [*_gpus(record, want), *_step(record, want, known), *_links(record, want, known)]
    reasons += [*_disk(record, want, known), *_data(record, want, known)]
    reasons += [*_environment(record, want, known), *_walls(record, want)]
    return Admission(not reasons, tuple(reasons), hardware_class(record, want))


def hardware_class(record: Record, want: Wanted) -> str:
    """As a runner names the class of its slots."""
    if not want.cuda:
        return f"cpu/{record.host.cpu if record.host else 'unknown'}/1-thread"
    return f"cuda/{record.gpus[0].name if record.gpus else 'unknown'}/{want.gpus}"


def _gpus(record: Record, want: Wanted) -> Iterator[str]:
    if not want.cuda:
        return
    if record.gpus is None:
        yield _lacking(record, "gpus", "GPUs")
        return
    fit = [gpu for gpu in record.gpus if want.device in gpu.name]
    if len(fit) < want.gpus:
        names = ", ".join(sorted({gpu.name for gpu in record.gpus})) or "none"
        yield f"{want.gpus} x {want.device or 'NVIDIA GPU'} were asked for, and it has {len(fit)} ({names[:200]!r})"
    if len({gpu.name for gpu in fit}) > 1:
        yield f"its GPUs are not of one kind: {', '.join(sorted({gpu.name for gpu in fit}))[:200]!r}"
    loaded = record.step.loaded if record.step else ()
    for gpu in fit:
        yield from _gpu(gpu)
    for gpu in loaded:
        if bad := [reason for reason in gpu.slowed_by if reason not in USUAL]:
            yield f"GPU {gpu.index} is slowed while it works, by {', '.join(bad)[:200]} ({gpu.celsius or 0:.0f} °C)"


def _gpu(gpu: Gpu) -> Iterator[str]:
    if gpu.others or (gpu.used_mb or 0) > HELD_MB:
        yield f"GPU {gpu.index} is not ours alone: {gpu.others} other processes, {gpu.used_mb or 0:.0f} MB are held"
    if gpu.ecc_errors:
        yield f"GPU {gpu.index} has {gpu.ecc_errors:.0f} memory errors that were not corrected"
    limit, default = gpu.power_limit_w, gpu.power_default_w
    if limit is not None and default is not None and limit < CAPPED * default:
        yield f"GPU {gpu.index} may draw {limit:.0f} W of the {default:.0f} W that it has by default"


def _step(record: Record, want: Wanted, known: Class) -> Iterator[str]:
    if record.step is None:
        yield _lacking(record, "step", "step time")
        return
    found = record.step
    if found.device != ("cuda" if want.cuda else "cpu"):
        yield f"its work was timed on {found.device[:20]!r}"
        return
    if want.cuda and len(found.each_ms) < want.gpus:
        yield f"only {len(found.each_ms)} of its {want.gpus} GPUs worked"
    if want.cuda and found.spread > UNSTEADY:  # a core is seldom alone, and says so by itself
        yield f"its steps are unsteady: half of them lie within {100 * found.spread:.1f} %, not {100 * UNSTEADY:.0f} %"
    usual = _usual(known.step_ms)
    ms = step_ms(found)
    if usual is not None and ms > (1 + want.slower) * usual:
        yield (
            f"a step takes {ms:.2f} ms, {100 * (ms / usual - 1):.1f} % more than the median of its class, "
            f"{usual:.2f} ms over {len(known.step_ms)} machines; {100 * want.slower:.0f} % more is allowed"
        )


def step_ms(step: Step) -> float:
    """What machines are compared by: what others do on a core is no fault of the machine."""
    return step.ms if step.device == "cuda" else step.cpu_ms


def _links(record: Record, want: Wanted, known: Class) -> Iterator[str]:
    """A block of GPUs is as fast as its slowest link."""
    if not want.cuda or want.gpus < 2:
        return
    if record.links is None:
        yield _lacking(record, "links", "links between GPUs")
        return
    kinds = {link.kind for link in record.links}
    wired = {kind for kind in kinds if kind.startswith("NV")}
    if wired and len(kinds) > 1:
        usual_kind = statistics.mode(link.kind for link in record.links if link.kind in wired)
        odd = next(link for link in record.links if link.kind != usual_kind)
        pair = f"GPU {odd.a} and GPU {odd.b} by {odd.kind[:9]!r}"
        yield f"its GPUs are not linked alike: {pair}, others by {usual_kind[:9]!r}"
    slowest, usual = slowest_link(record), _usual(known.link_gb_s)
    if slowest is not None and usual is not None and slowest < (1 - 2 * want.slower) * usual:
        yield f"copies between its GPUs reach {slowest:.0f} GB/s; {usual:.0f} are usual for its class"


def slowest_link(record: Record) -> float | None:
    return min((link.gb_s for link in record.links or () if link.gb_s is not None), default=None)


def _disk(record: Record, want: Wanted, known: Class) -> Iterator[str]:
    found = record.disk
    if found is None:
        if record.unfinished.get("disk") != NO_TIME:  # that the rest took long is no fault of the disk
            yield _lacking(record, "disk", "disk")
        return
    if found.free_mb < want.disk_mb:
        yield f"{NO_ROOM} {found.free_mb:,.0f} MB free, and a run may write {want.disk_mb:,.0f} MB"
    usual = _usual(known.disk_mb_s)
    if usual is not None and found.read_mb_s is not None and found.read_mb_s < SLOW_READS * usual:
        yield f"it reads its disk at {found.read_mb_s:.0f} MB/s; {usual:.0f} are usual for its class"


def _data(record: Record, want: Wanted, known: Class) -> Iterator[str]:
    there = {file.path: file.sha256 for file in record.data.files} if record.data else {}
    if spoilt := [path for path, sha in sorted(there.items()) if sha in want.kept_from]:
        yield f"it holds the validation text, which no candidate may read: {_some(spoilt)}"
    if damaged := [path for path, sha in sorted(there.items()) if _SHA.fullmatch(path) and path != sha]:
        yield f"its data are damaged: {_some(damaged)} has another sha256 than its name"
    if not want.data:
        return
    if record.data is None:
        yield _lacking(record, "data", "data")
        return
    wrong = [path for path, sha in sorted(want.data.items()) if there.get(path, sha) != sha]
    absent = [path for path in sorted(want.data) if path not in there]
    if wrong:
        yield f"its data are not ours: another sha256 of {_some(wrong)}"
    if absent and record.data.left:
        yield f"its data could not be read in time: {record.data.left} files are left, {_some(absent)} among them"
    elif absent:
        yield f"its data are not all there: {_some(absent)}"
    usual = _usual(known.data_mb_s)
    if usual is not None and record.data.mb_s is not None and record.data.mb_s < SLOW_READS * usual:
        yield f"it reads data at {record.data.mb_s:.0f} MB/s; {usual:.0f} are usual for its class"


def _environment(record: Record, want: Wanted, known: Class) -> Iterator[str]:
    if record.environment is None:
        yield _lacking(record, "environment", "environment")
        return
    mine, usual = record.environment, known.environment
    if usual is None or not want.needs_environment or mine.sha256 == usual.sha256:
        return
    before, after = {"python": usual.python, **usual.packages}, {"python": mine.python, **mine.packages}
    pairs = {name: (before.get(name), after.get(name)) for name in before | after}
    other = [f"{name[:60]} {new or 'missing'} for {old or 'none'}" for name, (old, new) in pairs.items() if old != new]
    yield f"{OTHER}: {_some(other) if other else 'its digest is another'}"


def _walls(record: Record, want: Wanted) -> Iterator[str]:
    if record.walls is None:
        yield _lacking(record, "walls", "walls")
        return
    found = record.walls
    if not reaches(found.level, want.level):
        yield f"{WEAK} {found.level}; {want.level} is the least"
    if found.unknown:
        yield f"its walls do not hold: {_some(found.unknown)} got through"


def _usual(values: Sequence[float]) -> float | None:
    return statistics.median(values) if len(values) >= LEAST_SEEN else None


def _lacking(record: Record, part: str, what: str) -> str:
    return LACKING.format(what=what, why=record.unfinished.get(part, "no word of it")[:200])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(name[:100] for name in names[:MOST_NAMED]) + more

"""Puts together what is known of a run, a job's folder, a submission's folder, a log or a script.

Takes a path, or a run of the store with its job folder; gives a `Case` for the rules, and for submissions what is wrong
with the package. Whatever it reads may be hostile: bounded, no link followed, nothing executed.
"""

import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import InfraError, UserError
from agent.job.folder import JobPaths, JobResult
from agent.job.reading import read_ends
from agent.judge import allowed, folder, measure, shipped, submission
from agent.judge.lines import LINE_CHARS, printed_source
from agent.judge.logs import Reported, reported
from agent.judge.overlap import Overlap
from agent.judge.rules import static
from agent.judge.rules.payload import Source
from agent.judge.rules.ruling import Case, Kind, Limits, Log
from agent.judge.rules.signs import Sign
from agent.judge.task import Measured
from agent.records import Measurement

HEAD, TAIL = 1 << 18, 1 << 21  # bytes of a log that are read
LOGS = (".log", ".txt", ".out")
MOST_LOGS = 64
OWN_WORD = (
    "no store of this workspace knows this folder: score, clocks and audit are what the folder says, which anybody may "
    "have written"
)
NON_RECORD = ("non_record", "unlimited", "nonrecord")


@dataclass(frozen=True)
class Exhibits:
    """What the rules are asked about, and what else a reviewer wants to see."""

    case: Case
    problems: tuple[submission.Problem, ...] = ()
    table: submission.Table | None = None


def of_path(path: Path, shared: Overlap | None = None) -> Exhibits:
    """A folder or a file. `shared`: of the data that are here. UserError: there is nothing that can be judged."""
    try:
        info = path.lstat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if stat.S_ISLNK(info.st_mode):
        raise UserError(f"{path} is a link: name what it points to")
    if stat.S_ISREG(info.st_mode):
        if info.st_nlink != 1:
            raise UserError(f"{path} has {info.st_nlink} names: make a copy of it")
        return _of_file(path, shared)
    if not stat.S_ISDIR(info.st_mode):
        raise UserError(f"{path} is neither a folder nor a plain file")
    return of_job(path, shared=shared) if is_job(path) else _of_submission(path, shared)


def is_job(path: Path) -> bool:
    """What says that it is a submission is one, whatever lies beside."""
    return JobPaths(path).spec.is_file() and not os.path.lexists(path / submission.JSON)


def _of_file(path: Path, shared: Overlap | None) -> Exhibits:
    if path.suffix == ".py":
        layers, signs = _script(path.parent, path.name)
        files = {path.name: path.stat().st_size}
        return Exhibits(Case("script", path.name, layers, signs, files=files, script=path.name))
    logs = (Log(path.name, reported(read_ends(path, HEAD, TAIL))),)
    return Exhibits(Case("log", path.name, logs=logs, overlap=shared), table=submission.table(logs))


def _script(where: Path, name: str, files: Collection[str] = ()) -> tuple[tuple[Source, ...], tuple[Sign, ...]]:
    """All that a script runs, and its signs. `files`: that lie beside it."""
    layers = shipped.sources(where, name, files)
    return layers, tuple(static.of_layers(layers))


# ------------------------------------------------------------ a submission


def _of_submission(path: Path, shared: Overlap | None) -> Exhibits:
    entries = folder.listing(path)
    files = {entry.name: entry.size for entry in entries if entry.plain}
    links = tuple(entry.name for entry in entries if not entry.plain)
    script = submission.script_of(files)
    layers, signs = _script(path, script, files) if script else ((), ())
    named = _log_names(files)
    logs = tuple(_log(path, name, layers) for name in named[:MOST_LOGS])
    unread = () if len(named) <= MOST_LOGS else (f"of its {len(named):,} logs the first {MOST_LOGS} were read",)
    claims, broken = submission.parse(folder.read(path, submission.JSON) if submission.JSON in files else None)
    readme = folder.read(path, submission.README) if submission.README in files else None
    table = submission.table([log for log in logs if log.said.bpb is not None] or logs)
    text = None if readme is None else readme.decode("utf-8", errors="replace")
    problems = submission.lint(files, script, text, claims, broken, table)
    problems += [_odd(name) for name in links]
    limits = Limits(train_s=None, score_s=None) if _non_record(path, claims) else Limits()
    case = Case(
        "submission", path.resolve().name, layers, signs, logs,
        contest=True, limits=limits, files=files, script=script, claims=claims, overlap=shared, notes=unread,
    )  # fmt: skip
    return Exhibits(case, tuple(problems), table)


def _odd(name: str) -> submission.Problem:
    if name.endswith("/"):
        return submission.Problem(
            "too_deep", "error", f"{name} was not looked into, and scoring could read what is in it"
        )
    return submission.Problem("link", "error", f"{name} is a link, or has several names")


def track_of(path: Path) -> str:
    """The track that a submission says it belongs to; empty: it says none."""
    if path.is_symlink() or not path.is_dir() or not (path / submission.JSON).is_file():
        return ""
    claims, _ = submission.parse(folder.read(path, submission.JSON))
    said = (claims or {}).get("track")
    return said if isinstance(said, str) else ""


def _log_names(files: dict[str, int]) -> list[str]:
    return [name for name in sorted(files) if name.endswith(LOGS) and "requirements" not in name.lower()]


def _log(where: Path, name: str, layers: tuple[Source, ...]) -> Log:
    text = read_ends(where / name, HEAD, TAIL)
    printed = printed_source(text)
    return Log(name, reported(text), _differs(printed, layers), bool(printed))


def _differs(printed: list[str], layers: tuple[Source, ...]) -> str:
    """From every layer of the script, in words."""
    if not printed or not layers:
        return ""
    fewest = min(_apart(printed, source.text) for source in layers)
    return f"{fewest:,} lines of the source that it prints are others" if fewest else ""


def _apart(printed: list[str], text: str) -> int:
    shipped = [line[:LINE_CHARS].rstrip() for line in text.splitlines() if line.strip()]
    if printed == shipped:
        return 0
    one, other = Counter(printed), Counter(shipped)
    return max(1, (one - other).total(), (other - one).total())


def _non_record(path: Path, claims: dict[str, object] | None) -> bool:
    named = f"{(claims or {}).get('track', '')} {path.resolve().parent.name}".lower()
    return any(word in named for word in NON_RECORD)


# ------------------------------------------------------------ a run


def of_job(
    path: Path,
    measured: Measurement | None = None,
    *,
    kind: Kind = "job",
    limits: Limits | None = None,
    walls: tuple[str, ...] = (),
    verdict: str = "",
    hidden: str = "",
    contest: bool | None = None,
    shared: Overlap | None = None,
    script: str = "",
) -> Exhibits:
    """A job's folder as a runner left it; with what the store knows, if it knows it. Where it does not, anybody may
    have written what stands there, and it is said as the folder's own word. `script`: which file of the code runs."""
    paths = JobPaths(path)
    found = folder.listing(paths.code) if paths.code.is_dir() else ()
    code = {entry.name: entry.size for entry in found if not entry.name.endswith("/")}
    script = script if script in code else submission.script_of(code)
    layers, signs = _script(paths.code, script, code) if script else ((), ())
    text = read_ends(paths.train_log, HEAD, TAIL)
    logs = (_log(path, paths.train_log.name, layers),) if text else ()
    result = _result(paths)
    answer, unread = _checked(paths, result)
    notes = [_ended(result), unread if measured is None else ""]
    own_word = False
    if measured is not None and answer is not None and answer.artifact_sha != measured.artifact_sha:
        answer, notes = None, [*notes, f"{paths.measure.name} is of another artifact than the one that was measured"]
    if not path.is_dir():
        notes = ["its folder is gone: what the store keeps of it is all there is"]
    if measured is None and answer is not None and result is not None:
        measured = _measurement(answer, result, reported(text), limits or Limits())
        walls, own_word = answer.walls, measured is not None
        notes = [OWN_WORD, *notes] if own_word else notes
    case = Case(
        kind, path.resolve().name, layers, signs, logs, measured, score_s=score_seconds(answer),
        audited="" if own_word else audited(answer) or _from_trust(measured), across=_across(answer),
        floor=answer is not None and answer.floor_bits is not None,
        verdict=verdict, hidden=hidden, contest=contest,
        limits=limits or Limits(), files=code, script=script, overlap=shared, walls=walls,
        notes=tuple(note for note in notes if note), own_word=own_word,
    )  # fmt: skip
    return Exhibits(case, table=submission.table(logs))


def written_answer(paths: JobPaths) -> tuple[Measured | None, str]:
    """What the judge's session wrote, or why that can't be read."""
    text = folder.read(paths.folder, paths.measure.name)
    if text is None:
        return None, "no judge has scored it"
    try:
        return Measured.from_json(text.decode("utf-8", errors="replace")), ""
    except ValueError as error:
        return None, f"{paths.measure.name} is not one of this version of the judge: {error}"


def _checked(paths: JobPaths, result: JobResult | None) -> tuple[Measured | None, str]:
    """The same, if it is the judge's: a candidate may have written the file before it was ended. What the judge wrote
    agrees with how the job ended, which the shepherd says."""
    found, unread = written_answer(paths)
    if found is None or result is None:
        return None, unread
    try:
        found = measure.session_answer(paths, result)
    except InfraError as error:
        return None, str(error)
    return found, found.reason if result.outcome == "ok" else ""


def score_seconds(answer: Measured | None) -> float | None:
    """What the contest's clock of scoring is for."""
    return answer.clocks.score_answers if answer is not None and answer.clocks is not None else None


def _result(paths: JobPaths) -> JobResult | None:
    """What the shepherd says of the job."""
    try:
        return JobResult.from_json((folder.read(paths.folder, paths.result.name) or b"").decode("utf-8", "replace"))
    except ValueError:
        return None


def _ended(result: JobResult | None) -> str:
    """How the job ended, where it did not end well."""
    if result is None:
        return "it has no result: it is still running, or was lost"
    return "" if result.outcome == "ok" else f"it ended as {result.outcome}: {result.reason}"


def _from_trust(measured: Measurement | None) -> str:
    """Of a run whose folder is gone, what its trust says."""
    if measured is None or measured.bpb is None or measured.trust == "reported":
        return ""
    return f"a {'full' if measured.trust == 'blind' else 'quick'} audit, of which the store keeps the outcome"


def audited(answer: Measured | None) -> str:
    """How closely a score was looked at; empty if nothing was asked again."""
    if answer is None or answer.status != "ok" or answer.audit is None or not answer.audit.peeks:
        return ""
    audit = answer.audit
    return (
        f"a {audit.strength} audit of {audit.peeks:,} positions, largest difference {audit.largest_difference:.2g} "
        f"nats, largest error of a sum {audit.largest_sum:.2g}"
    )


def _across(answer: Measured | None) -> tuple[int, int]:
    audit = answer.audit if answer is not None else None
    return (audit.across, audit.across_moved) if audit is not None else (0, 0)


def _measurement(answer: Measured, result: JobResult, said: Reported, limits: Limits) -> Measurement | None:
    """Of a folder without its store: what it says that the judge and the shepherd wrote. No such score is blind."""
    found = measure.counted(answer, result)
    if found.bpb is None:
        return None
    clocks = allowed.clocks(limits.train_s, limits.score_s, found.train_wall_s, said, answer)
    notes = (*measure.marks(answer), *measure.contest_count(answer))
    return replace(found, findings=(*answer.findings, *measure.talk(result), *clocks, *notes))

"""Scores one artifact in a trusted process and leaves measure.json in the job folder.

`python -m agent.judge.session TASK`, TASK a `Task` as JSON. Exit code 0 once measure.json is written; it says
whether there is a score, and in words why not. The process reads the validation documents; candidates get
them piece by piece.
"""

import contextlib
import hashlib
import math
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import InfraError, UserError
from agent.job.folder import JobPaths
from agent.job.reading import read_plain
from agent.job.writing import write_aside
from agent.judge import JUDGE_VERSION, sampling
from agent.judge.task import Clocks, Measured, Task, no_score
from agent.judge.texts import Documents
from agent.records import Finding
from sandbox.limits import MB

if TYPE_CHECKING:
    from agent.judge.candidate import Files

SCORING_SHARE = 0.8  # of the session's time, where none is kept for the audit, which may use what is left
KEPT_S = 1.0  # at the end, for ending processes and writing the answer
MAX_CODE = 8 * MB
# Nobody ends 64 bits below the information content of generated text by luck: the chance is 2^-64.
FLOOR_SLACK_BITS = 64.0


class Counted(NamedTuple):
    """Bytes as they were before any scoring, and what they weigh."""

    artifact: bytes
    script: bytes
    code_bytes: int
    code_sha: str


def run(task: Task, since: float) -> Measured:
    """The whole session; what the candidate does wrong is an answer, not an exception."""
    from agent.judge.candidate import CandidateError, Files

    try:
        texts = read_documents(task.documents)
        hidden = read_documents(task.hidden) if task.hidden else []
    except (OSError, InfraError, UserError) as error:
        return no_score("broken", f"no validation documents: {error}")
    try:
        counted = read_counted(task)
    except OSError as error:
        return no_score("failed", f"what the run left can't be read: {error}")
    except ValueError as error:
        return no_score("failed", str(error))
    try:
        return measured(task, counted, Files(counted.artifact, counted.script), texts, hidden, since)
    except CandidateError as error:
        return no_score(error.status, str(error), error.found)
    except InfraError as error:
        return no_score("broken", str(error))


def measured(
    task: Task, counted: Counted, files: "Files", texts: list[bytes], hidden: list[bytes], since: float
) -> Measured:
    from agent.judge.audit import audit
    from agent.judge.candidate import CandidateError
    from agent.judge.contest import contest_count, other_bytes
    from agent.judge.scoring import score

    end = since + task.wall_s - KEPT_S
    scores = score(task, files, texts, min(end, since + scoring_s(task)), hidden)
    began = time.monotonic()
    try:
        found = audit(task, files, scores, texts, secrets.token_hex(16), end, run_s(task, began - since))
    except CandidateError as error:
        raise CandidateError(error.status, f"audit: {error}", error.found) from error
    nats = math.fsum(scores.nats)
    size = sum(map(len, texts))
    floor, official = (task.documents.floor_bits, task.documents.official) if task.documents else (None, None)
    return Measured(
        judge_version=JUDGE_VERSION,
        status="ok",
        reason="",
        nats=nats,
        tokens=len(scores.nats),
        bytes=size,
        doc_nats=scores.doc_nats(),
        floor_bits=floor,
        manifest=scores.manifest,
        clocks=Clocks(
            encode_answers=round(scores.encode_answers_s, 4),
            decode_answers=round(scores.decode_answers_s, 4),
            score_answers=round(scores.score_answers_s, 4),
            scoring_wall=round(scores.wall_s, 3),
            scoring_cpu=round(scores.cpu_s, 3),
            audit_wall=round(time.monotonic() - began, 3),
            audit_cpu=round(found.cpu_s, 3),
            session_wall=round(time.monotonic() - since, 3),
        ),
        audit=found.audit,
        artifact_bytes=len(counted.artifact),
        artifact_sha=hashlib.sha256(counted.artifact).hexdigest(),
        code_bytes=counted.code_bytes,
        code_sha=counted.code_sha,
        peak_mb=scores.peak_mb,
        walls=scores.walls,
        findings=found.findings + below_floor(nats / math.log(2), floor) + other_bytes(task.documents),
        contest=contest_count(official, scores.stream, scores.nats) if official else None,
        hidden_nats=scores.hidden_nats(),
        judge_sha=judge_sha(),
        source_bytes=task.source_bytes,
        packed_bytes=task.packed_bytes,
    )


def scoring_s(task: Task) -> float:
    return SCORING_SHARE * task.wall_s if task.audit_wall_s is None else task.wall_s - task.audit_wall_s


def run_s(task: Task, session_s: float) -> float:
    """Seconds since the job took its slot, training included; those of this session where that is not known."""
    with contextlib.suppress(OSError):
        return max(session_s, time.time() - JobPaths(Path(task.folder)).started.stat().st_mtime)
    return session_s


def below_floor(bits: float, floor: float | None) -> tuple[Finding, ...]:
    """Generated text has a known information content: whoever needs less has seen the text."""
    if floor is None or bits >= floor - FLOOR_SLACK_BITS:
        return ()
    text = f"{bits:,.0f} bits for text that holds {floor:,.0f} bits of information: it was known"
    return (Finding("below_floor", "invalid", text),)


def read_counted(task: Task) -> Counted:
    """Everything that scoring can load, read once: what was counted is what runs."""
    artifact = _read(task, task.artifact, task.disk_mb * MB)
    script = _read(task, task.script, MAX_CODE)
    size = sum(path.stat().st_size for path in code_files(task))
    return Counted(artifact, script, size, hashlib.sha256(script).hexdigest())


def code_files(task: Task) -> set[Path]:
    """All that a script could read beside the artifact; a link counts as what it is, not as what it names."""
    named = [Path(name) for name in task.code]
    inside = [path for folder in named if folder.is_dir() for path in folder.rglob("*")]
    return {path for path in (*named, *inside) if path.is_file() and not path.is_symlink()}


def judge_sha() -> str:
    """Of the source that judges: what is in this folder."""
    folder = Path(__file__).parent
    files = sorted((str(path.relative_to(folder)), path) for path in folder.rglob("*.py"))
    lines = "".join(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for name, path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _read(task: Task, path: str, most: int) -> bytes:
    return read_plain(Path(task.folder), str(Path(path).relative_to(task.folder)), most)


def read_documents(wanted: Documents | None) -> list[bytes]:
    from trainer.data import manifest

    if wanted is None:
        raise InfraError("this track has no validation documents for the judge")
    texts = manifest.read_documents(Path(wanted.path), wanted.sha256, wanted.docs, wanted.bytes)
    return sampling.chosen(texts, wanted.share, wanted.track)


def main(text: str) -> int:
    since = time.monotonic()
    task = Task.from_json(text)
    answer = run(task, since)
    write_aside(JobPaths(Path(task.folder)).measure, answer.to_json())
    print(f"{answer.status}: {answer.reason or f'{answer.tokens} tokens, {answer.nats:.3f} nats'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The phase of a job that scores.

Takes a track, a job folder and a script; gives `judge_phase`, which starts the judge session on a `Task`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import own_process
from agent.job.folder import JobPaths, Phase
from agent.judge.task import Auditing, Task
from agent.judge.texts import Documents, documents, hidden_documents
from agent.track import Track
from agent.training import candidate_env
from sandbox.limits import MB, Limits
from sandbox.policy import Policy

LOG = "judge.log"  # of the session itself; candidates write to score.log
SESSION = own_process.code("agent.judge.session")
SESSION_ENV = {**own_process.ENV, "OPENBLAS_NUM_THREADS": "1"}  # what starts confined processes must have one thread
OWN_MB = 400  # what the session needs on top of the candidate
OWN_SHARE = 32  # and for every byte of the documents: they, their tokens and the nats are held


class CodeSizes(NamedTuple):
    """Bytes of a script, where they are known."""

    source: int | None = None
    packed: int | None = None


class Texts(NamedTuple):
    """What is scored, where it does not lie in a corpus."""

    documents: Documents | None
    hidden: Documents | None


UNKNOWN = CodeSizes()
QUICK = Auditing()


def judge_phase(
    track: Track,
    paths: JobPaths,
    *,
    script: Path,
    seed: int,
    corpus: Path,
    policy: Policy,
    auditing: Auditing = QUICK,
    sizes: CodeSizes = UNKNOWN,
    share: float = 1.0,
    texts: Texts | None = None,
) -> Phase:
    """The phase that scores: a trusted process, which starts the candidate's processes itself, each bound by the
    policy with its own files and folder in it. `share`: of the documents that are scored; `texts`:
    other ones than the corpus'."""
    held, hidden = texts or (documents(track, corpus), hidden_documents(track, corpus))
    if held is not None and share < 1:
        held = replace(held, share=share, track=track.name, floor_bits=None, official=None)
    task = scoring_task(
        track,
        paths,
        script=script,
        seed=seed,
        held=held,
        hidden=hidden,
        policy=policy,
        auditing=auditing,
        sizes=sizes,
    )
    return session_phase(track, task, session_command(task))


def scoring_task(
    track: Track,
    paths: JobPaths,
    *,
    script: Path,
    seed: int,
    held: Documents | None,
    policy: Policy,
    auditing: Auditing = QUICK,
    sizes: CodeSizes = UNKNOWN,
    hidden: Documents | None = None,
) -> Task:
    limits = track.limits
    return Task(
        command=command(track),
        script=str(script),
        code=(str(script),) if track.script.pack else (str(script), str(paths.code)),
        alone=track.script.pack,
        artifact=str(paths.out / track.script.artifact),
        # All that it gets to see of the outside, but for artifact, socket and seed.
        env={**candidate_env(track), **track.script.env},
        policy=policy,
        seed=seed,
        documents=held,
        wall_s=limits.judge_wall_s(),
        audit_wall_s=limits.audit_wall_s,
        memory_mb=limits.memory_mb,
        disk_mb=limits.disk_mb,
        log_mb=limits.log_mb,
        processes=limits.processes,
        folder=str(paths.folder),
        auditing=auditing,
        chunk_tokens=track.data.chunk_tokens,
        hidden=hidden,
        separators=track.data.corpus == "fineweb",
        source_bytes=sizes.source,
        packed_bytes=sizes.packed,
    )


def session_phase(track: Track, task: Task, argv: tuple[str, ...]) -> Phase:
    """The phase of a process of ours that talks to the candidate's."""
    limits = track.limits
    return Phase(
        name="judge",
        argv=argv,
        env=dict(SESSION_ENV),
        cwd=task.folder,
        limits=Limits(
            wall_s=limits.judge_wall_s(),
            cpu_s=None,
            memory_mb=limits.memory_mb + own_mb(task.documents),
            disk_mb=2 * limits.disk_mb + OWN_MB,
            log_mb=limits.log_mb + 1,
            processes=limits.processes + 8,
            gpu_memory_mb=limits.gpu_memory_mb,
        ),
        policy=None,
        log=LOG,
    )


def own_mb(held: Documents | None) -> int:
    """Memory of the session itself."""
    return OWN_MB + (OWN_SHARE * held.bytes // MB if held else 0)


def session_command(task: Task) -> tuple[str, ...]:
    return own_process.command(SESSION, task.to_json())


def command(track: Track) -> tuple[str, ...]:
    """The track's scoring command; its last word is the role."""
    *words, _ = track.script.score
    filled = {"python": sys.executable, "script": "{script}", "gpus": track.hardware.gpus}
    return (*(word.format(**filled) for word in words), "{role}")

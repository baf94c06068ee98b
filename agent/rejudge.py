"""Scores kept artifacts again with the present judge, each by a session of its own on a copy of its job.

Takes a campaign of the store and its job folders; gives one `Again` a run. A newer judge's score is added beside
the older one; under the same judge the two are only compared. Nothing in the job folders is changed.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from agent import track
from agent.errors import InfraError, MissingError, UserError
from agent.job.folder import JobPaths, JobResult, JobSpec
from agent.job.reading import read_plain, read_small, there
from agent.job.removal import remove
from agent.judge import JUDGE_VERSION
from agent.judge.beside.clocks import clocked
from agent.judge.beside.hidden import watched
from agent.judge.measure import MARKS, measure
from agent.judge.rules import signs
from agent.judge.session import MAX_CODE
from agent.judge.task import Auditing
from agent.records import Campaign, Measurement, Run
from agent.runners import Runner
from agent.runners.order import Order, place
from agent.store import Store
from agent.store.lease import hold
from agent.tables import GRACE_S
from agent.track import Track
from agent.workspace import campaign_folder, corpus_folder, jobs_folder
from sandbox import level
from sandbox.limits import MB

State = Literal["written", "would change", "same", "differs", "altered", "pruned", "no score"]
# Relative. The same artifact, text and machine give the same sum; another number of threads or library does not.
SAME = 1e-6
LOOK_S = 0.1


@dataclass(frozen=True)
class Again:
    """One run, scored again."""

    run: str
    proposal: str
    state: State
    words: str
    old_version: int | None = None
    new_version: int | None = None
    old_bpb: float | None = None
    new_bpb: float | None = None
    seconds: float = 0.0

    @property
    def difference(self) -> float | None:
        return self.new_bpb - self.old_bpb if self.new_bpb is not None and self.old_bpb is not None else None


class _Gone(Exception):
    """What scoring needs is not there any more."""


class _Altered(Exception):
    """What is there is not what was measured."""


class Kept(NamedTuple):
    """What the job folder still holds, read once."""

    artifact: bytes
    code: dict[str, bytes]
    train_log: bytes
    result: JobResult
    judge_wall_s: float


class Bench(NamedTuple):
    """What all runs of one campaign are scored with."""

    campaign: Campaign
    track: Track
    runner: Runner
    jobs: Path
    aside: Path


def chosen(store: Store, campaign: Campaign, ids: Sequence[int]) -> list[Run]:
    """The runs to score again: those that are named, or all of the campaign that are done."""
    with store.read() as reads:
        found = [reads.run(one) for one in dict.fromkeys(ids)] if ids else reads.runs(campaign.id, states={"done"})
    for run in found:
        if run.campaign_id != campaign.id:
            raise UserError(f"r{run.id} is not of campaign {campaign.name}: give its campaign with --campaign")
        if run.state != "done":
            raise UserError(f"r{run.id} is {run.state}: only a run that is done can be scored again")
    return found


def rejudge(
    store: Store,
    campaign: Campaign,
    root: Path,
    runs: Sequence[Run],
    make_runner: Callable[[Track], Runner],
    *,
    check: bool = False,
) -> Iterator[Again]:
    """Each run in turn. Holds the campaign meanwhile: whatever else ran would take the judge's time.

    Raises:
        MissingError: the campaign's corpus is not here.
        UserError: the corpus is another one, or the runs were measured by a newer judge.
    """
    of = track.parse(campaign.track_toml, f"track of {campaign.name}")
    folder = campaign_folder(root, campaign.name)
    the_corpus(of, campaign, root)
    with hold(store, f"campaign {campaign.name}"):
        bench = Bench(campaign, of, make_runner(of), jobs_folder(root, campaign.name), folder / "rejudge")
        remove(bench.aside)
        try:
            for run in runs:
                yield _again(store, bench, run, check)
        finally:
            remove(bench.aside)


def the_corpus(of: Track, campaign: Campaign, root: Path) -> Path:
    """The campaign's validation text, still the same to the byte."""
    from trainer.data.manifest import load

    folder = corpus_folder(root, of.data.corpus)
    if not of.script.score:
        raise UserError(f"track {of.name} is judged by what its script reports: there is nothing to score again")
    try:
        found = load(folder).data_sha
    except MissingError as error:
        raise MissingError(f"the validation text of {campaign.name} is not here: {error}") from error
    if found != campaign.data_sha:
        raise UserError(
            f"the corpus in {folder} is not the one of {campaign.name} ({found[:12]} instead of "
            f"{campaign.data_sha[:12]}): scores of different texts can't be compared. `python -m trainer.data` "
            "makes the same one only from the same versions of the packages"
        )
    return folder


def _again(store: Store, bench: Bench, run: Run, check: bool) -> Again:
    began = time.monotonic()
    with store.read() as reads:
        old, risk = reads.measurement(run.id), reads.proposal(run.proposal_id).risk
    about = Again(f"r{run.id}", f"p{run.proposal_id}", "no score", "")
    if old is None or run.outcome != "ok":
        return replace(about, words=f"it ended as {run.outcome}: there was no score")
    about = replace(about, old_version=old.judge_version, new_version=JUDGE_VERSION, old_bpb=old.bpb)
    if old.judge_version > JUDGE_VERSION:
        raise UserError(f"r{run.id} was measured by judge {old.judge_version}; this Caddie has judge {JUDGE_VERSION}")
    try:
        kept = read_kept(bench, run, old)
        new = signs.flagged(score(bench, run, kept), risk)
        with store.read() as reads:
            new = watched(reads, run, new, bench.track.decision.min_gain)
            new = clocked(reads, bench.track, run, new, lambda one: bench.jobs / f"r{one}")
    except _Gone as error:
        return replace(about, state="pruned", words=str(error))
    except _Altered as error:
        return replace(about, state="altered", words=str(error))
    except InfraError as error:
        return replace(about, words=str(error))
    about = replace(about, new_bpb=new.bpb, seconds=round(time.monotonic() - began, 1))
    if new.bpb is None:
        return replace(about, words="; ".join(one.text for one in new.findings) or "no score")
    if check or old.judge_version == JUDGE_VERSION:
        return _compared(about, old, new)
    with store.write() as tx:
        tx.add_measurement(new)
        words = f"judge {old.judge_version} -> {JUDGE_VERSION}: {_words(old)} -> {_words(new)}"
        tx.add_event(run.campaign_id, "rejudged", words, proposal_id=run.proposal_id, run_id=run.id)
    return replace(about, state="written", words=words)


def _compared(about: Again, old: Measurement, new: Measurement) -> Again:
    before, after = _rules(old), _rules(new)
    told = [f"now found: {rule}" for rule in after - before] + [f"not found again: {rule}" for rule in before - after]
    if old.bpb is None or new.bpb is None or abs(new.bpb - old.bpb) > SAME * abs(old.bpb):
        told.insert(0, f"{_words(old)} -> {_words(new)}")
    if old.trust == "blind" and new.trust != "blind":  # what it takes is no matter of versions: no number changes by it
        told.append(f"no longer blind: {new.trust}")
    if not told:
        return replace(about, state="same", words="the same score")
    return replace(
        about, state="differs" if old.judge_version == JUDGE_VERSION else "would change", words="; ".join(told)
    )


def _rules(of: Measurement) -> set[str]:
    """But for what only tells of the machine that scored."""
    return {f"{one.severity} {one.rule}" for one in of.findings if one.rule != MARKS}


def _words(of: Measurement) -> str:
    return "no score" if of.bpb is None else f"{of.bpb:.5f} BPB"


# ---------------------------------------------------------------- the job, again


def read_kept(bench: Bench, run: Run, old: Measurement) -> Kept:
    """The artifact and the code that were measured, or the reason why they can't be had."""
    paths, limits = JobPaths(bench.jobs / f"r{run.id}"), bench.track.limits
    script = bench.track.script
    result = read_small(paths.result)
    if not (paths.out.is_dir() and paths.code.is_dir()) or result is None:
        raise _Gone("its files were pruned")
    try:
        artifact = read_plain(paths.out, script.artifact, limits.disk_mb * MB)
        code = read_code(paths.code, Path(script.path).name if script.pack else None, limits.disk_mb * MB)
        log = (
            b""
            if not there(paths.train_log)
            else read_plain(paths.folder, paths.train_log.name, limits.log_mb * MB + MB)
        )
        ended = JobResult.from_json(result)
    except FileNotFoundError as error:
        raise _Gone(f"{Path(str(error.filename)).name} is gone") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _Altered(f"its files can't be read: {error}") from error
    if old.artifact_sha not in (None, hashlib.sha256(artifact).hexdigest()):
        raise _Altered("its artifact is not the one that was measured")
    ran = code.get(Path(script.path).name if script.pack else script.path, b"")
    if hashlib.sha256(ran).hexdigest() != run.script_sha:
        raise _Altered("its script is not the one that ran")
    return Kept(artifact, code, log, ended, _judge_wall(paths, limits.judge_wall_s()))


def read_code(folder: Path, only: str | None, most: int) -> dict[str, bytes]:
    """Files by their path from the folder; plain ones only, links are not followed."""
    if only is not None:
        return {only: read_plain(folder, only, MAX_CODE)}
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = str(path.relative_to(folder))
        found[name] = read_plain(folder, name, most)
        most -= len(found[name])
        if most < 0:
            raise ValueError("the code folder is too big")
    return found


def _judge_wall(paths: JobPaths, otherwise: float) -> float:
    """The limit under which the run was scored: tighter than the track's once the base had run."""
    try:
        spec = JobSpec.from_json(read_small(paths.spec) or "")
    except ValueError:
        return otherwise
    return next((phase.limits.wall_s for phase in spec.phases if phase.name == "judge"), otherwise)


def score(bench: Bench, run: Run, kept: Kept) -> Measurement:
    """One session in a job folder of its own, under a shepherd as any other job."""
    paths = JobPaths(bench.aside / f"r{run.id}")
    slot = bench.runner.slots[0]
    of = bench.track
    limits = of.limits.model_copy(update={"score_wall_s": kept.judge_wall_s, "audit_wall_s": None})
    order = Order(
        run_id=run.id,
        track=bench.campaign.track_toml,
        limits=limits.model_dump_json(),
        rung=run.rung,
        seed=run.seed,
        # As when it was measured: what may run behind weaker walls, or none, was decided then.
        minimum=level(run.walls),
        auditing=Auditing("full" if of.trust == "blind" else "quick", min_gain=of.decision.min_gain),
        wall_s=kept.judge_wall_s + GRACE_S,
        phases=("judge",),
    )

    def fill(code: Path) -> None:
        for name, data in kept.code.items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_bytes(data)
        aside = JobPaths(code.parent)
        (aside.out / of.script.artifact).parent.mkdir(parents=True, exist_ok=True)
        (aside.out / of.script.artifact).write_bytes(kept.artifact)
        aside.train_log.write_bytes(kept.train_log)

    place(paths.folder, order, fill)
    ended = _ended(bench.runner, order, paths, slot)
    if ended.outcome == "capped":  # a busy machine, as like as not: no reason to touch an older score
        raise InfraError(f"not scored: {ended.reason}")
    trained = tuple(one for one in kept.result.phases if one.name == "train")
    whole = replace(ended, phases=(*trained, *ended.phases), slot_s=kept.result.slot_s)
    try:
        return measure(order.limited, run, paths, whole, bench.campaign.data_sha)
    finally:
        remove(paths.folder)


def _ended(runner: Runner, order: Order, paths: JobPaths, slot: str) -> JobResult:
    try:
        runner.submit(order, paths.folder, slot)
        while (state := runner.poll(paths.folder)) not in ("done", "lost"):
            time.sleep(LOOK_S)
    except BaseException:
        runner.cancel(paths.folder)
        deadline = time.monotonic() + GRACE_S
        while runner.poll(paths.folder) not in ("done", "lost") and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        raise
    if state == "lost":
        raise InfraError(f"not scored: {runner.loss(paths.folder).reason}")
    return runner.collect(paths.folder)

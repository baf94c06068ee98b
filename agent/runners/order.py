"""What is asked of a runner: one run, free of any machine's paths; and how a machine makes a job of it.

Takes a run's facts; gives `Order`, as JSON both ways. On the machine that runs it, `spec_of` adds what that machine
is (`Here`) and gives the `JobSpec` that a shepherd holds.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agent import reach, training
from agent.errors import InfraError, TrackError
from agent.job.folder import JobPaths, JobSpec, Phase, PhaseName, make
from agent.job.reading import read_small
from agent.judge.phase import CodeSizes, Texts, judge_phase
from agent.judge.task import Auditing
from agent.strict import strict
from agent.tables import Limits
from agent.track import Track, parse
from sandbox.policy import BoxName, Level


@dataclass(frozen=True)
class Order:
    """One run."""

    run_id: int
    track: str  # the text of its track file
    limits: str  # of this run, as JSON: the track's, or tighter
    rung: str
    seed: int
    minimum: Level  # the weakest walls behind which its code may run
    auditing: Auditing  # its reference's path counts from the folder of all jobs
    wall_s: float  # the whole job, clean-up included: what was reserved
    phases: tuple[PhaseName, ...] = ("train", "judge")
    source_bytes: int | None = None  # of the script as it is written
    packed_bytes: int | None = None  # and packed, where that is what runs

    @property
    def limited(self) -> Track:
        """The track as this run sees it."""
        return _limited(self.track, self.limits, self.rung)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Order":
        order = strict(cls, text)
        try:
            order.limited.rung_named(order.rung)
        except (TrackError, StopIteration) as error:
            raise ValueError(f"it has no track that can be used: {error or order.rung}") from error
        return order


@dataclass(frozen=True)
class Here:
    """What the machine that runs it adds."""

    corpus: Path
    """The prepared corpus: train/, val/, manifest.json."""
    gpus: tuple[int, ...] = ()
    """Numbers of the slot's GPUs, as the device nodes have them."""
    env: Mapping[str, str] = field(default_factory=dict)
    """How the run finds its share of the machine."""
    box: BoxName = ""
    """How bubblewrap is known to work."""
    texts: Texts | None = None
    """None: those of the corpus."""
    taken_up: bool = False
    """Whether a training that is interrupted here is taken up again."""

    def checkpoint(self, track: Track) -> str:
        """What it goes on from; empty: it can't. Where machines make a score, one of two would be neither's."""
        clock = track.hardware.anchor_every_s is not None or track.limits.train_clock_s is not None
        return "" if clock or not self.taken_up else track.script.checkpoint


def spec_of(order: Order, here: Here, folder: Path) -> JobSpec:
    """The order as a job in this folder, in which the code is."""
    made = {"train": _train, "judge": _judge}
    track = order.limited
    wanted = [name for name in order.phases if name != "judge" or track.script.score]
    return JobSpec(
        run_id=order.run_id,
        phases=tuple(made[name](order, track, here, JobPaths(folder)) for name in wanted),
        artifact=(track.script.artifact or None) if "train" in wanted else None,
        core=None,
        wall_s=order.wall_s,
        checkpoint=(here.checkpoint(track) or None) if "train" in wanted else None,
    )


def place(folder: Path, order: Order, fill: Callable[[Path], None]) -> bool:
    """The job folder of an order, made in one step; False if it was there. `fill` writes the code."""
    return make(folder, JobPaths(folder).order.name, order.to_json(), fill)


def placed(folder: Path, order: Order) -> None:
    """Raises InfraError where the folder is not the one of this order's run."""
    try:
        found = Order.from_json(read_small(JobPaths(folder).order) or "")
    except ValueError as error:
        raise InfraError(f"{folder} does not hold the job of r{order.run_id}: {error}") from error
    if found.run_id != order.run_id:
        raise InfraError(f"{folder} does not hold the job of r{order.run_id}, but of r{found.run_id}")


def corpus_beside(order: Order, folder: Path) -> Path:
    """Where a workspace keeps the corpus of a job in .caddie/CAMPAIGN/jobs/."""
    return folder.parents[2] / "data" / order.limited.data.corpus


def _train(order: Order, track: Track, here: Here, paths: JobPaths) -> Phase:
    rung = track.rung_named(order.rung)
    env = training.environment(track, rung, here.corpus, here.env, run_id=f"r{order.run_id}", seed=order.seed)
    if name := here.checkpoint(track):
        env["CHECKPOINT"] = name
    return training.train_phase(track, paths, env, reach.training(track, paths, here.corpus, _reach(order, here)))


def _judge(order: Order, track: Track, here: Here, paths: JobPaths) -> Phase:
    # A candidate that is scored finds its share of the machine, too.
    script = track.script.model_copy(update={"env": {**here.env, **track.script.env}})
    auditing = order.auditing
    if auditing.reference is not None and not auditing.reference.path.startswith("/"):
        path = str(paths.folder.parent / auditing.reference.path)
        auditing = replace(auditing, reference=replace(auditing.reference, path=path))
    return judge_phase(
        track.model_copy(update={"script": script}),
        paths,
        script=training.script_file(track, paths.code),
        seed=order.seed,
        corpus=here.corpus,
        texts=here.texts,
        policy=reach.scoring(track, _reach(order, here)),
        auditing=auditing,
        sizes=CodeSizes(order.source_bytes, order.packed_bytes),
        share=track.rung_named(order.rung).score_share,
    )


def _reach(order: Order, here: Here) -> reach.Reach:
    return reach.Reach(order.minimum, here.gpus, here.box)


@functools.lru_cache(maxsize=64)
def _limited(text: str, limits: str, rung: str) -> Track:
    track = parse(text, "the track of an order")
    return track.sized(track.gpus(rung)).model_copy(update={"limits": Limits.model_validate_json(limits)})

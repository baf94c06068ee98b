"""Default campaigns of the tiny track on recorded trainings, beside keep-if-lower with the same planner and budget.

    python -m benchmarks.campaigns --campaigns 20

Loop, store, git, search, planner, ledger and verdicts are the real ones; only training and judging are looked up
(`benchmarks/recorded_world.py`). Keep-if-lower tries the ideas of the same planner one after the other for the same
slot time, runs each once, always with the same seed as such loops do, and keeps what fits and scores lower. True gains
are the table's, without noise.
"""

import argparse
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from agent import campaign, search
from agent.loop import Loop
from agent.options import Options
from agent.planner import Request, Trial
from agent.planner.edits import apply
from agent.planner.knobs import Knobs
from agent.records import Campaign, Caps, Mode, Proposal, ProposalState
from agent.runners.fake import FakeRunner, Imagined
from agent.script import literals
from agent.script.literals import KnobValue
from agent.track import Track, load
from benchmarks.endless import git
from benchmarks.folders import working_folder
from benchmarks.recorded_world import Config, World, key
from benchmarks.store import machine
from benchmarks.trainer_reference import SCRIPT
from benchmarks.training_table import rows, wanted
from trainer.pack import pack

TARGET, SHARE = 0.10, 0.70
SLOTS = 2
COLUMNS = (
    "rule",
    "0.10 BPB in two valid commits",
    "median true gain",
    "least",
    "commits kept",
    "of them real",
    "head's figure off by",
    "in size",
    "runs",
    "slot-hours",
)
LOOK_S = 0.1  # that a result is kept back, so that two runs are under way at once


CAMPAIGN = Campaign(
    id=1,
    name="bench",
    track="tiny",
    track_file="tiny",
    track_toml="",
    track_sha="",
    data_sha="",
    base_commit="",
    branch="",
    seed=0,
    caps=Caps(None),
    planner="knobs",
    review="none",
    slots=1,
    target_bpb=None,
    hardware_class="cpu",
    state="running",
    reason="",
    created="",
)
PROPOSAL = Proposal(
    1, 1, "promoted", "", None, None, None, "", "", "knobs", "base", "knob", "", "", "", "", "", {}, 0.0, 0.5,
    None, None, "", (), (), "", "", "",
)  # fmt: skip


class Kept(NamedTuple):
    """One commit of a lineage: what it truly gained over the one before, and whether it truly fits."""

    gain: float
    fits: bool


class Result(NamedTuple):
    gain: float
    """True, of the head over the base."""
    kept: list[Kept]
    error: float
    """Of the figure that is reported for the head: reported less true; below 0 is too good."""
    runs: int
    spent_h: float

    @property
    def good(self) -> bool:
        return self.gain >= TARGET and len(self.kept) >= 2 and all(one.fits for one in self.kept)


class Setup(NamedTuple):
    """The tiny track with a stand-in script: the same knobs, nothing else."""

    track_toml: str
    script: str
    track: Track
    world: World
    code_bytes: int


def setup() -> Setup:
    track, text = load("tiny", Path.cwd())
    source = SCRIPT.read_text("utf-8")
    base = literals.read(track, {track.script.path: source})
    table = re.search(r"^TINY = (\{.*?^\})", source, re.DOTALL | re.MULTILINE)
    assert table is not None
    script = f'"""The settings of the tiny track."""\n\nKNOBS = {table[1]}\n'
    text = Path("trainer/tracks/tiny.toml").read_text("utf-8")
    text = text.replace("trainer/train_gpt.py", "train.py").replace('"TINY.', '"KNOBS.')
    text = text.replace('corpus = "docs"', 'corpus = "none"').replace("[script]", "[script]\npack = false", 1)
    text = re.sub(r"\[compute\].*?(?=\[\[rung\]\])", "", text, flags=re.DOTALL)
    text = text.replace('env = { COMPUTE_BUDGET_MS = "85509" }', "")
    found = rows()
    recorded = {(key(row["changes"]), row["seed"]) for row in found}
    lacking = [one for one in wanted() if (key(one[0]), one[1]) not in recorded]
    if lacking:
        raise SystemExit(f"the table lacks {len(lacking)} trainings; `python -m benchmarks.training_table "
                         ".caddie/data/docs` records them")  # fmt: skip
    world = World.of(found, base)
    return Setup(text, script, track, world, len(pack(source)) - len(script))


def caddie(made: Setup, seed: int, root: Path) -> Result:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text(made.script)
    (root / "agent.toml").write_text(made.track_toml)
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "Start")
    options = Options(track="agent.toml", review="none", slots=SLOTS, seed=seed)
    world = made.world.runner(f"campaign/{seed}", made.code_bytes)
    setting = campaign.start(options, root, lambda text: None, lambda track, slots: FakeRunner(slots, LOOK_S, world))
    Loop(setting).run()
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        lineage = sorted(reads.lineage(head.id), key=lambda one: one.id)
        configs = [
            literals.read(setting.track, setting.repo.files(one.commit or "", setting.track.script.editable))
            for one in lineage
        ]
        scored = [one for one in reads.scored(setting.campaign.id, proposal_id=head.id)
                  if one.run.purpose == "report" and one.measurement.bpb is not None]  # fmt: skip
        reported = statistics.fmean(float(one.measurement.bpb or 0.0) for one in scored)
        runs, spent = reads.count_runs(setting.campaign.id), reads.balance(setting.campaign.id).settled.gpu_s
    setting.store.close()
    return result(made, configs, reported, runs, spent)


def result(made: Setup, configs: list[dict[str, KnobValue]], reported: float, runs: int, spent_s: float) -> Result:
    truth = [made.world.bpb(config) for config in configs]
    kept = [
        Kept(before - after, fits(made, config))
        for before, after, config in zip(truth, truth[1:], configs[1:], strict=False)
    ]
    return Result(truth[0] - truth[-1], kept, reported - truth[-1], runs, spent_s / 3600)


def fits(made: Setup, config: Config) -> bool:
    limit = made.track.limits.artifact_bytes
    return limit is None or made.world.artifact_bytes(config) + made.code_bytes + len(made.script) <= limit


class KeepIfLower:
    """One run an idea; what scores lower than the head, and fits, is the new head."""

    def __init__(self, made: Setup, seed: int) -> None:
        self.made, self.seed, self.track = made, seed, made.track
        self.planner, self.path = Knobs(made.track), made.track.script.path
        self.files = {self.path: SCRIPT.read_text("utf-8")}
        self.run_one: Callable[[Config, int], Imagined] = made.world.runner(f"campaign/{seed}", made.code_bytes)
        self.configs = [literals.read(self.track, self.files)]
        self.trials: list[Trial] = []
        self.lineage = [1]
        self.spent_s = 0.0

    def run(self, budget_s: float) -> Result:
        self._measure(self.configs[0], "base", 1)
        while self.spent_s + self.made.world.seconds(self.configs[0]) <= budget_s and self._idea():
            pass
        head = self.trials[self.lineage[-1] - 1]
        configs = [self.configs[one - 1] for one in self.lineage]
        return result(self.made, configs, head.bpb or 0.0, len(self.trials), self.spent_s)

    def _measure(self, config: dict[str, KnobValue], mode: Mode, source: int) -> None:
        number = len(self.trials) + 1
        run = self.run_one(config, self.seed)
        self.spent_s += run.seconds
        head = self.trials[self.lineage[-1] - 1] if self.trials else None
        gain = None if head is None or head.bpb is None else head.bpb - run.bpb
        lower = gain is None or gain > 0
        state: ProposalState = "worse"
        if lower:
            state = "promoted" if fits(self.made, config) else "oversize"
        total = run.artifact_bytes + len(self.made.script)
        baseline = self.lineage[-1] if self.trials else None
        self.trials.append(Trial(number, state, config, gain, run.bpb, total, baseline, 1, mode, source))
        if state == "promoted" and head is not None:
            self.lineage.append(number)

    def _idea(self) -> bool:
        trials, head = tuple(self.trials), self.lineage[-1]
        shot = search.snapshot(head, trials, modes=self.planner.modes, min_gain=self.track.decision.min_gain)
        choice = search.choose(shot, self.seed, len(trials))
        of_head, files = self._text(head), self._text(choice.source_id)
        request = Request(
            self.track, CAMPAIGN, choice.mode, self._row(head), self._row(choice.source_id), files, of_head, trials,
            self.seed, len(trials),
        )  # fmt: skip
        draft = self.planner.propose(request)
        if draft is None:
            return False
        start = of_head if draft.source_id == head else files
        config = literals.read(self.track, apply(draft.edits, start, [self.path]))
        self.configs.append(config)
        self._measure(config, choice.mode, draft.source_id)
        return True

    def _text(self, proposal: int) -> dict[str, str]:
        return literals.write(self.track, self.files, self.configs[proposal - 1])

    def _row(self, proposal: int) -> Proposal:
        trial = self.trials[proposal - 1]
        return replace(
            PROPOSAL,
            id=proposal,
            baseline_id=trial.baseline_id,
            mode=trial.mode,
            state=trial.state,
            knobs=dict(trial.knobs),
        )


def describe(name: str, results: list[Result]) -> str:
    commits = [one for result in results for one in result.kept]
    real = sum(one.gain > 0 for one in commits)
    errors = [one.error for one in results]
    return (
        f"| {name} | {sum(one.good for one in results)} of {len(results)} "
        f"| {statistics.median(one.gain for one in results):.3f} | {min(one.gain for one in results):.3f} "
        f"| {len(commits)} | {real / max(1, len(commits)):.0%} | {statistics.fmean(errors):+.4f} "
        f"| {statistics.fmean(abs(e) for e in errors):.4f} | {statistics.fmean(one.runs for one in results):.0f} "
        f"| {statistics.fmean(one.spent_h for one in results):.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="first campaign seed")
    chosen = parser.parse_args()
    made = setup()
    noise = made.world.noise
    print(f"{machine()}; {len(rows())} recorded trainings; seeds differ by {noise.own:.4f} in one configuration alone "
          f"and by {noise.shared:.4f} in all at once\n")  # fmt: skip
    ours, theirs = [], []
    with working_folder("campaigns") as root:
        for seed in range(chosen.first, chosen.first + chosen.campaigns):
            ours.append(caddie(made, seed, root / str(seed)))
            theirs.append(KeepIfLower(made, seed).run((made.track.budget_hours or 0.0) * 3600))
            for name, one in (("caddie", ours[-1]), ("keep-if-lower", theirs[-1])):
                steps = " ".join(f"{kept.gain:+.3f}{'' if kept.fits else '!'}" for kept in one.kept)
                print(f"seed {seed} {name}: {one.gain:.3f} in {len(one.kept)} commits ({steps}), {one.runs} runs, "
                      f"head reported {one.error:+.4f} off", flush=True)  # fmt: skip
    print(f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    print(describe("Caddie", ours))
    print(describe("keep-if-lower", theirs))
    met = sum(one.good for one in ours) >= SHARE * len(ours)
    print(f"\nat least {SHARE:.0%} of campaigns: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()

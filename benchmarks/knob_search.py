"""How far the `knobs` planner gets in a default campaign, on a synthetic response surface.

    python -m benchmarks.knob_search --campaigns 20 --runs 68

The surface is made from measured effects of single changes at 300 steps (equal tokens), with each shape's
cost turned into fewer steps, a size model and noise between seeds; effects are redrawn for every campaign.
Planner, search, edits, the track `tiny` and its script are the real ones; screening, confirmation and
report runs are a simple stand-in for the loop's. Prints one line per campaign: true gain of the head,
accepted commits, and how many of them are real.
"""

import argparse
import itertools
import math
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import literals, search
from agent.literals import KnobValue
from agent.planner import Request, Trial
from agent.planner.edits import apply
from agent.planner.knobs import Knobs
from agent.planner.sizes import PER_WEIGHT, weights
from agent.records import Campaign, Caps, Mode, Proposal, ProposalState
from agent.track import Knob, Track, load

Config = dict[str, KnobValue]

# BPB at 300 steps against the default, and relative cost of a step. Measured where there was a figure; the
# rest is interpolated or a guess near nothing, and every campaign draws its own around these.
EFFECTS: dict[str, dict[KnobValue, tuple[float, float]]] = {
    "vocab_size": {
        512: (0.295, 0.86),
        768: (0.13, 0.93),
        1536: (-0.14, 1.2),
        2048: (-0.241, 1.44),
        3072: (-0.29, 2.3),
        4096: (-0.327, 3.3),
    },
    "num_layers": {1: (0.07, 0.75), 2: (0.018, 0.87), 4: (-0.012, 1.27), 5: (-0.02, 1.5)},
    "model_dim": {48: (0.06, 0.8), 80: (-0.045, 1.2), 96: (-0.081, 1.4), 128: (-0.13, 2.0)},
    "num_kv_heads": {1: (0.006, 0.98), 4: (-0.009, 1.04)},
    "mlp_mult": {1: (0.02, 0.93), 3: (-0.002, 1.06), 4: (-0.004, 1.12)},
    "activation": {"gelu": (-0.01, 1.02), "silu": (-0.005, 1.02), "leaky_relu2": (-0.003, 1.0)},
    "qk_gain_init": {1.0: (0.008, 1.0), 2.0: (-0.002, 1.0), 4.0: (-0.007, 1.0)},
    "logit_softcap": {0.0: (0.002, 0.98), 15.0: (0.0, 1.0)},
    "train_batch_tokens": {512: (-0.06, 1.2), 1024: (-0.052, 1.07), 4096: (0.058, 1.03)},
    "train_seq_len": {64: (0.0, 0.88), 128: (-0.013, 0.91), 512: (0.018, 1.17)},
    "matrix_lr": {0.005: (0.03, 1.0), 0.01: (0.011, 1.0), 0.04: (0.010, 1.0), 0.08: (0.04, 1.0)},
    "tied_embed_lr": {0.02: (0.047, 1.0), 0.03: (0.02, 1.0), 0.12: (0.0, 1.0), 0.24: (0.03, 1.0)},
    "scalar_lr": {0.01: (0.003, 1.0), 0.04: (-0.003, 1.0)},
    "warmdown_frac": {0.1: (0.051, 1.0), 0.3: (0.015, 1.0), 0.8: (0.004, 1.0)},
    "muon_momentum": {0.85: (0.0, 1.0), 0.9: (-0.004, 1.0)},
    "muon_backend_steps": {3: (0.014, 0.94), 4: (0.004, 0.97)},
    "weight_bits": {6: (0.003, 1.0), 5: (0.01, 1.0), 4: (0.045, 1.0)},
    "embed_bits": {6: (0.003, 1.0), 5: (0.01, 1.0), 4: (0.045, 1.0)},
    "compressor": {},
    "eval_stride": {64: (-0.001, 1.0), 128: (-0.0015, 1.0)},
}
BASE_BPB, SLOPE = 2.33, 0.27  # BPB, and BPB per e-fold of steps
CODE = 14_500
SLOTS, AHEAD = 2, 2


class World:
    """One campaign's truth."""

    def __init__(self, seed: int, sigma: float, track: Track, base: Config) -> None:
        rng = random.Random(f"world/{seed}")
        self.sigma, self._noise = sigma, random.Random(f"noise/{seed}")
        self._effects = {knob.name: _redrawn(knob, base, rng) for knob in track.knob}
        names = sorted(self._effects)
        self._pairs = {(a, b): rng.gauss(0, 0.15) for a, b in itertools.combinations(names, 2)}

    def bpb(self, config: Mapping[str, KnobValue]) -> float:
        parts, cost = {}, 1.0
        for name, value in config.items():
            effect, factor = self._effects[name][value]
            parts[name] = effect
            cost *= factor
        additive = BASE_BPB + sum(parts.values()) + SLOPE * math.log(cost)
        joint = sum(
            w * math.sqrt(abs(parts[one] * parts[other]))
            for (one, other), w in self._pairs.items()
            if parts[one] and parts[other]
        )
        return additive + 0.3 * joint

    def measure(self, config: Mapping[str, KnobValue]) -> float:
        return self.bpb(config) + self._noise.gauss(0, self.sigma)

    def size(self, config: Mapping[str, KnobValue]) -> int:
        values = {"num_heads": 4, **config}  # the track has no knob for the heads
        embedding, matrices = weights(values)
        ratios = PER_WEIGHT[str(config["compressor"])]
        total = embedding * ratios[int(config["embed_bits"])] + matrices * ratios[int(config["weight_bits"])]
        return round(total * 1.01 + CODE + 7 * int(config["vocab_size"]))


def _redrawn(knob: Knob, base: Config, rng: random.Random) -> dict[KnobValue, tuple[float, float]]:
    """Effect and cost of each choice: the table's, interpolated between its entries, and drawn anew."""
    table = {**EFFECTS.get(knob.name, {}), base[knob.name]: (0.0, 1.0)}
    result = {}
    for level in knob.choices:
        effect, cost = table.get(level) or _between(table, level)
        spread = 0.004 if knob.group != "bytes" else 0.001
        if level != base[knob.name] and knob.name != "compressor":
            effect = effect * rng.gauss(1, 0.25) + rng.gauss(0, spread)
        result[level] = (effect, cost)
    return result


def _between(table: Mapping[KnobValue, tuple[float, float]], level: KnobValue) -> tuple[float, float]:
    known = sorted(float(one) for one in table if not isinstance(one, str))
    if isinstance(level, str) or len(known) < 2:
        return 0.0, 1.0
    low = max((one for one in known if one < level), default=known[0])
    high = min((one for one in known if one > level), default=known[-1])
    if low >= high:
        return table[low]
    share = (float(level) - low) / (high - low)
    (e1, c1), (e2, c2) = table[low], table[high]
    return e1 + share * (e2 - e1), c1 + share * (c2 - c1)


@dataclass
class Idea:
    id: int
    mode: Mode
    source: int
    baseline: int
    config: Config
    state: ProposalState = "approved"
    scores: list[float] = field(default_factory=list)
    report: list[float] = field(default_factory=list)
    gain: float | None = None


class Rehearsal:
    """A stand-in for the loop: two slots, ideas planned two ahead, screen, confirm, report."""

    def __init__(self, seed: int, runs: int, sigma: float, verbose: bool) -> None:
        self.seed, self.left, self.verbose = seed, runs, verbose
        self.track, self.sigma = load("tiny", Path.cwd())[0], sigma
        self.path, self.limit = self.track.script.path, self.track.limits.artifact_bytes or 0
        self.files = {self.path: Path(self.path).read_text("utf-8")}
        base = literals.read(self.track, self.files)
        self.world = World(seed, sigma, self.track, base)
        self.ideas = [Idea(1, "base", 1, 0, base, "promoted")]
        self.head = self.ideas[0]
        self.planner = Knobs(self.track)
        self.seconds: list[float] = []

    def run(self) -> "Rehearsal":
        while self.left > 0:
            self.plan()
            jobs = self.jobs()
            if not jobs:
                break
            for kind, idea in jobs[: min(SLOTS, self.left)]:
                self.left -= 1
                (idea.report if kind == "report" else idea.scores).append(self.world.measure(idea.config))
                if kind != "report":
                    idea.state = "running" if idea.state == "approved" else idea.state
            for idea in list(self.ideas):
                if idea.state in ("running", "confirming") and idea.scores and self.head.report:
                    self.decide(idea)
        return self

    def jobs(self) -> list[tuple[str, Idea]]:
        jobs = [("report", self.head)] * (self.track.decision.report_seeds - len(self.head.report))
        jobs += [("confirm", i) for i in self.ideas if i.state == "confirming"]
        return jobs + [("screen", i) for i in self.ideas if i.state == "approved"]

    def plan(self) -> None:
        while sum(i.state == "approved" for i in self.ideas) < AHEAD:
            began = time.perf_counter()
            if not self.ask():
                break
            self.seconds.append(time.perf_counter() - began)

    def ask(self) -> bool:
        trials = tuple(self.trial(i) for i in self.ideas)
        shot = search.snapshot(self.head.id, trials, modes=self.planner.modes, min_gain=0.01)
        choice = search.choose(shot, self.seed, len(self.ideas))
        source = self.ideas[choice.source_id - 1]
        files, head_files = self.text(source), self.text(self.head)
        request = Request(
            self.track, CAMPAIGN, choice.mode, self.row(self.head), self.row(source), files, head_files,
            trials, self.seed, len(self.ideas),
        )  # fmt: skip
        draft = self.planner.propose(request)
        if draft is None:
            return False
        of = head_files if draft.source_id == self.head.id else files
        after = literals.read(self.track, apply(draft.edits, of, [self.path]))
        assert after not in [i.config for i in self.ideas], "the same configuration twice"
        idea = Idea(len(self.ideas) + 1, choice.mode, draft.source_id, self.head.id, after)
        self.ideas.append(idea)
        if self.verbose:
            print(f"  p{idea.id} {choice.mode:8s} {draft.title}  expects {draft.expected_gain:+.3f}"
                  f" ({draft.confidence:.2f}), {draft.expected_bytes} bytes;"
                  f" true {self.world.bpb(self.head.config) - self.world.bpb(after):+.3f}")  # fmt: skip
        return True

    def decide(self, idea: Idea) -> None:
        baseline = self.ideas[idea.baseline - 1]
        n = len(idea.scores)
        idea.gain = statistics.fmean(baseline.report) - statistics.fmean(idea.scores)
        idea.stderr = self.sigma * math.sqrt(1 / n + 1 / len(baseline.report))
        z = idea.gain / idea.stderr
        if self.world.size(idea.config) > self.limit:
            idea.state = "oversize"
        elif n == 1:
            idea.state = "confirming" if z > 1.0 and idea.gain > 0.01 else ("inconclusive" if z > 0.5 else "worse")
        elif z > 2.8 and n >= 2:
            self.accept(idea)
        elif z < 0.8 or n >= self.track.decision.max_seeds:
            idea.state = "inconclusive"

    def accept(self, idea: Idea) -> None:
        if idea.baseline != self.head.id:  # replayed on the present head, measured from the start
            self.rebase(idea)
            idea.scores, idea.gain, idea.stderr, idea.state = [], None, None, "confirming"
            return
        idea.state = "promoted"
        if self.verbose:
            real = self.world.bpb(self.head.config) - self.world.bpb(idea.config)
            print(f"* p{idea.id} promoted: {idea.gain:+.3f}, true {real:+.3f}; {self.left} runs left")
        self.head = idea
        for other in self.ideas:
            if other.state == "approved":
                self.rebase(other)

    def rebase(self, idea: Idea) -> None:
        root = self.ideas[idea.baseline - 1].config
        idea.config = {
            name: idea.config[name] if idea.config[name] != root[name] else value
            for name, value in self.head.config.items()
        }
        idea.baseline = self.head.id
        if any(idea.config == o.config for o in self.ideas if o is not idea):
            idea.state = "cancelled"

    def trial(self, i: Idea) -> Trial:
        scores = i.scores + i.report
        size = self.world.size(i.config) if scores else None
        return Trial(i.id, i.state, i.config, i.gain, statistics.fmean(scores) if scores else None, size,
                     i.baseline or None, len(scores), i.mode, i.source)  # fmt: skip

    def text(self, idea: Idea) -> dict[str, str]:
        return literals.write(self.track, self.files, idea.config)

    def row(self, i: Idea) -> Proposal:
        return replace(PROPOSAL, id=i.id, baseline_id=i.baseline or None, mode=i.mode, state=i.state)

    def gain(self) -> float:
        return self.world.bpb(self.ideas[0].config) - self.world.bpb(self.head.config)

    def commits(self) -> list[float]:
        """True gain of every accepted commit over its own baseline."""
        chain, at = [], self.head
        while at.baseline:
            before = self.ideas[at.baseline - 1]
            chain.append(self.world.bpb(before.config) - self.world.bpb(at.config))
            at = before
        return chain[::-1]


CAMPAIGN = Campaign(
    1, "bench", "bench", "", "", "", "", "", "", 0, Caps(None), "knobs", "none", SLOTS, None, "cpu", "running",
    "", "",
)  # fmt: skip
PROPOSAL = Proposal(
    1, 1, "promoted", "", None, None, None, "", "", "knobs", "base", "knob", "", "", "", "", "", {}, 0.0, 0.5,
    None, (), (), "", "", "",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="first campaign seed")
    parser.add_argument("--runs", type=int, default=68)
    parser.add_argument("--sigma", type=float, default=0.015)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    done = []
    for seed in range(args.first, args.first + args.campaigns):
        one = Rehearsal(seed, args.runs, args.sigma, args.verbose).run()
        commits = one.commits()
        done.append(one)
        steps = " ".join(f"{gain:+.3f}" for gain in commits)
        spent = 1000 * statistics.fmean(one.seconds)
        print(
            f"seed {seed}: true gain {one.gain():.3f} in {len(commits)} commits ({steps}), "
            f"{len(one.ideas) - 1} ideas, {spent:.0f} ms an idea",
            flush=True,
        )
    good = sum(one.gain() >= 0.10 and len(one.commits()) >= 2 for one in done)
    all_commits = [gain for one in done for gain in one.commits()]
    real = sum(gain > 0 for gain in all_commits)
    print(
        f"{good} of {len(done)} campaigns gained 0.10 BPB in two commits or more; median true gain "
        f"{statistics.median(one.gain() for one in done):.3f}; {real} of {len(all_commits)} commits are real"
    )


if __name__ == "__main__":
    main()

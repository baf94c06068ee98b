"""What an audit of a score catches and whom it accuses wrongly: measured noise, then simulated audits on it.

`python -m benchmarks.audit ARTIFACT OTHER_SEED --corpus FOLDER`: two artifacts of the tiny track's base with different
seeds (`.caddie/NAME/jobs/r1/out/final_model.bin` and r2's of any campaign) and the corpus they were trained on
(`.caddie/data/docs`). Without arguments it trains one first; `--seeds 2` trains both. With one seed there is no strong
reference: those columns are those of the weak one. `--quick` asks a fifth of the positions and of the audits, to see
whether it runs; its figures are none to publish.

Prints how far honest answers are from honest scores; how often leaks of a given size are caught, with a strong
reference (the other seed) and a weak one (the judge's bigram model); and how often an honest candidate is accused. The
rules are those of agent/judge/audit; only the positions are drawn by numpy, which is quicker.
"""

import argparse
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agent import training
from agent.errors import MissingError
from agent.judge.audit import power, reference, rules
from agent.judge.audit.lanes import LANE_CONTEXTS, Lanes, draw_weighted
from agent.judge.audit.rules import Tolerance
from agent.judge.protocol import Floats
from agent.judge.scoring import Stream, chunks
from agent.judge.task import PEEKS, SURPRISING, Numerics
from agent.track import load as load_track
from trainer import train_gpt as t
from trainer.data.manifest import load, read_documents

ROOT = Path(__file__).resolve().parents[1]
POOL = 3000  # positions of each kind of noise
PART = 30_000  # tokens in which they lie
AUDITS = 500  # simulated for each leak
HONEST = 20_000  # and of each kind of noise
BLOCK = 500
CHUNK_TOKENS = 8192  # as on the tiny track
FRAME = 256  # questions
CONTEXT = 256

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class Model:
    """An artifact, and the validation stream in its tokens."""

    scorer: t.Scorer
    tokenizer: t.Tokenizer
    stream: Stream

    def laid(self) -> reference.Laid:
        sizes = np.asarray([len(piece) for piece in self.tokenizer.bytes_of])
        return reference.Laid(sizes[self.stream.tokens], np.ones(len(self.stream.starts), dtype=np.bool_))

    def part(self, tokens: int) -> "Model":
        """The first documents, of at least so many tokens together."""
        starts = [start for start in self.stream.starts if start < tokens]
        end = next((start for start in self.stream.starts if start >= tokens), len(self.stream.tokens))
        return replace(self, stream=Stream(self.stream.tokens[:end], tuple(starts)))

    def to(self, numerics: Numerics, stride: int, batch: int) -> None:
        self.scorer.model.dtype = torch.float32 if numerics == "fp32" else torch.bfloat16
        self.scorer.stride, self.scorer.batch_tokens = stride, batch

    def scores(self, chunk_tokens: int) -> Floats:
        self.scorer.reset()
        parts = [
            self.scorer.score(self.stream.tokens[one.begin : one.end].astype(np.int64), one.starts)
            for one in chunks(self.stream, chunk_tokens)
        ]
        return np.concatenate(parts).astype(np.float64)

    def answers(self, positions: list[int]) -> Floats:
        """Nats by the distributions, renormalised as the judge does."""
        found, tokens = [], self.stream.tokens.astype(np.int64)
        for at in range(0, len(positions), FRAME):
            part = positions[at : at + FRAME]
            items = [(p, self.stream.start_of(p), tokens[max(0, p - CONTEXT) : p]) for p in part]
            table = self.scorer.peek(items).astype(np.float64)
            top = table.max(1)
            sums = top + np.log(np.exp(table - top[:, None]).sum(1))
            found.append(sums - table[np.arange(len(part)), tokens[part]])
        return np.concatenate(found)


class Noise(NamedTuple):
    """Honest differences of one kind."""

    numerics: Numerics
    what: str
    differences: Floats


# ---------------------------------------------------------------- what is honest


def read(artifact: Path, texts: list[bytes]) -> Model:
    model, tokenizer, c = t.from_artifact(artifact.read_bytes())
    encoded = [np.asarray(tokenizer.encode(text), dtype=np.uint32) for text in texts]
    starts = np.cumsum([0, *map(len, encoded)])[:-1].tolist()
    return Model(t.Scorer(model, c), tokenizer, Stream(np.concatenate(encoded), tuple(starts)))


def honest(model: Model, pool: int) -> Iterator[Noise]:
    """The same candidate asked otherwise than it was scored."""
    model = model.part(PART)
    count = len(model.stream.tokens)
    drawn = sorted(random.Random(1).sample(range(count), min(pool, count)))
    for numerics in ("fp32", "bf16"):
        for stride, name in ((256, "windows"), (64, "sliding by 64")):
            model.to(numerics, stride, 8192)
            claimed = model.scores(CHUNK_TOKENS)
            for batch in (8192, 1500):
                model.to(numerics, stride, batch)
                yield Noise(numerics, f"{name}, batches of {batch} tokens", model.answers(drawn) - claimed[drawn])
            model.to(numerics, stride, 3000)
            again = model.scores(3000)
            yield Noise(numerics, f"{name}, other chunks and batches", again - claimed)


def show_noise(pools: list[Noise]) -> None:
    print("honest: |asked - claimed|, nats")
    print(f"{'':44} {'n':>7} {'mean abs':>9} {'sd':>9} {'p99.9':>9} {'max':>9} {'t of mean':>9}")
    for one in pools:
        d, size = one.differences, np.abs(one.differences)
        spread = d.std(ddof=1) / math.sqrt(len(d))
        shift = d.mean() / spread if spread else 0.0
        print(
            f"{one.numerics:5}{one.what:39} {len(d):7,} {size.mean():9.1e} {d.std(ddof=1):9.1e} "
            f"{np.quantile(size, 0.999):9.1e} {size.max():9.1e} {shift:9.1f}"
        )


# ---------------------------------------------------------------- what is caught


class Leak(NamedTuple):
    """So many nats at this share of the tokens."""

    nats: float
    share: float

    def among(self, claimed: Floats) -> Positions:
        """Tokens that cost as much, or the dearest ones where there are too few."""
        costly = np.flatnonzero(claimed >= self.nats)
        count = self.count(claimed)
        return costly if len(costly) >= count else np.argsort(claimed)[-count:]

    def count(self, claimed: Floats) -> int:
        return max(1, round(self.share * len(claimed)))


class Lost(NamedTuple):
    """What one candidate leaks: at these tokens so much each. Nobody can leak more than a token costs."""

    where: Positions
    nats: Floats

    def all(self, count: int) -> Floats:
        found = np.zeros(count)
        found[self.where] = self.nats
        return found


LEAKS = {
    "0.005 everywhere": Leak(0.005, 1.0),
    "0.05 at 10 %": Leak(0.05, 0.1),
    "0.5 at 1 %": Leak(0.5, 0.01),
    "5 at 0.1 %": Leak(5.0, 0.001),
    "10 at 0.05 %": Leak(10.0, 0.0005),
    "14 at 1 in 2,800": Leak(14.0, 1 / 2800),
    "0.0025 everywhere": Leak(0.0025, 1.0),
    "0.1 at 2.5 %": Leak(0.1, 0.025),
    "0.15 at 1.7 %": Leak(0.15, 0.0025 / 0.15),
    "1 at 0.25 %": Leak(1.0, 0.0025),
    "5 at 0.05 %": Leak(5.0, 0.0005),
    "14 at 1 in 5,600": Leak(14.0, 1 / 5600),
}


class Caught(NamedTuple):
    """Shares of the audits."""

    strong: float
    weak: float
    uniform: float
    quick: float
    mean: float  # nats per token that were leaked


class Reference(NamedTuple):
    """What a model needs for the tokens, and how surprising that makes the scores of one that leaks nothing."""

    nats: Floats
    weights: Floats

    @classmethod
    def of(cls, nats: Floats, claimed: Floats) -> "Reference":
        return cls(nats, power.weights(nats, claimed))


def catch(claimed: Floats, strong: Floats, weak: Floats, leak: Leak, noise: Noise, audits: int) -> Caught:
    """An accusation counts once a second session bears it out: the same positions, or what new ones show."""
    tolerance, chance, source = rules.TOLERANCES[noise.numerics], np.random.default_rng(7), random.Random(7)
    references = [Reference.of(nats, claimed) for nats in ((weak,) if strong is weak else (strong, weak))]
    found, leaked, costly, count = np.zeros(4), 0.0, leak.among(claimed), leak.count(claimed)
    for _ in range(audits):
        where = costly if count == len(costly) else chance.choice(costly, count, replace=False)
        lost = Lost(where, np.minimum(leak.nats, claimed[where]))
        every = lost.all(len(claimed))
        leaked += every.mean() / audits
        lanes = Lanes.draw(CONTEXT, len(claimed), source)
        first, second = (uniformly(every, lanes, tolerance.uniform, noise, chance) for _ in range(2))
        uniform = far(first, tolerance) or (
            biased(first, tolerance) and (biased(second, tolerance) or far(second, tolerance))
        )
        few = uniformly(every, lanes, PEEKS, noise, chance)
        hits = [surprises(lost, known, claimed, lanes, tolerance, source) for known in references]
        found += [uniform or hits[0], uniform or hits[-1], uniform, far(few, tolerance) or biased(few, tolerance)]
    with_strong, with_weak, alone, quick = (found / audits).tolist()
    return Caught(with_strong, with_weak, alone, quick, leaked)


def surprises(
    lost: Lost, known: Reference, claimed: Floats, lanes: Lanes, tolerance: Tolerance, source: random.Random
) -> bool:
    far_off = lost.where[lost.nats > tolerance.largest]
    if not len(far_off):  # whatever is drawn
        return False
    weights = known.weights.copy()
    weights[lost.where] = power.weights(known.nats[lost.where], claimed[lost.where] - lost.nats)
    return bool(np.isin(far_off, draw_weighted(lanes, weights, SURPRISING, source)).any())


def uniformly(lost: Floats, lanes: Lanes, count: int, noise: Noise, chance: np.random.Generator) -> Floats:
    size = LANE_CONTEXTS * lanes.context
    drawn = np.unique(chance.integers(0, len(lost), 2 * count))
    shifted = drawn + lanes.shift
    kept = chance.permutation(drawn[(shifted < size) | (shifted % size >= lanes.context)])[:count]
    found: Floats = lost[kept] + chance.choice(noise.differences, len(kept))
    return found


def far(differences: Floats, tolerance: Tolerance) -> bool:
    return bool((np.abs(differences) > tolerance.largest).any())


def biased(differences: Floats, tolerance: Tolerance) -> bool:
    return bool(rules.too_good(rules.mean(differences, tolerance), tolerance))


def show_power(claimed: Floats, strong: Floats, weak: Floats, pools: list[Noise], audits: int) -> None:
    print(f"\ncaught, of {audits:,} audits")
    print(f"{'':24} {'nats/token':>10} {'strong':>8} {'weak':>8} {'uniform':>8} {'64 only':>8}")
    for noise in pools:
        uniform = rules.TOLERANCES[noise.numerics].uniform
        print(f"{noise.numerics}, {noise.what}: {uniform:,} uniform positions, {SURPRISING:,} surprising ones")
        for name, leak in LEAKS.items():
            found = catch(claimed, strong, weak, leak, noise, audits)
            print(
                f"  {name:22} {found.mean:10.4f} {found.strong:8.3f} {found.weak:8.3f} {found.uniform:8.3f} "
                f"{found.quick:8.3f}"
            )


def show_stated(claimed: Floats, strong: Floats, weak: Floats, pools: list[Noise]) -> None:
    """What the judge writes beside the score, for comparison."""
    for noise in pools:
        tolerance = rules.TOLERANCES[noise.numerics]
        found = rules.mean(np.random.default_rng(3).choice(noise.differences, tolerance.uniform), tolerance)
        rare = [power.rare(tolerance.uniform, SURPRISING, known, claimed, tolerance) for known in (strong, weak)]
        print(
            f"stated, {noise.numerics}: evenly spread {power.even(found, tolerance):.2g} nats per token, "
            f"rare {rare[0]:.2g} with the strong reference, {rare[1]:.2g} with the weak one"
        )


# ---------------------------------------------------------------- who is accused wrongly


def accused(noise: Noise, count: int, audits: int, chance: np.random.Generator) -> tuple[int, float]:
    """How many single sessions accuse, before any repeat; and the largest mean, in standard errors as believed."""
    tolerance, wrong, largest = rules.TOLERANCES[noise.numerics], 0, -math.inf
    for at in range(0, audits, BLOCK):
        drawn = noise.differences[chance.integers(0, len(noise.differences), (min(BLOCK, audits - at), count))]
        means, spreads = drawn.mean(1), drawn.std(1, ddof=1)
        far_off = np.abs(drawn).max(1) > tolerance.largest
        large = (np.abs(drawn) > rules.LARGE * tolerance.largest).sum(1)
        many = large > np.maximum(rules.FEW, rules.MOST_LARGE * count)
        loud = (spreads > tolerance.most_noise) & (count >= rules.ENOUGH)
        believed = np.maximum(spreads, tolerance.noise) / math.sqrt(count)
        z = (means - tolerance.mean) / believed
        wrong += int((far_off | many | (z > rules.DEVIATIONS) | loud).sum())
        largest = max(largest, float(z.max()))
    return wrong, largest


def show_accused(pools: list[Noise], audits: int) -> None:
    print(f"\nhonest candidates accused by one session, of {audits:,} for each kind and number of positions")
    chance = np.random.default_rng(11)
    for count in (PEEKS, 500, 5000):
        found = [accused(one, count, audits if count < 5000 else audits // 4, chance) for one in pools]
        wrong = sum(one for one, _ in found)
        top = max(z for _, z in found)
        print(f"  {count:5,} positions: {wrong} accused; largest mean {top:.2f} standard errors above the dead zone")


# ---------------------------------------------------------------- all of it


def train(folder: Path, corpus: Path, seed: int) -> Path:
    out = folder / f"seed{seed}"
    out.mkdir()
    track, _ = load_track("tiny", ROOT)
    env = training.environment(track, track.deciding(), corpus, {}, run_id=f"seed{seed}", seed=seed)
    command = [sys.executable, str(ROOT / "trainer" / "train_gpt.py"), "train"]
    subprocess.run(command, cwd=out, env=env, check=True, stdout=subprocess.DEVNULL)
    return out / "final_model.bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="*", type=Path, metavar="ARTIFACT")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".caddie/data/docs")
    parser.add_argument("--audits", type=int, default=AUDITS)
    parser.add_argument("--honest", type=int, default=HONEST)
    parser.add_argument("--seeds", type=int, choices=(1, 2), default=1, help="trained where no artifacts are given")
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    asked = parser.parse_args()
    part = 5 if asked.quick else 1
    torch.set_num_threads(1)
    try:
        held = load(asked.corpus).val
    except MissingError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as name:
        given = asked.artifacts or [train(Path(name), asked.corpus, seed) for seed in range(1, asked.seeds + 1)]
        if len(given) > 2:
            parser.error("give two artifacts of different seeds, one, or none")
        assert held.docs is not None
        texts = read_documents(asked.corpus / held.files[0].path, held.files[0].sha256, held.docs, held.bytes)
        models = [read(path, texts) for path in given]
    run(models[0], models[1] if len(models) > 1 else None, asked.audits // part, asked.honest // part, POOL // part)


def run(model: Model, other: Model | None, audits: int, honest_audits: int, pool: int) -> None:
    pools = list(honest(model, pool))
    show_noise(pools)
    model.to("fp32", 256, 8192)
    claimed = model.scores(CHUNK_TOKENS)
    weak = reference.learnt(model.stream.tokens, len(model.scorer.model.embedding))
    strong = weak if other is None else aligned(other, model)
    apart = strong - claimed
    print(
        f"\n{len(claimed):,} tokens, {claimed.mean():.3f} nats each; the strong reference {strong.mean():.3f} (sd of "
        f"the difference {apart.std():.2f}), the weak one {weak.mean():.3f} ({(weak - claimed).std():.2f})"
    )
    chosen = [max((p for p in pools if p.numerics == n), key=lambda p: p.differences.std()) for n in ("fp32", "bf16")]
    show_power(claimed, strong, weak, chosen, audits)
    show_stated(claimed, strong, weak, chosen)
    show_accused(pools, honest_audits)


def aligned(other: Model, model: Model) -> Floats:
    """The other seed's scores at our tokens, through the bytes, as the judge lays them out."""
    other.to("fp32", 256, 8192)
    theirs = other.scores(CHUNK_TOKENS)
    counts = np.diff([*other.stream.starts, len(other.stream.tokens)])
    nats, _ = reference.beside(reference.Kept(counts, other.laid(), theirs), model.stream, model.laid())
    return nats


if __name__ == "__main__":
    main()

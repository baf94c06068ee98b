"""Fit the tiny track's cost of a training step to measured milliseconds, so that a budget buys the same time.

Takes nothing; measures CPU milliseconds per step of some shapes around the baseline, on one thread, and fits
non-negative coefficients of `step_features`. Prints measured against fitted, and the TOML for the track.
Run alone, on a machine with nothing else to do: `python -m benchmarks.fit_cost`.
"""

import argparse
import itertools
import math
import os
import statistics
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import nnls

from trainer import train_gpt

# Each differs from the baseline in a knob or two; the last ones are far corners of the space.
SHAPES: tuple[dict[str, int | str], ...] = (
    {},
    {"vocab_size": 512},
    {"vocab_size": 1536},
    {"vocab_size": 2048},
    {"vocab_size": 3072},
    {"vocab_size": 4096},
    {"num_layers": 1},
    {"num_layers": 2},
    {"num_layers": 4},
    {"num_layers": 6},
    {"model_dim": 48},
    {"model_dim": 80},
    {"model_dim": 96},
    {"model_dim": 128},
    {"mlp_mult": 1},
    {"mlp_mult": 4},
    {"num_kv_heads": 1},
    {"num_kv_heads": 4},
    {"num_heads": 2},
    {"num_heads": 8, "num_kv_heads": 4},
    {"train_seq_len": 128},
    {"train_seq_len": 512},
    {"train_batch_tokens": 1024},
    {"train_batch_tokens": 4096},
    {"muon_backend_steps": 3},
    {"muon_backend_steps": 8},
    {"activation": "gelu"},
    {"activation": "silu"},
    {"activation": "leaky_relu2"},
    {"vocab_size": 2048, "train_batch_tokens": 1024},
    {"vocab_size": 2048, "model_dim": 48, "num_layers": 2},
    {"vocab_size": 512, "model_dim": 96, "num_layers": 4},
    {"model_dim": 96, "train_seq_len": 512, "activation": "gelu"},
    {"vocab_size": 3072, "train_seq_len": 128, "mlp_mult": 3},
    {"model_dim": 80, "num_layers": 4, "train_batch_tokens": 1024, "num_kv_heads": 4},
)


class Shape(NamedTuple):
    """One shape, ready to take steps."""

    name: str
    features: dict[str, float]
    run: train_gpt.Run

    def step_ms(self, step: int) -> float:
        """CPU milliseconds of one step, its batch included."""
        began = time.process_time()
        self.run.step(step, self.run.batches.next(), 1.0)
        return 1e3 * (time.process_time() - began)


def noise(vocab: int) -> Iterator[np.ndarray]:
    """Tokens without sense: a step takes the same time on them."""
    draw = np.random.default_rng(0)
    while True:
        yield draw.integers(0, vocab, 1 << 14, dtype=np.uint16)


def build(changes: dict[str, int | str]) -> Shape:
    values = {"preset": "tiny", **train_gpt.TINY, **changes}
    c = train_gpt.check(SimpleNamespace(**values))
    run = train_gpt.Run(c, train_gpt.Processes(), SimpleNamespace(stream=noise(c.vocab_size)), 1)
    name = " ".join(f"{key}={value}" for key, value in changes.items()) or "baseline"
    return Shape(name, train_gpt.step_features(c), run)


def measure(shapes: list[Shape], rounds: int, steps: int) -> list[float]:
    """Lower quartile of each shape's steps. Shapes take turns, so that a slow minute hits all alike."""
    taken: list[list[float]] = [[] for _ in shapes]
    for _, (shape, times) in itertools.product(range(rounds), zip(shapes, taken, strict=True)):
        for step in range(steps + 1):
            ms = shape.step_ms(step)
            times += [ms] if step else []  # the first one after a change finds cold caches
    return [statistics.quantiles(times, n=4)[0] for times in taken]


def fit(shapes: list[Shape], measured: list[float]) -> dict[str, float]:
    """Non-negative coefficients with the least relative squared error."""
    names = list(shapes[0].features)
    table = np.array([[shape.features[name] for name in names] for shape in shapes])
    target = np.array(measured)
    found, _ = nnls(table / target[:, None], np.ones(len(target)))
    return {name: float(f"{value:.4g}") for name, value in zip(names, found, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="steps of one shape in a round")
    options = parser.parse_args()
    shapes = [build(changes) for changes in SHAPES]
    measured = measure(shapes, options.rounds, options.steps)
    cost = fit(shapes, measured)
    fitted = [sum(cost[name] * value for name, value in shape.features.items()) for shape in shapes]
    for shape, ms, model in zip(shapes, measured, fitted, strict=True):
        print(f"{shape.name:70} measured {ms:7.1f} ms  fitted {model:7.1f} ms  {100 * (model / ms - 1):+6.1f} %")
    errors = [abs(model / ms - 1) for ms, model in zip(measured, fitted, strict=True)]
    print(f"largest error {100 * max(errors):.1f} %, mean {100 * statistics.mean(errors):.1f} %\n")
    print(f"[compute]\nbudget_ms = {math.ceil(300 * fitted[0])}\n\n[compute.cost]")
    for name, value in cost.items():
        print(f"{name} = {value}")


if __name__ == "__main__":
    main()

"""How many ideas without effect pass where each machine has an effect of its own, with anchors and without.

    python -m benchmarks.leases

The head's four fresh runs are on one lease and the idea's three on another; with anchors, the head has run on both with
one seed. In standard deviations between seeds; half of the noise is shared by runs of one commit and seed.
"""

from typing import NamedTuple

import numpy as np

from agent.judge.leases import Reading, contrast
from agent.judge.verdict import quantile

NIGHTS = 200_000
ALPHA = 0.025
SAME = 0.5
HEAD, IDEA, ANCHOR = 1, 2, 99
DESIGN = (
    *(Reading(HEAD, "m1", seed, 0.0) for seed in range(4)),
    *(Reading(HEAD, lease, ANCHOR, 0.0) for lease in ("m1", "m2")),
    *(Reading(IDEA, "m2", seed, 0.0) for seed in range(3)),
)


class Row(NamedTuple):
    lease: float  # standard deviation of a lease's effect
    without: float  # share of the nulls that pass
    anchored: float
    bias: float  # of the anchored estimate
    spread: float  # its standard deviation
    stderr: float  # and what it is said to be


def row(lease: float, seed: int = 1) -> Row:
    rng = np.random.default_rng(seed)
    shared = {key: rng.normal(0, SAME**0.5, NIGHTS) for key in sorted({(one.commit, one.seed) for one in DESIGN})}
    effects = {name: rng.normal(0, lease, NIGHTS) for name in ("m1", "m2")}
    scores = np.stack(
        [
            shared[one.commit, one.seed] + rng.normal(0, (1 - SAME) ** 0.5, NIGHTS) + effects[one.lease]
            for one in DESIGN
        ],
        axis=1,
    )
    found = contrast(DESIGN, IDEA, HEAD, 0.0)
    assert found is not None
    bar = quantile(ALPHA, 1e9)
    plain = scores[:, :4].mean(axis=1) - scores[:, 6:].mean(axis=1)
    gains = scores @ np.array(found.weights)
    return Row(
        lease,
        float(np.mean(plain / (1 / 4 + 1 / 3) ** 0.5 > bar)),
        float(np.mean(gains / found.stderr > bar)),
        float(gains.mean()),
        float(gains.std()),
        found.stderr,
    )


def main() -> None:
    print("lease effect  nulls without  with anchors  bias      spread  said")
    for lease in (0.0, 0.25, 0.5, 1.0, 2.0):
        one = row(lease)
        print(
            f"{one.lease:>12.2f}  {100 * one.without:>11.2f} %  {100 * one.anchored:>10.2f} %  {one.bias:>+7.4f}"
            f"  {one.spread:>7.3f}  {one.stderr:.3f}"
        )


if __name__ == "__main__":
    main()

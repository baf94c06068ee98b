"""What was learnt of each knob: a Bayesian additive model, one effect per knob and level, exact and quick.

Takes points of a space with measured values; gives mean and spread of the difference between two points. A
step of an ordered knob moves the value by N(mean, tau^2), and steps on the same side are correlated: a
direction that paid is expected to go on paying.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agent.planner.knobs.space import Axis, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOMENTUM = 0.5


@dataclass(frozen=True)
class Prior:
    """What is believed of one knob before anything was measured."""

    tau: float
    """Spread of the effect of one step."""
    means: Mapping[int, float]
    """Expected effect of each level against the reference level; missing levels: 0."""


class Effect(NamedTuple):
    mean: float
    sd: float


class Point(NamedTuple):
    at: tuple[int, ...]
    value: float
    sd: float


class Additive:
    """The posterior. Refitted from all measurements whenever it is asked for."""

    def __init__(
        self,
        space: Space,
        reference: tuple[int, ...],
        priors: Sequence[Prior],
        points: Sequence[Point],
        intercept_sd: float = 1.0,
    ) -> None:
        import numpy as np

        mean, covariance = _prior(space, reference, priors)
        covariance[0, 0] = intercept_sd**2
        self._starts = np.cumsum([1, *(len(axis.levels) for axis in space.axes)])
        if points:
            x = np.array([self._row(point.at) for point in points])
            noise = np.diag([point.sd**2 for point in points])
            mean[0] = float(np.mean([point.value for point in points]))
            y = np.array([point.value for point in points])
            gram = x @ covariance @ x.T + noise
            gain = np.linalg.solve(gram, x @ covariance).T
            mean = mean + gain @ (y - x @ mean)
            covariance = covariance - gain @ x @ covariance
        self._mean, self._covariance = mean, covariance

    def difference(self, one: tuple[int, ...], other: tuple[int, ...]) -> Effect:
        """Value at `one` minus value at `other`."""
        return self._effect(self._row(one) - self._row(other))

    def value(self, at: tuple[int, ...]) -> Effect:
        return self._effect(self._row(at))

    def _effect(self, row: "Floats") -> Effect:
        variance = float(row @ self._covariance @ row)
        return Effect(float(row @ self._mean), max(variance, 0.0) ** 0.5)

    def _row(self, at: tuple[int, ...]) -> "Floats":
        import numpy as np

        row = np.zeros(int(self._starts[-1]))
        row[0] = 1.0
        for start, level in zip(self._starts, at, strict=False):
            row[start + level] = 1.0
        return row


def _prior(space: Space, reference: tuple[int, ...], priors: Sequence[Prior]) -> "tuple[Floats, Floats]":
    """Mean and covariance of (intercept, every level of every knob); reference levels are 0 exactly."""
    import numpy as np

    size = 1 + sum(len(axis.levels) for axis in space.axes)
    mean, covariance = np.zeros(size), np.zeros((size, size))
    covariance[0, 0] = 1.0
    start = 1
    for axis, level, prior in zip(space.axes, reference, priors, strict=True):
        end = start + len(axis.levels)
        for index, value in prior.means.items():
            mean[start + index] = value
        covariance[start:end, start:end] = prior.tau**2 * _walk(axis, level)
        start = end
    return mean, covariance


def _walk(axis: Axis, reference: int) -> "Floats":
    """Covariance of the levels' effects, in units of one step."""
    import numpy as np

    count = len(axis.levels)
    if not axis.ordered:
        result = np.eye(count)
        result[reference, :] = result[:, reference] = 0.0
        return result
    steps = np.zeros((count, count - 1))
    for level in range(count):
        steps[level, reference:level] = 1.0
        steps[level, level:reference] = -1.0
    lag = np.abs(np.subtract.outer(np.arange(count - 1), np.arange(count - 1)))
    return np.asarray(steps @ MOMENTUM**lag @ steps.T, dtype=np.float64)

"""Configurations worth looking at, drawn by Optuna's tree-structured Parzen estimator.

Takes a space, what was measured and what is under way; gives points. The study is built anew at each call and
lives in memory, so the same question has the same answer after any restart.
"""

import random
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.planner.knobs.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

STARTUP = 8


def draw(
    space: Space,
    measured: Sequence[tuple[tuple[int, ...], float]],
    pending: Sequence[tuple[int, ...]],
    seed: int,
    count: int,
) -> list[tuple[int, ...]]:
    """So many points; pending ones count as bad (constant liar): several questions get different answers."""
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = _distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=random.Random(f"tpe/{seed}").getrandbits(31),
            n_startup_trials=STARTUP,
            multivariate=True,
            constant_liar=True,
        )
    study = optuna.create_study(sampler=sampler)
    for point, value in measured:
        params = _params(space, point)
        study.add_trial(create_trial(params=params, distributions=distributions, value=value))
    for point in pending:
        params = _params(space, point)
        state = TrialState.RUNNING
        study.add_trial(create_trial(state=state, params=params, distributions=distributions))
    drawn = [study.ask(distributions).params for _ in range(count)]
    return [_point(space, params) for params in drawn]


def _distributions(space: Space) -> "dict[str, BaseDistribution]":
    from optuna.distributions import CategoricalDistribution, IntDistribution

    result: dict[str, BaseDistribution] = {}
    for axis in space.axes:
        if axis.ordered:
            result[axis.name] = IntDistribution(0, len(axis.levels) - 1)
        else:
            result[axis.name] = CategoricalDistribution(range(len(axis.levels)))
    return result


def _params(space: Space, point: tuple[int, ...]) -> dict[str, int]:
    return {axis.name: level for axis, level in zip(space.axes, point, strict=True)}


def _point(space: Space, params: dict[str, int]) -> tuple[int, ...]:
    return tuple(int(params[axis.name]) for axis in space.axes)

"""Ideas made to fit the byte limit: by what costs no shape first, at the least expected BPB.

Takes a `View` and a point of its space; gives a point that fits, the same one where it can be, or None.
"""

import itertools
from collections.abc import Iterator

from agent.planner.knobs.view import At, View

MOST_VARIANTS = 2000


def fit(view: View, at: At) -> At | None:
    """The same idea within the byte limit; None: no saving makes it fit."""
    limit = view.request.track.limits.artifact_bytes
    if limit is None or not view.sizes.known or _fits(view, at, limit):
        return at
    axes = view.space.axes
    saving = [i for i, axis in enumerate(axes) if axis.group == "bytes"]
    shape = [i for i, axis in enumerate(axes) if axis.group == "shape" and at[i] == view.head_at[i]]
    for also in ((), *((i,) for i in shape)):
        variants = itertools.islice(_variants(view, at, [*saving, *also]), MOST_VARIANTS)
        fitting = [other for other in variants if _fits(view, other, limit)]
        if fitting:
            return min(fitting, key=lambda other: (_loss(view, at, other), other))
    # Nothing is sure to help; what should just fit is tried as it is.
    return at if may_fit(view, at) else None


def may_fit(view: View, at: At) -> bool:
    """Whether it is expected to fit as it is."""
    limit = view.request.track.limits.artifact_bytes
    return limit is None or not view.sizes.known or view.sizes.predict(view.space.config(at)).bytes <= limit


def _variants(view: View, at: At, indices: list[int]) -> Iterator[At]:
    axes = view.space.axes
    for levels in itertools.product(*(sorted(axes[i].declared | {at[i]}) for i in indices)):
        other = list(at)
        for index, level in zip(indices, levels, strict=True):
            other[index] = level
        yield tuple(other)


def _loss(view: View, at: At, other: At) -> float:
    """What a saving costs in BPB; each knob more that it changes needs a little reason."""
    changed = sum(a != b for a, b in zip(view.head_at, other, strict=True))
    return view.effects.difference(other, at).mean + 1e-4 * changed


def _fits(view: View, at: At, limit: int) -> bool:
    return view.sizes.predict(view.space.config(at)).surely_below(limit)

"""The `knobs` planner: changes one to three of the track's declared literals at a time.

Takes a `Request`; gives a `Draft` whose diff changes literals alone. Optuna's TPE draws configurations; of
the small changes that lead from the source towards them, an additive model of what was measured picks the
one with the most expected gain. A change that would not fit the byte limit is completed by the cheapest
saving that helps. Where nothing near is new, it looks further away: there is no more only when the space is used up.
"""

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from agent.planner.edits import make_edits
from agent.planner.knobs import draws
from agent.planner.knobs.fit import fit, may_fit
from agent.planner.knobs.view import At, View
from agent.records import Draft, Mode
from agent.script import literals
from agent.script.literals import same
from agent.track import Track

if TYPE_CHECKING:
    from agent.planner import Request

DRAWS = 16
ATOMIC = 3  # knobs that one idea changes, what makes it fit aside
WIDE = 5
STEP = 1
BEST_SINGLES = 8
ENUMERATED = 20_000  # combinations, up to which a space is gone through whole; so many are drawn of a larger one
COMPARED = 256  # new ones of these
MODES: frozenset[Mode] = frozenset({"exploit", "widen", "combine", "shrink"})


class Move(NamedTuple):
    """Where an idea leads, and what is expected there against the head."""

    at: At
    gain: float
    sd: float
    worth: float


@dataclass(frozen=True)
class Knobs:
    track: Track
    name: str = "knobs"
    modes: frozenset[Mode] = MODES
    parallel: int = 1

    def propose(self, request: "Request") -> Draft | None:
        """One idea; None when every configuration that can fit was tried."""
        view = View(request)
        if not view.space.axes:
            return None
        start = _start(view)
        move = _best(view, _targets(view, request.mode)) or _best(view, _neighbours(view, start)) or _far(view, start)
        return _draft(view, move) if move is not None else None


def _targets(view: View, mode: Mode) -> Iterable[At]:
    if mode == "shrink":
        return _shrunk(view)
    if mode == "combine":
        return _combined(view)
    start = _start(view)
    rng = random.Random(f"knobs/{view.request.seed}/{view.request.n}")
    if mode == "widen":
        return _wide(view, start, rng)
    return _small(view, start)


def _start(view: View) -> At:
    """The source's idea on the present head."""
    root = view.root()
    if root is None:
        return view.head_at
    config = dict(view.head)
    for name, value in view.source.items():
        if name in root and name in config and not same(root[name], value):
            config[name] = value
    return view.space.point(config) or view.head_at


def _small(view: View, start: At) -> list[At]:
    """One knob changed; and the best of these in twos and threes, once they promise something alone."""
    near = (_reachable(view, point) for point in _drawn(view))
    singles = list(dict.fromkeys(one for point in near for one in _singles(start, point)))
    promising = sorted(singles, key=lambda at: -_worth(view, at).gain)
    promising = [at for at in promising[:BEST_SINGLES] if _worth(view, at).gain > _worth(view, start).gain]
    joined = [
        at
        for count in range(2, ATOMIC + 1)
        for parts in itertools.combinations(promising, count)
        if (at := _union(start, parts)) is not None
    ]
    return [*singles, *joined]


def _reachable(view: View, point: At) -> At:
    """The point, at most one step of each knob beyond what was measured."""
    reached = [view.head_at, *(at for at, _, _ in view.measured)]
    result = list(point)
    for i, axis in enumerate(view.space.axes):
        if axis.ordered and axis.group != "bytes":
            levels = [at[i] for at in reached]
            near = min(max(point[i], min(levels) - STEP), max(levels) + STEP)
            result[i] = near if near in axis.declared else view.head_at[i]
    return tuple(result)


def _wide(view: View, start: At, rng: random.Random) -> list[At]:
    """Several knobs changed at once towards what was drawn."""
    found = []
    for point in _drawn(view):
        changed = [i for i, (a, b) in enumerate(zip(start, point, strict=True)) if a != b]
        if changed:
            kept = set(rng.sample(changed, min(len(changed), rng.randint(2, WIDE))))
            found.append(tuple(point[i] if i in kept else level for i, level in enumerate(start)))
    return found


def _combined(view: View) -> list[At]:
    """The changes of two ideas that were good or nearly so, put together on the head."""
    changes: dict[At, float] = {}
    baselines = {trial.proposal_id: trial.knobs for trial in view.trials}
    for trial in view.trials:
        root = baselines.get(trial.baseline_id or -1)
        if trial.gain is None or trial.gain <= 0 or not root or trial.state in ("promoted", "invalid"):
            continue
        config = dict(view.head)
        config.update({k: v for k, v in trial.knobs.items() if k in config and not same(root.get(k), v)})
        at = view.space.point(config)
        if at is not None and at != view.head_at:
            changes[at] = max(changes.get(at, 0.0), trial.gain)
    best = sorted(changes, key=lambda at: -changes[at])[:BEST_SINGLES]
    pairs = (_union(view.head_at, pair) for pair in itertools.combinations(best, 2))
    return [at for at in pairs if at is not None]


def _shrunk(view: View) -> list[At]:
    """The source's idea, with its bytes bought back."""
    fitting = fit(view, _start(view))
    return [fitting] if fitting is not None else []


def _neighbours(view: View, start: At) -> Iterator[At]:
    """Every change of one knob: what is left when nothing that was drawn is new."""
    for i, axis in enumerate(view.space.axes):
        for level in sorted(axis.declared):
            if level != start[i]:
                yield (*start[:i], level, *start[i + 1 :])


def _far(view: View, start: At) -> Move | None:
    """What is new further away: several knobs at once towards what was drawn, or else anything that should fit."""
    rng = random.Random(f"knobs/far/{view.request.seed}/{view.request.n}")
    found = _best(view, _wide(view, start, rng))
    if found is not None:
        return found
    new = (at for at in _anywhere(view, rng) if not view.tried(at) and may_fit(view, at))
    moves = [_worth(view, at) for at in itertools.islice(new, COMPARED)]
    return max(moves, key=lambda move: (move.worth, move.at), default=None)


def _anywhere(view: View, rng: random.Random) -> Iterator[At]:
    """Points of the whole space, in no order: all of a small one."""
    levels = [sorted(axis.declared) for axis in view.space.axes]
    if math.prod(len(choices) for choices in levels) > ENUMERATED:
        return (tuple(rng.choice(choices) for choices in levels) for _ in range(ENUMERATED))
    points = list(itertools.product(*levels))
    rng.shuffle(points)
    return iter(points)


def _drawn(view: View) -> list[At]:
    request = view.request
    measured = [(at, bpb) for at, bpb, _ in view.measured]
    seed = random.Random(f"{request.seed}/{request.n}").getrandbits(31)
    drawn = draws.draw(view.space, measured, view.pending, seed, DRAWS)
    home = view.head_at
    axes = view.space.axes
    return [
        tuple(i if i in axis.declared else home[k] for k, (axis, i) in enumerate(zip(axes, point, strict=True)))
        for point in drawn
    ]


def _best(view: View, targets: Iterable[At]) -> Move | None:
    """The new configuration with the most expected gain, made to fit first if it has to be."""
    ranked = sorted((_worth(view, at) for at in set(targets)), key=lambda move: (-move.worth, move.at))
    best: Move | None = None
    for move in ranked:
        if best is not None and move.worth <= best.worth:
            break  # making it fit can only cost
        at = fit(view, move.at)
        if at is None or view.tried(at):
            continue
        fitted = _worth(view, at)
        if best is None or fitted.worth > best.worth:
            best = fitted
    return best


def _worth(view: View, at: At) -> Move:
    """Expected improvement over the head, losses counted as nothing since they are not kept."""
    effect = view.effects.difference(view.head_at, at)
    sd = max(effect.sd, 1e-9)
    normal = NormalDist()
    z = effect.mean / sd
    return Move(at, effect.mean, sd, effect.mean * normal.cdf(z) + sd * normal.pdf(z))


def _singles(start: At, towards: At) -> Iterator[At]:
    for i, level in enumerate(towards):
        if level != start[i]:
            yield (*start[:i], level, *start[i + 1 :])


def _union(start: At, points: Iterable[At]) -> At | None:
    """All changes of these points together; None when two of them change the same knob differently."""
    result = list(start)
    for point in points:
        for i, level in enumerate(point):
            if level != start[i]:
                if result[i] not in (start[i], level):
                    return None
                result[i] = level
    return tuple(result)


def _draft(view: View, move: Move) -> Draft | None:
    """Edits of the source while it starts from the head; an older idea is written anew on the head."""
    request = view.request
    target = view.space.config(move.at)
    files, source = request.head_files, request.head
    if request.source.baseline_id == request.head.id:
        files, source = request.files, request.source
    path = request.track.script.path
    edited = literals.write(request.track, files, target)
    if edited[path] == files[path]:
        return None
    changes = literals.changes(view.head, target)
    size = view.sizes.predict(target).bytes if view.sizes.known else None
    return Draft(
        title=", ".join(changes)[:200],
        hypothesis=_hypothesis(view, move, changes, size),
        edits=make_edits(path, files[path], edited[path]),
        planner="knobs",
        mode=request.mode if request.mode in MODES else "exploit",
        kind="knob",
        source_id=source.id,
        expected_gain=round(move.gain, 5),
        confidence=round(NormalDist().cdf(move.gain / move.sd), 3),
        expected_bytes=size,
        evidence=(f"p{request.source.id}",) if request.source.id != request.head.id else (),
        knobs=target,
    )


def _hypothesis(view: View, move: Move, changes: list[str], size: int | None) -> str:
    tried = len({at for at, _, _ in view.measured})
    words = [
        f"{'; '.join(changes)}: {_sign(move.gain)} BPB expected (+-{move.sd:.3f}), from {tried} measured settings."
    ]
    limit = view.request.track.limits.artifact_bytes
    if size is not None and limit is not None:
        words.append(f"About {size:,} of {limit:,} bytes.")
    if view.request.mode == "shrink":
        words.append(f"Buys back the bytes of p{view.request.source.id}, which was better but too big.")
    return " ".join(words)


def _sign(gain: float) -> str:
    return f"{gain:.3f} less" if gain >= 0 else f"{-gain:.3f} more"

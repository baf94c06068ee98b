"""The search space of the `knobs` planner: each knob's levels in order, and configurations as points of it.

Takes the track's knobs and values read from a script; pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.script.literals import KnobValue, same
from agent.tables import Knob

Config = Mapping[str, KnobValue]


@dataclass(frozen=True)
class Axis:
    """One knob: what it can be set to, in order."""

    name: str
    group: str
    key: str
    """The last part of where it stands in the script, such as vocab_size."""
    levels: tuple[KnobValue, ...]
    ordered: bool
    declared: frozenset[int]
    """Levels that the track declares; others were only seen in use, and are never proposed."""

    def index(self, value: KnobValue | None) -> int | None:
        return next((i for i, level in enumerate(self.levels) if same(level, value)), None)


@dataclass(frozen=True)
class Space:
    axes: tuple[Axis, ...]

    def point(self, config: Config) -> tuple[int, ...] | None:
        """The level of each knob; None when one is missing or out of the space."""
        indices = [axis.index(config.get(axis.name)) for axis in self.axes]
        found = tuple(index for index in indices if index is not None)
        return found if len(found) == len(indices) else None

    def config(self, point: Iterable[int]) -> dict[str, KnobValue]:
        return {axis.name: axis.levels[i] for axis, i in zip(self.axes, point, strict=True)}


def of(knobs: Iterable[Knob], configs: Iterable[Config]) -> Space:
    """The knobs that the first configuration has, with the track's choices and what else was seen in use."""
    seen = list(configs)
    axes = []
    for knob in knobs:
        if not seen or knob.name not in seen[0]:
            continue
        levels = list(knob.choices)
        ordered = all(not isinstance(level, str) for level in levels)
        for config in seen:
            value = config.get(knob.name)
            if value is not None and not any(same(value, level) for level in levels):
                levels.append(value)
        if ordered and len(levels) > len(knob.choices):
            ordered = all(not isinstance(level, str) for level in levels)
            if ordered:
                levels.sort(key=float)
        declared = {i for i, level in enumerate(levels) if any(same(level, choice) for choice in knob.choices)}
        axes.append(Axis(knob.name, knob.group, knob.key, tuple(levels), ordered, frozenset(declared)))
    return Space(tuple(axes))

"""From `--planner NAME[:ARGUMENT][,NAME...]` to planners: the one place that knows all their names."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError, did_you_mean
from agent.planner import Planner
from agent.track import Track

if TYPE_CHECKING:
    from agent.planner.researcher import Bench

LANGUAGE = ("anthropic", "openai", "openai-compatible", "command")
THERE_ARE = (
    "There are knobs, anthropic[:MODEL], openai[:MODEL], openai-compatible:MODEL@URL, command:claude, command:codex, "
    "command:PROGRAM, mcp and scripted:FILE."
)


def make(names: str, track: Track, where: Path, bench: "Bench | None" = None) -> tuple[Planner, ...]:
    """Files are looked for in `where`. Without a bench they are only made to see whether they can be."""
    planners = tuple(_one(part.strip(), track, where, bench) for part in names.split(","))
    seen = [planner.name for planner in planners]
    if len(set(seen)) < len(seen):
        raise UserError(f"--planner {names}: the same planner twice.")
    return planners


def _one(text: str, track: Track, where: Path, bench: "Bench | None") -> Planner:
    name, _, argument = text.partition(":")
    if name in LANGUAGE:
        return _language(text, where, bench)
    if name not in _OTHERS:
        raise UserError(f"no planner {name!r}.{did_you_mean(name, (*_OTHERS, *LANGUAGE))} {THERE_ARE}")
    return _OTHERS[name](argument, track, where)


def _language(text: str, where: Path, bench: "Bench | None") -> Planner:
    from agent.llm import config
    from agent.llm.make import make_model, window
    from agent.planner.researcher import Researcher

    told = config.load(where, os.environ)
    return Researcher(make_model(text, where, os.environ), told.limits, bench, window(text, told))


def _knobs(argument: str, track: Track, where: Path) -> Planner:
    from agent.planner.knobs import Knobs

    if argument:
        raise UserError(f"--planner knobs:{argument}: knobs takes no argument.")
    if not track.knob:
        raise UserError(
            f"track {track.name} declares no [[knob]], so the planner knobs has nothing to turn: "
            "say --planner anthropic (or another, docs/models.md), or declare knobs in an agent.toml (docs/planners.md)"
        )
    return Knobs(track)


def _scripted(argument: str, track: Track, where: Path) -> Planner:
    from agent.planner.scripted import Scripted

    if not argument:
        raise UserError("--planner scripted needs its file: --planner scripted:ideas.jsonl")
    return Scripted.load(where / argument)


def _clients(argument: str, track: Track, where: Path) -> Planner:
    from agent.planner.clients import Clients

    if argument:
        raise UserError(f"--planner mcp:{argument}: mcp takes no argument.")
    return Clients()


_OTHERS: Mapping[str, Callable[[str, Track, Path], Planner]] = {
    "knobs": _knobs,
    "scripted": _scripted,
    "mcp": _clients,
}

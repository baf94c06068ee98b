"""A track in words: what is optimised, its limits, how it decides, and what it lacks here.

Takes a `Track` and the sentences of agent/hardware.py; gives text.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.tables import DecisionRule, Rung
from agent.track import Track, shipped
from agent.words import duration, line, plain, table


def known(root: Path) -> list[str]:
    """What `--track` takes in this workspace: the tracks that are shipped, and its own."""
    return [*shipped(), *(["agent.toml"] if (root / "agent.toml").is_file() else [])]


def listed(tracks: Sequence[tuple[Track, Sequence[str]]], broken: Mapping[str, str]) -> str:
    """`broken`: files that can't be loaded, and why."""
    rows = [(track.name, "no" if missing else "yes", _first(track.summary)) for track, missing in tracks]
    text = table(("track", "runs here", "what it is"), rows) + "\n\nagent tracks NAME explains one."
    return "\n".join([text, *(f"\n{name} is no track: {plain(why)}" for name, why in broken.items())])


def explain(track: Track, missing: Sequence[str]) -> str:
    limits, rule = track.limits, track.decision
    size = f"{limits.artifact_bytes:,} bytes, code included" if limits.artifact_bytes else "none"
    pairs = [
        ("script", f"{track.script.path}; a proposal may change {', '.join(track.script.editable)}"),
        ("metric", f"{track.metric}, lower is better, trusted when {track.trust}"),
        ("size limit", size),
        (
            "time limits",
            f"{duration(limits.train_wall_s)} to train, {duration(limits.score_wall_s)} to score",
        ),
        ("needs", _hardware(track)),
        ("data", f"{track.data.corpus} {track.data.variant}".strip()),
        ("rungs", _rungs(track)),
        (
            "decision",
            f"{rule.min_gain:g} BPB is the smallest gain that matters; at most {rule.max_seeds} runs an idea "
            f"and {rule.report_seeds} fresh ones for a new head{_more(rule)}; an idea without effect passes "
            f"with chance {rule.alpha:g} at most, less where many were tested for nothing",
        ),
        ("knobs", ", ".join(knob.name for knob in track.knob) or "none"),
        (
            "budget",
            f"{track.budget_hours:g} GPU-hours unless --budget says otherwise" if track.budget_hours else "--budget",
        ),
    ]
    if track.compute is not None:
        pairs.insert(4, ("compute", f"{duration(track.compute.budget_ms / 1000)} of one reference core a run"))
    lines = [f"{track.name}", "", textwrap.fill(" ".join(track.summary.split()), 96), ""]
    for name, text in pairs:
        lines += textwrap.wrap(plain(text), 96, initial_indent=f"{name:<12} ", subsequent_indent=" " * 13)
    verdict = "It can run here." if not missing else "It can't run here yet:"
    return "\n".join([*lines, "", verdict, *(f"  - {plain(one)}" for one in missing)])


def _rungs(track: Track) -> str:
    others = [rung for rung in track.rung if rung.name != track.decision.rung]
    cheaper = [rung for rung in others if track.cheaper(rung.name)]
    first = f". An idea that says so is tried first at {_names(cheaper)}" if cheaper else ""
    by_hand = [rung for rung in others if rung not in cheaper]
    other = f". For runs by hand, with these variables set: {_names(by_hand)}" if by_hand else ""
    return f"{_rung(track.deciding())} decides{first}{other}"


def _names(rungs: Sequence[Rung]) -> str:
    return ", ".join(map(_rung, rungs))


def _rung(rung: Rung) -> str:
    env = " ".join(f"{name}={value}" for name, value in rung.env.items())
    return f"{rung.name} ({env})" if env else rung.name


def _hardware(track: Track) -> str:
    if track.hardware.kind == "cpu":
        return "one CPU core a run"
    return f"{track.hardware.gpus} x {track.hardware.device or 'NVIDIA GPU'}"


def _first(summary: str) -> str:
    text = " ".join(summary.split())
    return line(text.split(". ")[0].rstrip("."), 90)


def _more(rule: DecisionRule) -> str:
    return f", one more for every {rule.report_every} that it beats" if rule.report_every else ""

"""Whether scores may be compared at all: one rung, one class of machine, one text, one judge.

Takes the measured runs of two sides; gives in words what they differ in, or None. Pure. A difference between two
commits means something only where nothing else differs, and no noise model covers another machine or another text.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.store import Scored

SAME_TEXT = 0.9


def _source(one: "Scored") -> str:
    """An audit says how far a measured score can be trusted; it does not change the score."""
    return "reported" if one.measurement.trust == "reported" else "measured"


# What must be the same, how it is read off a run, and what a person can do about it.
_SAME: tuple[tuple[str, Callable[["Scored"], object], str], ...] = (
    ("rung", lambda one: one.run.rung, "only runs of one rung are compared"),
    ("hardware class", lambda one: one.run.hardware_class, "go on where the campaign began, or start a new one here"),
    ("data", lambda one: one.measurement.data_sha[:12], "a new campaign starts on the new data"),
    ("source", _source, "what a script says of itself is no measurement"),
    ("judge version", lambda one: one.measurement.judge_version, "`agent rejudge` scores the older runs again"),
)


def apart(one: Sequence["Scored"], other: Sequence["Scored"]) -> str | None:
    """Runs without a score are no side of a comparison."""
    runs = [run for run in (*one, *other) if run.measurement.bpb is not None]
    for what, read, remedy in _SAME:
        first = runs[0] if runs else None
        odd = next((run for run in runs if first is not None and read(run) != read(first)), None)
        if first is not None and odd is not None:
            seen = f"{read(first)} for r{first.run.id}, {read(odd)} for r{odd.run.id}"
            return f"not compared: another {what} ({seen}); {remedy}"
    return _other_text(runs)


def _other_text(runs: Sequence["Scored"]) -> str | None:
    """Another part of the documents. The contest drops what fills no window, so tokenizers differ by a few bytes."""
    sizes = {one.run.id: one.measurement.bytes_scored for one in runs if one.measurement.bytes_scored}
    least, most = min(sizes, key=sizes.__getitem__, default=0), max(sizes, key=sizes.__getitem__, default=0)
    if not sizes or sizes[least] >= SAME_TEXT * sizes[most]:
        return None
    seen = f"{sizes[least]:,} bytes for r{least}, {sizes[most]:,} for r{most}"
    return f"not compared: another part of the text ({seen}); both must be scored on the same documents"

"""planner -> guard: how big a script will be whose author did not say, by what was measured of others.

Takes the files as they would run; gives bytes, or None where nothing is known.
"""

from collections.abc import Mapping

from agent.planner.knobs import sizes
from agent.script import literals
from agent.script.syntax import NotParsed
from agent.setting import Setting
from agent.store import Reads

NEWEST = 100  # measured scripts that it rests on


def sized_bytes(setting: Setting, reads: Reads, after: Mapping[str, str]) -> int | None:
    """What its knobs lead to, where they are those that say how large a language model is."""
    track = setting.track
    if track.limits.artifact_bytes is None:
        return None
    try:
        settings = literals.settings(track, after)
    except NotParsed:
        return None  # the guard will say so
    if not sizes.understood(track.knob, settings):
        return None
    trials = reads.trials(setting.campaign.id, newest=NEWEST)
    measured = [(one.knobs, one.total_bytes) for one in trials if one.total_bytes is not None]
    return sizes.estimate(track.knob, settings, literals.read(track, after), measured)

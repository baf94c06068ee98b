"""Plays a recorded campaign in the real live view, its time run faster: nothing is trained.

Takes a `Recording`; shows it as `agent start` would show the campaign, then its figures. `agent demo --replay`.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files

from agent import budget
from agent.errors import UserError
from agent.report.live import LiveView
from agent.report.points import picture
from agent.report.recording import Recording, load
from agent.report.replay import Playing, stage
from agent.report.summary import figures
from agent.store.lease import hold
from agent.words import duration, line

SHIPPED = "demo.jsonl.gz"
TURN_S = 0.2  # between two looks at the clock


def shipped() -> Recording:
    """The recording that comes with the program."""
    return load((files("agent.report") / SHIPPED).read_bytes(), SHIPPED)


def play(recording: Recording, seconds: float, say: Callable[[str], None], *, width: int = 80) -> None:
    """Shows the whole recording within `seconds`. Whatever ends it, the temporary folder goes."""
    if not (math.isfinite(seconds) and 1 <= seconds <= 3600):
        raise UserError(f"--seconds {seconds:g}: choose between 1 and 3600")
    say(headline(recording, seconds) + "\n")
    with stage(recording) as playing, hold(playing.store, f"campaign {recording.campaign.name}"):
        faster = recording.seconds / seconds
        began = time.monotonic()
        with LiveView(playing.store, playing.campaign_id, playing.jobs) as view:
            while not playing.over:
                time.sleep(TURN_S)
                playing.until((time.monotonic() - began) * faster)
                view.refresh(now=True)
        say(ending(playing, width))


def headline(recording: Recording, seconds: float) -> str:
    of = recording.campaign
    day = datetime.fromisoformat(of.created)
    return (
        f"A RECORDING of campaign {line(of.name, 40)}, {day.day} {day:%B %Y}, on {line(of.hardware_class, 60)} "
        f"({of.slots} slots):\n{duration(recording.seconds)} played in {duration(seconds)}. Nothing trains here, "
        "nothing is written to this folder."
    )


def ending(playing: Playing, width: int) -> str:
    campaign = playing.recording.campaign
    with playing.store.read() as reads:
        ended = reads.campaign_by_id(playing.campaign_id)
        shown = figures(reads, ended.id, picture(reads, ended.id), width)
    how = f"ended ({line(ended.reason, 200)})" if ended.state != "running" else "was still running when it was recorded"
    return "\n".join(
        [
            f"Campaign {line(campaign.name, 40)} {how}.",
            shown,
            "\nThat was a recording. `agent start`, in a git repository with the script, does this on your machine.",
        ]
    )


def rehearse(recording: Recording) -> str:
    """Plays all of it at once and shows nothing; gives the last words, for who makes a recording."""
    with stage(recording) as playing:
        playing.until(math.inf)
        with playing.store.read() as reads:
            faults = budget.audit(reads, playing.campaign_id)
        if faults:
            raise UserError(f"the recorded ledger does not add up: {'; '.join(faults)}")
        return ending(playing, 80)

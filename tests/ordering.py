"""Orders for the tests of runners, without a campaign.

Takes the text of a track file and what a test is about; gives an `Order` whose other fields are the track's own.
"""

from agent import track as tracks
from agent.judge.task import Auditing
from agent.runners.order import Order


def order(text: str, *, run_id: int = 1, **changed: object) -> Order:
    track = tracks.parse(text, "a track of a test")
    usual: dict[str, object] = {
        "limits": track.limits.model_dump_json(),
        "rung": track.decision.rung,
        "seed": 1,
        "minimum": track.sandbox.minimum,
        "auditing": Auditing(),
        "wall_s": track.limits.worst_s(),
    }
    return Order(run_id, text, **{**usual, **changed})  # type: ignore[arg-type]

"""What the figure of an idea is made of.

Takes measured runs; gives those that count. Scores of other rungs are never mixed with them.
"""

from collections.abc import Sequence

from agent.store import Scored


def counted(scored: Sequence[Scored], rung: str) -> dict[int, list[Scored]]:
    """Of each idea the runs that its figure is the mean of: its fresh ones where it has some, else all that decided."""
    found: dict[int, list[Scored]] = {}
    for one in scored:
        if one.run.rung == rung and one.measurement.bpb is not None:
            found.setdefault(one.run.proposal_id, []).append(one)
    return {idea: [one for one in runs if one.run.purpose == "report"] or runs for idea, runs in found.items()}

"""Which class of machine a run may be on, where a campaign has slots of several: verdicts never mix them.

Takes the store's rows; gives names of hardware classes. All runs of one test are in one class, one in which its
baseline has fresh runs. A head's own figure is that of its home class: the one that its gain was seen in.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from agent.records import Proposal, Purpose, Run, RunState
from agent.runners import size_of
from agent.setting import Setting
from agent.store import Reads

# A run that was lost or cancelled says nothing, so another machine may take its place.
BINDING: frozenset[RunState] = frozenset({"queued", "running", "done"})
FRESH: frozenset[Purpose] = frozenset({"report"})


class _HasRun(Protocol):
    @property
    def run(self) -> Run: ...


T = TypeVar("T", bound=_HasRun)


def of_runs(runs: Sequence[Run]) -> str:
    """The class that these runs of one test are in; empty: none is bound to one yet."""
    return next((run.hardware_class for run in runs if run.state in BINDING), "")


def within(runs: Iterable[Run], hardware_class: str) -> list[Run]:
    """Those of this class; all of them where none is named."""
    return [run for run in runs if hardware_class in ("", run.hardware_class)]


def scored_within(scored: Iterable[T], hardware_class: str) -> list[T]:
    return [one for one in scored if hardware_class in ("", one.run.hardware_class)]


def home(setting: Setting, reads: Reads, head: Proposal) -> str:
    """Where the head's own figure is measured; empty: its first run will say."""
    return _home(setting, head, reads.runs(head.campaign_id, proposal_id=head.id))


def _home(setting: Setting, head: Proposal, runs: Sequence[Run]) -> str:
    """`runs`: all of the head."""
    deciding = [run for run in runs if run.rung == setting.track.decision.rung]
    if head.baseline_id is None:
        return of_runs([run for run in deciding if run.purpose in FRESH]) or setting.campaign.hardware_class
    return of_runs([run for run in deciding if run.baseline_id == head.baseline_id])


def standing(setting: Setting, reads: Reads, head: Proposal) -> tuple[str, ...]:
    """The classes in which an idea may be compared with this head: it has its fresh runs there, or under way."""
    runs = reads.runs(head.campaign_id, proposal_id=head.id)
    seeds: dict[str, set[int]] = {}
    for run in runs:
        if run.purpose in FRESH and run.state in BINDING:
            seeds.setdefault(run.hardware_class, set()).add(run.seed)
    least, mine = setting.track.decision.report_seeds, _home(setting, head, runs)
    there = [name for name, found in seeds.items() if len(found) >= least and name != mine]
    return (mine, *there) if mine else tuple(there)


def others(setting: Setting, mine: str) -> tuple[str, ...]:
    """Classes beside one in which a deciding run has slots; none while that one is not known."""
    if not mine:
        return ()
    runner, need = setting.runner, setting.track.gpus(setting.track.decision.rung)
    found = {mine: True}
    for slot in runner.slots:
        name = runner.hardware_class(slot)
        if name not in found and size_of(runner, slot) in (None, need):
            found[name] = True
    return tuple(found)[1:]

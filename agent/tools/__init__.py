"""What a language model may look at and try out: tools that read, and `check_edits`, which runs edits in the sandbox.

Takes a `Desk` and the proposal that edits apply to; gives a `Toolbox`, with the tools as a model is told of them.
Whatever a model writes into a call, it gets an answer; no words of its make a tool do more than its arguments say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.errors import EditError, StoreError, UserError, did_you_mean
from agent.llm import Call, Result, Tool
from agent.records import Proposal
from agent.tools import arguments, proposals, reading, runs
from agent.tools.check import Check, check
from agent.tools.desk import Desk, on_head
from agent.tools.window import bounded
from agent.words import line

__all__ = ["TOOLS", "Check", "Desk", "Toolbox", "check"]


class Refused(UserError):
    """The model must act: the text is its answer."""


def check_edits(desk: Desk, source: Proposal, given: arguments.CheckEdits) -> str:
    found = check(desk, on_head(desk, source), given.edits, expected_bytes=given.expected_bytes)
    if not found.ok:
        raise Refused(found.words)
    return found.words


@dataclass(frozen=True)
class Entry:
    name: str
    takes: type[arguments.Arguments]
    run: Callable[[Desk, Proposal, Any], str]
    description: str


CAMPAIGN = "This campaign has campaign_id {}. "
ENTRIES = (
    Entry(
        "read_skill",
        arguments.ReadSkill,
        reading.read_skill,
        "One skill in full: what is known of a subject, with figures and what to try first.",
    ),
    Entry(
        "read_script",
        arguments.ReadScript,
        reading.read_script,
        "Lines of an editable file, exactly as they are, so that SEARCH parts can be copied from them.",
    ),
    Entry(
        "query",
        arguments.Query,
        reading.query,
        f"Asks the run database: read-only SQL, {reading.ROWS} rows and {reading.SECONDS:g} s at most. Lower bpb is "
        f"better; gain is over the baseline. {CAMPAIGN}{reading.tables()}",
    ),
    Entry("show_diff", arguments.ShowDiff, reading.show_diff, "What a proposal changes, also of those that failed."),
    Entry(
        "show_proposal",
        arguments.ShowProposal,
        proposals.show_proposal,
        "All that is known of one proposal: hypothesis, runs, findings of the judge, verdicts, reviews.",
    ),
    Entry(
        "read_log", arguments.ReadLog, runs.read_log, "What a run printed: a range of lines, or those with a pattern."
    ),
    Entry(
        "compare_runs",
        arguments.CompareRuns,
        runs.compare_runs,
        "Two runs side by side: scores, bytes, clocks, knobs, losses at common steps, and whether they start alike.",
    ),
    Entry(
        "check_edits",
        arguments.CheckEdits,
        check_edits,
        "Tries edits out before they are proposed: do they apply and compile, are they new, does training take its "
        "first steps, does scoring keep the judge's contract, and what will size, compute and memory be against the "
        "limits? It costs no budget.",
    ),
)


def _told(campaign: str) -> tuple[Tool, ...]:
    return tuple(
        Tool(one.name, one.description.replace(CAMPAIGN, campaign), arguments.schema(one.takes)) for one in ENTRIES
    )


TOOLS = _told("")
"""As they are where no campaign is chosen yet."""


@dataclass(frozen=True)
class Toolbox:
    """The tools of one conversation. Any thread may use it."""

    desk: Desk
    source: Proposal
    """What edits apply to."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        return _told(CAMPAIGN.format(self.desk.campaign.id))

    def run(self, call: Call) -> Result:
        """The answer to one call; `failed`: the model has to mend it. Faults of ours or the machine's are raised."""
        try:
            text, failed = self._answer(call), False
        except StoreError:
            raise
        except (UserError, EditError) as error:
            text, failed = str(error), True
        return Result(call.id, bounded(text), failed)

    def _answer(self, call: Call) -> str:
        entry = next((one for one in ENTRIES if one.name == call.name), None)
        if entry is None:
            names = [one.name for one in ENTRIES]
            wanted = line(call.name, 60)
            raise Refused(f"there is no tool {wanted!r}.{did_you_mean(wanted, names)} There are {', '.join(names)}.")
        return entry.run(self.desk, self.source, arguments.read(entry.name, entry.takes, call.arguments))

"""Tools that clients have and our own planners need not: where the campaign stands, what to propose, what became of it.

Takes a `Call` as any model's; gives a `Result`. Arguments are anybody's: each tool's are checked against its schema,
and what is wrong with them is said in words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from agent import review, skills
from agent.errors import UserError
from agent.llm import Call, Result, Tool
from agent.llm.redact import Redactor
from agent.mcp.guide import context
from agent.mcp.proposing import Proposed, planner_name, propose
from agent.mcp.workplace import START, Workplace
from agent.records import Proposal
from agent.report import status as standing
from agent.report import tables
from agent.store import Reads
from agent.tools import Desk, arguments
from agent.tools.arguments import Arguments
from agent.tools.desk import a_proposal
from agent.tools.window import bounded
from agent.words import line

MARK = 12  # characters of a diff's patch id


class Nothing(Arguments):
    pass


class OfLineage(Arguments):
    proposal: str = Field(default="", max_length=20, description="Such as p12; empty: the head.")


class Answer(Arguments):
    action: Literal["list", "approve", "reject"] = Field(default="list", description="list shows what waits.")
    proposals: list[str] = Field(
        default=[],
        max_length=20,
        description="As the list names them: p12@0a1b2c3d4e5f is p12 with the diff that it had.",
    )
    comment: str = Field(default="", max_length=2000, description="Why; kept with the idea.")


@dataclass(frozen=True)
class Offer:
    """One tool: what it is told and what it does with it."""

    name: str
    description: str
    takes: type[BaseModel]
    run: Callable[[Any, str], str]
    """Takes the arguments, and what the client calls itself."""
    writes: bool = False
    whole: bool = False
    """Its answer has limits of its own."""


class Research:
    """The tools of one server. Threads may share them."""

    def __init__(self, place: Workplace, *, may_approve: bool = False) -> None:
        self._place = place
        self._may_approve = may_approve
        self._offers = {offer.name: offer for offer in self._all()}

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(Tool(one.name, one.description, arguments.schema(one.takes)) for one in self._offers.values())

    def __contains__(self, name: object) -> bool:
        return name in self._offers

    @property
    def writing(self) -> frozenset[str]:
        """Those that change something."""
        return frozenset(one.name for one in self._offers.values() if one.writes)

    def run(self, call: Call, client: str) -> Result:
        """Raises CaddieError for what can't be done as asked."""
        offer = self._offers[call.name]
        written = call.arguments
        if offer.writes and isinstance(written, Mapping):  # a client sees its person's environment
            written = {name: Redactor.of().value(value) for name, value in written.items()}
        given = arguments.read(call.name, offer.takes, written)
        text = offer.run(given, client)
        return Result(call.id, text if offer.whole else bounded(text))

    def _all(self) -> Sequence[Offer]:
        answers = Answer if self._may_approve else Nothing
        reviews = "Ideas that wait for a person's review" + ("; and the answer to them." if self._may_approve else ".")
        return (
            Offer("status", "Where the campaign stands: budget, head, what runs, what waits.", Nothing, self._status),
            Offer(
                "context",
                "The track, the head, what was tried and what came of it, what runs now: read it before every idea.",
                Nothing,
                self._context,
                whole=True,
            ),
            Offer(
                "skills",
                "Names and summaries of what is known about the work; read_skill shows one.",
                Nothing,
                self._skills,
            ),
            Offer(
                "lineage",
                "The accepted changes from the base to the head, each with its gain.",
                OfLineage,
                self._lineage,
            ),
            Offer("review", reviews, answers, self._review, writes=self._may_approve),
            Offer(
                "propose",
                "Hands in one idea as edits of the script. It is checked at once; what passes is reviewed, run and "
                "measured by the campaign. Try it with check_edits first.",
                Proposed,
                self._propose,
                writes=True,
            ),
        )

    def _status(self, _: Nothing, client: str) -> str:
        desk = self._place.desk()
        with desk.store.read() as reads:
            now = standing.status(reads, desk.campaign.id)
        more = [] if desk.campaign.state == "running" else [f"to go on: {_go_on(desk)}"]
        return "\n".join([standing.words(now), *more])

    def _context(self, _: Nothing, client: str) -> str:
        return context(self._place.desk(), planner_name(client))

    def _skills(self, _: Nothing, client: str) -> str:
        folder = skills.folder_of(self._place.desk().root)
        return skills.index(skills.load(folder)) or "there are no skills in this workspace"

    def _lineage(self, asked: OfLineage, client: str) -> str:
        desk = self._place.desk()
        with desk.store.read() as reads:
            last = a_proposal(reads, asked.proposal) if asked.proposal.strip() else reads.head(desk.campaign.id)
            return tables.lineage_words(tables.lineage(reads, last.id))

    def _propose(self, idea: Proposed, client: str) -> str:
        made, words = propose(self._place.desk(), idea, client)
        return f"p{made.id} is written down: {words}"

    def _review(self, asked: Answer | Nothing, client: str) -> str:
        desk = self._place.desk()
        if isinstance(asked, Answer) and asked.action != "list":
            return _answer(desk, asked, client)
        with desk.store.read() as reads:
            waiting = reads.proposals(desk.campaign.id, {"awaiting_review"})
        if not waiting:
            return "nothing waits for review"
        rows = [f"{_named(one)}  {line(one.title, 120)}  [{line(', '.join(one.risk), 300)}]" for one in waiting]
        end = "" if self._may_approve else "\nA person answers them: `agent review`"
        return "\n".join(rows) + end


def _answer(desk: Desk, asked: Answer, client: str) -> str:
    if not asked.proposals:
        raise UserError(f"{asked.action} which? Name them, such as p12")
    if asked.action == "approve" and (bare := [text for text in asked.proposals if "@" not in text]):
        raise UserError(f"{line(bare[0], 20)}: say which diff of it you saw, as the list does: p12@0a1b2c3d4e5f")
    act = review.approve if asked.action == "approve" else review.reject
    with desk.store.write() as tx:
        found = [_seen(tx, text) for text in asked.proposals]
        foreign = [one for one in found if one.campaign_id != desk.campaign.id]
        if foreign:
            raise UserError(f"p{foreign[0].id} belongs to another campaign")
        done = act(tx, found, planner_name(client), asked.comment)
    return "\n".join(f"p{one.id} {one.state}" for one in done)


def _named(one: Proposal) -> str:
    """With a mark of its diff: on a new head an idea that waits may have another."""
    return f"p{one.id}@{one.patch_id[:MARK]}"


def _seen(reads: Reads, text: str) -> Proposal:
    """The proposal as the client saw it."""
    name, _, mark = text.partition("@")
    one = a_proposal(reads, name)
    return one if mark.strip() == one.patch_id[:MARK] else replace(one, patch_id=mark)


def _go_on(desk: Desk) -> str:
    return START if desk.campaign.state == "finished" else "a person says `agent resume`"

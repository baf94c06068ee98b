"""The planner that asks a language model: it reads, tries its edits, and proposes one idea.

Takes a request; gives a draft whose edits were checked, or, when no repair helped, one that says why it may not run.
What the model is told stands in prompts/; its answers are calls of tools, or the fields of `Idea`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from agent import calibration, context, skills
from agent.context import lesson
from agent.context.fence import fence
from agent.context.templates import Templates
from agent.errors import PlannerError
from agent.llm import Answer, Call, Message, Model, Part, Prompt, Question, Result, Results, Tool
from agent.llm.config import Allowed
from agent.llm.meter import Meter, Talk
from agent.planner.idea import Idea, explained
from agent.records import Draft, Mode, Proposal, Taught
from agent.runners.progress import tail
from agent.search import ALL_MODES
from agent.store import Reads
from agent.tools import Check, Desk, Toolbox, check
from agent.tools.desk import job_of, on_head

if TYPE_CHECKING:
    from agent.planner import Request

PROPOSE = "propose"
FIRST_SHARE = 0.6  # of what a model can take, for the first prompt; the rest is for what it looks up
ENOUGH = 8_192  # tokens for an answer with edits in it
LOG_BYTES = 20_000  # of the end of a log, for an idea that crashed
MOST_CALLS = 16  # of tools in one answer: each may take seconds of a core, a dry run a minute
LAST_WORDS = 2  # turns before the last at which the model is told that it has to come to an end
TOO_MANY = f"not run: at most {MOST_CALLS} calls in one answer; call it again if you still need it"


@dataclass(frozen=True)
class Bench:
    """What a conversation needs beside its request: where to look things up, who pays, how long it may take."""

    desk: Desk
    meter: Meter
    limits: Allowed


@dataclass(frozen=True)
class Researcher:
    """One language model as a planner."""

    model: Model
    limits: Allowed
    bench: Bench | None
    """None: only to see whether there could be one."""
    window: int | None = None
    """Tokens that the model takes, question and answer together; None: nobody knows."""
    modes: frozenset[Mode] = ALL_MODES

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def parallel(self) -> int:
        return self.limits.parallel

    def propose(self, request: "Request") -> Draft:
        assert self.bench is not None
        talk = self.bench.meter.begin("propose", self.name, request.mode)
        try:
            draft = Conversation(self.model, self.bench, request, talk, self.window).run()
        except BaseException as error:
            self.bench.meter.end(talk, f"{type(error).__name__}: {error}")
            raise
        self.bench.meter.end(talk, (draft.refused and f"refused: {draft.refused}") or f"proposed: {draft.title}")
        return draft

    @property
    def learns(self) -> bool:
        return self.limits.lessons

    def learn(self, proposal: Proposal) -> Taught | None:
        assert self.bench is not None
        talk = self.bench.meter.begin("lesson", self.name, proposal.state, proposal.id)
        try:
            with self.bench.desk.store.read() as reads:
                shown = lesson.render(lesson.gather(reads, proposal.id), self.bench.desk.root)
            most = min(self.model.max_output, self.limits.lesson_output)
            asked, schema = (Prompt(shown.user),), Finding.model_json_schema()
            answer = self.bench.meter.ask(
                talk, self.model, Question(shown.system, asked, max_output=most, schema=schema)
            )
            found = Finding.model_validate(fields_of(answer.said.text))
        except ValueError as error:
            self.bench.meter.end(talk, f"can't be read: {explained(error)}")
            return None
        except BaseException as error:
            self.bench.meter.end(talk, f"{type(error).__name__}: {error}")
            raise
        self.bench.meter.end(talk, "written")
        return Taught(found.text, found.confidence, found.contradicted, talk.id)


class Finding(BaseModel):
    """What a verdict taught, as prompts/lesson.md.j2 asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    text: str = Field(min_length=1, max_length=1500)
    confidence: float = Field(ge=0, le=1)
    contradicts: list[Annotated[str, Field(pattern=r"^l\d{1,9}$")]] = Field(default=[], max_length=20)

    @property
    def contradicted(self) -> tuple[int, ...]:
        return tuple(int(one[1:]) for one in self.contradicts)


class Conversation:
    """From the context to a proposal, within so many turns and repairs."""

    def __init__(self, model: Model, bench: Bench, request: "Request", talk: Talk, window: int | None = None) -> None:
        self._model, self._bench, self._request, self._talk = model, bench, request, talk
        self._window = window
        self._templates = Templates(bench.desk.root)
        self._toolbox = Toolbox(bench.desk, request.source)
        self._failures = 0

    def run(self) -> Draft:
        """Raises PlannerError when nothing came of it."""
        shown = self._shown()
        messages: list[Message] = [Prompt(shown.user)]
        for left in reversed(range(self._bench.limits.turns)):
            if self._model.tools and self._bench.meter.nearly_spent(
                self._model, self._question(shown.system, messages)
            ):
                messages.append(self._says("come to an end", left=1))
            answer = self._ask(shown.system, messages)
            messages.append(answer.said)
            found = self._called(answer) if answer.said.calls else self._written(answer)
            if isinstance(found, Draft):
                return found
            messages.extend(found)
            if left == LAST_WORDS:
                messages.append(self._says("come to an end", left=left))
        raise PlannerError(f"no proposal came of {self._bench.limits.turns} turns")

    def _shown(self) -> context.Context:
        desk, request = self._bench.desk, self._request
        with desk.store.read() as reads:
            evidence = context.gather(
                reads,
                request,
                planner=self._model.name,
                skills=skills.load(skills.folder_of(desk.root)),
                calibration=calibration.table(reads, request.campaign.id),
                log_tail=_log_tail(desk, reads, request.source),
            )
        budgets = context.Budgets()
        if self._window is not None:
            budgets = budgets.within(int(FIRST_SHARE * (self._window - self._longest())))
        return context.render(evidence, budgets, tools=self._model.tools, workspace=desk.root)

    def _question(self, system: tuple[Part, ...], messages: list[Message]) -> Question:
        return Question(
            system=system,
            messages=tuple(messages),
            tools=(*self._toolbox.tools, self._propose()) if self._model.tools else (),
            max_output=self._longest(),
            schema=None if self._model.tools else Idea.model_json_schema(),
        )

    def _ask(self, system: tuple[Part, ...], messages: list[Message]) -> Answer:
        answer = self._bench.meter.ask(self._talk, self._model, self._question(system, messages))
        if answer.stop == "refused":
            raise PlannerError(f"the model refused to answer: {answer.said.text[:200]}")
        return answer

    def _longest(self) -> int:
        """Tokens of an answer: all of them are reserved, and few models' longest answer is ever needed."""
        most = self._model.max_output
        return min(most, max(ENOUGH, int(self._bench.limits.output_share * most)))

    def _propose(self) -> Tool:
        words = "Ends the conversation with your one idea. Its edits are checked once more before it counts."
        return Tool(PROPOSE, words, Idea.model_json_schema())

    def _called(self, answer: Answer) -> Draft | list[Message]:
        """Each call has its answer; the first proposal that holds is the end."""
        results: list[Result] = []
        for call in answer.said.calls:
            if call.name != PROPOSE:
                results.append(self._looked_up(call) if len(results) < MOST_CALLS else Result(call.id, TOO_MANY, True))
                continue
            found = self._proposed(call.arguments)
            if isinstance(found, Draft):
                return found
            results.append(Result(call.id, found, failed=True))
        return [Results(tuple(results))]

    def _looked_up(self, call: Call) -> Result:
        found = self._toolbox.run(call)
        return replace(found, text=fence(call.name, found.text))

    def _written(self, answer: Answer) -> Draft | list[Message]:
        """Of a model without tools the text is the proposal; of one with tools it is thinking aloud."""
        if self._model.tools:
            return [self._says("cut off" if answer.stop == "length" else "nothing called")]
        found = self._proposed(answer.said.text)
        return found if isinstance(found, Draft) else [Prompt((Part(found),))]

    def _proposed(self, arguments: Mapping[str, object] | str) -> Draft | str:
        """A draft; or what is wrong with it, for the model to mend."""
        try:
            idea = Idea.model_validate(fields_of(arguments))
        except ValueError as error:  # a ValidationError is one
            return self._again("unreadable", explained(error))
        found = self._checked(idea)
        if found.ok:
            return self._draft(idea, "")
        if self._failures >= self._bench.limits.repairs:
            return self._draft(idea, found.words)
        return self._again("failed", found.words)

    def _checked(self, idea: Idea) -> Check:
        desk, request = self._bench.desk, self._request
        return check(
            desk,
            on_head(desk, request.source),
            idea.edits,
            expected_bytes=idea.expected_bytes,
            mode=request.mode,
            kind=idea.kind,
            rung=idea.rung,
        )

    def _again(self, what: str, words: str) -> str:
        """What the model is told to mend. Raises PlannerError when it was told often enough."""
        self._failures += 1
        left = self._bench.limits.repairs - self._failures + 1
        if left < 0:
            raise PlannerError(f"its proposals can't be read: {words}")
        with self._bench.desk.store.read() as reads:
            head = reads.head(self._request.campaign.id)
        moved = f"p{head.id}" if head.id != self._request.head.id else ""
        return self._said(what, words=words, tries=left, moved=moved)

    def _says(self, what: str, **values: object) -> Prompt:
        return Prompt((Part(self._said(what, **values)),))

    def _said(self, what: str, **values: object) -> str:
        return self._templates.render("turn.md.j2", {"tries": None, "moved": "", **values, "what": what})

    def _draft(self, idea: Idea, refused: str) -> Draft:
        draft = idea.draft(
            planner=self._model.name,
            mode=self._request.mode,
            source_id=self._request.source.id,
            cost=self._talk.cost,
            conversation_id=self._talk.id,
        )
        return replace(draft, refused=refused)


def _log_tail(desk: Desk, reads: Reads, proposal: Proposal) -> str:
    """What its last run printed at the end; empty where it has none, or the log is gone."""
    runs = reads.runs(proposal.campaign_id, proposal_id=proposal.id, states={"done"})
    return tail(job_of(desk, reads, runs[-1]).train_log, LOG_BYTES) if runs else ""


def fields_of(arguments: Mapping[str, object] | str) -> object:
    """The JSON object of a proposal; models like to put words or a fence around it."""
    if not isinstance(arguments, str):
        return arguments
    start, end = arguments.find("{"), arguments.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    try:
        return json.loads(arguments[start : end + 1])
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error

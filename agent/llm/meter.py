"""Every call on the ledger: its worst case is reserved before it, what it cost is settled after it, all of it is kept.

Takes a model and a question; gives the answer. What failed for a moment is asked again, and every attempt is a call of
its own; a budget that does not cover the worst case of another call ends the asking before a word is sent.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import cast

from agent import budget
from agent.errors import BudgetExceeded, PlannerError, SpentError
from agent.llm import Answer, Call, Message, Model, ModelError, Part, Prompt, Question, Results, Said, Usage
from agent.llm.redact import Redactor
from agent.records import Amount
from agent.store import Store, Tx, talks

ATTEMPTS = 3
FIRST_PAUSE_S = 2.0
MOST_PAUSE_S = 30.0  # a provider that wants more is left alone by the whole planner, not by one conversation
COUNT_MARGIN = 1.1  # a provider's own count is called an estimate
COUNT_EXTRA = 500
ROOM_S = 10.0  # until calls that are under way have settled less than they reserved


@dataclass
class Talk:
    """A conversation under way."""

    id: int
    written: int = 0
    """Messages that the store has."""
    cost: Amount = field(default_factory=Amount)


@dataclass(frozen=True)
class Meter:
    """What the calls of one campaign go through."""

    store: Store
    campaign_id: int
    redact: Redactor
    call_usd: float
    """Set aside for a call to a program that knows its prices and keeps to a cap."""
    sleep: Callable[[float], None] = time.sleep

    def begin(self, what: talks.What, planner: str, mode: str = "", proposal_id: int | None = None) -> Talk:
        with self.store.write() as tx:
            return Talk(talks.add_conversation(tx, self.campaign_id, what, planner, mode, proposal_id))

    def end(self, talk: Talk, outcome: str) -> None:
        with self.store.write() as tx:
            talks.end_conversation(tx, talk.id, self.redact.text(outcome))

    def ask(self, talk: Talk, model: Model, question: Question) -> Answer:
        """Raises ModelError when the model did not answer, SpentError when it can't be paid."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(talk, model, question)
            except ModelError as error:
                pause = max(error.retry_after or 0.0, FIRST_PAUSE_S * 2**attempt)
                if error.lasting or attempt + 1 == ATTEMPTS or pause > MOST_PAUSE_S:
                    raise
                self.sleep(pause)
        raise AssertionError("unreachable")

    def nearly_spent(self, model: Model, question: Question) -> bool:
        """Whether no call may follow this one: what is left does not cover two of them at their worst."""
        worst = self._worst(model, question, model.most_input(question))
        with self.store.read() as reads:
            left = reads.balance(self.campaign_id).left()
        needs = ((left.llm_usd, worst.llm_usd), (left.llm_tokens, worst.llm_tokens), (left.llm_calls, worst.llm_calls))
        return any(there is not None and there < 2 * need for there, need in needs)

    def _once(self, talk: Talk, model: Model, question: Question) -> Answer:
        new = _new(question, talk.written)
        entry_id, call_id, reserved = self._open(talk, model, question, new)
        try:
            answer = model.ask(question, reserved.llm_usd or None)
        except ModelError as error:
            words = self.redact.text(str(error))
            billed = error.usage if error.billed == "known" else Usage() if error.billed == "nothing" else None
            self._close(talk, model, entry_id, call_id, reserved, billed, error=words, seen=error.usage)
            raise ModelError(
                words, billed=error.billed, usage=error.usage, retry_after=error.retry_after, lasting=error.lasting
            ) from None  # the original's text may hold what was redacted
        except BaseException as error:
            self._close(talk, model, entry_id, call_id, reserved, None, error=self.redact.text(repr(error)))
            raise
        kept = {"question": new, "answer": _said(answer.said), "stop": answer.stop}
        try:
            self._close(talk, model, entry_id, call_id, reserved, answer.usage, kept=kept)
        except Exception as error:  # it can't be written down: open, the call would hold its money for good
            self._close(talk, model, entry_id, call_id, reserved, None, error=self.redact.text(repr(error)))
            raise
        talk.written = len(question.messages)
        return replace(answer, said=self._clean(answer.said))

    def _clean(self, said: Said) -> Said:
        """What becomes of its words is stored and shown; only the provider's own form goes back as it came."""
        calls = tuple(
            replace(call, arguments=cast("Mapping[str, object] | str", self.redact.value(call.arguments)))
            for call in said.calls
        )
        return replace(said, text=self.redact.text(said.text), calls=calls)

    def _open(self, talk: Talk, model: Model, question: Question, new: object) -> tuple[int, int, Amount]:
        """Reserves the worst case. If bytes as tokens can't be paid, the provider is asked to count."""
        certain = self._worst(model, question, model.most_input(question))
        try:
            return self._reserve(talk, model, certain, new)
        except BudgetExceeded:
            counted = model.counted(question)
            if counted is None:
                self._no_room()
                raise
        likely = self._worst(model, question, int(counted * COUNT_MARGIN) + COUNT_EXTRA)
        try:
            return self._reserve(talk, model, likely, new)
        except BudgetExceeded:
            self._no_room()
            raise

    def _reserve(self, talk: Talk, model: Model, worst: Amount, new: object) -> tuple[int, int, Amount]:
        with self.store.write() as tx:
            if tx.campaign_by_id(self.campaign_id).state != "running":  # whoever thinks on: nobody would settle it
                raise PlannerError("the campaign has ended")
            entry_id = budget.reserve(tx, self.campaign_id, worst, "planner")
            kept = self.redact.value({"question": new})
            call_id = talks.add_call(tx, self.campaign_id, talk.id, entry_id, model.name, kept)
        return entry_id, call_id, worst

    def _no_room(self) -> None:
        """Raises what the loop understands: later, when other calls have settled, or never."""
        with self.store.read() as reads:
            balance = reads.balance(self.campaign_id)
        if balance.reserved.llm_calls:
            raise PlannerError("other calls hold what is left of the budget for models", retry_after=ROOM_S)
        raise SpentError("the budget for language models does not cover another call")

    def _worst(self, model: Model, question: Question, tokens_in: int) -> Amount:
        tokens = tokens_in + question.max_output
        if model.takes_cap:
            return Amount(llm_usd=self.call_usd, llm_tokens=tokens, llm_calls=1)
        price = model.price
        if price is None:
            return Amount(llm_tokens=tokens, llm_calls=1)
        dearest = max(price.input, price.cache_read, price.cache_write)
        usd = (tokens_in * dearest + question.max_output * price.output) / 1e6
        return Amount(llm_usd=usd, llm_tokens=tokens, llm_calls=1)

    def _close(
        self,
        talk: Talk,
        model: Model,
        entry_id: int,
        call_id: int,
        reserved: Amount,
        billed: Usage | None,
        *,
        kept: object = None,
        error: str = "",
        seen: Usage | None = None,
    ) -> None:
        """`billed` None: nobody knows, so it is the worst case. `seen`: what is known of it."""
        cost = _amount(model, billed) if billed is not None else reserved
        if model.takes_cap and billed is not None and billed.usd is None and billed.tokens:  # it knows, and didn't say
            cost = replace(cost, llm_usd=reserved.llm_usd)
        known = billed if billed is not None else seen
        with self.store.write() as tx:
            if not talks.is_open(tx, call_id):  # written off at the campaign's end
                return
            _settle(tx, entry_id, reserved, cost)
            talks.end_call(
                tx,
                call_id,
                "failed" if error else "done",
                tokens=_columns(known) if known is not None else None,
                usd=cost.llm_usd if _priced(model, billed) else None,
                error=error,
                transcript=self.redact.value(kept) if kept is not None else None,
            )
            if _passes(cost, reserved):
                words = f"{model.name} charged more than its worst case: {cost.llm_tokens:,} tokens"
                tx.add_event(self.campaign_id, "planner", words)
        talk.cost = Amount(
            llm_usd=talk.cost.llm_usd + cost.llm_usd,
            llm_tokens=talk.cost.llm_tokens + cost.llm_tokens,
            llm_calls=talk.cost.llm_calls + 1,
        )


def write_off(tx: Tx, campaign_id: int, why: str) -> int:
    """Calls that nobody waits for any more: what they cost is not known, so it is their worst case."""
    lost = talks.open_calls(tx, campaign_id)
    for call_id, entry_id in lost:
        budget.settle(tx, entry_id, budget.entry(tx, entry_id).reserved)
        talks.end_call(tx, call_id, "lost", error=why)
    return len(lost)


def _settle(tx: Tx, entry_id: int, reserved: Amount, cost: Amount) -> None:
    if _passes(cost, reserved):
        budget.settle_beyond(tx, entry_id, cost)
    else:
        budget.settle(tx, entry_id, cost)


def _passes(cost: Amount, reserved: Amount) -> bool:
    return cost.llm_tokens > reserved.llm_tokens or cost.llm_usd > reserved.llm_usd + 1e-6


def _amount(model: Model, usage: Usage) -> Amount:
    usd = usage.usd if usage.usd is not None else model.price.of(usage) if model.price is not None else 0.0
    return Amount(llm_usd=usd, llm_tokens=usage.tokens, llm_calls=1)


def _priced(model: Model, usage: Usage | None) -> bool:
    return model.price is not None or (usage is not None and usage.usd is not None)


def _columns(usage: Usage) -> dict[str, int]:
    return {f"{name}_tokens": getattr(usage, name) for name in ("input", "cache_read", "cache_write", "output")}


def _new(question: Question, written: int) -> dict[str, object]:
    """What the store does not have yet of a question."""
    new: dict[str, object] = {"messages": [_message(one) for one in question.messages[written:]]}
    if written == 0:
        new["system"] = _parts(question.system)
        new["tools"] = [tool.name for tool in question.tools]
    return new


def _message(message: Message) -> dict[str, object]:
    if isinstance(message, Prompt):
        return {"prompt": _parts(message.parts)}
    if isinstance(message, Results):
        return {"results": [asdict(one) for one in message.results]}
    return {"said": _said(message)}


def _parts(parts: tuple[Part, ...]) -> list[str]:
    return [part.text for part in parts]


def _said(said: Said) -> dict[str, object]:
    """Without the provider's own form of it: what a person wants to read is in the text and the calls."""
    return {"text": said.text, "calls": [_call(one) for one in said.calls]}


def _call(call: Call) -> dict[str, object]:
    arguments = dict(call.arguments) if not isinstance(call.arguments, str) else call.arguments
    return {"id": call.id, "name": call.name, "arguments": arguments}

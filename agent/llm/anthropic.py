"""Anthropic's Messages API: tools, streaming, thinking, cached prefixes, its own count of tokens.

Takes a `Question`, gives an `Answer` or raises `ModelError`. Blocks go back as they came, signed thinking included.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.llm import Answer, Call, Part, Price, Prompt, Question, Results, Said, Stop, Usage
from agent.llm.values import arguments, clean, most_tokens, schema_words, tokens, utf8
from agent.llm.wire import Exchange, Json, Server, count

if TYPE_CHECKING:
    import anthropic
    import httpx2

BREAKPOINTS = 4
LEAST_THINKING = 1024
LEAST_WORDS = 1024  # tokens of an answer that thinking leaves alone
STOPS: dict[str, Stop] = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refused"}
DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


@dataclass(frozen=True)
class Anthropic:
    server: Server
    price: Price | None
    max_output: int
    thinking: int = 0
    """Tokens; below 1024 it is not told to think."""
    adaptive: bool = False
    """Whether it thinks for as long as it sees fit, and takes no number."""
    cached_from: int = 0
    """Tokens of the shortest prefix that is cached."""

    tools = True
    takes_cap = False

    @property
    def name(self) -> str:
        return f"anthropic:{self.server.model}"

    def most_input(self, question: Question) -> int:
        return most_tokens(self._body(question))

    def counted(self, question: Question) -> int | None:
        body = {key: value for key, value in self._body(question).items() if key != "max_tokens"}
        return count(self.server, lambda http: self._client(http).messages.count_tokens(**body))

    def ask(self, question: Question, usd: float | None) -> Answer:
        exchange = Exchange(self.server)
        body = self._body(question)
        reply = _Reply()
        with closing(exchange.events(lambda http: self._client(http).messages.create(**body, stream=True))) as events:
            for event in events:
                reply.take(event, exchange)
        if not reply.ended:
            raise exchange.cut()
        return reply.answer(exchange, question.max_output)

    def _client(self, http: "httpx2.Client") -> "anthropic.Anthropic":
        import anthropic

        return anthropic.Anthropic(
            api_key=self.server.key,
            base_url=self.server.base_url,
            max_retries=0,
            timeout=http.timeout,
            http_client=http,
            open_telemetry=False,
        )

    def _body(self, question: Question) -> dict[str, Any]:
        system = [part for part in question.system if part.text]
        if question.schema is not None:
            system.append(Part(schema_words(question.schema)))
        body: Json = {
            "model": self.server.model,
            "max_tokens": question.max_output,
            "system": [{"type": "text", "text": part.text} for part in system],
            "messages": list(_messages(question)),
            "tools": [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in question.tools
            ],
        }
        budget = min(self.thinking, question.max_output - LEAST_WORDS)
        if self.adaptive:
            body["thinking"] = {"type": "adaptive"}
        elif budget >= LEAST_THINKING:
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        body = {key: value for key, value in clean(body).items() if value}
        _mark(body, system, question, self.cached_from)
        return body


def _messages(question: Question) -> Iterator[Json]:
    """In turns: what follows one another from our side is one message."""
    turn: list[Json] = []
    for message in question.messages:
        if isinstance(message, Said):
            if turn:
                yield {"role": "user", "content": turn}
            turn = []
            yield {"role": "assistant", "content": _said(message)}
        elif isinstance(message, Results):
            turn += [
                {"type": "tool_result", "tool_use_id": one.call_id, "content": one.text or " ", "is_error": one.failed}
                for one in message.results
            ]
        else:
            turn += [{"type": "text", "text": part.text} for part in message.parts if part.text]
    if turn:
        yield {"role": "user", "content": turn}


def _said(said: Said) -> list[Json]:
    if isinstance(said.raw, Mapping) and isinstance(said.raw.get("messages"), list | tuple):
        return list(said.raw["messages"])
    blocks: list[Json] = [{"type": "text", "text": said.text}] if said.text.strip() else []
    blocks += [{"type": "tool_use", "id": call.id, "name": call.name, "input": _object(call)} for call in said.calls]
    return blocks or [{"type": "text", "text": "(no words)"}]


def _object(call: Call) -> Mapping[str, object]:
    """The API takes objects only; what was none is shown to the model as what it was."""
    return call.arguments if isinstance(call.arguments, Mapping) else {"INVALID_JSON": call.arguments}


def _mark(body: Json, system: Sequence[Part], question: Question, cached_from: int) -> None:
    """Puts the breakpoints of the cache.

    A prefix is read where one ended before, so: the ends that are asked again, first of them the one that most
    questions share and the last ones, which save most; and, where a conversation goes on, its moving end. The end
    before that is marked too if there is room: the API looks back 20 blocks only.
    """
    stable = [block for block, part in zip(body.get("system", ()), system, strict=False) if part.stable]
    texts = [block for message in body["messages"] for block in _ours(message) if block["type"] == "text"]
    parts = [
        part for message in question.messages if isinstance(message, Prompt) for part in message.parts if part.text
    ]
    stable += [block for block, part in zip(texts, parts, strict=True) if part.stable]
    stable = [block for block in stable if _before(body, block) >= cached_from]
    turns = [ours for message in body["messages"] if (ours := _ours(message))]
    moving = [turn[-1] for turn in turns[-2:]] if question.tools else []
    room = BREAKPOINTS - len(moving[-1:])
    chosen = stable if len(stable) <= room else [stable[0], *stable[1 - room :]]
    chosen = [*moving[-1:], *chosen, *moving[:-1]]
    for block in list({id(block): block for block in chosen}.values())[:BREAKPOINTS]:
        block["cache_control"] = {"type": "ephemeral"}


def _ours(message: Json) -> list[Json]:
    return message["content"] if message["role"] == "user" else []


def _before(body: Json, last: Json) -> int:
    """Bytes of the prefix that ends with a block, as the API has it: tools, system, messages. Tokens are fewer."""
    seen = utf8(json.dumps(body.get("tools", [])))
    for block in [*body.get("system", ()), *(block for message in body["messages"] for block in message["content"])]:
        seen += utf8(json.dumps(block, ensure_ascii=False))
        if block is last:
            break
    return seen


@dataclass
class _Reply:
    """What has come of an answer."""

    blocks: dict[int, Json] = field(default_factory=dict)
    pieces: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    """What blocks grew by, by the name of what grew."""
    reported: Json = field(default_factory=dict)
    reason: str = ""
    ended: bool = False

    def take(self, event: Json, exchange: Exchange) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._use(event.get("message"), exchange)
        elif kind == "content_block_start":
            self._open(event, exchange)
        elif kind == "content_block_delta":
            self._grow(event, exchange)
        elif kind == "message_delta":
            delta = event.get("delta")
            self.reason = str(delta.get("stop_reason") or "") if isinstance(delta, dict) else ""
            exchange.complete = bool(self.reported and event.get("usage"))
            self._use(event, exchange)
        elif kind == "message_stop":
            self.ended = True

    def _use(self, holder: object, exchange: Exchange) -> None:
        """Counts are totals so far; a later report may leave out what it has no news of."""
        usage = holder.get("usage") if isinstance(holder, dict) else None
        told = {key: value for key, value in usage.items() if value is not None} if isinstance(usage, dict) else {}
        if not told:
            return
        self.reported |= told
        used = Usage(
            input=tokens(self.reported, "input_tokens"),
            cache_read=tokens(self.reported, "cache_read_input_tokens"),
            cache_write=tokens(self.reported, "cache_creation_input_tokens"),
            output=tokens(self.reported, "output_tokens"),
        )
        exchange.usage = used if used.asked else None  # no question has no tokens

    def _open(self, event: Json, exchange: Exchange) -> None:
        index, block = event.get("index"), event.get("content_block")
        if not isinstance(index, int) or not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise exchange.malformed("a block without a number or type")
        exchange.heard(*(str(block.get(name) or "") for name in ("text", "thinking", "data", "input")))
        self.blocks[index] = block

    def _grow(self, event: Json, exchange: Exchange) -> None:
        index, delta = event.get("index"), event.get("delta")
        if not isinstance(index, int) or index not in self.blocks or not isinstance(delta, dict):
            raise exchange.malformed("more of a block that was not begun")
        name = DELTAS.get(str(delta.get("type")))
        if name is not None:
            piece = str(delta.get(name) or "")
            exchange.heard(piece)
            self.pieces.setdefault((index, name), []).append(piece)

    def _whole(self) -> list[Json]:
        """The blocks, grown; arguments of calls are still text."""
        for (index, name), pieces in self.pieces.items():
            self.blocks[index][name] = str(self.blocks[index].get(name) or "") + "".join(pieces)
        return [block for _, block in sorted(self.blocks.items()) if block["type"] != "text" or block.get("text")]

    def answer(self, exchange: Exchange, most: int) -> Answer:
        """`most`: tokens of its output, where nobody says how many they were."""
        blocks, calls = self._whole(), []
        for block in blocks:
            if block["type"] == "tool_use":
                written = block.pop("partial_json", "")
                given = arguments(written) if written else block.get("input") or {}
                call = Call(str(block.get("id") or ""), str(block.get("name") or ""), given)
                block["input"] = _object(call)
                calls.append(call)
        text = "\n".join(str(block["text"]) for block in blocks if block["type"] == "text")
        stop = STOPS.get(self.reason, "tools" if calls else "end")
        if exchange.usage is None or not self.reason:
            raise exchange.malformed("no usage or no reason to stop")
        if not exchange.complete:
            exchange.usage = replace(exchange.usage, output=most)
        if stop == "end" and not text.strip():
            raise exchange.empty()
        raw = {"messages": blocks} if text.strip() or calls else None  # thinking alone is not taken back
        return Answer(Said(text, tuple(calls), raw), exchange.usage, stop)

"""OpenAI's Responses API: function tools, streaming, reasoning, cached prefixes, its own count of tokens.

Takes a `Question`, gives an `Answer` or raises `ModelError`. Nothing is stored there: items go back as they came,
encrypted reasoning included.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.llm import Answer, Call, Price, Question, Results, Said, Stop, Usage
from agent.llm.values import arguments, clean, is_strict, most_tokens, tokens
from agent.llm.wire import Exchange, Json, Server, count

if TYPE_CHECKING:
    import httpx2
    import openai

COUNTED = ("model", "input", "instructions", "tools", "text", "reasoning")


@dataclass(frozen=True)
class OpenAI:
    server: Server
    price: Price | None
    max_output: int
    thinking: int = 0
    """Tokens, which say how hard it reasons; 0: the model does not reason."""

    tools = True
    takes_cap = False

    @property
    def name(self) -> str:
        return f"openai:{self.server.model}"

    def most_input(self, question: Question) -> int:
        return most_tokens(self._body(question))

    def counted(self, question: Question) -> int | None:
        body = {key: value for key, value in self._body(question).items() if key in COUNTED}
        return count(self.server, lambda http: client(self.server, http).responses.input_tokens.count(**body))

    def ask(self, question: Question, usd: float | None) -> Answer:
        exchange = Exchange(self.server)
        body = self._body(question)
        reply = _Reply()
        with closing(
            exchange.events(lambda http: client(self.server, http).responses.create(**body, stream=True))
        ) as events:
            for event in events:
                reply.take(event, exchange)
        if not reply.ended:
            raise exchange.cut()
        return reply.answer(exchange)

    def _body(self, question: Question) -> dict[str, Any]:
        body: Json = {
            "model": self.server.model,
            "instructions": "\n\n".join(part.text for part in question.system if part.text),
            "input": [item for message in question.messages for item in _items(message)],
            "tools": [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.schema,
                    "strict": is_strict(tool.schema),
                }
                for tool in question.tools
            ],
            "max_output_tokens": question.max_output,
            "prompt_cache_key": self._shared(question),
        }
        if question.schema is not None:
            strict = is_strict(question.schema)
            held = {"type": "json_schema", "name": "answer", "schema": question.schema, "strict": strict}
            body["text"] = {"format": held}
        if self.thinking:
            body["reasoning"] = {"effort": _effort(self.thinking)}
            body["include"] = ["reasoning.encrypted_content"]
        return {key: value for key, value in clean(body).items() if value} | {"store": False}

    def _shared(self, question: Question) -> str:
        """The same for questions that begin the same: they go where that beginning is cached."""
        stable = [part.text for part in question.system if part.stable]
        shared = json.dumps([self.server.model, [tool.name for tool in question.tools], stable])
        return f"caddie-{hashlib.sha256(shared.encode('utf-8', 'replace')).hexdigest()[:24]}"


def client(server: Server, http: "httpx2.Client") -> "openai.OpenAI":
    import openai

    return openai.OpenAI(
        api_key=server.key,
        base_url=server.base_url,
        max_retries=0,
        timeout=http.timeout,
        http_client=http,
    )


def _effort(thinking: int) -> str:
    return "low" if thinking < 4_096 else "medium" if thinking < 16_384 else "high"


def _items(message: object) -> Iterator[Json]:
    if isinstance(message, Said):
        yield from _said(message)
    elif isinstance(message, Results):
        for one in message.results:
            output = f"This failed: {one.text}" if one.failed else one.text
            yield {"type": "function_call_output", "call_id": one.call_id, "output": output}
    else:
        texts = [part.text for part in getattr(message, "parts", ()) if part.text]
        yield {"role": "user", "content": [{"type": "input_text", "text": text} for text in texts]}


def _said(said: Said) -> Iterator[Json]:
    if isinstance(said.raw, Mapping) and isinstance(said.raw.get("responses"), list | tuple):
        yield from said.raw["responses"]
        return
    if said.text:
        yield {"role": "assistant", "content": said.text}
    for call in said.calls:
        written = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": written}


@dataclass
class _Reply:
    """What has come of an answer."""

    items: list[Json] = field(default_factory=list)
    ended: bool = False
    grew: bool = False
    stop: Stop | None = None

    def take(self, event: Json, exchange: Exchange) -> None:
        kind = str(event.get("type"))
        if kind.endswith(".delta"):
            exchange.heard(str(event.get("delta") or ""))
            self.grew = True
        elif kind == "response.output_item.done":
            if not isinstance(event.get("item"), dict):
                raise exchange.malformed("an item that is none")
            item = {key: value for key, value in event["item"].items() if value is not None}
            self.items.append(item)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end(event.get("response"), exchange)
        elif kind == "error":
            raise exchange.failed(str(event.get("code") or ""), str(event.get("message") or ""))

    def _end(self, response: object, exchange: Exchange) -> None:
        if not isinstance(response, dict):
            raise exchange.malformed("an end that says nothing")
        if isinstance(response.get("usage"), dict) and (used := _used(response["usage"])).asked:
            exchange.usage, exchange.complete = used, True
        if response.get("status") == "failed":
            error = response.get("error")
            said = error if isinstance(error, dict) else {}
            raise exchange.failed(str(said.get("code") or ""), str(said.get("message") or ""))
        if response.get("status") == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            self.stop = "refused" if reason == "content_filter" else "length"
        self.ended = True

    def answer(self, exchange: Exchange) -> Answer:
        if exchange.usage is None:
            raise exchange.malformed("no usage")
        texts, refusals, calls = [], [], []
        for item in self.items:
            if item.get("type") == "function_call":
                given = arguments(str(item.get("arguments") or ""))
                calls.append(Call(str(item.get("call_id") or ""), str(item.get("name") or ""), given))
            parts = item.get("content") if item.get("type") == "message" else None
            for part in parts if isinstance(parts, list) else ():
                texts += [str(part["text"])] if isinstance(part, dict) and part.get("text") else []
                refusals += [str(part["refusal"])] if isinstance(part, dict) and part.get("refusal") else []
        text = "\n".join([*texts, *refusals])
        if not self.grew:
            exchange.heard(text)
        stop = self.stop or ("refused" if refusals else "tools" if calls else "end")
        if stop == "end" and not text.strip():
            raise exchange.empty()
        while self.items and self.items[-1].get("type") == "reasoning":
            self.items.pop()  # cut off before what it led to: not taken back without it
        return Answer(Said(text, tuple(calls), {"responses": self.items}), exchange.usage, stop)


def _used(report: Mapping[str, Any]) -> Usage:
    """Their input holds what was read from the cache and written to it."""
    read = tokens(report, "input_tokens_details", "cached_tokens")
    written = tokens(report, "input_tokens_details", "cache_write_tokens")
    told = tokens(report, "input_tokens")
    return Usage(max(0, told - read - written), read, written, tokens(report, "output_tokens"))

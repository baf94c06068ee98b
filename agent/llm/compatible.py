"""Chat completions at any address: vLLM, llama.cpp, Ollama and whatever else speaks as OpenAI once did.

Takes a `Question`, gives an `Answer` or raises `ModelError`. Servers differ: tools may be off, a schema may be a
field of the request or words of the prompt, and usage that nobody reports is estimated upwards, from bytes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent.llm import Answer, Call, Price, Question, Results, Said, Stop, Usage
from agent.llm.values import arguments, clean, is_strict, most_tokens, schema_words, tokens, utf8
from agent.llm.wire import Exchange, Json, Server

if TYPE_CHECKING:
    import httpx2
    import openai

NO_KEY = "none"  # for the SDK, which insists on one; it is not sent
STOPS: dict[str, Stop] = {"length": "length", "content_filter": "refused"}


@dataclass(frozen=True)
class Compatible:
    server: Server
    price: Price | None
    max_output: int
    tools: bool = True
    json_schema: bool = False
    """Whether the server holds an answer to a schema; else the prompt asks for it."""

    takes_cap = False

    @property
    def name(self) -> str:
        return f"openai-compatible:{self.server.model}@{self.server.url}"

    def most_input(self, question: Question) -> int:
        return most_tokens(self._body(question))

    def counted(self, question: Question) -> int | None:
        return None

    def ask(self, question: Question, usd: float | None) -> Answer:
        exchange = Exchange(self.server)
        body = self._body(question)
        reply = _Reply()
        with closing(exchange.events(lambda http: self._client(http).chat.completions.create(**body))) as events:
            for event in events:
                reply.take(event, exchange)
        if not reply.reason:
            raise exchange.cut()
        return reply.answer(exchange, Usage(self.most_input(question), output=question.max_output))

    def _client(self, http: "httpx2.Client") -> "openai.OpenAI":
        import openai

        # The SDK adds what the environment says for OpenAI: none of it goes to another server.
        custom = [line.partition(":")[0].strip() for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")]
        theirs = [name for name in custom if name and name.lower() != "authorization"]
        headers: Any = {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *theirs)}
        headers["Authorization"] = f"Bearer {self.server.key or NO_KEY}"
        return openai.OpenAI(
            api_key=self.server.key or NO_KEY,
            base_url=self.server.base_url,
            max_retries=0,
            timeout=http.timeout,
            http_client=http,
            default_headers=headers,
        )

    def _body(self, question: Question) -> dict[str, Any]:
        system = [part.text for part in question.system if part.text]
        if question.schema is not None and not self.json_schema:
            system.append(schema_words(question.schema))
        told = [{"role": "system", "content": "\n\n".join(system)}] if system else []
        body: Json = {
            "model": self.server.model,
            "messages": [*told, *_messages(question)],
            "max_tokens": question.max_output,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.tools and question.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
                }
                for tool in question.tools
            ]
        if question.schema is not None and self.json_schema:
            held = {"name": "answer", "schema": question.schema, "strict": is_strict(question.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": held}
        cleaned: dict[str, Any] = clean(body)
        return cleaned


def _messages(question: Question) -> Iterator[Json]:
    """Prompts that follow one another are one message: some models' templates take turns only."""
    texts: list[str] = []
    for message in question.messages:
        if isinstance(message, Said | Results):
            if texts:
                yield {"role": "user", "content": "\n\n".join(texts)}
            texts = []
        if isinstance(message, Said):
            yield _said(message)
        elif isinstance(message, Results):
            for one in message.results:
                output = f"This failed: {one.text}" if one.failed else one.text
                yield {"role": "tool", "tool_call_id": one.call_id, "content": output}
        else:
            texts += [part.text for part in message.parts if part.text]
    if texts:
        yield {"role": "user", "content": "\n\n".join(texts)}


def _said(said: Said) -> Json:
    made: Json = {"role": "assistant", "content": said.text}
    if said.calls:
        made["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _written(call)}}
            for call in said.calls
        ]
    return made


def _written(call: Call) -> str:
    """As JSON: templates read it, and fail on anything else."""
    given = call.arguments if isinstance(call.arguments, Mapping) else {"INVALID_JSON": call.arguments}
    return json.dumps(given, ensure_ascii=False)


@dataclass
class _Asked:
    """A call of a tool, as far as it has come."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)


@dataclass
class _Reply:
    """What has come of an answer."""

    texts: list[str] = field(default_factory=list)
    calls: list[_Asked] = field(default_factory=list)
    places: dict[int, _Asked] = field(default_factory=dict)
    reason: str = ""
    bytes: int = 0
    refused: bool = False

    def take(self, event: Json, exchange: Exchange) -> None:
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict):
            self._grow(delta, exchange)
        if isinstance(choice, dict) and choice.get("finish_reason"):
            self.reason = str(choice["finish_reason"])
        if isinstance(event.get("usage"), dict) and (used := _used(event["usage"])).asked:
            # Some servers tell it with every piece: only the last is all of it.
            exchange.usage, exchange.complete = used, bool(self.reason)

    def _grow(self, delta: Json, exchange: Exchange) -> None:
        for name in ("content", "refusal", "reasoning_content", "reasoning"):
            piece = delta.get(name)
            if isinstance(piece, str) and piece:
                self._hear(piece, exchange)
                self.refused |= name == "refusal"
                self.texts += [piece] if name in ("content", "refusal") else []
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise exchange.malformed("calls that are no list")
        for asked in calls:
            self._call(asked, exchange)

    def _call(self, asked: object, exchange: Exchange) -> None:
        function = asked.get("function") if isinstance(asked, dict) else None
        if not isinstance(asked, dict) or not isinstance(function, dict):
            raise exchange.malformed("a call of no function")
        index = asked["index"] if isinstance(asked.get("index"), int) else len(self.calls)
        known = self.places.get(index)
        id_, name = str(asked.get("id") or ""), str(function.get("name") or "")
        if known is None or (id_ and name and id_ != known.id):  # some servers count every call as the first
            known = self.places[index] = _Asked(id_ or f"call_{len(self.calls) + 1}", name)
            self.calls.append(known)
        written = function.get("arguments") or ""
        piece = written if isinstance(written, str) else json.dumps(written)
        self._hear(piece + name, exchange)
        known.pieces.append(piece)

    def _hear(self, piece: str, exchange: Exchange) -> None:
        exchange.heard(piece)
        self.bytes += utf8(piece)

    def answer(self, exchange: Exchange, most: Usage) -> Answer:
        """`most`: what it can have used, where the server does not say."""
        used = exchange.usage or Usage(most.input)
        if not used.output:
            used = replace(used, output=min(self.bytes + 16, most.output))
        exchange.usage, exchange.complete = used, True
        text = "".join(self.texts)
        calls = tuple(Call(one.id, one.name, arguments("".join(one.pieces))) for one in self.calls)
        stop: Stop = "refused" if self.refused else STOPS.get(self.reason, "tools" if calls else "end")
        if stop == "end" and not text.strip():
            raise exchange.empty()
        return Answer(Said(text, calls), used, stop)


def _used(report: Mapping[str, Any]) -> Usage:
    read = tokens(report, "prompt_tokens_details", "cached_tokens")
    told = tokens(report, "prompt_tokens")
    return Usage(max(0, told - read), read, output=tokens(report, "completion_tokens"))

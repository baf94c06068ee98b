"""What a scripted reply looks like on each wire: Messages, Responses and chat completions, whole or as a stream.

Takes a `Reply` and the request's JSON; gives the JSON of the answer, or its server-sent events in order.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.llm import Call, Stop, Usage

Json = dict[str, Any]
Wire = Literal["messages", "responses", "chat"]
PIECE = 40  # characters of one delta
USED = Usage(input=100, output=20)


@dataclass(frozen=True)
class Reply:
    """One answer, whatever the wire; and what goes wrong with it."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    """Arguments that are text are sent as they are, JSON or not."""
    usage: Usage | None = USED
    """None: the server doesn't say."""
    thinking: str = ""
    stop: Stop | None = None
    """None: `tools` where there are calls, else `end`."""
    status: int = 200
    error: str = ""
    """Words of the error. With status 200 it breaks into a stream after half of the events."""
    kind: str = "api_error"
    """The error's type, as `insufficient_quota`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    pad: int = 0
    """The text is filled up to so many bytes."""
    wait_s: float = 0.0
    """Before the first byte of the answer."""
    cut_after: int | None = None
    """So many bytes of the body come, then the connection breaks."""
    silent_after: int | None = None
    """So many bytes of the body come, then nothing; the connection stays."""
    drip_s: float = 0.0
    """A pause before every 16 bytes of the body."""
    broken: bool = False
    """Half of the way into the body the JSON is none."""
    unended: bool = False
    """The stream ends in good order, but without its last events: no stop, no usage."""

    @property
    def words(self) -> str:
        return self.text.ljust(self.pad, "x") if self.pad else self.text

    @property
    def stopped(self) -> Stop:
        return self.stop or ("tools" if self.calls else "end")


def reply_of(row: Mapping[str, Any]) -> Reply:
    """A reply from a line of a script: the names of its fields; calls and usage are objects."""
    values = dict(row)
    values["calls"] = tuple(
        Call(call.get("id", f"call_{number}"), call["name"], call["arguments"])
        for number, call in enumerate(values.get("calls", ()), start=1)
    )
    if values.get("usage") is not None:
        values["usage"] = Usage(**values["usage"])
    return Reply(**values)


def arguments_of(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _pieces(text: str) -> Iterator[str]:
    step = max(PIECE, len(text) // 50)
    for start in range(0, len(text), step):
        yield text[start : start + step]


def error_json(wire: Wire, kind: str, words: str) -> Json:
    if wire == "messages":
        return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
    return {"error": {"type": kind, "message": words, "code": kind, "param": None}}


def whole(wire: Wire, reply: Reply, asked: Json, number: int) -> Json:
    """The answer as one JSON object."""
    make = {"messages": _message, "responses": _response, "chat": _completion}[wire]
    return make(reply, asked, number)


def events(wire: Wire, reply: Reply, asked: Json, number: int) -> list[bytes]:
    """The answer as server-sent events."""
    make = {"messages": _message_events, "responses": _response_events, "chat": _completion_events}[wire]
    made = list(make(reply, asked, number))
    if reply.unended:
        made = made[: -3 if wire == "chat" else -2]
    if reply.error:
        made = [*made[: len(made) // 2], _failed(wire, reply)]
    if wire == "chat":
        return [
            *(b"data: " + json.dumps(one).encode() + b"\n\n" for one in made),
            *([b"data: [DONE]\n\n"] * (not reply.unended)),
        ]
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in made]


def _failed(wire: Wire, reply: Reply) -> Json:
    if wire == "responses":
        return {"type": "error", "code": reply.kind, "message": reply.error, "param": None, "sequence_number": 99}
    return error_json(wire, reply.kind, reply.error)


# ---- Messages

_MESSAGE_STOP = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refused": "refusal"}


def _blocks(reply: Reply) -> list[Json]:
    blocks: list[Json] = []
    if reply.thinking:
        blocks.append({"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"})
    if reply.words:
        blocks.append({"type": "text", "text": reply.words})
    for call in reply.calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
    return blocks


def _message_usage(usage: Usage | None) -> Json:
    if usage is None:
        return {}
    return {
        "input_tokens": usage.input,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write,
        "output_tokens": usage.output,
    }


def _message(reply: Reply, asked: Json, number: int) -> Json:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": asked.get("model", ""),
        "content": _blocks(reply),
        "stop_reason": _MESSAGE_STOP[reply.stopped],
        "stop_sequence": None,
        "usage": _message_usage(reply.usage),  # none is an empty object, which says nothing
    }


def _message_events(reply: Reply, asked: Json, number: int) -> Iterator[Json]:
    start = _message(reply, asked, number) | {"content": [], "stop_reason": None}
    if reply.usage is not None:
        start["usage"] |= {"output_tokens": min(1, reply.usage.output)}
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(_blocks(reply)):
        empty, deltas = _message_deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": _MESSAGE_STOP[reply.stopped], "stop_sequence": None},
        "usage": _message_usage(reply.usage),
    }
    yield {"type": "message_stop"}


def _message_deltas(block: Json) -> tuple[Json, list[Json]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return block | {"thinking": "", "signature": ""}, [*deltas, signed]
    if block["type"] == "text":
        return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
    written = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(written)]]
    return block | {"input": {}}, deltas


# ---- Responses


def _items(reply: Reply, number: int) -> list[Json]:
    items: list[Json] = []
    if reply.thinking:
        summary = [{"type": "summary_text", "text": reply.thinking}]
        items.append(
            {"type": "reasoning", "id": f"rs_{number}", "summary": summary, "encrypted_content": "ZW5jcnlwdGVk"}
        )
    if reply.words:
        part: Json = {"type": "output_text", "text": reply.words, "annotations": [], "logprobs": []}
        if reply.stopped == "refused":
            part = {"type": "refusal", "refusal": reply.words}
        items.append(
            {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [part]}
        )
    for place, call in enumerate(reply.calls, start=1):
        space, _, name = call.name.rpartition("/")  # a tool of a server that the client knows has both
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{number}_{place}",
                "call_id": call.id,
                "name": name,
                **({"namespace": space} if space else {}),
                "arguments": arguments_of(call),
                "status": "completed",
            }
        )
    return items


def _response(reply: Reply, asked: Json, number: int) -> Json:
    usage = None
    if reply.usage is not None:
        told = reply.usage.input + reply.usage.cache_read + reply.usage.cache_write
        usage = {
            "input_tokens": told,
            "input_tokens_details": {
                "cached_tokens": reply.usage.cache_read,
                "cache_write_tokens": reply.usage.cache_write,
            },
            "output_tokens": reply.usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told + reply.usage.output,
        }
    long = reply.stopped == "length"
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": asked.get("model", ""),
        "status": "incomplete" if long else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if long else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "output": _items(reply, number),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked.get("tools", []),
        "top_p": 1.0,
        "store": bool(asked.get("store", True)),
        "usage": usage,
    }


def _response_events(reply: Reply, asked: Json, number: int) -> Iterator[Json]:
    done = _response(reply, asked, number)
    began = done | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    made: list[Json] = [
        {"type": "response.created", "response": began},
        {"type": "response.in_progress", "response": began},
    ]
    for index, item in enumerate(done["output"]):
        made += _item_events(index, item)
    last = "response.incomplete" if done["status"] == "incomplete" else "response.completed"
    made.append({"type": last, "response": done})
    for place, event in enumerate(made):
        yield event | {"sequence_number": place}


def _item_events(index: int, item: Json) -> Sequence[Json]:
    at = {"item_id": item["id"], "output_index": index}
    empty = {"message": {"content": []}, "function_call": {"arguments": ""}, "reasoning": {"summary": []}}
    made: list[Json] = [
        {
            "type": "response.output_item.added",
            "output_index": index,
            "item": item | empty[item["type"]] | ({} if item["type"] == "reasoning" else {"status": "in_progress"}),
        }
    ]
    if item["type"] == "message":
        for place, part in enumerate(item["content"]):
            made += _part_events(at | {"content_index": place}, part)
    elif item["type"] == "function_call":
        kind = "response.function_call_arguments"
        made += [at | {"type": f"{kind}.delta", "delta": piece} for piece in _pieces(item["arguments"])]
        made.append(at | {"type": f"{kind}.done", "arguments": item["arguments"], "name": item["name"]})
    else:
        made += _summary_events(at | {"summary_index": 0}, item["summary"][0])
    return [*made, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _part_events(at: Json, part: Json) -> Iterator[Json]:
    field_, kind = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
    extra = {} if field_ == "refusal" else {"logprobs": []}
    yield at | {"type": "response.content_part.added", "part": part | {field_: ""}}
    for piece in _pieces(part[field_]):
        yield at | extra | {"type": f"response.{kind}.delta", "delta": piece}
    yield at | extra | {"type": f"response.{kind}.done", field_: part[field_]}
    yield at | {"type": "response.content_part.done", "part": part}


def _summary_events(at: Json, part: Json) -> Iterator[Json]:
    kind = "response.reasoning_summary"
    yield at | {"type": f"{kind}_part.added", "part": part | {"text": ""}}
    for piece in _pieces(part["text"]):
        yield at | {"type": f"{kind}_text.delta", "delta": piece}
    yield at | {"type": f"{kind}_text.done", "text": part["text"]}
    yield at | {"type": f"{kind}_part.done", "part": part}


# ---- Chat completions

_FINISH = {"end": "stop", "tools": "tool_calls", "length": "length", "refused": "content_filter"}


def _chat_usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    told = usage.input + usage.cache_read + usage.cache_write
    return {
        "prompt_tokens": told,
        "completion_tokens": usage.output,
        "total_tokens": told + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    }


def _chat_calls(reply: Reply) -> list[Json]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}
        for call in reply.calls
    ]


def _completion(reply: Reply, asked: Json, number: int) -> Json:
    message: Json = {"role": "assistant", "content": reply.words or None}
    if reply.calls:
        message["tool_calls"] = _chat_calls(reply)
    made: Json = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.get("model", ""),
        "choices": [{"index": 0, "message": message, "finish_reason": _FINISH[reply.stopped], "logprobs": None}],
    }
    return made if reply.usage is None else made | {"usage": _chat_usage(reply.usage)}


def _completion_events(reply: Reply, asked: Json, number: int) -> Iterator[Json]:
    head = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": asked.get("model", ""),
    }

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(reply.thinking):
        yield chunk({"reasoning_content": piece})
    for piece in _pieces(reply.words):
        yield chunk({"content": piece})
    for place, call in enumerate(_chat_calls(reply)):
        written = call["function"]["arguments"]
        opened = call | {"function": call["function"] | {"arguments": ""}}
        yield chunk({"tool_calls": [opened | {"index": place}]})
        for piece in _pieces(written):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    yield chunk({}, _FINISH[reply.stopped])
    if reply.usage is not None and (asked.get("stream_options") or {}).get("include_usage"):
        yield head | {"choices": [], "usage": _chat_usage(reply.usage)}

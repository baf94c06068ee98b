"""How an idea came to be: its conversations with language models, call by call, as data and in words.

Takes the store's rows, which are redacted; what models and tools said is shown as data, without terminal escapes.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from agent.errors import UserError
from agent.records import Proposal
from agent.store import Reads, talks
from agent.words import plain

MOST = 1_000_000  # characters of one text


def transcript(reads: Reads, proposal: Proposal) -> list[dict[str, Any]]:
    """Every conversation behind a proposal or about it, with its calls."""
    found = [
        {**asdict(one), "calls": [asdict(call) for call in talks.calls_of(reads, one.id)]}
        for one in talks.conversations_of(reads, proposal.id)
    ]
    if not found:
        raise UserError(f"p{proposal.id} came of no conversation: its planner is {proposal.planner or 'nobody'}")
    return found


def transcript_words(conversations: list[dict[str, Any]]) -> str:
    return "\n".join(line for one in conversations for line in _conversation(one))


def _conversation(one: dict[str, Any]) -> Iterator[str]:
    mode = f", {one['mode']}" if one["mode"] else ""
    yield f"=== {one['what']} with {plain(one['planner'])}{mode}, {one['created']}"
    for number, call in enumerate(one["calls"], 1):
        yield from _call(number, call)
    yield f"=== {plain(one['outcome'], limit=MOST) or 'not ended'}"
    yield ""


def _call(number: int, call: dict[str, Any]) -> Iterator[str]:
    said = call["transcript"]
    question, answer = said.get("question", {}), said.get("answer")
    if question.get("system"):
        yield from _block("system", "\n".join(question["system"]))
        yield f"--- tools: {', '.join(question.get('tools', [])) or 'none'}"
    for message in question.get("messages", []):
        yield from _message(message)
    yield f"--- call {number} of {plain(call['model'])}: {_cost(call)}"
    if call["error"]:
        yield f"    failed: {plain(call['error'], limit=MOST)}"
    if answer is not None:
        yield from _said(answer)


def _message(message: dict[str, Any]) -> Iterator[str]:
    if "prompt" in message:
        yield from _block("prompt", "\n".join(message["prompt"]))
    for result in message.get("results", []):
        yield from _block("failed" if result["failed"] else "result", result["text"])
    # What the model said before is its earlier call's answer.


def _said(answer: dict[str, Any]) -> Iterator[str]:
    if answer["text"]:
        yield from _block("said", answer["text"])
    for call in answer["calls"]:
        arguments = call["arguments"]
        if isinstance(arguments, str):
            yield from _block(f"calls {plain(call['name'])} with what is no JSON object", arguments)
            continue
        yield from _block(f"calls {plain(call['name'])}", "\n".join(f"{name}: {arguments[name]}" for name in arguments))


def _block(title: str, text: str) -> Iterator[str]:
    yield f"--- {title}"
    yield from (f"    {line}" for line in plain(text, limit=MOST).splitlines())


def _cost(call: dict[str, Any]) -> str:
    if call["input_tokens"] is None:
        return str(call["state"])
    read, written = call["cache_read_tokens"] or 0, call["cache_write_tokens"] or 0
    asked = f"{call['input_tokens'] + read + written:,} tokens asked ({read:,} from the cache)"
    usd = "no price known" if call["usd"] is None else f"{call['usd']:.4f} $"
    return f"{call['state']}, {asked}, {call['output_tokens'] or 0:,} answered, {usd}"

"""Anthropic's wire: what is cached, how it thinks, how tokens are counted."""

import json
from dataclasses import replace

import pytest

from agent.llm import ModelError, Part, Prompt, Question, Result, Results, Said, Usage
from agent.llm.anthropic import Anthropic
from tests.asking import FIND, KEY, QUESTION, model
from tests.standin import Reply, standin

LONG = "word " * 400


def marked(question: Question, **more: object) -> list[str]:
    """The first words of the blocks with a breakpoint, in order."""
    with standin([Reply("ok")]) as there:
        model("messages", there.url, **more).ask(question, None)
        body = there.asked[0].body
    blocks = [*body["system"], *(block for message in body["messages"] for block in message["content"])]
    assert all("cache_control" not in tool for tool in body.get("tools", []))
    found = [block for block in blocks if "cache_control" in block]
    assert all(block["cache_control"] == {"type": "ephemeral"} for block in found)
    return [str(block.get("text", block.get("content"))).split()[0] for block in found]


def part(name: str, stable: bool = True) -> Part:
    return Part(f"{name} {LONG}", stable)


def test_stable_ends_and_the_moving_end_are_marked() -> None:
    question = Question((part("rules"), part("state", False)), (Prompt((part("head"), part("now", False))),), (FIND,))
    assert marked(question) == ["rules", "head", "now"]
    later = replace(
        question,
        messages=(
            *question.messages,
            Said("hm"),
            Prompt((part("more", False),)),
            Said("yes"),
            Results((Result("c", "it"),)),
        ),
    )
    assert marked(later) == ["rules", "head", "more", "it"]


def test_of_too_many_ends_the_first_and_the_last_are_marked() -> None:
    system = tuple(part(name) for name in ("a", "b", "c", "d"))
    question = Question(system, (Prompt((part("e"), part("now", False))),), (FIND,))
    assert marked(question) == ["a", "d", "e", "now"]


def test_a_single_question_pays_for_no_cache_that_nobody_reads() -> None:
    question = Question((part("rules"), part("state", False)), (Prompt((part("now", False),)),))
    assert marked(question) == ["rules"]
    assert marked(replace(question, system=(part("rules", False),))) == []


def test_what_is_too_short_for_the_cache_takes_no_breakpoint() -> None:
    system = (Part("short", stable=True), part("rules"), *(part(name) for name in ("b", "c")))
    question = Question(system, (Prompt((part("now", False),)),), (FIND,))
    assert marked(question, cached_from=1000) == ["rules", "b", "c", "now"]


def test_marks_do_not_change_what_is_kept_or_counted_twice() -> None:
    raw = {"messages": [{"type": "text", "text": "hm"}]}
    question = replace(QUESTION, messages=(*QUESTION.messages, Said("hm", (), raw), Prompt((Part("go"),))))
    marked(question)
    assert raw == {"messages": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("fields", "most", "sent"),
    [
        ({"thinking": 2048}, 4096, {"type": "enabled", "budget_tokens": 2048}),
        ({"thinking": 9000}, 4096, {"type": "enabled", "budget_tokens": 3072}),
        ({"thinking": 9000}, 2000, None),
        ({"thinking": 500}, 4096, None),
        ({"thinking": 9000, "adaptive": True}, 4096, {"type": "adaptive"}),
        ({}, 4096, None),
    ],
)
def test_how_it_is_told_to_think(fields: dict[str, int], most: int, sent: object) -> None:
    with standin([Reply("ok")]) as there:
        model("messages", there.url, **fields).ask(replace(QUESTION, max_output=most), None)
        body = there.asked[0].body
    assert body.get("thinking") == sent and body["max_tokens"] == most


def test_tokens_are_counted_by_the_provider() -> None:
    with standin(count=lambda body: 1234 if "tools" in body and "max_tokens" not in body else 1) as there:
        asked = model("messages", there.url)
        assert asked.counted(QUESTION) == 1234
        assert there.played == 0 and there.requests[0].path == "/v1/messages/count_tokens"
    refusal = Reply(status=429, error=f"later {KEY}", headers={"retry-after": "3"})
    with standin(count=lambda body: refusal) as there, pytest.raises(ModelError, match="fewer requests") as caught:
        model("messages", there.url).counted(QUESTION)
    assert (caught.value.retry_after, caught.value.billed) == (3, "nothing") and KEY not in str(caught.value)


def test_a_schema_is_words_of_the_prompt() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with standin([Reply('{"a": 1}')]) as there:
        model("messages", there.url).ask(replace(QUESTION, schema=schema, tools=()), None)
        body = there.asked[0].body
    assert json.dumps(schema) in body["system"][-1]["text"] and "tools" not in body


def test_usage_that_is_seen_before_a_fault_is_told() -> None:
    used = Usage(10, 20, 30, 40)
    with standin([Reply("words", usage=used, unended=True)]) as there, pytest.raises(ModelError) as caught:
        model("messages", there.url).ask(QUESTION, None)
    assert caught.value.usage == Usage(10, 20, 30, 1)


def test_an_answer_without_usage_is_no_answer() -> None:
    with standin([Reply("words", usage=None)]) as there, pytest.raises(ModelError, match="no usage") as caught:
        model("messages", there.url).ask(QUESTION, None)
    assert caught.value.billed == "unknown"


def test_its_name_is_what_a_person_writes() -> None:
    made = model("messages", "http://127.0.0.1:9")
    assert (made.name, made.tools, made.max_output) == ("anthropic:m-1", True, 8192) and isinstance(made, Anthropic)

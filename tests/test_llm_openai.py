"""OpenAI's wire: reasoning, caches, schemas, how tokens are counted."""

from dataclasses import replace
from typing import Any

import pytest

from agent.llm import ModelError, Part, Prompt, Tool, Usage
from tests.asking import QUESTION, model
from tests.standin import Reply, standin

CLOSED = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
OPEN = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}


def body_of(question: object = QUESTION, **more: object) -> dict[str, Any]:
    with standin([Reply("ok")]) as there:
        model("responses", there.url, **more).ask(question, None)  # type: ignore[arg-type]
        return there.asked[0].body


@pytest.mark.parametrize(("thinking", "effort"), [(1000, "low"), (8192, "medium"), (20_000, "high")])
def test_how_hard_it_reasons(thinking: int, effort: str) -> None:
    body = body_of(thinking=thinking)
    assert body["reasoning"] == {"effort": effort} and body["include"] == ["reasoning.encrypted_content"]


def test_a_model_that_does_not_reason_is_asked_for_no_reasoning() -> None:
    body = body_of()
    assert "reasoning" not in body and "include" not in body and body["store"] is False


def test_questions_with_the_same_beginning_share_a_cache() -> None:
    first = body_of()["prompt_cache_key"]
    other_end = replace(QUESTION, messages=(Prompt((Part("Something else"),)),))
    other_beginning = replace(QUESTION, system=(Part("You are careless.", stable=True),))
    assert body_of(other_end)["prompt_cache_key"] == first != body_of(other_beginning)["prompt_cache_key"]
    assert len(first) <= 64


def test_a_schema_is_a_field_and_strict_where_it_can_be() -> None:
    for schema, strict in ((CLOSED, True), (OPEN, False), ({"type": "object", "properties": {"x": OPEN}}, False)):
        body = body_of(replace(QUESTION, schema=schema, tools=()))
        assert body["text"]["format"] == {"type": "json_schema", "name": "answer", "schema": schema, "strict": strict}
    tools = (Tool("a", "x", CLOSED), Tool("b", "y", OPEN))
    assert [one["strict"] for one in body_of(replace(QUESTION, tools=tools))["tools"]] == [True, False]


def test_tokens_are_counted_by_the_provider() -> None:
    with standin(count=lambda body: 77 if body["instructions"] and body["tools"] else 1) as there:
        assert model("responses", there.url, thinking=8192).counted(QUESTION) == 77
        sent = there.requests[0]
    assert sent.path == "/v1/responses/input_tokens" and "max_output_tokens" not in sent.body
    refusal = Reply(status=404, error="no such path")
    with standin(count=lambda body: refusal) as there, pytest.raises(ModelError, match="knows no model"):
        model("responses", there.url).counted(QUESTION)


def test_a_failed_response_says_why_and_what_it_used() -> None:
    def failing(body: dict[str, object]) -> Reply:
        return Reply("half", error="the server had an error", kind="server_error", usage=Usage(5, 0, 0, 6))

    with standin(failing) as there, pytest.raises(ModelError, match="the server had an error") as caught:
        model("responses", there.url).ask(QUESTION, None)
    assert caught.value.billed == "unknown"


def test_an_answer_without_usage_is_no_answer() -> None:
    with standin([Reply("words", usage=None)]) as there, pytest.raises(ModelError, match="no usage") as caught:
        model("responses", there.url).ask(QUESTION, None)
    assert caught.value.billed == "unknown"

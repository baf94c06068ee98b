"""Chat completions at any address: servers without tools, without schemas, without usage, without a key."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.llm import Call, ModelError, Part, Prompt, Usage
from tests.asking import KEY, QUESTION, model
from tests.standin import Reply, Seen, standin
from tests.wire_replies import raw_server

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def seen_of(question: Any = QUESTION, server: dict[str, Any] | None = None, **more: Any) -> Seen:
    with standin([Reply("ok")]) as there:
        model("chat", there.url, server, **more).ask(question, None)
        return there.asked[0]


def streamed(*chunks: dict[str, Any]) -> bytes:
    body = b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in chunks) + b"data: [DONE]\n\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def test_tools_may_be_off() -> None:
    body = seen_of(tools=False).body
    assert "tools" not in body and model("chat", "http://x", tools=False).tools is False


def test_a_schema_is_words_or_a_field() -> None:
    asked = replace(QUESTION, schema=SCHEMA, tools=())
    body = seen_of(asked, tools=False).body
    assert json.dumps(SCHEMA) in body["messages"][0]["content"] and "response_format" not in body
    body = seen_of(asked, tools=False, json_schema=True).body
    held = {"name": "answer", "schema": SCHEMA, "strict": False}
    assert body["response_format"] == {"type": "json_schema", "json_schema": held}
    assert json.dumps(SCHEMA) not in body["messages"][0]["content"]


def test_prompts_that_follow_one_another_are_one_turn() -> None:
    question = replace(QUESTION, messages=(*QUESTION.messages, Prompt((Part("And then?"),))))
    assert [one["content"] for one in seen_of(question).body["messages"][1:]] == ["What now?\n\nAnd then?"]


def test_usage_that_nobody_reports_is_estimated_upwards() -> None:
    with standin([Reply("ä" * 100, (Call("c", "find", {"run": "r1"}),), usage=None, thinking="hm" * 50)]) as there:
        asked = model("chat", there.url)
        answer = asked.ask(QUESTION, None)
        assert there.asked[0].body["stream_options"] == {"include_usage": True}
    assert answer.usage.input == asked.most_input(QUESTION) > len(json.dumps(there.asked[0].body))
    assert 200 + 100 + len('{"run": "r1"}') < answer.usage.output < 400
    with standin([Reply("ä" * 100, usage=None)]) as there:
        assert model("chat", there.url).ask(replace(QUESTION, max_output=64), None).usage.output == 64


def test_what_is_for_openai_goes_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: gate-secret\nAuthorization: Bearer env-secret")
    for key in ("", KEY):
        headers = seen_of(server={"key": key}).headers
        assert not [value for value in headers.values() if "secret" in value or "openai-only" in value]
        assert headers.get("authorization") == (f"Bearer {KEY}" if key else None)


def test_a_server_that_wants_a_key_says_where_it_goes() -> None:
    with standin([], key="another") as there, pytest.raises(ModelError, match=r"put it into .* THE_KEY") as caught:
        model("chat", there.url, {"key": ""}).ask(QUESTION, None)
    assert caught.value.lasting


def test_calls_that_a_server_counts_wrongly_stay_apart() -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}

    def call(id_: str, name: str, written: object, **more: Any) -> dict[str, Any]:
        return {"id": id_, "type": "function", "function": {"name": name, "arguments": written}, **more}

    answer = streamed(
        delta(tool_calls=[call("a", "find", '{"run": "r1"}', index=0)]),
        delta(tool_calls=[call("b", "find", '{"run": "r2"}', index=0)]),  # the second is called the first again
        delta(tool_calls=[call("", "find", {"run": "r3"})]),  # no index, no id, no text
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    with raw_server([answer]) as url:
        got = model("chat", url).ask(QUESTION, None)
    assert [call.arguments for call in got.said.calls] == [{"run": "r1"}, {"run": "r2"}, {"run": "r3"}]
    assert len({call.id for call in got.said.calls}) == 3 and got.stop == "tools"


def test_usage_in_every_piece_is_known_only_at_the_end() -> None:
    piece = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], "usage": {"prompt_tokens": 5}}
    with raw_server([streamed(piece)]) as url, pytest.raises(ModelError, match="broke") as caught:
        model("chat", url).ask(QUESTION, None)
    assert (caught.value.billed, caught.value.usage) == ("unknown", Usage(5))


def test_its_name_is_what_a_person_writes() -> None:
    assert model("chat", "http://127.0.0.1:9").name == "openai-compatible:m-1@http://127.0.0.1:9/v1"
    assert model("chat", "http://127.0.0.1:9").counted(QUESTION) is None

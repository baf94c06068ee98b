"""What holds for every provider: what it is told, and what an answer is. What goes wrong: test_llm_wire_failures.py."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from agent.llm import Call, ModelError, Part, Prompt, Result, Results, Said, Usage
from tests import standin_wires
from tests.asking import KEY, PRICE, QUESTION, WIRES, model
from tests.standin import Reply, results, standin, told, tools
from tests.standin_wires import Wire
from tests.wire_replies import ask, failure

USED = Usage(input=1000, output=50)
pytestmark = pytest.mark.parametrize("wire", WIRES)


def test_an_answer_is_its_words_calls_usage_and_price(wire: str) -> None:
    calls = (Call("c1", "find", {"run": "r1 é"}), Call("c2", "find", {"run": "r2", "deep": [{"a": None}]}))
    reply = Reply("Let me look. " * 20, calls, Usage(700, 200, 100, 50))
    answer = ask(wire, reply)
    assert (answer.said.text, answer.said.calls, answer.stop) == (reply.text, calls, "tools")
    expected = Usage(800, 200, 0, 50) if wire == "chat" else Usage(700, 200, 100, 50)  # chat does not tell of writes
    assert answer.usage == expected
    assert PRICE.of(Usage(700, 200, 100, 50)) == pytest.approx((700 * 3 + 200 * 0.3 + 100 * 3.75 + 50 * 15) / 1e6)


@pytest.mark.parametrize("count", [0, -5, 10**30, 10**400, 9e18], ids=["0", "-5", "1e30", "1e400", "9e18"])
def test_a_report_that_can_be_none_is_none(wire: str, count: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is free, or of a size that no ledger holds, because a server counts wrongly."""
    names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
    for name in ("_message_usage", "_chat_usage"):
        monkeypatch.setattr(standin_wires, name, lambda usage: dict.fromkeys(names, count))
    reply = Reply("Fine.", usage=Usage(count, output=count) if wire == "responses" else USED)  # type: ignore[arg-type]
    if wire == "chat":
        usage = ask(wire, reply).usage
        assert len("What now?") < usage.input < 10_000 and len("Fine.") < usage.output <= 4096
    else:
        assert failure(wire, reply).billed == "unknown"


def test_counts_may_be_written_as_floats(wire: str) -> None:
    reply = Reply("Fine.", usage=Usage(700.0, output=50.0))  # type: ignore[arg-type]
    assert ask(wire, reply).usage == Usage(700, output=50)


def test_the_server_is_told_all_of_the_question(wire: str) -> None:
    with standin([Reply("Fine.")]) as there:
        model(wire, there.url).ask(QUESTION, None)
        [seen] = there.asked
    assert told(seen.body).replace("\n\n", "\n").split("\n") == ["You are careful.", "Be short.", "What now?"]
    assert tools(seen.body) == ["find"] and seen.body["stream"] and "temperature" not in seen.body
    names = {"messages": "max_tokens", "responses": "max_output_tokens", "chat": "max_tokens"}
    assert seen.body[names[wire]] == 4096
    assert seen.headers["accept-encoding"] == "identity"
    assert KEY in seen.headers.get("x-api-key", seen.headers.get("authorization", ""))


def test_a_conversation_goes_back_as_it_came(wire: str) -> None:
    calls = (Call("c1", "find", {"run": "r1"}), Call("c2", "find", '{"run": '))  # the second is no JSON
    with standin([Reply("Looking.", calls, thinking="hm, r1"), Reply("Done.")]) as there:
        asked = model(wire, there.url)
        first = asked.ask(QUESTION, None)
        assert first.said.calls == calls
        kept = replace(first.said, raw=json.loads(json.dumps(first.said.raw)))  # as the store keeps it
        answered = Results((Result("c1", "it was r1"), Result("c2", "not JSON", failed=True)))
        more = replace(QUESTION, messages=(*QUESTION.messages, kept, answered, Prompt((Part("Go on."),))))
        assert asked.ask(more, None).said.text == "Done."
        body = there.asked[1].body
    assert len(results(body)) == 2 and results(body)[0] == "it was r1" and "not JSON" in results(body)[1]
    assert told(body).endswith("Go on.")
    sent = json.dumps(body)
    if wire == "messages":
        block = {"type": "thinking", "thinking": "hm, r1", "signature": "c2lnbmVk"}
        assert body["messages"][1]["content"][0] == block
        assert body["messages"][1]["content"][3]["input"] == {"INVALID_JSON": '{"run": '}
        assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    elif wire == "responses":
        assert '"encrypted_content": "ZW5jcnlwdGVk"' in sent and body["store"] is False
        assert [one["call_id"] for one in body["input"] if one.get("type") == "function_call"] == ["c1", "c2"]
    else:
        roles = [one["role"] for one in body["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "tool", "user"]
        assert [json.loads(c["function"]["arguments"]) for c in body["messages"][2]["tool_calls"]] == [
            {"run": "r1"},
            {"INVALID_JSON": '{"run": '},
        ]


def test_what_another_model_said_goes_back_as_words_and_calls(wire: str) -> None:
    said = Said("I looked.", (Call("x1", "find", {"run": "r9"}),), {"another": ["form"]})
    question = replace(QUESTION, messages=(*QUESTION.messages, said, Results((Result("x1", "r9 it is"),))))
    with standin([Reply("Good.")]) as there:
        model(wire, there.url).ask(question, None)
        sent = json.dumps(there.asked[0].body)
    assert "I looked." in sent and "r9 it is" in sent and "x1" in sent and "another" not in sent


@pytest.mark.parametrize(
    "written",
    ['{"a": NaN}', "[1]", "null", "{" * 5000, '{"a": ' + "[" * 70 + "]" * 70 + "}", '{"n": ' + "9" * 5000 + "}"],
    ids=("nan", "list", "null", "open", "deep", "long"),
)
def test_arguments_that_are_no_plain_object_stay_text(wire: str, written: str) -> None:
    assert ask(wire, Reply("", (Call("c1", "find", written),))).said.calls == (Call("c1", "find", written),)


def test_half_characters_are_mended(wire: str) -> None:
    answer = ask(wire, Reply("a\ud800b 😀", (Call("c1", "find", '{"x": "\\ud800"}'),)))
    assert answer.said.text == "a\ufffdb 😀" and answer.said.calls[0].arguments == {"x": "\ufffd"}
    json.dumps(answer.said.raw, ensure_ascii=False).encode()
    again = replace(
        QUESTION, messages=(Prompt((Part("mine: \udcff"),)), answer.said, Results((Result("c1", "\ud800"),)))
    )
    assert ask(wire, Reply("ok"), again).said.text == "ok"


@pytest.mark.parametrize("stop", ["length", "refused"])
def test_why_it_stopped(wire: str, stop: str) -> None:
    answer = ask(wire, Reply("I can", stop=stop))  # type: ignore[arg-type]
    assert (answer.stop, answer.said.text) == (stop, "I can")


def test_an_answer_cut_by_its_length_before_a_word_can_be_followed(wire: str) -> None:
    answer = ask(wire, Reply(thinking="hm", stop="length"))
    assert (answer.stop, answer.said.text) == ("length", "")
    more = replace(QUESTION, messages=(*QUESTION.messages, answer.said, Prompt((Part("Shorter."),))))
    with standin([Reply("ok")]) as there:
        model(wire, there.url).ask(more, None)
        sent = json.dumps(there.asked[0].body)
    assert "thinking" not in sent and 'encrypted_content": ' not in sent


def test_the_most_that_a_question_can_be_is_more_than_its_bytes(wire: str) -> None:
    words = '数字 🙂 \n"quoted"\t' * 500
    raw = Said(words, (Call("c1", "find", {"run": words}),))
    question = replace(
        QUESTION, messages=(Prompt((Part(words),)), raw, Results((Result("c1", words),))), tools=QUESTION.tools * 1
    )
    with standin([Reply("ok")]) as there:
        asked = model(wire, there.url)
        asked.ask(question, None)
        sent = json.dumps(there.asked[0].body, ensure_ascii=False, separators=(",", ":"))
    assert len(sent.encode()) < asked.most_input(question) < 2 * len(sent.encode())


def test_threads_may_share_a_model(wire: str) -> None:
    def echo(body: dict[str, object]) -> Reply:
        return Reply(told(body).split("\n")[-1])

    with standin(echo) as there, ThreadPoolExecutor(8) as pool:
        asked = model(wire, there.url)
        questions = [replace(QUESTION, messages=(Prompt((Part(f"number {n}"),)),)) for n in range(24)]
        answers = list(pool.map(lambda one: asked.ask(one, None), questions))
    assert [one.said.text for one in answers] == [f"number {n}" for n in range(24)]


def test_nothing_is_asked_twice_and_nothing_stays_behind(wire: str) -> None:
    before = threading.active_count()
    with standin([Reply(status=500, error="no"), Reply("second")]) as there:
        with pytest.raises(ModelError):
            model(wire, there.url).ask(QUESTION, None)
        assert len(there.requests) == 1
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_the_stand_in_answers_whole_too(wire: Wire) -> None:
    """The command-line clients ask for JSON at times: it says the same as the stream."""
    import httpx2

    paths = {"messages": "/v1/messages", "responses": "/v1/responses", "chat": "/v1/chat/completions"}
    with standin([Reply("hello", (Call("c1", "find", {"run": "r1"}),))], key=KEY) as there:
        refused = httpx2.post(there.url + paths[wire], json={"model": "m"})
        assert refused.status_code == 401 and there.played == 0
        headers = {"authorization": f"Bearer {KEY}"}
        got = httpx2.post(there.url + paths[wire], json={"model": "m"}, headers=headers).json()
    assert "hello" in json.dumps(got) and "find" in json.dumps(got)

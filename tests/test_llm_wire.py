"""What holds for every provider: answers, bounds, and failures in words, with what may have been billed."""

import email.utils
import json
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.errors import UserError
from agent.llm import Answer, Call, ModelError, Part, Prompt, Question, Result, Results, Said, Usage
from agent.llm.wire import MOST_BYTES
from tests import standin_wires
from tests.asking import KEY, PRICE, QUESTION, WIRES, model
from tests.standin import Reply, results, standin, told, tools
from tests.standin_wires import Wire

USED = Usage(input=1000, output=50)
pytestmark = pytest.mark.parametrize("wire", WIRES)


def ask(wire: str, reply: Reply, question: Question = QUESTION, **server: float) -> Answer:
    with standin([reply]) as there:
        return model(wire, there.url, server).ask(question, None)


def failure(wire: str, reply: Reply, **server: float) -> ModelError:
    """The error that a reply leads to. The key is nowhere in it, nor in what a crash log would print of it."""
    with pytest.raises(ModelError) as caught:
        ask(wire, reply, **server)
    error = caught.value
    shown = "".join(traceback.format_exception(error, chain=True)) + repr(error) + repr(error.__dict__)
    assert KEY not in shown and "Traceback" in shown
    assert error.__context__ is None and error.__cause__ is None
    return error


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


REFUSALS = {
    "bad key": (401, "authentication_error", f"invalid x-api-key {KEY}", "does not take the key in THE_KEY", True),
    "no right": (403, "permission_error", f"{KEY} may not", "the key in THE_KEY may not use m-1", True),
    "no model": (404, "not_found_error", "model: m-1", "knows no model 'm-1'", True),
    "credit": (400, "invalid_request_error", "Your credit balance is too low", "no credit is left", True),
    "quota": (429, "insufficient_quota", "You exceeded your current quota", "no credit is left", True),
    "too long": (400, "invalid_request_error", "prompt is too long: 210000 tokens", "too long for m-1", False),
    "no tools": (500, "server_error", "tools param requires --jinja flag", "set tools = false for m-1", True),
    "rate": (429, "rate_limit_error", f"slow down {KEY}", "fewer requests for now; it says: slow down [key]", False),
    "broken": (500, "api_error", "oops\x1b[31m\n red", "down (status 500); it says: oops [31m red", False),
    "busy": (529, "overloaded_error", "Overloaded", "overloaded or down (status 529)", False),
    "wrong": (422, "invalid_request_error", f"what is {KEY}?", "refuses the request (status 422)", False),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_the_fix_and_costs_nothing(wire: str, case: str) -> None:
    status, kind, said, words, lasting = REFUSALS[case]
    error = failure(wire, Reply(status=status, kind=kind, error=said))
    assert words in str(error)
    assert (error.billed, error.usage, error.lasting) == ("nothing", None, lasting)


def test_who_wants_us_to_wait_says_how_long(wire: str) -> None:
    at = email.utils.formatdate(time.time() + 60, usegmt=True)
    for headers, seconds in (
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": at}, 60),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e12"}, 86400),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ):
        error = failure(wire, Reply(status=429, kind="rate_limit_error", error="later", headers=headers))
        assert error.retry_after == (pytest.approx(seconds, abs=2) if seconds else seconds), headers


def test_a_body_of_an_error_may_be_anything(wire: str) -> None:
    for body in (
        b"<html>bad gateway</html>",
        b"",
        b'{"error": "plain words"}',
        b'{"error": [1]}',
        b"\xff\xfe",
        b"null",
    ):
        answer = b"HTTP/1.1 502 Bad\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        with (
            raw_server([answer]) as url,
            pytest.raises(ModelError, match=r"overloaded or down \(status 502\)") as caught,
        ):
            model(wire, url).ask(QUESTION, None)
        assert caught.value.billed == "nothing"


def test_an_error_in_the_middle_of_an_answer(wire: str) -> None:
    error = failure(wire, Reply("some words", error=f"Overloaded {KEY}", kind="overloaded_error"))
    assert "in the middle of an answer" in str(error) and "overloaded" in str(error)
    assert error.billed == "unknown" and not error.lasting
    assert error.usage == (Usage(input=100, output=1) if wire == "messages" else None)


@pytest.mark.parametrize("reply", [Reply("ab" * 200, cut_after=900), Reply("abc", unended=True)], ids=("cut", "ended"))
def test_a_stream_that_breaks_off(wire: str, reply: Reply) -> None:
    error = failure(wire, reply)
    assert "broke before the answer was whole" in str(error)
    assert error.billed == "unknown" and not error.lasting
    assert error.usage == (Usage(input=100, output=1) if wire == "messages" else None)


def test_silence_is_cut(wire: str) -> None:
    for reply in (Reply("ab" * 200, silent_after=900), Reply("late", wait_s=30)):
        start = time.monotonic()
        error = failure(wire, reply, silent_s=0.3)
        assert "said nothing for 0.3 s" in str(error) and error.billed == "unknown"
        assert time.monotonic() - start < 10


def test_a_slow_drip_is_cut_at_the_deadline(wire: str) -> None:
    start = time.monotonic()
    error = failure(wire, Reply("ab" * 200, drip_s=0.1), silent_s=5, answer_s=0.7)
    assert "took longer than 0.7 s" in str(error) and error.billed == "unknown"
    assert time.monotonic() - start < 10


def test_a_slow_drip_of_headers_is_cut_at_the_deadline(wire: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(1000))
    with raw_server([head[at : at + 4] for at in range(0, len(head), 4)], 0.1) as url:
        asked = model(wire, url, {"silent_s": 5, "answer_s": 0.7})
        with pytest.raises(ModelError, match=r"took longer than 0\.7 s") as caught:
            asked.ask(QUESTION, None)
    assert caught.value.billed == "unknown"


def test_json_that_is_none(wire: str) -> None:
    error = failure(wire, Reply("ab" * 200, broken=True))
    assert "is not in the documentation of" in str(error) and "THE_URL" in str(error) and error.billed == "unknown"


@pytest.mark.parametrize(
    "data",
    (
        "[1]",
        "null",
        '"x"',
        "{}",
        '{"type": 7}',
        "[" * 3000,
        '{"choices": [null]}',
        '{"choices": "x", "type": "response.completed"}',
        '{"choices": [{"delta": {"tool_calls": [3]}}]}',
        '{"choices": [{"delta": {"tool_calls": 3}, "finish_reason": "stop"}]}',
        '{"type": "content_block_delta", "index": 4, "delta": {}}',
        '{"type": "content_block_start", "index": "a"}',
        '{"type": "message_start", "message": 3}',
        '{"type": "message_stop"}',
        '{"type": "response.output_item.done", "item": 3}',
        '{"type": "response.failed", "response": {"status": "failed", "error": 3, "usage": 4}}',
        '{"type": "error", "error": {"message": 3}, "message": {}}',
    ),
    ids=range(17),
)
def test_events_of_any_shape_are_an_error_of_the_model(wire: str, data: str) -> None:
    kind = json.loads(data).get("type", "message_start") if data.startswith("{") else "message_start"
    body = f"event: {kind}\ndata: {data}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
    with raw_server([head + body]) as url, pytest.raises(ModelError) as caught:
        model(wire, url).ask(QUESTION, None)
    assert caught.value.billed == "unknown"


def test_a_server_that_does_not_stream_is_told_apart_from_a_cut(wire: str) -> None:
    body = b'{"hello": "there"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    with raw_server([head + body]) as url, pytest.raises(ModelError, match="no event of a stream"):
        model(wire, url).ask(QUESTION, None)


def test_an_answer_of_two_megabytes_is_taken_and_a_longer_one_cut(wire: str) -> None:
    assert len(ask(wire, Reply(pad=MOST_BYTES)).said.text) == MOST_BYTES
    error = failure(wire, Reply(pad=MOST_BYTES + 1))
    assert "more than 2,000,000 bytes" in str(error)
    error = failure(wire, Reply("", (Call("c", "find", "x" * (MOST_BYTES + 1)),)))
    assert "more than 2,000,000 bytes" in str(error) and error.billed != "nothing"


def test_an_endless_event_is_cut(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.llm.wire.MOST_WIRE_BYTES", 100_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: "
    with raw_server([head, *[b"x" * 10_000] * 1000]) as url, pytest.raises(ModelError, match="more than 100,000 bytes"):
        model(wire, url).ask(QUESTION, None)


def test_nothing_unfolds(wire: str) -> None:
    error = failure(wire, Reply("x", headers={"content-encoding": "gzip"}))
    assert "compressed" in str(error)


def test_an_empty_answer_is_an_error_that_was_billed(wire: str) -> None:
    for reply in (Reply("", usage=USED), Reply(" \n", usage=USED)):
        error = failure(wire, reply)
        assert "answered nothing" in str(error)
        assert (error.billed, error.usage, error.lasting) == ("known", USED, False)


def test_nobody_is_there(wire: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ModelError, match=f"can't reach {url}.*is it running, and THE_URL right") as caught:
        model(wire, url).ask(QUESTION, None)
    assert (caught.value.billed, caught.value.lasting) == ("nothing", False)


def test_nobody_takes_the_connection(wire: str) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]  # who waits fills the queue; more wait in vain
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.05)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with pytest.raises(ModelError, match=r"took no connection within 0\.3 s") as caught:
            model(wire, url, {"connect_s": 0.3}).ask(QUESTION, None)
        for one in waiting:
            one.close()
    assert caught.value.billed == "nothing"


def test_the_key_follows_no_redirect(wire: str) -> None:
    with standin([Reply("stolen")]) as thief:
        error = failure(wire, Reply(status=307, headers={"location": f"{thief.url}/v1/messages"}))
        assert thief.requests == []
    assert "sends requests on to" in str(error) and error.lasting and error.billed == "nothing"


def test_the_key_and_a_password_in_the_address_are_never_shown(wire: str) -> None:
    asked = model(wire, "http://me:hidden-word@127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        asked.ask(QUESTION, None)
    for text in (repr(asked), asked.name, str(caught.value)):
        assert KEY not in text
    assert "hidden-word" not in str(caught.value) + asked.name
    for key in ("sk-line\nbreak", "sk-ключ", "sk space"):
        with pytest.raises(UserError, match="THE_KEY holds characters") as refused:
            model(wire, "http://127.0.0.1:9", {"key": key})
        assert key not in str(refused.value)


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


@contextmanager
def raw_server(pieces: list[bytes], pause_s: float = 0.0) -> Iterator[str]:
    """Sends bytes as they are to whoever connects, once the request has come."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    head, _, body = request.partition(b"\r\n\r\n")
                    size = next(
                        int(row[15:]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")
                    )
                    while len(body) < size:
                        body += connection.recv(65536)
                    for piece in pieces:
                        if stop.wait(pause_s) if pause_s else stop.is_set():
                            return
                        connection.sendall(piece)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join(5)

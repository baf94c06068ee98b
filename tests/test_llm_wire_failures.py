"""What goes wrong at any provider: failures in words, bounds, no key in them, and what may have been billed."""

import email.utils
import json
import socket
import time

import pytest

from agent.errors import UserError
from agent.llm import Call, ModelError, Usage
from agent.llm.wire import MOST_BYTES
from tests.asking import KEY, QUESTION, WIRES, model
from tests.standin import Reply, standin
from tests.wire_replies import ask, failure, raw_server

USED = Usage(input=1000, output=50)
pytestmark = pytest.mark.parametrize("wire", WIRES)
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

"""The presets with the real `claude` and `codex`, against a stand-in of their providers: `make clis`.

They run only where no network can be reached, so that nothing they do can call out.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.llm import Answer, Call, ModelError, Part, Prompt, Question, Said, Usage, command
from agent.llm.claude import REQUESTS
from agent.llm.command import Command
from tests.clis import BIN, KEY, needs_clis
from tests.processes import mentioning
from tests.standin import Script, Standin, standin, told, tools
from tests.standin_wires import Reply

SCHEMA = {
    "type": "object",
    "properties": {"line": {"type": "string", "maxLength": 500}, "rhymes": {"type": "boolean", "default": False}},
    "required": ["line"],
    "additionalProperties": False,
}
SYSTEM, PROMPT, MARK = "You are a poet of few words.", "A line about autumn, please.", "a word of the person"
ASKED = Question((Part(SYSTEM),), (Prompt((Part(PROMPT),)),), max_output=4000)
IN_JSON = Question(ASKED.system, ASKED.messages, max_output=4000, schema=SCHEMA)
LINE = Call("toolu_1", "StructuredOutput", {"line": "Leaves.", "rhymes": False})
USED = Usage(input=120, cache_read=30, output=20)


pytestmark = needs_clis


@pytest.fixture(params=["claude", "codex"])
def cli(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Of a person who has instructions, hooks, servers and a model of their own."""
    touch = f"touch {tmp_path / 'hooked'}"
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "CLAUDE.md").write_text(MARK)
    hooks = {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": touch}]}]}
    (tmp_path / ".claude" / "settings.json").write_text(json.dumps({"hooks": hooks}))
    (tmp_path / ".claude.json").write_text(
        json.dumps({"mcpServers": {"theirs": {"command": "sh", "args": ["-c", touch]}}})
    )
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "AGENTS.md").write_text(MARK)
    servers = f'[mcp_servers.theirs]\ncommand = "sh"\nargs = ["-c", {json.dumps(touch)}]\n'
    (tmp_path / ".codex" / "config.toml").write_text(
        f'model = "theirs"\nnotify = ["sh", "-c", {json.dumps(touch)}]\n{servers}'
    )
    yield tmp_path
    assert not (tmp_path / "hooked").exists()


def made(cli: str, home: Path, server: Standin, timeout_s: float = 60.0, key: str = KEY) -> Command:
    environ = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "ANTHROPIC_API_KEY": key,
        "ANTHROPIC_BASE_URL": server.url,
        "OPENAI_API_KEY": key,
        "OPENAI_BASE_URL": f"{server.url}/v1",
    }
    model = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.1-codex"}[cli]
    given = {name: value for name, value in environ.items() if value}
    return command.make(f"{cli}:{model}", workspace=home, environ=given, timeout_s=timeout_s)


def holding_the_prompt(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and PROMPT.encode() in path.read_bytes()]


def ask(cli: str, home: Path, script: Script, question: Question = ASKED, **more: Any) -> tuple[Answer, Standin]:
    with standin(script) as server:
        return made(cli, home, server, **more).ask(question, 1.0), server


def fails(cli: str, home: Path, script: Script, question: Question = ASKED, **more: Any) -> tuple[ModelError, Standin]:
    with standin(script) as server, pytest.raises(ModelError) as caught:
        made(cli, home, server, **more).ask(question, 1.0)
    assert KEY not in str(caught.value)
    return caught.value, server


def test_it_answers_as_a_model_without_tools_and_leaves_nothing(cli: str, home: Path) -> None:
    answer, server = ask(cli, home, [Reply("Leaves.", usage=USED)])
    usd = answer.usage.usd
    assert answer == Answer(Said("Leaves."), Usage(120, 30, 0, 20, usd), "end")
    assert (usd is not None) == (cli == "claude")
    (seen,) = server.asked
    assert tools(seen.body) == []
    assert SYSTEM in told(seen.body)
    assert PROMPT in told(seen.body)
    assert MARK not in told(seen.body)
    assert KEY in (seen.headers.get("x-api-key"), seen.headers.get("authorization", "").removeprefix("Bearer "))
    assert [one.path for one in server.requests if not one.wire and one.method == "POST"] == []
    assert holding_the_prompt(home) == []
    assert mentioning(server.url) == []


def test_codex_uses_the_login_of_the_person_and_keeps_nothing_there(home: Path) -> None:
    (home / ".codex" / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": KEY}))
    answer, server = ask("codex", home, [Reply("Leaves.", usage=USED)], key="")
    assert answer.said.text == "Leaves."
    (seen,) = server.asked
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert (seen.body["model"], tools(seen.body)) == ("gpt-5.1-codex", [])
    assert holding_the_prompt(home) == []


def test_who_has_neither_key_nor_login_is_told_how_to_get_them(cli: str, home: Path) -> None:
    with standin([Reply("Leaves.")], key=KEY) as server, pytest.raises(ModelError) as caught:
        made(cli, home, server, key="").ask(ASKED, 1.0)
    assert {"claude": "claude auth login", "codex": "codex login"}[cli] in str(caught.value)
    assert (caught.value.lasting, caught.value.billed) == (True, "nothing")


def test_the_limits_that_it_takes_reach_the_provider(home: Path) -> None:
    _, server = ask("claude", home, [Reply("Leaves.")])
    (seen,) = server.asked
    assert seen.body["max_tokens"] == 4000
    assert "$0.5" in told(seen.body)


def test_claude_answers_in_json(home: Path) -> None:
    answer, server = ask("claude", home, [Reply(calls=(LINE,), usage=USED)], IN_JSON)
    assert json.loads(answer.said.text) == LINE.arguments
    assert (answer.usage.tokens, answer.stop) == (170, "end")
    (seen,) = server.asked
    assert tools(seen.body) == ["StructuredOutput"]


def test_claude_off_the_schema_is_not_asked_again(home: Path) -> None:
    for reply in (Reply("Only words."), Reply(calls=(Call("toolu_1", "StructuredOutput", {"line": 7}),))):
        error, server = fails("claude", home, [reply] * 9, IN_JSON)
        assert "did not fit the schema" in str(error)
        assert error.billed == "known"
        assert len(server.asked) == 1


def test_codex_answers_in_json(home: Path) -> None:
    answer, server = ask("codex", home, [Reply('{"line": "Leaves.", "rhymes": false}')], IN_JSON)
    assert json.loads(answer.said.text)["line"] == "Leaves."
    form = server.asked[0].body["text"]["format"]
    assert (form["type"], form["strict"]) == ("json_schema", True)
    assert form["schema"]["required"] == ["line", "rhymes"]


def test_no_more_is_sent_than_was_set_aside(cli: str, home: Path) -> None:
    requests = REQUESTS if cli == "claude" else 1
    for question, reply in ((ASKED, Reply("Leaves.")), (IN_JSON, Reply(calls=(LINE,)))):
        with standin([reply]) as server, suppress(ModelError):
            model = made(cli, home, server)
            model.ask(question, None)
        seen = server.asked[0]  # codex asks on after a tool that it doesn't know
        at_most = (model.most_input(question) - (requests - 1) * question.max_output) / requests
        assert len(json.dumps(seen.body)) < at_most


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_a_provider_that_refuses_is_asked_once(cli: str, home: Path, status: int) -> None:
    refusal = Reply(status=status, error="the stand-in says no", headers={"retry-after": "1"})
    error, server = fails(cli, home, [refusal] * 20)
    assert error.lasting == (status in (400, 401, 404))
    unsaid = cli == "codex" and status >= 500  # it speaks of high demand
    assert error.billed == ("unknown" if unsaid else "nothing")
    if (cli, status) != ("claude", 404):  # there it tries once more, without a stream
        assert len(server.asked) == 1


def test_a_refusal_of_the_model_and_an_answer_that_gets_too_long(home: Path) -> None:
    refused, _ = ask("claude", home, [Reply("No.", stop="refused", usage=USED)])
    assert (refused.stop, refused.usage.tokens) == ("refused", 170)
    with standin([Reply("On and on", stop="length", usage=Usage(input=900, output=4000))] * 20) as server:
        model = made("claude", home, server)
        answer = model.ask(ASKED, None)
    assert (answer.stop, answer.said.text) == ("length", "")
    assert answer.usage.tokens == 4900 * len(server.asked)
    assert answer.usage.tokens < model.most_input(ASKED) + ASKED.max_output


def test_claude_keeps_to_its_cap(home: Path) -> None:
    costly = Reply("On and on", stop="length", usage=Usage(input=1000, output=4000))
    with standin([costly] * 20) as server, pytest.raises(ModelError) as caught:
        made("claude", home, server).ask(ASKED, 0.15)
    usage = caught.value.usage
    assert caught.value.billed == "known"
    assert usage is not None
    assert usage.usd is not None
    assert 0.075 < usage.usd < 0.15
    assert "maximum budget" in str(caught.value)
    assert len(server.asked) == 2


@pytest.mark.parametrize("name", ["Bash", "Read", "exec_command", "shell"])
def test_a_tool_that_it_does_not_have_is_not_run(cli: str, home: Path, name: str) -> None:
    secret = home / "secret"
    secret.write_text("the person's secret")
    line = f"cat {secret}; touch {home / 'ran'}"
    call = Call("call_1", name, {"command": line, "cmd": line, "file_path": str(secret)})
    replies = [Reply(calls=(call,)), *[Reply("Done.")] * 5]
    with standin(replies) as server:
        try:
            made(cli, home, server).ask(ASKED, 1.0)
        except ModelError as error:
            assert error.billed == "known"
    assert server.asked
    assert not (home / "ran").exists()
    assert not any("the person's secret" in json.dumps(seen.body) for seen in server.requests)


def test_a_cut_or_broken_or_empty_answer_is_a_failure(cli: str, home: Path) -> None:
    broken = Reply("Leaves." * 99, broken=True)  # codex does without a piece of a stream
    for reply in (Reply("Leaves." * 99, cut_after=900), Reply(""), *([broken] if cli == "claude" else [])):
        error, server = fails(cli, home, [reply] * 20)
        assert not error.lasting
        assert len(server.asked) <= 4
        assert str(error).startswith(cli)


def test_a_provider_that_is_silent_is_left_in_time(cli: str, home: Path) -> None:
    began = time.monotonic()
    error, server = fails(cli, home, [Reply("Leaves.", silent_after=200)] * 20, timeout_s=3.0)
    assert time.monotonic() - began < 15
    assert error.billed == "unknown"
    assert mentioning(server.url) == []


def test_a_reply_of_two_megabytes_is_refused(cli: str, home: Path) -> None:
    error, _ = fails(cli, home, [Reply("Leaves.", pad=2_000_000)])
    assert "wrote more than" in str(error)
    assert error.billed == "unknown"
    answer, _ = ask(cli, home, [Reply("Leaves.", pad=500_000)])
    assert len(answer.said.text) == 500_000

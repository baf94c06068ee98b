"""claude and codex as models: what their programs write, as recorded, and what they are told."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.llm import Answer, ModelError, Question, Said, Usage, command
from agent.llm.codex import strict
from agent.llm.program import Ended
from agent.planner.idea import Idea
from tests.programs import ASKED, CLAUDE, CODEX, IN_JSON, environ, script

# ---- claude, as recorded
USED = {"inputTokens": 100, "outputTokens": 50, "cacheReadInputTokens": 30, "cacheCreationInputTokens": 20}
NO_USE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "num_turns": 1,
    "result": "A line.",
    "stop_reason": "end_turn",
    "session_id": "bc90b3e4-c1b4-456a-9a82-fe568ce9f561",
    "total_cost_usd": 0.001134,
    "usage": NO_USE | {"service_tier": "standard", "iterations": []},
    "modelUsage": {"claude-sonnet-4-5": USED | {"costUSD": 0.001134, "contextWindow": 200000}},
    "permission_denials": [],
    "terminal_reason": "completed",
}
CLAUDE_USAGE = Usage(input=100, cache_read=30, cache_write=20, output=50, usd=0.001134)


def claude(rc: int = 0, err: bytes = b"", question: Question = ASKED, **fields: object) -> Answer:
    out = json.dumps({**RESULT, **fields}).encode() + b"\n"
    return CLAUDE.answer(question, Ended("exited", rc, "", out, err))


def claude_fails(**fields: object) -> ModelError:
    with pytest.raises(ModelError) as caught:
        claude(rc=1, **{"is_error": True, **fields})  # type: ignore[arg-type]
    return caught.value


def test_claude_says_what_it_used() -> None:
    assert claude(new_field={"of": "tomorrow"}) == Answer(Said("A line."), CLAUDE_USAGE, "end")
    told = {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": "3", "cache_creation_input_tokens": True}
    assert claude(modelUsage={}, usage=told, total_cost_usd="much").usage == Usage(input=7, output=5)
    worst = Usage(input=CLAUDE.most_input(ASKED), output=ASKED.max_output)
    assert claude(modelUsage={}, total_cost_usd=1e300).usage == worst  # it says nothing that can be


def test_claude_answers_in_json_where_it_is_asked_to() -> None:
    answer = claude(question=IN_JSON, result="", structured_output={"line": "Süß"})
    assert answer.said.text == '{"line": "Süß"}'
    assert claude(question=IN_JSON, result="only words").said.text == "only words"


def test_claude_refuses_or_gets_too_long() -> None:
    assert claude(rc=1, is_error=True, stop_reason="refusal", result="no").stop == "refused"
    long = "API Error: Claude's response exceeded the 5000 output token maximum. To configure this behavior, set X."
    answer = claude(rc=1, is_error=True, stop_reason="stop_sequence", result=long)
    assert answer == Answer(Said(""), CLAUDE_USAGE, "length")


@pytest.mark.parametrize(
    ("status", "said", "lasting"),
    [
        (401, "Failed to authenticate. API Error: 401 invalid x-api-key", True),
        (404, "There's an issue with the selected model (nonsense).", True),
        (429, "API Error: Request rejected (429) · slow down", False),
        (529, "API Error: 529 Overloaded. This is a server-side issue, usually temporary", False),
    ],
)
def test_claude_refused_by_its_provider_is_not_billed(status: int, said: str, lasting: bool) -> None:
    error = claude_fails(api_error_status=status, result=said, modelUsage={}, total_cost_usd=0)
    assert (error.billed, error.lasting) == ("nothing", lasting)
    assert said.split(":")[0] in str(error)
    assert ("ANTHROPIC_API_KEY" in str(error)) == (status == 401)


def test_claude_not_logged_in_says_how_to() -> None:
    error = claude_fails(result="Not logged in · Please run /login", modelUsage={}, total_cost_usd=0)
    assert (error.billed, error.lasting) == ("nothing", True)
    assert "claude auth login" in str(error)


def test_claude_out_of_budget_or_off_the_schema_is_billed_as_it_says() -> None:
    over = claude_fails(subtype="error_max_budget_usd", errors=["Reached maximum budget ($1e-7)"], result=None)
    assert (over.billed, over.usage, over.lasting) == ("known", CLAUDE_USAGE, False)
    assert "Reached maximum budget ($1e-7). What is set aside" in str(over)
    off = claude_fails(subtype="error_max_turns", result=None)
    assert (off.billed, off.usage) == ("known", CLAUDE_USAGE)
    assert "did not fit the schema" in str(off)
    unknown = claude_fails(subtype="error_during_execution", modelUsage={}, result=None)
    assert unknown.billed == "unknown"


@pytest.mark.parametrize("out", [b"", b"\n", b"words", b"[]", b"{}", b"{" * 100_000, b"[" * 100_000])
def test_claude_says_what_nobody_understands(out: bytes) -> None:
    for rc, words in [(1, "exit code 1: error: unknown option '--x'"), (0, "no JSON that we know")]:
        with pytest.raises(ModelError, match=words) as caught:
            CLAUDE.answer(ASKED, Ended("exited", rc, "", out, b"\nerror: unknown option '--x'\n"))
        assert caught.value.billed == "unknown"
    with pytest.raises(ModelError, match="wrote more than"):
        CLAUDE.answer(ASKED, Ended("output", None, "", out, b""))


def test_claude_is_told_half_of_what_is_set_aside_and_never_the_prompt(tmp_path: Path) -> None:
    start = CLAUDE.start(IN_JSON, 3.0, tmp_path)
    argv = list(start.argv)
    assert argv[argv.index("--max-budget-usd") + 1] == "1.500000"
    assert argv[argv.index("--tools") + 1] == ""
    assert json.loads(argv[argv.index("--json-schema") + 1]) == IN_JSON.schema
    assert start.given == "A line, \n\nplease."
    assert Path(argv[argv.index("--system-prompt-file") + 1]).read_text() == "You are a poet."
    assert not any("please" in word or "poet" in word for word in argv)
    assert "--max-budget-usd" not in CLAUDE.start(ASKED, None, tmp_path).argv


# ---- codex, as recorded
LINES = [
    '{"type":"thread.started","thread_id":"01a22727-dea3-7221-8958-5c72623428b4"}',
    '{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata for `x` not found."}}',
    '{"type":"turn.started"}',
    '{"type":"item.completed","item":{"id":"item_1","type":"reasoning","text":"Hm."}}',
    '{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"At first."}}',
    '{"type":"item.completed","item":{"id":"item_3","type":"agent_message","text":"A line.","new":1}}',
    '{"type":"of.tomorrow","item":7}',
    '{"type":"turn.completed","usage":{"input_tokens":200,"cached_input_tokens":40,"cache_write_input_tokens":10,'
    '"output_tokens":60,"reasoning_output_tokens":10}}',
]
CODEX_USAGE = Usage(input=150, cache_read=40, cache_write=10, output=60)


def codex(lines: list[str], rc: int = 0, err: bytes = b"") -> Answer:
    return CODEX.answer(ASKED, Ended("exited", rc, "", "\n".join(lines).encode(), err))


def codex_fails(lines: list[str], rc: int = 1, err: bytes = b"") -> ModelError:
    with pytest.raises(ModelError) as caught:
        codex(lines, rc, err)
    return caught.value


def test_codex_answers_last_and_says_what_it_used() -> None:
    assert codex(LINES) == Answer(Said("A line."), CODEX_USAGE, "end")
    assert codex(["no JSON", "[]", *LINES]).said.text == "A line."
    worst = Usage(input=CODEX.most_input(ASKED), output=ASKED.max_output)
    assert codex([*LINES[:-1], '{"type":"turn.completed","usage":{}}']).usage == worst


def test_codex_that_answers_with_nothing_is_billed() -> None:
    silent = [text for text in LINES if "agent_message" not in text]
    error = codex_fails(silent, rc=0)
    assert (error.billed, error.usage) == ("known", CODEX_USAGE)


@pytest.mark.parametrize(
    ("said", "billed", "lasting"),
    [
        ("unexpected status 401 Unauthorized: no, url: http://127.0.0.1/v1/responses", "nothing", True),
        ("exceeded retry limit, last status: 429 Too Many Requests", "nothing", False),
        ('{"type": "error", "error": {"type": "x", "message": "no such field"}}', "nothing", True),
        ("We're currently experiencing high demand, which may cause temporary errors.", "unknown", False),
    ],
)
def test_codex_says_why_it_failed(said: str, billed: str, lasting: bool) -> None:
    failed = [{"type": "error", "message": said}, {"type": "turn.failed", "error": {"message": said}}]
    error = codex_fails([*LINES[:3], *map(json.dumps, failed)])
    assert (error.billed, error.lasting) == (billed, lasting)
    assert ("no such field" if said.startswith("{") else said.rstrip(".")) in str(error)
    assert ("OPENAI_API_KEY" in str(error)) == ("401" in said)


def test_codex_that_is_cut_off_may_have_been_billed() -> None:
    for lines in ([], LINES[:-1], LINES[:3], [LINES[0][:30]]):
        error = codex_fails(lines, rc=-9, err=b"its last words\n")
        assert error.billed == "unknown"
        assert "signal 9: its last words" in str(error)


def test_codex_is_told_no_prompt_and_gets_a_schema_that_openai_takes(tmp_path: Path) -> None:
    start = CODEX.start(IN_JSON, 3.0, tmp_path)
    argv = list(start.argv)
    assert argv[-1] == "-"
    assert not any("please" in word or "poet" in word for word in argv)
    schema = json.loads(Path(argv[argv.index("--output-schema") + 1]).read_text())
    assert (schema["required"], schema["additionalProperties"]) == (["line"], False)
    assert list(Path(argv[argv.index("--cd") + 1]).iterdir()) == []


def test_a_strict_schema_asks_for_every_field_and_keeps_their_names() -> None:
    made: Any = strict(Idea.model_json_schema())
    assert set(made["required"]) == set(Idea.model_fields)
    assert "default" not in json.dumps(made)
    assert "maxLength" not in json.dumps(made)
    assert made["properties"]["kind"]["enum"] == Idea.model_json_schema()["properties"]["kind"]["enum"]
    inner = {"type": "object", "properties": {"default": {"type": "string", "default": "x"}}}
    odd: Any = strict({"type": "object", "properties": {"enum": {"type": "array", "items": inner}}})
    assert odd["properties"]["enum"]["items"]["properties"] == {"default": {"type": "string"}}
    assert odd["properties"]["enum"]["items"]["required"] == ["default"]


def test_a_preset_gets_its_own_key_and_no_other(tmp_path: Path) -> None:
    for name in ("claude", "codex"):
        script(tmp_path, "import os, json, sys; print(json.dumps(dict(os.environ))); sys.exit(1)", name)
    where = environ(PATH=f"{tmp_path}:{os.environ['PATH']}", ANTHROPIC_API_KEY="anthropic", OPENAI_API_KEY="openai")
    ours = command.make("claude:some-model", workspace=tmp_path, environ=where)
    theirs = command.make("codex", workspace=tmp_path, environ=where)
    assert (ours.env["ANTHROPIC_API_KEY"], theirs.env["OPENAI_API_KEY"]) == ("anthropic", "openai")
    assert not {"OPENAI_API_KEY", "SOME_API_KEY", "OTHER"} & set(ours.env)
    assert not {"ANTHROPIC_API_KEY", "SOME_API_KEY", "OTHER"} & set(theirs.env)
    assert (ours.name, theirs.name) == ("command:claude:some-model", "command:codex")
    assert (ours.takes_cap, theirs.takes_cap) == (True, False)

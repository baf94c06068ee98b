"""The table of models: what ships, what a person says over it, and models made from their names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import MissingError, UserError
from agent.llm import Price
from agent.llm.anthropic import Anthropic
from agent.llm.compatible import Compatible
from agent.llm.config import SHIPPED, load, places
from agent.llm.make import make_model
from agent.llm.openai import OpenAI
from tests.asking import KEY, QUESTION
from tests.standin import Reply, standin

Say = Callable[..., dict[str, str]]
MINE = 'input = 4\noutput = 8\ndate = "2026-01"\n'


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Writes what a person says, at home or in the workspace; gives the environment."""

    def write(home: str = "", workspace: str = "", **environ: str) -> dict[str, str]:
        env = {"HOME": str(tmp_path / "home"), **environ}
        for path, text in zip(places(tmp_path, env), (home, workspace), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return env

    return write


def test_what_ships_has_prices_dates_and_limits(tmp_path: Path) -> None:
    config = load(tmp_path, {"HOME": str(tmp_path)})
    assert config.files == ("shipped",) and SHIPPED.is_file()
    for one in config.models:
        assert one.price is not None and one.price.date.startswith("202") and one.price_from == "shipped"
        assert one.price.cache_read < one.price.input <= one.price.cache_write < one.price.output
        assert one.max_output < one.context and one.cached_from >= 512 and one.cache_s >= 300
    sonnet = config.model("anthropic", "claude-sonnet-4-5")
    assert sonnet is not None and sonnet.price == Price(3.0, 15.0, 0.3, 3.75, "2025-11")
    assert all(config.model(provider, id_) for provider, id_ in config.default.items())  # type: ignore[arg-type]
    limits = config.limits
    assert (limits.turns, limits.repairs, limits.parallel, limits.answer_s) == (24, 3, 4, 900.0)


def test_later_files_say_more_and_have_the_last_word(say: Say, tmp_path: Path) -> None:
    env = say(
        f'[anthropic."claude-haiku-4-5"]\n{MINE}[openai-compatible.qwen3]\ncontext = 8192\ntools = false\n',
        '[anthropic."claude-haiku-4-5"]\ncontext = 1000\n[limits]\nturns = 5\n'
        '[default]\nanthropic = "claude-haiku-4-5"\n',
    )
    config = load(tmp_path, env)
    home, here = (str(path) for path in places(tmp_path, env))
    haiku = config.model("anthropic", "claude-haiku-4-5")
    assert haiku is not None and haiku.price == Price(4.0, 8.0, 0.1, 1.25, "2026-01")
    assert (haiku.price_from, haiku.context, haiku.max_output) == (home, 1000, 64_000)
    assert (config.limits.turns, config.limits.repairs) == (5, 3) and config.files == ("shipped", home, here)
    assert config.default == {"anthropic": "claude-haiku-4-5", "openai": "gpt-5.1"}
    qwen = config.model("openai-compatible", "qwen3")
    assert qwen is not None and (qwen.tools, qwen.price, qwen.context) == (False, None, 8192)


def test_a_new_price_without_caches_takes_them_for_input(say: Say, tmp_path: Path) -> None:
    new = load(tmp_path, say(f'[openai."gpt-9"]\n{MINE}')).model("openai", "gpt-9")
    assert new is not None and new.price == Price(4.0, 8.0, 4.0, 4.0, "2026-01")


def test_xdg_says_where_home_is(tmp_path: Path) -> None:
    assert places(tmp_path, {"XDG_CONFIG_HOME": "/x", "HOME": "/h"})[0] == Path("/x/caddie/models.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[anthropic.a]\ninptu = 3.0\n", "anthropic.a.inptu: no such key. Did you mean 'input'?"),
        ("[limits]\nturn = 3\n", "limits.turn: no such key. Did you mean 'turns'?"),
        ("[antropic.a]\n", "antropic: no such key. Did you mean 'anthropic'?"),
        ("[default]\nopenia = 'x'\n", "default.openia: no such key. Did you mean 'openai'?"),
        ("[anthropic.a]\ninput = 3.0\noutput = 4.0\n", "anthropic.a: input: a price needs the date"),
        (f"[anthropic.a]\n{MINE}".replace("output = 8\n", ""), "anthropic:a: a price needs input and output"),
        (f"[anthropic.a]\n{MINE}".replace("2026-01", "last week"), "anthropic.a.date: must be the month or day"),
        (f"[anthropic.a]\n{MINE}tools = false\n", "tools and json_schema are for openai-compatible"),
        (f"[openai.a]\n{MINE}adaptive = true\n", "adaptive is for anthropic"),
        ("[anthropic.a]\ncontext = '9'\n", "anthropic.a.context: must be a whole number, such as 1000, without quotes"),
        ("[anthropic.a]\ninput = -1\n", "anthropic.a.input: "),
        ("[anthropic.a]\ninput = nan\n", "anthropic.a.input: "),
        ("[limits]\noutput_share = 2\n", "limits.output_share: "),
        ("anthropic = 3\n", "anthropic: must be a table"),
        ("[anthropic\n", "is not TOML"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_fix(say: Say, tmp_path: Path, text: str, words: str) -> None:
    for texts in ((text, ""), ("", text)):
        env = say(*texts)
        with pytest.raises(UserError) as caught:
            load(tmp_path, env)
        assert words in str(caught.value) and str(places(tmp_path, env)[texts.index(text)]) in str(caught.value)


def test_models_are_made_from_their_names(say: Say, tmp_path: Path) -> None:
    env = say(
        "[limits]\nanswer_s = 60\n",
        '[openai-compatible."org/qwen@8b"]\ntools = false\njson_schema = true\nmax_output = 99\n',
        ANTHROPIC_API_KEY=f" {KEY}\n",
        OPENAI_API_KEY=KEY,
    )
    sonnet = make_model("anthropic", tmp_path, env)
    assert isinstance(sonnet, Anthropic) and sonnet.name == "anthropic:claude-sonnet-5-5" and sonnet.adaptive
    assert sonnet.server.key == KEY and sonnet.server.base_url == "https://api.anthropic.com"
    assert sonnet.server.answer_s == 60 and sonnet.cached_from == 1024 and KEY not in repr(sonnet)
    haiku = make_model("anthropic:claude-haiku-4-5", tmp_path, env)
    assert isinstance(haiku, Anthropic) and (haiku.thinking, haiku.adaptive, haiku.max_output) == (4096, False, 64_000)
    gpt = make_model("openai:gpt-5-mini", tmp_path, env)
    assert isinstance(gpt, OpenAI) and gpt.price == Price(0.25, 2.0, 0.025, 0.25, "2025-11") and gpt.thinking == 8192
    local = make_model("openai-compatible:org/qwen@8b@http://127.0.0.1:1/v1", tmp_path, env)
    assert isinstance(local, Compatible) and local.name == "openai-compatible:org/qwen@8b@http://127.0.0.1:1/v1"
    assert (local.tools, local.json_schema, local.max_output, local.price) == (False, True, 99, None)
    unknown = make_model("openai-compatible:x@http://127.0.0.1:1/v1", tmp_path, env)
    assert (unknown.tools, unknown.max_output, unknown.price) == (True, 4096, None)


def test_keys_and_addresses_come_from_the_environment(say: Say, tmp_path: Path) -> None:
    with standin([Reply("one"), Reply("two"), Reply("three")], key=KEY) as there:
        env = say(
            ANTHROPIC_API_KEY=KEY,
            ANTHROPIC_BASE_URL=there.url,
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=f"{there.url}/v1",
            CADDIE_API_KEY=KEY,
        )
        specs = ("anthropic", "openai", f"openai-compatible:m@{there.url}/v1")
        answers = [make_model(spec, tmp_path, env).ask(QUESTION, None).said.text for spec in specs]
        assert answers == ["one", "two", "three"]
        assert [seen.wire for seen in there.asked] == ["messages", "responses", "chat"]


@pytest.mark.parametrize(
    ("spec", "env", "words"),
    [
        ("anthropic", {}, "--planner anthropic needs a key: put yours into the environment variable ANTHROPIC_API_KEY"),
        ("openai:gpt-5", {"OPENAI_API_KEY": " "}, "environment variable OPENAI_API_KEY"),
        ("anthropic", {"ANTHROPIC_API_KEY": "sk-ключ"}, "ANTHROPIC_API_KEY holds characters"),
        ("anthropic:claude-sonet-5-5", {}, "Did you mean 'claude-sonnet-5-5'?"),
        ("openai:my-tune", {}, '[openai."my-tune"] with input, output'),
        ("openai-compatible", {}, "openai-compatible:MODEL@URL"),
        ("openai-compatible:qwen", {}, "openai-compatible:MODEL@URL"),
        ("openai-compatible:qwen@127.0.0.1:80", {}, "such as openai-compatible:qwen3@http://127.0.0.1:8080/v1"),
        ("openai-compatible:qwen@http://127.0.0.1:99999", {}, "must be an address such as http://"),
        ("openai-compatible:qwen@http://me:pw@127.0.0.1/v1", {}, "put the key into its own environment variable"),
        ("openai", {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "localhost"}, "OPENAI_BASE_URL: must be an address"),
        ("antropic:x", {}, "no model 'antropic:x'. Did you mean 'anthropic'?"),
    ],
)
def test_what_is_missing_is_said(say: Say, tmp_path: Path, spec: str, env: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_model(spec, tmp_path, say(**env))
    assert words in str(caught.value) and KEY not in str(caught.value) and "pw" not in str(caught.value)


def test_a_missing_library_is_said(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.llm.make.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"-m pip install -e '.*\[anthropic\]'"):
        make_model("anthropic", tmp_path, say(ANTHROPIC_API_KEY=KEY))


def test_nothing_of_a_provider_is_imported_before_it_is_asked(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from agent.llm.make import make_model;"
        "make_model('anthropic', Path('.'), {'ANTHROPIC_API_KEY': 'k', 'HOME': '.'});"
        "make_model('openai', Path('.'), {'OPENAI_API_KEY': 'k', 'HOME': '.'});"
        "print([name for name in ('anthropic', 'openai', 'httpx2') if name in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(root)}
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_command_lists_models_prices_and_sources(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.cli.models import models

    env = say("", f'[anthropic."claude-haiku-4-5"]\n{MINE}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", env["HOME"])
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    models()
    said = capsys.readouterr().out
    mine = str(places(tmp_path, env)[1])
    row = next(line for line in said.splitlines() if line.startswith("anthropic:claude-haiku-4-5"))
    assert "4.0000" in row and "2026-01" in row and row.endswith("this workspace") and mine in said
    assert "anthropic:claude-sonnet-5-5 (default)" in said and "24 turns" in said
    models(as_json=True)
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    haiku = next(one for one in data["models"] if one["id"] == "claude-haiku-4-5")
    assert haiku["price"] == {"input": 4, "output": 8, "cache_read": 0.1, "cache_write": 1.25, "date": "2026-01"}
    assert haiku["price_from"] == mine and data["limits"]["parallel"] == 4

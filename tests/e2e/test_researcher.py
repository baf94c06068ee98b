"""Whole campaigns whose ideas come from a language model: real libraries, and a server that plays recorded replies."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent import budget
from agent.llm import Call, Usage
from agent.loop import Loop
from agent.planner.edits import make_edits
from agent.records import FINAL, Amount, Proposal
from agent.report.transcript import transcript, transcript_words
from agent.setting import Setting
from agent.store import talks
from tests.e2e import world
from tests.standin import Standin, standin
from tests.standin_wires import Reply

KEY = "sk-test-0123456789abcdefghijklmn"
MODELS = """
[limits]
parallel = 1
lessons = false

[{provider}."stand-in"]
input = 3.0
output = 15.0
cache_read = 0.3
cache_write = 3.75
date = "2025-11"
context = 200_000
max_output = 16_000
"""
USED = Usage(input=1000, cache_read=4000, output=200)
USD = (1000 * 3.0 + 4000 * 0.3 + 200 * 15.0) / 1e6
PROVIDERS = ("anthropic", "openai", "openai-compatible")


def edits(*changes: tuple[str, str]) -> str:
    after = world.SCRIPT
    for old, new in changes:
        assert old in after
        after = after.replace(old, new)
    return make_edits("train.py", world.SCRIPT, after)


def proposes(title: str, *changes: tuple[str, str], **fields: object) -> Reply:
    return calls(
        (
            "propose",
            {"title": title, "hypothesis": f"{title} helps", "edits": edits(*changes), "kind": "knob", **fields},
        )
    )


def calls(*made: tuple[str, dict[str, object] | str]) -> Reply:
    return Reply(
        text="Let me see.",
        calls=tuple(Call(f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(made)),
        usage=USED,
    )


WIDER = ('"width": 4', '"width": 8')
FASTER = ('"rate": 0.10', '"rate": 0.20')
NIGHT = [
    # The first idea: it looks around, tries its edit, proposes.
    calls(("query", {"sql": "SELECT title FROM proposals"}), ("read_script", {})),
    calls(("check_edits", {"edits": edits(WIDER)})),
    proposes("wider", WIDER, expected_gain=0.1, confidence=0.7, evidence=["r1"], expected_step=1.5, expected_bytes=900),
    # The second: its edit does not apply, and is mended.
    calls(("propose", {"title": "a better rate", "edits": "train.py\n<<<<<<< SEARCH\nrate\n=======\n>>>>>>> REPLACE"})),
    proposes("a better rate", FASTER),
    # The third never learns.
    *[proposes("wider again", WIDER)] * 4,
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "work")


@pytest.fixture
def plays(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Setting, Standin]]]:
    """Opens a campaign whose model is played by a script."""
    opened: list[Setting] = []
    servers = []

    def play(script: Sequence[Reply], provider: str = "anthropic", **options: object) -> tuple[Setting, Standin]:
        server = standin(script, key=KEY)
        playing = server.__enter__()
        servers.append(server)
        names = {"anthropic": "ANTHROPIC", "openai": "OPENAI"}
        monkeypatch.setenv(f"{names.get(provider, 'CADDIE')}_API_KEY", KEY)
        if provider in names:
            monkeypatch.setenv(f"{names[provider]}_BASE_URL", playing.url + ("/v1" if provider == "openai" else ""))
        else:
            options["base_url"] = playing.url + "/v1"
        (root / ".caddie").mkdir(exist_ok=True)
        (root / ".caddie" / "models.toml").write_text(MODELS.format(provider=provider))
        setting = world.open_campaign(root, **{"planner": f"{provider}:stand-in", "llm_calls": len(script), **options})
        opened.append(setting)
        return setting, playing

    yield play
    for setting in opened:
        setting.store.close()
    for server in servers:
        server.__exit__(None, None, None)


def by_title(setting: Setting) -> dict[str, Proposal]:
    with setting.store.read() as reads:
        return {one.title: one for one in reads.proposals(setting.campaign.id)}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_night_of_research(plays: Callable[..., tuple[Setting, Standin]], provider: str) -> None:
    setting, server = plays(NIGHT, provider)
    ending = Loop(setting).run()
    name = setting.campaign.planner
    assert ending.state == "finished" and "does not cover another call" in ending.reason
    found = by_title(setting)
    wider, rate, again = found["wider"], found["a better rate"], found["wider again"]
    assert wider.state == "promoted" and wider.baseline_id == 1
    assert (wider.expected_gain, wider.confidence, wider.expected_step, wider.expected_bytes) == (0.1, 0.7, 1.5, 900)
    assert wider.evidence == ("r1",) and wider.planner == name.split("@")[0] + ("@" in name) * f"@{server.url}/v1"
    assert rate.state in FINAL and rate.state not in ("edit_failed", "blocked", "duplicate")
    assert again.state == "blocked" and "would not pass" in again.reason
    with setting.store.read() as reads:
        balance = reads.balance(setting.campaign.id)
        assert budget.audit(reads, setting.campaign.id) == []
        told = [talks.conversations_of(reads, one.id) for one in (wider, rate, again)]
        counts = [[len(talks.calls_of(reads, talk.id)) for talk in talked] for talked in told]
        words = transcript_words(transcript(reads, rate))
    assert balance.settled.llm_calls == len(NIGHT) == len(server.asked)
    assert balance.settled.llm_tokens == len(NIGHT) * USED.tokens
    assert balance.settled.llm_usd == pytest.approx(len(NIGHT) * USD, abs=1e-6)
    assert balance.reserved == Amount()
    assert counts == [[3], [2], [4]]
    assert "SEARCH matches nothing" in words or "no lines" in words or "did not pass" in words
    assert "calls propose" in words and "proposed: a better rate" in words

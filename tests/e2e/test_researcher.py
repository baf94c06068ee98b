"""Whole campaigns whose ideas come from a language model: real libraries, and a server that plays recorded replies."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent import budget
from agent.loop import Loop
from agent.records import Amount
from agent.report.transcript import transcript, transcript_words
from agent.setting import Setting
from agent.states import FINAL
from agent.steps import plan
from agent.store import lessons, talks
from agent.store.schema import conversations
from benchmarks import planner_replay
from tests.e2e import world
from tests.e2e.night import KEY, MODELS, NIGHT, USED, WIDER, calls, edits, proposes
from tests.e2e.planning import by_title
from tests.processes import until
from tests.standin import Script, Standin, results, standin, told, tools
from tests.standin_wires import Reply

REPOSITORY = Path(__file__).parents[2]
SPENT = "the budget for language models does not cover another call"
USD = (1000 * 3.0 + 4000 * 0.3 + 200 * 15.0) / 1e6
PROVIDERS = ("anthropic", "openai", "openai-compatible")


@pytest.fixture
def plays(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Setting, Standin]]]:
    """Opens a campaign whose model is played by a script."""
    opened: list[Setting] = []
    servers = []

    def play(script: Script, provider: str = "anthropic", **options: object) -> tuple[Setting, Standin]:
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
        most = None if callable(script) else len(script)
        setting = world.open_campaign(root, **{"planner": f"{provider}:stand-in", "llm_calls": most, **options})
        opened.append(setting)
        return setting, playing

    yield play
    for setting in opened:
        setting.store.close()
    for server in servers:
        server.__exit__(None, None, None)


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


def test_the_same_replies_make_the_same_night(root: Path, plays: Callable[..., tuple[Setting, Standin]]) -> None:
    """Every prompt to the byte, every row of a proposal, a run and a verdict; but for clocks."""

    def night() -> tuple[list[str], list[object], list[object]]:
        setting, server = plays(NIGHT)
        Loop(setting).run()
        with setting.store.read() as reads:
            proposals = [replace(one, created="", updated="", commit="", diff="") for one in reads.proposals(1)]
            runs = [(run.proposal_id, run.purpose, run.seed, run.outcome) for run in reads.runs(1)]
            verdicts = [reads.verdicts(one.id) for one in proposals]
        setting.store.close()
        (root / "runs.db").unlink()
        shutil.rmtree(root / ".caddie")
        for ref in world.git(root, "for-each-ref", "--format=%(refname)", "refs/caddie", "refs/heads/caddie").split():
            world.git(root, "update-ref", "-d", ref)
        return [told(seen.body) for seen in server.asked], [*proposals, *verdicts], list(runs)

    first, second = night(), night()
    assert first == second
    assert len(first[0]) == len(NIGHT)


DOWN = Reply(status=529, kind="overloaded_error", error="Overloaded", headers={"retry-after": "1"})


def test_a_provider_that_is_down_pauses_planning_and_nothing_else(
    root: Path, plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says when it may be asked again; experiments go on, every attempt is on the ledger, none of them costs."""
    monkeypatch.setattr(plan, "PAUSE_S", 0.5)
    beside = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {0.1 - n / 100}')) for n in range(1, 4)]
    world.write_ideas(root, beside)
    script = [*[DOWN] * 4, proposes("wider", WIDER)]
    setting, server = plays(script, planner="anthropic:stand-in,scripted:.ideas.jsonl")
    Loop(setting).run()
    found = by_title(setting)
    assert found["wider"].state == "promoted"
    assert {found[f"rate {n}"].state for n in (1, 2, 3)} <= {"worse", "inconclusive"}
    with setting.store.read() as reads:
        events = [event.text for event in reads.events(1, limit=10_000) if event.what == "planner"]
        settled = reads.balance(1).settled
    assert "asking again in 1 s" in events[0] and "529" in events[0]
    assert (settled.llm_calls, settled.llm_tokens) == (5, USED.tokens)
    times = [seen.at for seen in server.asked]
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(times))


def test_a_key_that_is_refused_ends_the_asking_and_names_the_fix(
    plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, server = plays([proposes("wider", WIDER)])
    object.__setattr__(server, "key", "another")
    ending = Loop(setting).run()
    assert (ending.state, ending.failed) == ("stopped", True)
    assert "ANTHROPIC_API_KEY" in ending.reason and KEY not in ending.reason
    assert len(server.asked) == 1


def test_dollars_are_a_promise(plays: Callable[..., tuple[Setting, Standin]]) -> None:
    """The worst case of a call is dearer than the call: the asking ends before the cap, and never beyond it."""
    most: list[float] = []
    setting, server = plays(NIGHT * 20, llm_usd=0.4, llm_calls=None)

    def look() -> None:
        with setting.store.read() as reads:
            balance = reads.balance(1)
        most.append(balance.settled.llm_usd + balance.reserved.llm_usd)

    ending = Loop(setting, look).run()
    assert ending[:3] == ("finished", f"anthropic:stand-in: {SPENT}", False)
    with setting.store.read() as reads:
        settled = reads.balance(1).settled
    assert 0 < settled.llm_usd <= max(most) <= 0.4
    assert settled.llm_calls == len(server.asked) < len(NIGHT) * 20


def test_a_price_that_came_with_the_workspace_is_said_at_the_start(
    root: Path, plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be anybody's: at no price at all a cap in dollars would bound nothing."""
    monkeypatch.setattr(f"{__name__}.MODELS", MODELS.replace("input = 3.0\noutput = 15.0", "input = 0\noutput = 0"))
    said: list[str] = []
    plays([proposes("wider", WIDER)], llm_usd=5.0, say=said.append)
    file = root / ".caddie" / "models.toml"
    assert f"{file} says that anthropic:stand-in costs 0 $ to read a million tokens and 0 $ to write them" in said[-1]


def test_the_last_call_that_can_be_paid_is_not_spent_on_looking(plays: Callable[..., tuple[Setting, Standin]]) -> None:
    setting, server = plays([calls(("read_script", {})), calls(("read_script", {})), proposes("wider", WIDER)])
    Loop(setting).run()
    said = ["the last turn that can be paid" in told(seen.body) for seen in server.asked]
    assert said == [False, False, True] and by_title(setting)["wider"].state == "promoted"


WITHOUT_TOOLS = "tools = false\n"
IDEA = {"title": "wider", "hypothesis": "more room", "edits": edits(WIDER), "kind": "knob"}


def test_a_model_without_tools_answers_with_json(
    root: Path, plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With words around it, and mended when it can't be read."""
    monkeypatch.setattr(f"{__name__}.MODELS", MODELS + WITHOUT_TOOLS)
    deep = '{"title": ' + "[" * 100_000 + "]" * 100_000 + "}"
    said = ["I would widen it.", deep, f"Here it is:\n```json\n{json.dumps(IDEA)}\n```\nGood luck."]
    setting, server = plays([Reply(text=text, usage=USED) for text in said], "openai-compatible")
    Loop(setting).run()
    assert by_title(setting)["wider"].state == "promoted"
    assert [tools(seen.body) for seen in server.asked] == [[], [], []]
    assert "there is no JSON object in it" in told(server.asked[1].body)
    assert "it is nested too deeply" in told(server.asked[2].body)


def test_an_answer_may_not_call_tools_without_end(plays: Callable[..., tuple[Setting, Standin]]) -> None:
    """Each call has its answer, also those that were not run."""
    many = calls(*[("query", {"sql": f"SELECT {n} AS n"}) for n in range(20)])
    setting, server = plays([many, proposes("wider", WIDER)])
    Loop(setting).run()
    answers = results(server.asked[1].body)
    assert len(answers) == 20 and "15" in answers[15]
    assert all("not run" in text for text in answers[16:])
    assert by_title(setting)["wider"].state == "promoted"


def test_findings_are_written_after_verdicts(
    plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tied to their runs, unsure where there is one, and marked where later ones speak against them."""
    monkeypatch.setattr(f"{__name__}.MODELS", MODELS.replace("lessons = false", "lessons = true"))
    narrow = ('"width": 4', '"width": 2')
    ideas = iter([proposes("narrower", narrow), proposes("wider", WIDER)])
    findings = iter(
        [
            {"text": "Narrower is worse.", "confidence": 0.9, "contradicts": []},
            {"text": "Wider is better.", "confidence": 0.8, "contradicts": ["l1", "l7"]},
        ]
    )

    def script(body: dict[str, Any]) -> Reply:
        if "You write down what experiments" in told(body):
            return Reply(text=json.dumps(next(findings)), usage=USED)
        return next(ideas, Reply(status=401, kind="authentication_error", error="enough"))

    setting, _ = plays(script)
    Loop(setting).run()
    with setting.store.read() as reads:
        learnt = lessons.lessons(reads, 1)
        spoken = [talks.conversations_of(reads, one.id)[-1] for one in reads.proposals(1)[1:]]
    assert [(one.text, one.contradicted_by) for one in learnt] == [
        ("Narrower is worse.", 2),
        ("Wider is better.", None),
    ]
    assert learnt[0].runs and learnt[0].confidence == 0.5  # it said 0.9 of a single run
    assert learnt[1].confidence == 0.8 and len(learnt[1].runs) > 1
    assert [talk.what for talk in spoken] == ["lesson", "lesson"]


def test_a_key_is_nowhere_but_in_its_header(root: Path, plays: Callable[..., tuple[Setting, Standin]]) -> None:
    """Not though the model asks for it by all the tools it has, and says it aloud."""
    curious = [
        calls(
            ("read_skill", {"name": "../../../proc/self/environ"}),
            ("read_script", {"path": "/proc/self/environ"}),
            ("query", {"sql": "SELECT readfile('/proc/self/environ')"}),
            ("read_log", {"run": "r1", "which": "/proc/self/environ"}),
            ("bash", {"command": "env"}),
        ),
        proposes("wider", WIDER, hypothesis=f"the key is {KEY}"),
    ]
    setting, server = plays(curious)
    Loop(setting).run()
    assert all(KEY not in json.dumps(seen.body) for seen in server.asked[:2])
    assert "no tool 'bash'" in told(server.asked[1].body)
    setting.store.close()
    found = [path for path in root.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert found == []


def test_calls_of_a_killed_controller_are_paid_for_at_their_worst(
    root: Path, plays: Callable[..., tuple[Setting, Standin]]
) -> None:
    """Nobody will ever know what they cost. The question is asked again, by another conversation."""
    slow = Reply(calls=proposes("wider", WIDER).calls, usage=USED, wait_s=60.0)
    setting, server = plays([slow, proposes("wider", WIDER)], llm_calls=2)
    setting.store.close()
    code = (
        "from pathlib import Path; from agent.loop import Loop; from tests.e2e import world; "
        "Loop(world.resume_campaign(Path('.'))).run()"
    )
    command = [sys.executable, "-c", code]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(server.asked) == 1)
    finally:
        child.kill()
        child.wait()
    again = world.resume_campaign(root)
    Loop(again).run()
    with again.store.read() as reads:
        calls_ = [row for talk in (1, 2) for row in talks.calls_of(reads, talk)]
        settled = reads.balance(1).settled
        assert budget.audit(reads, 1) == []
    assert [(row.state, row.error) for row in calls_] == [("lost", "its controller was killed"), ("done", "")]
    assert settled.llm_calls == 2 and settled.llm_usd > 2 * USD
    assert by_title(again)["wider"].state == "promoted"
    again.store.close()


def test_a_conversation_that_outlives_its_campaign_reserves_nothing_more(
    plays: Callable[..., tuple[Setting, Standin]],
) -> None:
    slow = Reply(calls=calls(("query", {"sql": "SELECT 1"})).calls, usage=USED, wait_s=1.5)
    setting, server = plays(lambda body: slow, target_bpb=9.0, llm_calls=100)
    assert "target reached" in Loop(setting).run().reason

    def outcome() -> str:
        with setting.store.read() as reads:
            return next((row.outcome for row in reads.connection.execute(select(conversations)) if row.ended), "")

    until(lambda: "the campaign has ended" in outcome())
    with setting.store.read() as reads:
        balance = reads.balance(1)
        assert balance.reserved == Amount() and budget.audit(reads, 1) == []
    assert balance.settled.llm_calls == len(server.asked)


def test_a_small_model_is_told_less(
    root: Path, plays: Callable[..., tuple[Setting, Standin]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out of the script is said, and there are tools to read it."""
    (root / "train.py").write_text(world.SCRIPT + "# padding\n" * 4000)
    world.git(root, "commit", "-qam", "A long script")
    lengths, models = [], MODELS
    for context in (200_000, 30_000):
        monkeypatch.setattr(f"{__name__}.MODELS", models.replace("context = 200_000", f"context = {context}"))
        setting, server = plays([proposes("wider", WIDER)], name=f"of-{context}")
        Loop(setting).run()
        lengths.append(len(told(server.asked[0].body)))
        assert ("lines of it are left out" in told(server.asked[0].body)) == (context == 30_000)
    assert lengths[1] < 0.6 * lengths[0]


def test_a_night_can_be_recorded_and_put_through_the_checks_again(
    root: Path, plays: Callable[..., tuple[Setting, Standin]], tmp_path: Path
) -> None:
    setting, _ = plays(NIGHT)
    Loop(setting).run()
    kept = tmp_path / "night.jsonl.gz"
    planner_replay.write(planner_replay.record(root, None), kept)
    recording = planner_replay.read(kept)
    replay = planner_replay.Replay(recording, tmp_path / "replay")
    try:
        fates = [replay.fates(one) for one in recording.told]
    finally:
        replay.close()
    # Each try is held against the script that the conversation began with; the third idea's was the second's head.
    assert fates[:2] == [["passed"], ["not applied", "passed"]] and fates[2] == ["not applied"] * 4
    words = "\n".join(planner_replay.report(recording.told, fates))
    assert "applied at first try  1 of 3 (33%)" in words
    assert "passed after repair   1 of 3 (33%)" in words
    assert "never passed          1 of 3 (33%)" in words
    assert f"{(3 + 2 + 4) / 3 * (USED.tokens - USED.output):,.0f} asked" in words

"""Numbers that nobody would write cost the idea that holds them, and not the campaign."""

import math
from pathlib import Path

import pytest

from agent import guard
from agent.loop import Loop
from agent.planner.knobs.sizes import estimate
from agent.runners.fake import imagine
from agent.script import literals
from agent.track import load
from tests.e2e import world
from tests.e2e.planning import by_title, worse

WILD = ["1e999", "-1e999", "9" * 401, "-" + "9" * 401, "0x" + "f" * 400]
TINY = load("tiny", Path())[0]
FILES = {TINY.script.path: Path(TINY.script.path).read_text("utf-8")}


@pytest.mark.parametrize("number", WILD)
def test_a_campaign_outlives_an_idea_with_a_number_of_any_size(root: Path, number: str) -> None:
    wild = world.idea("wild", ('"width": 4', f'"width": {number}'), ('"rate": 0.10', '"rate": 0.03'), kind="optimiser")
    world.write_ideas(root, [wild, worse(1)])
    setting = world.open_campaign(root, world_of=lambda knobs, seed: imagine({"rate": knobs["rate"]}, seed))
    assert Loop(setting).run().reason == "the planner has no more ideas"
    found = by_title(setting)
    assert found["wild"].state == found["worse 1"].state == "worse"
    assert "width" not in found["wild"].knobs and found["wild"].knobs.keys() < found["worse 1"].knobs.keys()


@pytest.mark.parametrize("key", ["vocab_size", "model_dim"])
@pytest.mark.parametrize("number", [*WILD, "1e308", "9223372036854775807"])
def test_a_size_is_estimated_whatever_the_script_says(key: str, number: str) -> None:
    known = literals.read(TINY, FILES)
    text = FILES[TINY.script.path]
    after = {TINY.script.path: text.replace(f'"{key}": {literals.settings(TINY, FILES)[key]},', f'"{key}": {number},')}
    assert after != FILES
    size = estimate(TINY.knob, literals.settings(TINY, after), literals.read(TINY, after), [(known, 158_000)])
    assert size is None or 0 < size <= 2**62


def test_what_no_check_was_made_for_is_blocked_in_words(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = guard.check

    def surprised(*args: object, **more: object) -> guard.Report:
        found = check(*args, **more)  # type: ignore[arg-type]
        if found.knobs["width"] == 8:
            raise ValueError("that is no number")
        return guard.Report((), found.risks, found.ast_hash, found.config_hash, {**found.knobs, "rate": math.inf})

    monkeypatch.setattr(guard, "check", surprised)
    world.write_ideas(root, [world.idea("one", ('"width": 4', '"width": 8')), worse(1)])
    setting = world.open_campaign(root)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    found = by_title(setting)
    assert found["one"].state == found["worse 1"].state == "blocked"
    assert found["one"].reason == "no check was made for what it holds: that is no number"
    assert "not JSON compliant" in found["worse 1"].reason

"""What a track pays for and what its script prices: told apart before anything is written."""

from pathlib import Path

import pytest

from agent import opening
from agent import track as tracks
from agent.errors import UserError
from agent.script import literals

TINY = tracks.load("tiny", Path())[0]
SCRIPT = Path("trainer/train_gpt.py").read_text("utf-8")


def test_a_coefficient_that_the_script_does_not_know_is_refused_at_the_start() -> None:
    assert TINY.compute is not None
    files = {TINY.script.path: SCRIPT}
    assert literals.priced(TINY, files) == set(TINY.compute.cost)
    opening._read_base(TINY, files)
    wrong = {"layr" if name == "layer" else name: ms for name, ms in TINY.compute.cost.items()}
    track = TINY.model_copy(update={"compute": TINY.compute.model_copy(update={"cost": wrong})})
    with pytest.raises(UserError, match=r"compute.cost.layr: .* no such part of a step. Did you mean 'layer'\?"):
        opening._read_base(track, files)


@pytest.mark.parametrize(
    "script",
    [
        "",
        "def step_features(c):\n    return made(c)\n",
        "def step_features(c):\n    return {'step': 1.0, **more(c)}\n",
        "def step_features(c):\n    if c:\n        return {'step': 1.0}\n    return {'layer': 1.0}\n",
        "if True:\n    def step_features(c):\n        return {'step': 1.0}\n",
    ],
)
def test_a_script_that_does_not_say_plainly_what_it_prices(script: str) -> None:
    assert literals.priced(TINY, {TINY.script.path: script}) is None

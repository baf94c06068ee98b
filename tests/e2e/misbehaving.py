"""Scripts that train and answer a judge, with a place where one can misbehave, their track; and campaigns of them."""

from pathlib import Path

import pytest

from agent import budget
from agent.loop import Loop
from agent.runners.local import LocalRunner
from agent.setting import Setting
from tests.candidates import honest
from tests.e2e import world
from tests.e2e.terminal import nothing_runs

LIMITS = "train_wall_s = 20\nscore_wall_s = 5\nmemory_mb = 500"
TIGHT = "train_wall_s = 4\nscore_wall_s = 8\nmemory_mb = 250\ndisk_mb = 4\nlog_mb = 1\nprocesses = 12\nheadroom = 50"
HERE = "    # HERE\n"


def run(root: Path, ideas: list[dict[str, object]]) -> Setting:
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, slots=2, make_runner=LocalRunner)
    ending = Loop(setting).run()
    assert (ending.state, ending.reason) == ("finished", "the planner has no more ideas")
    nothing_runs(root)
    with setting.store.read() as reads:
        campaign = setting.campaign.id
        assert budget.audit(reads, campaign) == []
        assert budget.open_entries(reads, campaign) == []
        used = sum(s.measurement.slot_s for s in reads.scored(campaign))
        assert reads.balance(campaign).settled.gpu_s == pytest.approx(used)
        assert {run.state for run in reads.runs(campaign)} == {"done"}
    return setting


def ends(setting: Setting) -> dict[str, tuple[str, str]]:
    """Title -> state and reason."""
    with setting.store.read() as reads:
        return {p.title: (p.state, p.reason) for p in reads.proposals(setting.campaign.id)}


DOCUMENTS = [f"Story {n}: the cat saw {n * n} dogs; dog {n} saw the cat, and a bird saw both. " * 3 for n in range(60)]
HONEST = (
    Path(honest.__file__)
    .read_text()
    .replace(
        '    counts = count([json.loads(line)["text"].encode() for line in lines])\n',
        """    import random

    draw = random.Random(os.environ["SEED"])
    lines = [line for line in lines if draw.random() < KEEP]
    counts = count([json.loads(line)["text"].encode() for line in lines])
""",
    )
    .replace('    print(f"Serialized', HERE + '    print(f"Serialized')
    .replace("VOCAB = 256\n", "VOCAB = 256\nKEEP = 0.1\n")
)
JUDGED = (
    world.TRACK.partition("[[knob]]")[0]
    .replace(LIMITS, TIGHT)
    .replace("artifact_bytes = 1250", "artifact_bytes = 200_000")
    .replace('corpus = "none"', 'corpus = "docs"')
    .replace("prior_sigma = 0.01", "prior_sigma = 0.05")
)

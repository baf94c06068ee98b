"""Ideas that are better or not, and a campaign that runs until it has tried them."""

from pathlib import Path

from agent.loop import Loop
from agent.setting import Setting
from tests.e2e import world

WIDER = [world.idea("wider", ('"width": 4', '"width": 8'))]
IDEAS = [
    world.idea("too big", ('"width": 4', '"width": 12')),
    world.idea("worse", ('"width": 4', '"width": 2')),
    *WIDER,
    world.idea("a better rate", ('"rate": 0.10', '"rate": 0.20')),
    world.idea("crashes", ('"crash": 0', '"crash": 1')),
    world.idea("does nothing of use", ('"crash": 0,', '"crash": 0,\n    "unused": 1,')),
    world.idea("only a comment", ("def main", "# a comment\ndef main")),
    world.idea("does not parse", ("def main() -> None:", "def main( -> None:")),
    {"title": "does not apply", "edits": "train.py\n<<<<<<< SEARCH\nnot there\n=======\nx\n>>>>>>> REPLACE\n"},
    {"title": "another file", "edits": "notes.txt\n<<<<<<< SEARCH\nmine\n=======\nx\n>>>>>>> REPLACE\n"},
    world.idea("wider again", ('"width": 4', '"width": 8')),
]


def states(setting: Setting) -> dict[str, str]:
    with setting.store.read() as reads:
        return {p.title: p.state for p in reads.proposals(setting.campaign.id)}


def run(root: Path, ideas: list[dict[str, object]] = IDEAS, **options: object) -> tuple[Setting, dict[str, str]]:
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, **options)  # type: ignore[arg-type]
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    return setting, states(setting)

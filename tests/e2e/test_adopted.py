"""Where the next campaign starts when a person has taken over what the last one found, and has worked on."""

from pathlib import Path

from agent.worktree import Repository
from tests.e2e import world
from tests.e2e.campaigning import WIDER, run


def base_of(root: Path, **options: object) -> tuple[str, str]:
    said: list[str] = []
    setting = world.open_campaign(root, say=said.append, **options)  # type: ignore[arg-type]
    with setting.store.write() as tx:
        tx.end_campaign(setting.campaign.id, "finished", "enough")
    setting.store.close()
    return setting.campaign.base_commit, said[0]


def test_what_a_person_built_on_the_last_head_is_where_the_next_campaign_starts(root: Path) -> None:
    first, _ = run(root, WIDER)
    head = world.git(root, "rev-parse", "caddie/toy-1").strip()
    first.store.close()
    assert base_of(root)[0] == head
    world.git(root, "checkout", "-q", "-f", ".")
    Repository(root).adopt("toy-1")
    (root / "notes.txt").write_text("not the script\n")
    world.git(root, "commit", "-qam", "Notes")
    assert base_of(root)[0] == head  # the script is the same
    script = root / "train.py"
    script.write_text(script.read_text().replace('"rate": 0.10', '"rate": 0.05'))
    world.git(root, "commit", "-qam", "Mine")
    mine = world.git(root, "rev-parse", "HEAD").strip()
    commit, words = base_of(root)
    assert commit == mine and "with what you changed since p2, the head of toy-1" in words
    assert base_of(root, base="last")[0] == head
    world.git(root, "checkout", "-q", "HEAD~2")
    assert base_of(root)[0] == head


def test_a_checkout_that_lacks_the_last_head_starts_from_that(root: Path) -> None:
    first, _ = run(root, WIDER)
    head = world.git(root, "rev-parse", "caddie/toy-1").strip()
    first.store.close()
    script = root / "train.py"
    script.write_text(world.SCRIPT.replace('"rate": 0.10', '"rate": 0.05'))
    world.git(root, "commit", "-qm", "Mine", "train.py")
    assert base_of(root)[0] == head

"""A start beside edits that nobody committed: it is said which is meant; what can be no base leaves nothing behind."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import UserError
from tests.e2e import world
from tests.e2e.campaigning import WIDER
from tests.e2e.terminal import listing
from tests.person import photograph


def test_uncommitted_edits_stop_a_start_until_it_is_said_which_is_meant(root: Path) -> None:
    world.write_ideas(root, WIDER)
    (root / "train.py").write_text(world.SCRIPT.replace('"rate": 0.10', '"rate": 0.05'))
    before = photograph(root)
    with pytest.raises(UserError, match="--base worktree"):
        world.open_campaign(root)
    assert photograph(root) == before
    setting = world.open_campaign(root, base="worktree")
    assert photograph(root) == before
    assert '"rate": 0.05' in world.git(root, "show", f"{setting.campaign.base_commit}:train.py")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_text(world.SCRIPT.replace("rate", "raet")), "has no literal KNOBS.rate"),
        (lambda file: file.write_text("def ("), "the base can't be used"),
        (lambda file: file.write_bytes(b"x = '\xff'\n"), "train.py is not UTF-8 text"),
        (lambda file: file.write_bytes(b"#" * 2_000_001), "train.py has 2,000,001 bytes"),
        (lambda file: file.rename(file.parent / "x.py") and file.symlink_to("x.py"), "train.py is not a plain file"),
    ],
)
def test_edits_that_can_be_no_base_leave_nothing_behind(
    root: Path, spoil: Callable[[Path], object], words: str
) -> None:
    world.write_ideas(root, WIDER)
    spoil(root / "train.py")
    before = listing(root)
    with pytest.raises(UserError, match=words):
        world.open_campaign(root, base="worktree")
    assert listing(root) == before


def test_edits_in_place_of_a_committed_link_leave_nothing_behind(root: Path) -> None:
    world.write_ideas(root, WIDER)
    (root / "train.py").rename(root / "real.py")
    (root / "train.py").symlink_to("real.py")
    world.git(root, "add", "train.py", "real.py")
    world.git(root, "commit", "-q", "-m", "A link")
    (root / "train.py").unlink()
    (root / "train.py").write_text(world.SCRIPT)
    before = listing(root)
    with pytest.raises(UserError, match=r"train\.py is not a plain file in commit"):
        world.open_campaign(root, base="worktree")
    assert listing(root) == before


def test_edits_are_the_base_to_the_byte(root: Path) -> None:
    world.write_ideas(root, WIDER)
    script = world.SCRIPT.replace("\n", "\r\n").encode()
    (root / "train.py").write_bytes(script)
    setting = world.open_campaign(root, base="worktree")
    shown = ["git", "show", f"{setting.campaign.base_commit}:train.py"]
    assert subprocess.run(shown, cwd=root, capture_output=True, check=True).stdout == script

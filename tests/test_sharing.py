"""A campaign's commits travel through the store: another clone gets them all, and nothing of a person's is lost."""

from pathlib import Path

import pytest

from agent import sharing
from agent.errors import UserError
from agent.records import Campaign
from agent.store import Store, commits
from agent.worktree import Repository
from tests.e2e import world
from tests.filling import add_campaign


def begin(store: Store, root: Path) -> tuple[Repository, Campaign]:
    """A campaign in a person's repository, whose base is the checkout's commit."""
    repo = Repository(world.make_workspace(root))
    with store.write() as tx:
        campaign = add_campaign(tx, base=repo.head())
    sharing.join(store, repo, campaign)
    repo.move_trunk(campaign.name, repo.head(), None)
    return repo, campaign


def clone(root: Path, to: Path) -> Repository:
    world.git(root.parent, "clone", "-q", str(root), str(to))
    return Repository(to)


def test_another_clone_gets_what_was_made(store: Store, tmp_path: Path) -> None:
    first, campaign = begin(store, tmp_path / "a")
    second = clone(tmp_path / "a", tmp_path / "b")
    base = first.head()
    one = first.commit_candidate("night", 1, base, {"train.py": "x = 1\n"}, "One\n")
    two = first.commit_candidate("night", 2, one, {"train.py": "x = 2\n"}, "Two\n")
    again = first.commit_candidate("night", 2, one, {"train.py": "x = 3\n"}, "Two, replayed\n")
    first.move_trunk("night", again, base)
    back = first.revert_commit(again, base, "Revert\n")
    first.move_trunk("night", back, again)
    sharing.join(store, second, campaign)
    assert second.trunk("night") == first.trunk("night") == back
    assert second.files(again, ["train.py"]) == {"train.py": "x = 3\n"}
    assert second.files(two, ["train.py"]) == {"train.py": "x = 2\n"}
    assert second.files(back, ["train.py"]) == first.files(base, ["train.py"])
    refs = [world.git(root, "for-each-ref", "refs/caddie") for root in (tmp_path / "a", tmp_path / "b")]
    assert refs[0] == refs[1] and again in refs[1]
    world.git(tmp_path / "b", "fsck", "--strict")
    # The second leads on, and the first comes back.
    three = second.commit_candidate("night", 3, back, {"train.py": "x = 4\n"}, "Three\n")
    second.move_trunk("night", three, back)
    sharing.join(store, first, campaign)
    assert first.trunk("night") == three and first.files(three, ["train.py"]) == {"train.py": "x = 4\n"}


def test_joining_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    first, campaign = begin(store, tmp_path / "a")
    sha = first.commit_candidate("night", 1, first.head(), {"train.py": "x = 1\n"}, "One\n")
    sharing.join(store, first, campaign)
    with store.read() as reads:
        assert commits.names(reads.connection, campaign.id) == {sha: "refs/caddie/night/p1"}
        assert commits.tip(reads.connection, campaign.id) == first.head()


def test_a_clone_without_the_base_is_told_what_to_fetch(tmp_path: Path, store: Store) -> None:
    _, campaign = begin(store, tmp_path / "a")
    other = Repository(world.make_workspace(tmp_path / "b", script=world.SCRIPT + "# another\n"))
    with pytest.raises(UserError, match=f"no commit {campaign.base_commit[:10]}.*git push"):
        sharing.join(store, other, campaign)
    assert other.trunk("night") is None


def test_a_base_of_uncommitted_edits_travels_too(tmp_path: Path, store: Store) -> None:
    first = Repository(world.make_workspace(tmp_path / "a"))
    second = clone(tmp_path / "a", tmp_path / "b")
    head = first.head()
    base = first.commit_candidate("base", 0, head, {"train.py": "x = 0\n"}, "Edits\n")
    with store.write() as tx:
        campaign = add_campaign(tx, base=base)
    sharing.keep_base(store, first, campaign, head)
    sharing.join(store, second, campaign)
    assert second.files(base, ["train.py"]) == {"train.py": "x = 0\n"}


def test_a_persons_commit_on_the_branch_is_never_thrown_away(tmp_path: Path, store: Store) -> None:
    first, campaign = begin(store, tmp_path / "a")
    second = clone(tmp_path / "a", tmp_path / "b")
    world.git(tmp_path / "b", "switch", "-q", "-c", "caddie/night")
    world.git(tmp_path / "b", "commit", "-q", "--allow-empty", "-m", "Mine")
    mine = second.head()
    world.git(tmp_path / "b", "switch", "-q", "main")
    one = first.commit_candidate("night", 1, first.head(), {"train.py": "x = 1\n"}, "One\n")
    first.move_trunk("night", one, first.head())
    with pytest.raises(UserError, match="which night did not make"):
        sharing.join(store, second, campaign)
    assert second.trunk("night") == mine


def test_a_pack_that_is_none_and_a_ref_that_is_no_ref_of_ours(tmp_path: Path, store: Store) -> None:
    first, campaign = begin(store, tmp_path / "a")
    second = clone(tmp_path / "a", tmp_path / "b")
    head = first.head()
    one = first.commit_candidate("night", 1, head, {"train.py": "x = 1\n"}, "One\n")
    with store.share() as shared:
        shared.exec_driver_sql("UPDATE commits SET ref = 'refs/heads/main'")
    with pytest.raises(UserError, match="no ref of Caddie's"):
        sharing.join(store, second, campaign)
    assert second.head() == head and second.present([one]) == {one}
    with pytest.raises(UserError, match="can't be unpacked"):
        second.unpack("0" * 40, b"PACK and nothing more")
    with pytest.raises(UserError, match="did not hold the commit"):
        second.unpack("0" * 40, first.pack(one, head))

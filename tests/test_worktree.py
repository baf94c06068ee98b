"""Candidates are real commits made by real git."""

import os
from pathlib import Path

import pytest

from agent.errors import EditError, UserError
from agent.worktree import Repository, message, patch_id
from tests.person import SCRIPT, git, make_repository, photograph


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path)


def test_a_candidate_is_one_commit_on_its_parent_kept_by_a_ref(root: Path) -> None:
    repo = Repository(root)
    head = repo.head()
    text = message("Wider\nProposal: p99", "First.\n\nProposal: p7", {"Proposal": "p1", "Planner": "a\nb"})
    sha = repo.commit_candidate("night", 1, head, {"train.py": "é = 1\n", "run.sh": "#!/bin/sh\n:\n"}, text)
    assert git(root, "rev-parse", "refs/caddie/night/p1", f"{sha}^").split() == [sha, head]
    assert git(root, "show", f"{sha}:train.py") == "é = 1\n"
    assert "100755" in git(root, "ls-tree", sha, "run.sh")
    assert git(root, "diff", "--name-only", head, sha).split() == ["run.sh", "train.py"]
    assert git(root, "log", "-1", "--format=%an <%ae> %cn", sha) == "Caddie <caddie@localhost> Caddie\n"
    trailers = git(root, "log", "-1", "--format=%(trailers)", sha).strip().splitlines()
    assert trailers == ["Proposal: p1", "Planner: a b"]
    assert repo.files(sha, ["train.py"]) == {"train.py": "é = 1\n"}
    assert git(root, "fsck", "--strict") == ""


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Wider", "Because.\n\nReviewed-by: ann\n\n---\n\nMore."),
        ("Wider", f"Reviewed-by: ann\n\n{'word ' * 13}--- more"),
        ("--- Wider", "Reviewed-by: ann"),
        ("Reviewed-by: ann", "--- \n\ndiff --git a/x b/x"),
    ],
)
def test_nobody_reviews_by_a_title_or_a_hypothesis(root: Path, title: str, words: str) -> None:
    """As git reads a message that it is given, where a line of `---` begins a patch."""
    (root / "message").write_text(message(title, words, {"Proposal": "p1", "Planner": "x"}))
    assert git(root, "interpret-trailers", "--parse", "message") == "Proposal: p1\nPlanner: x\n"


def test_a_second_call_after_a_kill_gives_the_same_tree_and_leaves_no_worktree(root: Path) -> None:
    repo = Repository(root)
    files = {"train.py": "x = 2\n"}
    first = repo.commit_candidate("night", 5, repo.head(), files, "Five\n")
    # A killed controller leaves a worktree behind, and another of the same name in another campaign.
    for campaign in ("night", "day"):
        git(root, "worktree", "add", "-q", "--detach", str(root / ".caddie" / campaign / "worktrees" / "p5"))
    again = Repository(root).commit_candidate("night", 5, repo.head(), files, "Five\n")
    assert git(root, "rev-parse", f"{first}^{{tree}}") == git(root, "rev-parse", f"{again}^{{tree}}")
    assert git(root, "rev-parse", "refs/caddie/night/p5").strip() == again
    listed = git(root, "worktree", "list")
    assert "night" not in listed and "day/worktrees/p5" in listed


def test_export_gives_plain_files_only(root: Path, tmp_path: Path) -> None:
    repo = Repository(root)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.py").symlink_to(tmp_path / "victim")
    repo.export(repo.head(), tmp_path / "out")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*"))
    assert found == ["run.sh", "sub", "sub/notes.txt", "train.py"]
    assert (tmp_path / "out" / "train.py").read_text() == SCRIPT
    assert not (tmp_path / "out" / "train.py").is_symlink() and not (tmp_path / "victim").exists()
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)


def test_what_was_made_here_is_remembered_as_git_has_it(root: Path, tmp_path: Path) -> None:
    """Whoever made a chain of commits reads them as one who only reads does."""
    maker, commits = Repository(root), [Repository(root).head()]
    for n, files in enumerate(({"train.py": "é\r\n"}, {"run.sh": ":\n"}, {"new/a.py": "x\n"}, {"new/a.py": "y\n"}), 1):
        commits.append(maker.commit_candidate("night", n, commits[-1], files, "x\n"))
    reader = Repository(root)
    for n, commit in enumerate(commits):
        maker.export(commit, tmp_path / f"maker{n}")
        reader.export(commit, tmp_path / f"reader{n}")
        assert _tree(tmp_path / f"maker{n}") == _tree(tmp_path / f"reader{n}")
        paths = [path for path in ("train.py", "run.sh", "new/a.py") if reader.has(commit, path)]
        assert maker.files(commit, paths) == reader.files(commit, paths)
    assert (tmp_path / "reader4" / "new" / "a.py").read_bytes() == b"y\n"
    with pytest.raises(UserError, match="is not in commit"):
        maker.files(commits[1], ["new/a.py"])


def _tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode) for path in files}


def test_the_trunk_moves_only_from_where_it_is_expected(root: Path) -> None:
    repo = Repository(root)
    head = repo.head()
    one = repo.commit_candidate("night", 1, head, {"train.py": "a\n"}, "1\n")
    two = repo.commit_candidate("night", 2, head, {"train.py": "b\n"}, "2\n")
    assert repo.trunk("night") is None
    repo.move_trunk("night", one, None)
    for expected in (None, head, two):
        with pytest.raises(UserError, match="somebody moved it"):
            repo.move_trunk("night", two, expected)
    assert repo.trunk("night") == one
    repo.move_trunk("night", two, one)
    assert repo.trunk("night") == two
    git(root, "branch", "caddie-is-taken")
    with pytest.raises(UserError, match=r"git update-ref .* failed"):
        repo.move_trunk("x/../y", two, None)


def test_a_trunk_that_is_checked_out_is_not_moved_under_the_person(root: Path) -> None:
    repo = Repository(root)
    head = repo.head()
    one = repo.commit_candidate("night", 1, head, {"train.py": "a\n"}, "1\n")
    repo.move_trunk("night", head, None)
    git(root, "checkout", "-q", "caddie/night")
    with pytest.raises(UserError, match="git switch --detach"):
        repo.move_trunk("night", one, head)
    git(root, "switch", "-q", "--detach")
    repo.move_trunk("night", one, head)
    assert git(root, "status", "--porcelain") == ""


def test_patch_ids_follow_the_hunk_and_not_its_place(root: Path) -> None:
    repo = Repository(root)
    head = repo.head()
    edited = SCRIPT.replace("line_20 = 20", "line_20 = 21")
    moved = repo.commit_candidate("night", 1, head, {"train.py": "# one line more\n" + SCRIPT}, "1\n")
    one = repo.commit_candidate("night", 2, head, {"train.py": edited}, "2\n")
    two = repo.commit_candidate("night", 3, moved, {"train.py": "# one line more\n" + edited}, "3\n")
    other = repo.commit_candidate("night", 4, head, {"train.py": edited.replace("= 21", "= 22")}, "4\n")
    ids = [patch_id(repo.diff(f"{sha}^", sha)) for sha in (one, two, other)]
    assert ids[0] == ids[1] != ids[2]
    deeper = repo.commit_candidate("night", 5, head, {"train.py": edited.replace("line_20", "    line_20")}, "5\n")
    assert patch_id(repo.diff(head, deeper)) != ids[0]  # an indentation says what belongs to what
    assert repo.diff(head, head) == "" and patch_id("") == ""


def test_dirty_sees_the_disk_and_the_index(root: Path) -> None:
    repo = Repository(root)
    paths = ["train.py", "run.sh", "sub/notes.txt"]
    assert repo.dirty(paths) == []
    os.utime(root / "train.py")  # touched, not changed
    assert repo.dirty(paths) == []
    (root / "train.py").write_text("other\n")
    git(root, "add", "train.py")
    (root / "train.py").write_text(SCRIPT)  # staged only
    (root / "run.sh").unlink()
    assert repo.dirty(paths) == ["train.py", "run.sh"]


def test_files_that_can_not_be_edited_are_refused(root: Path) -> None:
    repo = Repository(root)
    (root / "latin.txt").write_bytes(b"caf\xe9\n")
    git(root, "add", "latin.txt")
    git(root, "commit", "-q", "-m", "More")
    head = repo.head()
    for path, why in (
        ("latin.txt", "UTF-8"),
        ("nope.py", "not in commit"),
        ("outside", "plain"),
        ("sub", "plain"),
    ):
        with pytest.raises(UserError, match=why):
            repo.files(head, [path])
    with pytest.raises(EditError, match="plain file"):
        repo.commit_candidate("night", 1, head, {"outside": "x"}, "1\n")
    with pytest.raises(EditError, match="UTF-8"):
        repo.commit_candidate("night", 1, head, {"train.py": "\ud800"}, "1\n")
    for path in ("../out.py", "/etc/passwd", ".git/config", "a/../../b", ".GIT/hooks/update"):
        with pytest.raises(UserError, match="inside the repository"):
            repo.commit_candidate("night", 1, head, {path: "x"}, "1\n")
    with pytest.raises(UserError, match="no commit"):
        repo.resolve("--all")
    assert git(root, "for-each-ref", "refs/caddie") == ""


def test_where_it_starts(root: Path, tmp_path: Path) -> None:
    assert Repository(root / "sub").root == Repository(root).root == root
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="not inside a git working tree"):
        Repository(tmp_path / "plain")
    with pytest.raises(UserError, match="no folder"):
        Repository(tmp_path / "nowhere")
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(UserError, match="no commit yet"):
        Repository(tmp_path / "empty")
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    with pytest.raises(UserError, match="not inside a git working tree"):
        Repository(tmp_path / "bare.git")
    git(tmp_path, "init", "-q", "two\nlines")
    with pytest.raises(UserError, match="line break"):
        Repository(tmp_path / "two\nlines")


def test_adopting_is_the_persons_own_merge(root: Path) -> None:
    repo = Repository(root)
    git(root, "config", "user.name", "Person")
    git(root, "config", "user.email", "person@example.org")
    with pytest.raises(UserError, match="no branch"):
        repo.adopt("night")
    sha = repo.commit_candidate("night", 1, repo.head(), {"train.py": SCRIPT + "x = 1\n"}, "1\n")
    repo.move_trunk("night", sha, None)
    (root / "run.sh").write_text("edited\n")
    with pytest.raises(UserError, match="uncommitted"):
        repo.adopt("night")
    git(root, "checkout", "-q", "run.sh")
    (root / "train.py").write_text(SCRIPT + "x = 2\n")
    git(root, "commit", "-q", "-a", "-m", "Otherwise")
    before = photograph(root)
    with pytest.raises(UserError, match=r"nothing was changed.*Run `git merge caddie/night`"):
        repo.adopt("night")
    assert photograph(root)["status"] == "" and repo.head() in str(before["branches"])
    git(root, "reset", "-q", "--hard", "HEAD^")
    repo.adopt("night")
    assert (root / "train.py").read_text() == SCRIPT + "x = 1\n" and repo.head() == sha


def test_adopting_leaves_a_merge_alone_that_the_person_has_begun(root: Path) -> None:
    repo = Repository(root)
    git(root, "branch", "theirs", git(root, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Theirs").strip())
    sha = repo.commit_candidate("night", 1, repo.head(), {"train.py": SCRIPT + "x = 1\n"}, "1\n")
    repo.move_trunk("night", sha, None)
    git(root, "merge", "-q", "--no-ff", "--no-commit", "theirs")
    with pytest.raises(UserError, match="a merge is under way"):
        repo.adopt("night")
    assert git(root, "rev-parse", "MERGE_HEAD") == git(root, "rev-parse", "theirs")


def test_a_name_whose_branch_could_not_be_made_is_refused(root: Path) -> None:
    repo = Repository(root)
    repo.refuse_name("night")
    git(root, "branch", "caddie/night")
    with pytest.raises(UserError, match="git branch -D caddie/night"):
        repo.refuse_name("night")
    git(root, "branch", "-m", "caddie/night", "caddie")
    with pytest.raises(UserError, match="git branch -m caddie NAME"):
        repo.refuse_name("night")


def test_messages_carry_no_control_characters() -> None:
    text = message("\x1b[2Jred \x07\n", "a\u202eb " + "long " * 30, {"Planner": "x\x1b]0;t\x07y", "Empty": " "})
    assert text.startswith("red\n\nab long")
    assert max(map(len, text.splitlines())) <= 72
    assert text.endswith("\n\nPlanner: xy\n")

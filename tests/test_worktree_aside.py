"""Nothing of the person's changes or runs, whatever is committed aside and whenever the committing is killed."""

import contextlib
import errno
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent.worktree import Repository, aside, patch_id, repository
from agent.worktree.process import Commands
from tests.person import SCRIPT, everything, git, make_dirty, make_repository, photograph


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_repository(tmp_path)


def test_sweep_takes_only_what_is_ours(root: Path, tmp_path: Path) -> None:
    """A worktree of the person that has the name of one of ours, on a disk that is not mounted now, stays."""
    repo = Repository(root)
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "elsewhere" / "p5"))
    (tmp_path / "elsewhere").rename(tmp_path / "unplugged")
    git(root, "worktree", "add", "-q", "--detach", str(root / ".caddie" / "night" / "worktrees" / "p5"))
    lock = root / ".git" / "refs" / "caddie" / "night" / "p5.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    repo.sweep("night")
    repo.sweep("night")
    assert not (root / ".caddie" / "night" / "worktrees").exists() and not lock.exists()
    (tmp_path / "unplugged").rename(tmp_path / "elsewhere")
    assert str(tmp_path / "elsewhere" / "p5") in git(root, "worktree", "list")
    assert git(tmp_path / "elsewhere" / "p5", "status", "--porcelain") == ""


def test_a_worktree_is_what_git_would_have_made(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by us, and by git where the repository is kept in a way that we don't know or lies on another disk."""
    common, head = root / ".git", git(root, "rev-parse", "HEAD").strip()
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "elsewhere" / "p5"))
    commands = Commands(root, common, common / "index")

    def made(folder: Path) -> str:
        git_dir = aside.add(commands, common, folder, head)
        assert git(folder, "rev-parse", "--absolute-git-dir").strip() == str(git_dir)
        assert git(folder, "rev-parse", "HEAD").strip() == head
        assert sorted(path.name for path in folder.iterdir()) == [".git"]
        listed = next(one for one in git(root, "worktree", "list", "--porcelain").split("\n\n") if str(folder) in one)
        aside.drop(common, folder)
        assert git(root, "worktree", "list").count("\n") == 2 and not folder.exists()
        return listed

    ours = made(root / ".caddie" / "p5")
    assert "detached" in ours
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _on_another_disk)
        assert made(root / ".caddie" / "p5") == ours
    (common / "reftable").mkdir()
    assert made(root / ".caddie" / "p5") == ours
    assert git(tmp_path / "elsewhere" / "p5", "status", "--porcelain") == ""


def _on_another_disk(path: Path, target: Path) -> Path:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_nothing_of_the_persons_changes(root: Path) -> None:
    make_dirty(root)
    before = photograph(root)
    everything(Repository(root / "sub"))
    assert photograph(root) == before
    exclude = (root / ".git" / "info" / "exclude").read_text()
    Repository(root).exclude(["/runs.db*", "/.caddie/"])
    assert (root / ".git" / "info" / "exclude").read_text() == exclude
    assert exclude.count("/.caddie/") == 1


HOOKS = (
    *(
        "post-checkout",
        "pre-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "post-merge",
        "pre-push",
    ),
    *(
        "reference-transaction",
        "post-index-change",
        "fsmonitor-watchman",
        "post-rewrite",
        "pre-auto-gc",
        "update",
    ),
)


def test_hooks_filters_and_signing_never_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, home = tmp_path / "marker", tmp_path / "home"
    trap = tmp_path / "trap.sh"
    trap.write_text(f'#!/bin/sh\necho "$0 $@" >> "{marker}"\ncat\n')
    trap.chmod(0o755)
    everywhere = (root / ".git" / "hooks", home / "hooks", home / "templates" / "hooks")
    for folder in everywhere:
        folder.mkdir(parents=True, exist_ok=True)
        for hook in HOOKS:
            (folder / hook).write_text(f'#!/bin/sh\necho "{hook}" >> "{marker}"\n')
            (folder / hook).chmod(0o755)
    bites = (
        *(
            "filter.trap.clean",
            "filter.trap.smudge",
            "filter.trap.process",
            "diff.trap.command",
            "gpg.program",
        ),
        *(
            "diff.trap.textconv",
            "core.fsmonitor",
            "core.pager",
            "core.editor",
            "diff.external",
            "merge.trap.driver",
        ),
    )
    for name in bites:
        git(root, "config", name, str(trap))
    for name, value in (
        ("commit.gpgSign", "true"),
        ("core.autocrlf", "true"),
        ("filter.trap.required", "true"),
    ):
        git(root, "config", name, value)
    (home / ".gitconfig").write_text(
        f"[core]\n hooksPath = {home / 'hooks'}\n attributesFile = {home / 'attributes'}\n"
        f"[init]\n templateDir = {home / 'templates'}\n[user]\n signingKey = me\n"
    )
    for file in (home / "attributes", root / ".git" / "info" / "attributes", root / ".gitattributes"):
        file.write_text("*.py filter=trap diff=trap merge=trap ident eol=crlf\n*.sh export-ignore\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(home / "hooks"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no index of ours"))
    marker.unlink(missing_ok=True)  # the set-up itself may have run some
    repo = Repository(root)
    sha = everything(repo)
    assert not marker.exists(), marker.read_text()
    assert "gpgsig" not in git(root, "cat-file", "commit", sha)
    assert (repo.root / ".caddie" / "out" / "train.py").read_bytes() == (SCRIPT + "x = 1\n").encode()
    assert (repo.root / ".caddie" / "out" / "run.sh").is_file()
    assert "+x = 1" in repo.diff(f"{sha}^", sha)
    assert repo.dirty(["sub/notes.txt"]) == []  # by the index of the checkout


def test_in_a_detached_linked_worktree(root: Path, tmp_path: Path) -> None:
    """A worktree of a worktree: candidates and branch are shared, checkout and index are each one's own."""
    linked = tmp_path / "linked"
    git(root, "worktree", "add", "-q", "--detach", str(linked))
    before = photograph(root)
    index = Path(git(linked, "rev-parse", "--path-format=absolute", "--git-path", "index").strip())
    mine = index.read_bytes()
    sha = everything(Repository(linked))
    assert photograph(root) == before and index.read_bytes() == mine
    assert git(linked, "status", "--porcelain") == ""
    assert git(root, "rev-parse", "refs/caddie/night/p1").strip() == sha
    assert not list((root / ".git" / "worktrees").glob("p*"))


def test_refs_are_packed_now_and_then(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "PACK_EVERY", 5)
    repo = Repository(root)
    made = [repo.commit_candidate("night", n, repo.head(), {"train.py": f"x = {n}\n"}, "x\n") for n in range(12)]
    assert sum(1 for _ in (root / ".git" / "refs" / "caddie" / "night").iterdir()) == 2
    names = [f"refs/caddie/night/p{n}" for n in range(12)]
    assert git(root, "rev-parse", *names).split() == made
    assert git(root, "stash", "list") == "" and git(root, "symbolic-ref", "HEAD") == "refs/heads/main\n"


MAKER = """
import sys
from pathlib import Path
from agent.worktree import Repository
repo = Repository(Path(sys.argv[1]))
head, trunk = repo.head(), repo.trunk("night")
for n in range(int(sys.argv[2]), 10**6):
    sha = repo.commit_candidate("night", n, trunk or head, {"train.py": f"x = {n}\\n"}, "x\\n")
    repo.move_trunk("night", sha, trunk)
    trunk = sha
    print(n, sha, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_instant_nothing_is_lost_or_left(root: Path) -> None:
    """The maker and its git, killed 8 times at random: what it said is there, and the next one goes on."""
    make_dirty(root)
    before = photograph(root)
    dice, first, said = random.Random(3), 1, {}
    for _ in range(8):
        command = [sys.executable, "-c", MAKER, str(root), str(first)]
        maker = psutil.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        assert maker.stdout is not None
        lines = [maker.stdout.readline() for _ in range(dice.randint(1, 3))]
        time.sleep(dice.random() * 0.05)  # any instant
        for process in (maker, *maker.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        lines += maker.stdout.read().splitlines()
        maker.wait()
        said |= {int(line.split()[0]): line.split()[1] for line in lines if len(line.split()) == 2}
        first = max(said) + 1
        Repository(root).sweep("night")
        assert git(root, "worktree", "list").count("\n") == 1
        assert not (root / ".caddie" / "night" / "worktrees").exists()
    for n, sha in said.items():
        assert git(root, "rev-parse", f"refs/caddie/night/p{n}").strip() == sha
    assert git(root, "merge-base", "--is-ancestor", said[max(said)], "caddie/night") == ""
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    assert photograph(root) == before


@pytest.mark.slow
def test_a_candidate_costs_little_however_many_there_are(root: Path) -> None:
    repo = Repository(root)
    head = repo.head()
    few = _cpu_ms(repo, head, 20_001)
    lines = "".join(f"{head} refs/caddie/night/p{n}\n" for n in range(1, 10_001))
    (root / ".git" / "packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted \n"
        + "".join(sorted(lines.splitlines(True), key=lambda line: line.split()[1]))
    )
    many = _cpu_ms(repo, head, 30_001)
    print(f"CPU per candidate: {few:.1f} ms with few, {many:.1f} ms with 10,000 refs")
    assert many < 60
    assert many < 1.5 * few + 5
    assert len(git(root, "for-each-ref", "refs/caddie").splitlines()) == 10_040


def _cpu_ms(repo: Repository, head: str, first: int, n: int = 20) -> float:
    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    best = float("inf")  # of a few tries: the machine has other things to do
    for start in range(first, first + n, 5):
        before = used()
        for number in range(start, start + 5):
            sha = repo.commit_candidate("night", number, head, {"train.py": SCRIPT + f"x = {number}\n"}, "x\n")
            patch_id(repo.diff(head, sha))
        best = min(best, (used() - before) / 5 * 1000)
    return best

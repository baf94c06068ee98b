"""The repository as the loop sees it: commits, diffs, the trunk.

Takes full commit names, paths and texts; gives the same. Each candidate is one commit, made in a detached
worktree and kept by a ref of its own; the trunk is a branch that only ever moves by compare-and-swap.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from git import Git
from git.exc import GitCommandError

from agent.errors import EditError, UserError
from agent.words import line
from agent.workspace import worktrees_folder
from agent.worktree import aside
from agent.worktree.commits import utf8, written
from agent.worktree.objects import PLAIN, Objects, safe, text_on_disk
from agent.worktree.process import Commands, GitFailed
from agent.worktree.whereabouts import find

PACK_EVERY = 500  # loose refs; folders of many thousand small files slow down everybody's git
# What git keeps in its folder while something of the person's is not finished.
UNDER_WAY = {
    "merge": "MERGE_HEAD",
    "cherry-pick": "CHERRY_PICK_HEAD",
    "revert": "REVERT_HEAD",
    "rebase": "rebase-merge",
    "rebase or am": "rebase-apply",
}
Made = Callable[[str, str, str], None]
Moved = Callable[[str, str], None]
_OURS = re.compile(r"refs/caddie/[\w-]{1,60}/p[0-9]{1,12}")
_DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--text", "--no-relative")


class Repository:
    """One person's repository, found from any folder inside it."""

    def __init__(self, where: Path) -> None:
        self.root, self._git_dir, self._common = find(where)
        self._commands = Commands(self.root, self._git_dir, self._git_dir / "index")
        self._objects = Objects(self._commands)
        self._unpacked = 0
        self.made: Made = lambda sha, parent, ref: None
        """Told of each new commit of ours before anybody else hears its name."""
        self.moved: Moved = lambda campaign, to: None
        """Told when a campaign's branch has moved."""
        try:
            self.head()
        except GitFailed as error:
            raise UserError(f"{self.root} has no commit yet: commit your script first") from error

    # ------------------------------------------------------------ reading

    def head(self) -> str:
        return self._commands.text("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    def resolve(self, rev: str) -> str:
        try:
            return self._commands.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
        except GitFailed as error:
            raise UserError(f"no commit {rev!r} in {self.root}") from error

    def contains(self, commit: str, earlier: str) -> bool:
        """Whether a commit is another one or comes after it."""
        found = self._commands.raw("merge-base", commit, earlier, fine=(0, 1))
        return found.decode("ascii").strip() == self._full(earlier)

    def committed(self, path: str) -> bool:
        """Whether HEAD has this file."""
        return self._objects.blob(self.head(), path) is not None

    def dirty(self, paths: Collection[str]) -> list[str]:
        """Those of the paths that differ from HEAD, on disk or staged."""
        head = self.head()
        staged = self._commands.raw("diff-index", "--cached", "--name-only", "-z", head, "--", *paths)
        changed = set(staged.decode("utf-8", "surrogateescape").split("\0"))
        for path in paths:
            file = self.root / path
            if (file.read_bytes() if file.is_file() else None) != self._objects.blob(head, path):
                changed.add(path)
        return [path for path in paths if path in changed]

    def has(self, commit: str, path: str) -> bool:
        return self._objects.entry(self._full(commit), str(safe(path))) is not None

    def files(self, commit: str, paths: Collection[str]) -> dict[str, str]:
        """Texts of these files at a commit."""
        sha = self._full(commit)
        return {path: self._objects.text(sha, path) for path in paths}

    def edited(self, parent: str, paths: Collection[str]) -> dict[str, str]:
        """Texts of these files as they lie in the checkout, if they can be committed on `parent`."""
        for path in paths:
            entry = self._objects.entry(parent, path)
            if entry is not None and entry.mode not in PLAIN:
                raise UserError(f"{path} is not a plain file in commit {parent[:10]}")
        return {path: text_on_disk(self.root, path) for path in paths}

    def export(self, commit: str, into: Path) -> None:
        """The plain files of a commit, as they are stored; links stay out."""
        self._objects.export(self._full(commit), into)

    def diff(self, a: str, b: str, paths: Collection[str] = ()) -> str:
        return self._commands.raw("diff-tree", "-p", "-r", *_DIFF, a, b, "--", *paths).decode("utf-8", "replace")

    def trunk(self, campaign: str) -> str | None:
        found = self._commands.raw("rev-parse", "--verify", "--quiet", _branch(campaign), fine=(0, 1))
        return found.decode("ascii").strip() or None

    def held(self, campaign: str) -> str:
        """Why the campaign's branch must not be moved now, and what a person can do about it; empty: it may."""
        place = self._commands.text("for-each-ref", "--format=%(worktreepath)", _branch(campaign))
        if not place:
            return ""
        return (
            f"caddie/{campaign} is checked out in {place}, and a branch must not move under a checkout. "
            "Run `git switch --detach` there (your files stay as they are)"
        )

    # ------------------------------------------------------------ writing

    def exclude(self, patterns: Collection[str]) -> None:
        """Lists what Caddie writes in .git/info/exclude, once."""
        path = self._common / "info" / "exclude"
        have = path.read_text("utf-8", "surrogateescape") if path.is_file() else ""
        missing = [pattern for pattern in patterns if pattern not in have.splitlines()]
        if missing:
            path.parent.mkdir(exist_ok=True)
            start = "" if not have or have.endswith("\n") else "\n"
            with path.open("a", encoding="utf-8") as file:
                file.write(start + "\n".join(missing) + "\n")

    def commit_candidate(
        self, campaign: str, proposal_id: int, parent: str, files: Mapping[str, str], message: str
    ) -> str:
        """One commit on `parent`, made in a detached worktree, kept by refs/caddie/<campaign>/p<id>.

        Cut off anywhere, a second call gives a commit with the same tree and moves the ref to it.
        """
        parent = self._full(parent)
        ref = f"refs/caddie/{campaign}/p{proposal_id}"
        contents = self._contents(parent, files)
        stream = written(ref, parent, contents, message)
        folder = worktrees_folder(self.root, campaign) / f"p{proposal_id}"
        git_dir = aside.add(self._commands, self._common, folder, parent)
        try:
            sha = self._commands.text(
                "fast-import",
                "--quiet",
                "--done",
                "--force",
                "--date-format=raw",
                stdin=stream,
                git_dir=git_dir,
            )
        finally:
            aside.drop(self._common, folder)
        self._objects.remember(sha, parent, contents)
        self._pack_refs_sometimes()
        self.made(sha, parent, ref)
        return sha

    def revert_commit(self, tip: str, tree_of: str, message: str) -> str:
        """A commit on `tip` with the files of `tree_of`."""
        sha = self._commands.text("commit-tree", f"{tree_of}^{{tree}}", "-p", tip, stdin=message.encode())
        self.made(sha, tip, "")
        return sha

    def move_trunk(self, campaign: str, to: str, expected: str | None) -> None:
        """Moves the campaign's branch if it is where it is expected to be; None: it must not exist."""
        if words := self.held(campaign):
            raise UserError(f"{words}, then `agent resume`")
        try:
            self._commands.raw("update-ref", _branch(campaign), to, expected or "0" * len(to))
        except GitFailed as error:
            now = self.trunk(campaign)
            if now == expected:
                raise
            raise UserError(
                f"branch caddie/{campaign} is {_at(now)}, and was {_at(expected)} for Caddie: somebody moved it. "
                f"Put it back ({_put_back(campaign, expected)}), then `agent resume`"
            ) from error
        self.moved(campaign, to)

    def present(self, shas: Collection[str]) -> set[str]:
        """Those of these commits that this repository has."""
        asked = "".join(f"{sha}\n" for sha in shas).encode()
        found = self._commands.text("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
        return {line.removesuffix(" commit") for line in found.splitlines() if line.endswith(" commit")}

    def pack(self, sha: str, parent: str) -> bytes:
        """All that a commit has and its parent lacks."""
        asked = f"{sha}\n^{parent}\n".encode()
        return self._commands.raw("pack-objects", "--revs", "--thin", "--stdout", "--quiet", stdin=asked)

    def unpack(self, sha: str, pack: bytes) -> None:
        """Takes in a commit that another clone has packed. Raises UserError where the pack is not what it should be."""
        try:
            self._commands.raw("unpack-objects", "-q", "--strict", stdin=pack)
        except GitFailed as error:
            raise UserError(f"commit {sha[:10]} can't be unpacked: {error}") from error
        if sha not in self.present([sha]):
            raise UserError(f"a pack did not hold the commit {sha[:10]} that it is kept for")

    def put_refs(self, refs: Mapping[str, str]) -> None:
        """Keeps these commits by these refs of ours."""
        wrong = [ref for ref in refs if not _OURS.fullmatch(ref)]
        if wrong:
            raise UserError(f"{wrong[0][:100]!r} is no ref of Caddie's")
        lines = "".join(f"update {ref} {sha}\n" for ref, sha in refs.items())
        self._commands.raw("update-ref", "--stdin", stdin=lines.encode())

    def sweep(self, campaign: str) -> None:
        """Removes what killed controllers of this campaign left behind: worktrees and locks of its refs."""
        aside.sweep(self._common, worktrees_folder(self.root, campaign))
        for lock in (self._common / "refs" / "caddie" / campaign).glob("*.lock"):
            lock.unlink(missing_ok=True)
        (self._common / f"{_branch(campaign)}.lock").unlink(missing_ok=True)
        self._unpacked = sum(1 for _ in (self._common / "refs" / "caddie" / campaign).glob("p*"))
        self._pack_refs_sometimes(0)

    def adopt(self, campaign: str) -> str:
        """Merges the campaign's branch into the person's branch, by their own git; gives what git said."""
        if self.trunk(campaign) is None:
            raise UserError(
                f"there is no branch caddie/{campaign} any more; `agent lineage --campaign {campaign}` names its "
                f"commits, and `git branch caddie/{campaign} COMMIT` makes it again"
            )
        git = Git(str(self.root))
        if git.status("--porcelain", "--untracked-files=no"):
            raise UserError("the checkout has uncommitted changes: commit or stash them, then adopt again")
        begun = [name for name, file in UNDER_WAY.items() if (self._git_dir / file).exists()]
        if begun:  # a person's own merge may leave the status clean, and must not be aborted with ours
            raise UserError(f"a {begun[0]} is under way in the checkout: finish it or abort it, then adopt again")
        try:
            return str(git.merge("--no-edit", f"caddie/{campaign}"))
        except GitCommandError as error:
            git.merge("--abort", with_exceptions=False)
            said = line(f"{error.stdout} {error.stderr}", 600)
            raise UserError(
                f"git merge caddie/{campaign} failed, and nothing was changed: {said} "
                f"Run `git merge caddie/{campaign}` to mend it by hand"
            ) from error

    def refuse_name(self, campaign: str) -> None:
        """Before a campaign of this name is written down: its branch must be free to be made."""
        if self.trunk(campaign) is not None:
            raise UserError(
                f"there is a branch caddie/{campaign} already: choose another --campaign name, "
                f"or remove it (git branch -D caddie/{campaign})"
            )
        if self._commands.raw("rev-parse", "--verify", "--quiet", "refs/heads/caddie", fine=(0, 1)):
            raise UserError(
                f"your branch caddie leaves no room for a branch caddie/{campaign}: "
                "rename it (git branch -m caddie NAME), then start again"
            )

    # ------------------------------------------------------------ how

    def _contents(self, parent: str, files: Mapping[str, str]) -> dict[str, tuple[str, bytes]]:
        """Mode and bytes of each file: a mode stays as it is at the parent."""
        found = {}
        for path, text in sorted(files.items()):
            entry = self._objects.entry(parent, str(safe(path)))
            if entry is not None and entry.mode not in PLAIN:
                raise EditError(f"{path} is not a plain file")
            found[path] = (entry.mode if entry else "100644", utf8(path, text))
        return found

    def _pack_refs_sometimes(self, more: int = 1) -> None:
        self._unpacked += more
        if self._unpacked >= PACK_EVERY:
            self._unpacked = 0
            self._commands.raw("pack-refs", "--all")

    def _full(self, commit: str) -> str:
        return commit if len(commit) in (40, 64) else self.resolve(commit)


def _branch(campaign: str) -> str:
    return f"refs/heads/caddie/{campaign}"


def _at(sha: str | None) -> str:
    return f"at {sha[:10]}" if sha else "absent"


def _put_back(campaign: str, expected: str | None) -> str:
    return f"git branch -f caddie/{campaign} {expected}" if expected else f"git branch -D caddie/{campaign}"

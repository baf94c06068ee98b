"""The person's git repository: candidates as commits, the campaign's branch, and nothing else touched.

Takes a folder inside a repository; gives `Repository`. Writes only `refs/caddie/*`, the branches `caddie/*`,
`.git/info/exclude` and detached worktrees below `.caddie/`. Hooks, filters, signing and the person's settings never act on
what a candidate wrote.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from subprocess import PIPE

from git import Git
from git.exc import GitCommandError

from agent.errors import EditError, UserError

# A person's settings, hooks, filters and templates must not run on candidate code, and git must never ask.
SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "protocol.allow": "never",
}
NOBODY = {"NAME": "Caddie", "EMAIL": "caddie@localhost"}
MAX_FILE = 2_000_000


def message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """A commit message; line breaks in what a model wrote can't forge a trailer."""
    lines = [f"{key}: {' '.join(value.split())}" for key, value in trailers.items() if value]
    title = " ".join(subject.split())[:100] or "An idea"
    paragraphs = [" ".join(part.split()) for part in body.split("\n\n")]
    # A body paragraph that looks like trailers would be read as such if it came last; ours always come last.
    text = "\n\n".join(part for part in paragraphs if part)
    return "\n\n".join(part for part in (title, text, "\n".join(lines)) if part) + "\n"


class Repository:
    """One person's repository, found from any folder inside it."""

    def __init__(self, where: Path) -> None:
        if shutil.which("git") is None:
            raise UserError("git is not installed; install it (apt-get install git) and try again")
        try:
            top = Git(str(where)).rev_parse("--show-toplevel", "--git-common-dir", env=_env())
        except GitCommandError as error:
            raise UserError(
                f"{where} is not inside a git working tree: run `git init` and commit your script first"
            ) from error
        lines = top.splitlines()
        self.root = Path(lines[0])
        self._git_dir = (where / lines[1]).resolve()
        self._git = Git(str(self.root))
        try:
            self.head()
        except GitCommandError as error:
            raise UserError(f"{self.root} has no commit yet: commit your script first") from error

    # ------------------------------------------------------------ reading

    def head(self) -> str:
        return self._run("rev-parse", "--verify", "HEAD^{commit}")

    def resolve(self, rev: str) -> str:
        try:
            return self._run("rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}")
        except GitCommandError as error:
            raise UserError(f"no commit {rev!r} in {self.root}") from error

    def dirty(self, paths: Collection[str]) -> list[str]:
        """Those of the paths whose file differs from HEAD, staged or not. Reads the index without refreshing it."""
        changed = []
        for path in paths:
            file = self.root / path
            content = file.read_bytes() if file.is_file() else None
            if content != self._blob(self.head(), path):
                changed.append(path)
        return changed

    def files(self, commit: str, paths: Collection[str]) -> dict[str, str]:
        """Text of these files at a commit."""
        result = {}
        for path in paths:
            blob = self._blob(commit, path)
            if blob is None:
                raise UserError(f"{path} is not in commit {commit[:10]}; commit it first")
            if len(blob) > MAX_FILE:
                raise UserError(f"{path} has {len(blob):,} bytes; at most {MAX_FILE:,} can be edited")
            try:
                result[path] = blob.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is not UTF-8 text: {error}") from error
        return result

    def diff(self, a: str, b: str, paths: Collection[str] = ()) -> str:
        options = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
        return self._run("diff", *options, a, b, "--", *paths, strip=False)

    def patch_id(self, diff: str) -> str:
        """The same for the same hunks, wherever they stand."""
        return self._run("patch-id", "--stable", stdin=diff.encode()).split(" ")[0]

    def trunk(self, campaign: str) -> str | None:
        try:
            return self._run("rev-parse", "--verify", "--quiet", f"refs/heads/caddie/{campaign}")
        except GitCommandError:
            return None

    def export(self, commit: str, into: Path) -> None:
        """Plain files of a commit: no links, no filters, no attributes."""
        into.mkdir(parents=True, exist_ok=True)
        archive = self._raw("archive", "--format=tar", commit)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar.getmembers():
                if member.isfile() or member.isdir():
                    tar.extract(member, into, filter="data")

    # ------------------------------------------------------------ writing

    def exclude(self, patterns: Collection[str]) -> None:
        """Lists what Caddie writes in .git/info/exclude, once."""
        path = self._git_dir / "info" / "exclude"
        path.parent.mkdir(exist_ok=True)
        have = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        missing = [pattern for pattern in patterns if pattern not in have.splitlines()]
        if missing:
            start = "" if not have or have.endswith("\n") else "\n"
            with path.open("a", encoding="utf-8") as file:
                file.write(start + "\n".join(missing) + "\n")

    def commit_candidate(
        self, campaign: str, proposal_id: int, parent: str, files: Mapping[str, str], message: str
    ) -> str:
        """One commit on `parent`, made in a detached worktree, kept by a ref of its own.

        A second call after a kill gives a commit with the same tree and moves the ref to it.
        """
        folder = self.root / ".caddie" / campaign / "worktrees" / f"p{proposal_id}"
        self._drop(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._run("worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder), parent)
        try:
            sha = self._commit_in(folder, parent, files, message)
            self._run("update-ref", f"refs/caddie/{campaign}/p{proposal_id}", sha)
        finally:
            self._drop(folder)
        return sha

    def revert_commit(self, tip: str, tree_of: str, message: str) -> str:
        """A commit on `tip` with the files of `tree_of`."""
        return self._run("commit-tree", f"{tree_of}^{{tree}}", "-p", tip, stdin=message.encode())

    def move_trunk(self, campaign: str, to: str, expected: str | None) -> None:
        """Moves the campaign's branch if it is where it is expected to be; None: it must not exist."""
        try:
            self._run("update-ref", f"refs/heads/caddie/{campaign}", to, expected or "0" * 40)
        except GitCommandError as error:
            now = self.trunk(campaign)
            raise UserError(
                f"branch caddie/{campaign} is at {now and now[:10]}, not at {expected and expected[:10]}: somebody moved it. "
                f"Put it back (git branch -f caddie/{campaign} {expected}) and resume"
            ) from error

    def merge_file(self, base: str, ours: str, theirs: str) -> str | None:
        """Three-way merge of one file; None when the two changed the same place."""
        if ours == base or ours == theirs:
            return theirs
        if theirs == base:
            return ours
        folder = self.root / ".caddie" / f".merge-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in (("ours", ours), ("base", base), ("theirs", theirs)):
                (folder / name).write_text(text, "utf-8", newline="")
            return self._raw(
                "merge-file", "-p", *(str(folder / name) for name in ("ours", "base", "theirs"))
            ).decode("utf-8")
        except GitCommandError:
            return None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, campaign: str) -> None:
        """Removes the worktrees of killed controllers."""
        for folder in (self.root / ".caddie" / campaign / "worktrees").glob("*"):
            self._drop(folder)
        self._run("worktree", "prune")

    def adopt(self, campaign: str) -> str:
        """Merges the campaign's branch into the person's branch, with git's own merge; gives what git said."""
        if self.trunk(campaign) is None:
            raise UserError(f"there is no branch caddie/{campaign}")
        if Git(str(self.root)).status("--porcelain", "--untracked-files=no"):
            raise UserError("the checkout has uncommitted changes: commit or stash them, then adopt again")
        try:
            return str(Git(str(self.root)).merge("--no-edit", f"caddie/{campaign}"))
        except GitCommandError as error:
            Git(str(self.root)).merge("--abort", with_exceptions=False)
            raise UserError(f"caddie/{campaign} does not merge cleanly; nothing was changed. Merge it by hand") from error

    # ------------------------------------------------------------ how

    def _commit_in(self, folder: Path, parent: str, files: Mapping[str, str], message: str) -> str:
        git = Git(str(folder))
        self._run("read-tree", parent, git=git)
        for path, text in files.items():
            blob = self._run("hash-object", "-w", "--stdin", "--no-filters", stdin=text.encode(), git=git)
            mode = self._run("ls-tree", "--format=%(objectmode)", parent, "--", path) or "100644"
            if mode not in ("100644", "100755"):
                raise EditError(f"{path} is not a plain file")
            self._run("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", git=git)
        tree = self._run("write-tree", git=git)
        return self._run("commit-tree", tree, "-p", parent, stdin=message.encode(), git=git)

    def _drop(self, folder: Path) -> None:
        """Takes a worktree away without asking git to look at its files."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._git_dir / "worktrees" / folder.name, ignore_errors=True)

    def _blob(self, commit: str, path: str) -> bytes | None:
        try:
            return self._raw("cat-file", "blob", f"{commit}:{path}")
        except GitCommandError:
            return None

    def _run(self, *args: str, stdin: bytes | None = None, git: Git | None = None, strip: bool = True) -> str:
        text = self._raw(*args, stdin=stdin, git=git).decode("utf-8", errors="replace")
        return text.strip() if strip else text

    def _raw(self, *args: str, stdin: bytes | None = None, git: Git | None = None) -> bytes:
        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        command = ["git", "--no-pager", *settings, *args]
        process = (git or self._git).execute(command, istream=PIPE, env=_env(), as_process=True)
        out, err = process.communicate(stdin or b"")
        if process.returncode:
            raise GitCommandError(command[-len(args) :], process.returncode, err, out)
        assert isinstance(out, bytes)
        return out


def _env() -> dict[str, str]:
    """Ours for every git process: no settings but the repository's own, no prompt, no editor, a plain author."""
    env = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        "LC_ALL": "C",
    }
    for who in ("AUTHOR", "COMMITTER"):
        env.update({f"GIT_{who}_{key}": value for key, value in NOBODY.items()})
    return env

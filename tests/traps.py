"""A person's repository in which everything that can start a program starts a canary, which leaves a file.

Takes a folder; gives a `Trap`, which knows whether the canary ran and what the person's configuration was.
"""

from pathlib import Path

from tests.person import git, make_repository


def words(text: str) -> list[str]:
    return text.split()


HOOKS = words("""
applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit prepare-commit-msg commit-msg post-commit
pre-rebase post-checkout post-merge pre-push pre-receive update proc-receive post-receive post-update
reference-transaction push-to-checkout pre-auto-gc post-rewrite sendemail-validate fsmonitor-watchman
post-index-change
""")
PROGRAMS = words("""
core.fsmonitor core.sshCommand core.pager core.editor core.askPass core.gitProxy core.alternateRefsCommand
sequence.editor gpg.program gpg.ssh.program gpg.x509.program gpg.ssh.defaultKeyCommand diff.external
diff.evil.command diff.evil.textconv merge.evil.driver filter.evil.clean filter.evil.smudge filter.evil.process
filter.lfs.clean filter.lfs.smudge filter.lfs.process credential.helper pager.diff-tree pager.cat-file
interactive.diffFilter trailer.x.command trailer.x.cmd uploadpack.packObjectsHook remote.origin.uploadpack
remote.origin.receivepack submodule.sub.update tar.evil.command man.evil.cmd browser.evil.cmd instaweb.httpd
""")
SETTINGS = {
    "filter.evil.required": "true",
    "filter.lfs.required": "true",
    "commit.gpgSign": "true",
    "tag.gpgSign": "true",
    "push.gpgSign": "true",
    "core.autocrlf": "true",
    "core.eol": "crlf",
    "core.safecrlf": "true",
    "core.untrackedCache": "true",
    "core.splitIndex": "true",
    "diff.noprefix": "true",
    "diff.ignoreSubmodules": "none",
    "status.submoduleSummary": "true",
    "submodule.recurse": "true",
    "fetch.recurseSubmodules": "true",
    "protocol.allow": "always",
    "protocol.ext.allow": "always",
    "protocol.file.allow": "always",
    "protocol.ssh.allow": "always",
    "gc.auto": "1",
    "maintenance.auto": "true",
    "receive.autogc": "true",
    "advice.detachedHead": "false",
}
ATTRIBUTES = (
    "* filter=evil diff=evil merge=evil ident export-subst eol=crlf text\n"
    "*.sh export-ignore\n*.bin filter=lfs diff=lfs merge=lfs -text\nsub/* working-tree-encoding=UTF-16\n"
)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"


class Trap:
    """A person's repository in which everything that can start a program starts the canary."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp = tmp_path
        self.marker = tmp_path / "canary"
        self.program = tmp_path / "canary.sh"
        self.program.write_text(f'#!/bin/sh\necho "$0 $@" >> "{self.marker}"\n')
        self.program.chmod(0o755)
        self.root = make_repository(tmp_path)
        (self.root / "weights.bin").write_text(POINTER)
        (self.root / "stamp.txt").write_text("$Id$ $Format:%H$\n")
        (self.root / "parent").symlink_to(tmp_path)
        (self.root / "link.py").symlink_to("/etc/hostname")
        git(self.root, "add", ".")
        self.submodule()
        for path in (".gitattributes", "sub/.gitattributes"):
            (self.root / path).write_text(ATTRIBUTES)
            blob = git(self.root, "hash-object", "-w", "--no-filters", path).strip()
            git(self.root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
        git(self.root, "commit", "-q", "-m", "Traps")
        self.arm()

    def submodule(self) -> None:
        """A link to a commit that is not there, and what git is told to do with it."""
        (self.root / ".gitmodules").write_text(
            f'[submodule "sub"]\n path = module\n url = ext::{self.program}\n update = !{self.program}\n'
            f'[submodule "other"]\n path = other\n url = file://{self.tmp}\n fetchRecurseSubmodules = true\n'
        )
        head = git(self.root, "rev-parse", "HEAD").strip()
        git(self.root, "update-index", "--add", "--cacheinfo", f"160000,{head},module")

    def arm(self) -> None:
        """Only now: the person's own git would run it."""
        config: list[str] = []
        lines = [*((name, str(self.program)) for name in PROGRAMS), *SETTINGS.items()]
        for name, value in lines:
            section, key = name.split(".", 1)
            middle, _, last = key.rpartition(".")
            config.append(
                f'[{section} "{middle}"]\n\t{last} = {value}' if middle else f"[{section}]\n\t{last} = {value}"
            )
        included = self.root / ".git" / "more"
        included.write_text(
            f"[core]\n\thooksPath = {self.root / '.git' / 'other hooks'}\n\tattributesFile = {self.tmp}/attributes\n"
        )
        (self.tmp / "attributes").write_text(ATTRIBUTES)
        config.append(f"[include]\n\tpath = {included}")
        aliases = (
            "rev-parse",
            "cat-file",
            "ls-tree",
            "diff-tree",
            "fast-import",
            "update-ref",
            "worktree",
            "commit-tree",
        )
        config += [f"[alias]\n\t{name} = !{self.program}" for name in aliases]
        config.append(f'[url "ext::{self.program} "]\n\tinsteadOf = ssh://')
        with (self.root / ".git" / "config").open("a") as file:
            file.write("\n".join(config) + "\n")
        (self.root / ".git" / "info" / "attributes").write_text(ATTRIBUTES)
        for folder in (self.root / ".git" / "hooks", self.root / ".git" / "other hooks"):
            folder.mkdir(exist_ok=True)
            for hook in HOOKS:
                (folder / hook).write_bytes(self.program.read_bytes())
                (folder / hook).chmod(0o755)

    def begin(self) -> None:
        """What went before was the person's own git, or the test's."""
        self.marker.unlink(missing_ok=True)
        self.before = self.config()

    def config(self) -> dict[str, bytes]:
        folder = self.root / ".git"
        names = ("config", "more", "info/attributes", "index", "HEAD")
        return {name: (folder / name).read_bytes() for name in names}

"""Trees, repositories and environments that try to make git run something, or lead it outside: nothing does.

The canary is a program that leaves a file. It is put wherever git looks for programs, and must never have run; of the
person's configuration not a byte may change.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import EditError, UserError
from agent.worktree import Repository, patch_id
from agent.worktree.objects import safe
from tests.person import SCRIPT, everything, git
from tests.traps import ATTRIBUTES, POINTER, Trap, words

ODD_REFS = (
    "refs/heads/HEAD",
    "refs/tags/HEAD",
    "refs/heads/--upload-pack=x",
    "refs/heads/a;touch x",
    "refs/heads/$(id)",
    "refs/heads/caddie-x",
)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    made = Trap(tmp_path)
    made.begin()
    yield made
    assert not made.marker.exists(), made.marker.read_text()
    assert made.config() == made.before


def test_the_traps_bite(tmp_path: Path) -> None:
    """Else the tests below prove nothing: the person's own git runs hooks, filters and drivers."""
    made = Trap(tmp_path)
    made.marker.unlink(missing_ok=True)
    bites = {
        ("hook", "run", "post-checkout"): "post-checkout",
        ("status", "--porcelain"): "canary.sh",
        ("diff", "--no-ext-diff", "HEAD~1", "HEAD"): "canary.sh",
        ("cat-file", "--filters", "HEAD:weights.bin"): "canary.sh",
        ("update-ref", "refs/heads/x", "HEAD"): "reference-transaction",
        ("ls-remote", "ssh://example.org/x"): "canary.sh",
    }
    for command, word in bites.items():
        subprocess.run(["git", *command], cwd=made.root, capture_output=True, check=False, timeout=30)
        assert made.marker.exists(), command
        assert word in made.marker.read_text(), command
        made.marker.unlink()


def test_nothing_in_a_repository_runs(trap: Trap) -> None:
    repo = Repository(trap.root / "sub")
    sha = everything(repo)
    out = repo.root / ".caddie" / "out"
    assert (out / "train.py").read_text() == SCRIPT + "x = 1\n"
    assert (out / "weights.bin").read_text() == POINTER  # no filter fetched what it points to
    assert (out / "stamp.txt").read_text() == "$Id$ $Format:%H$\n"
    assert (out / "run.sh").is_file()
    assert (out / "sub" / "notes.txt").read_bytes() == b"mine\n"
    for name in ("module", "parent", "link.py", "outside", ".git"):
        assert not os.path.lexists(out / name)
    assert (
        "gpgsig"
        not in subprocess.run(["git", "cat-file", "commit", sha], cwd=trap.root, capture_output=True, text=True).stdout
    )
    assert "+x = 1" in repo.diff(f"{sha}^", sha)
    assert repo.diff(f"{sha}^", sha).startswith("diff --git a/train.py b/train.py\n")


def test_what_a_candidate_may_edit_can_be_what_git_reads(trap: Trap) -> None:
    """Even where a track lets it write attributes, modules, hooks and a configuration into its tree."""
    repo = Repository(trap.root)
    hostile = {
        ".gitattributes": ATTRIBUTES,
        ".gitmodules": f'[submodule "sub"]\n path = module\n url = ext::{trap.program}\n update = !{trap.program}\n',
        ".gitconfig": f"[core]\n fsmonitor = {trap.program}\n",
        "config": f"[core]\n fsmonitor = {trap.program}\n",
        "hooks/post-checkout": f"#!/bin/sh\n{trap.program}\n",
        "weights.bin": POINTER,
        "HEAD": "ref: refs/heads/main\n",
        "-x": "--upload-pack=x\n",
        "a\tb": "tab\n",
        'qu"ote\\': "quoted\n",
        "-\x1b[31m": "escape\n",
    }
    parent = repo.head()
    sha = repo.commit_candidate("night", 1, parent, hostile, "Hostile\n")
    assert repo.files(sha, list(hostile)) == hostile
    diff = repo.diff(parent, sha)
    assert patch_id(diff) and "+quoted" in diff
    out = trap.tmp / "out"
    repo.export(sha, out)
    assert {path for path in hostile if (out / path).read_text() != hostile[path]} == set()
    again = repo.commit_candidate("night", 2, sha, {"-x": "y\n"}, "Again\n")
    assert repo.diff(sha, again, ["-x"]).count("\n+y") == 1
    repo.move_trunk("night", sha, None)
    repo.move_trunk("night", again, sha)
    assert repo.dirty([".gitattributes"]) == []


@pytest.mark.parametrize(
    "path",
    [
        *(".git", ".git/hooks/post-checkout", ".GIT/config", "sub/.Git/config", ".git./config", ".git /config"),
        *("git~1/config", "GIT~1", ".git::$INDEX_ALLOCATION/config", ".g\u200cit/config", ".\u200dgit", "\ufeff.git/x"),
        *("../x", "/etc/x", "a/../x", "a/./x", "a\nb", "a\0b", "", "."),
    ],
)
def test_no_path_leads_into_gits_folder_or_out(trap: Trap, path: str) -> None:
    with pytest.raises(UserError, match="not a path inside the repository"):
        safe(path)
    repo = Repository(trap.root)
    before = {one: one.read_bytes() for one in (trap.root / ".git").rglob("hooks/*")}
    with pytest.raises(UserError):
        repo.commit_candidate("night", 1, repo.head(), {path: "x\n"}, "x\n")
    assert {one: one.read_bytes() for one in (trap.root / ".git").rglob("hooks/*")} == before


def test_ordinary_names_stay_ordinary() -> None:
    for path in (".gitignore", ".github/x", "git", "agit~1", ".gitx", "a.git", "x.git/y", "é.py", "a:b", "a ."):
        assert str(safe(path)) == path


def test_links_in_a_tree_lead_nowhere(trap: Trap) -> None:
    """An editable file that is a link, or lies behind one."""
    (trap.tmp / "secret.py").write_text("key = 1\n")
    (trap.tmp / "sub").mkdir()
    (trap.tmp / "sub" / "secret.py").write_text("key = 2\n")
    repo = Repository(trap.root)
    head = repo.head()
    for path in ("link.py", "parent/secret.py", "parent/sub/secret.py", "outside/hostname"):
        with pytest.raises(UserError):
            repo.files(head, [path])
        with pytest.raises(UserError, match="not a plain file"):
            repo.edited(head, [path])
    with pytest.raises(EditError, match="not a plain file"):
        repo.commit_candidate("night", 1, head, {"link.py": "x\n"}, "x\n")
    sha = repo.commit_candidate("night", 2, head, {"parent/secret.py": "x\n"}, "x\n")
    repo.export(sha, trap.tmp / "out")
    assert (trap.tmp / "out" / "parent" / "secret.py").read_text() == "x\n"  # a folder of the tree, not the link
    assert (trap.tmp / "secret.py").read_text() == "key = 1\n"


def test_an_export_goes_through_no_link(trap: Trap) -> None:
    """Whatever lay in the folder before."""
    out = trap.tmp / "out"
    out.mkdir()
    (out / "train.py").symlink_to(trap.tmp / "precious")
    (trap.tmp / "precious").write_text("mine")
    Repository(trap.root).export("HEAD", out)
    assert (trap.tmp / "precious").read_text() == "mine" and not (out / "train.py").is_symlink()


def raw_tree(root: Path, *entries: bytes) -> str:
    """A commit of a tree that no honest git makes."""
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=root, input=b"owned\n", capture_output=True, check=True
    )
    sha = bytes.fromhex(blob.stdout.decode().strip())
    body = b"".join(entry + b"\0" + sha for entry in entries)
    made = subprocess.run(
        ["git", "hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
        cwd=root,
        input=body,
        capture_output=True,
        check=True,
    )
    tree = made.stdout.decode().strip()
    return git(root, "-c", "commit.gpgSign=false", "commit-tree", tree, "-m", "Odd").strip()


@pytest.mark.parametrize("name", [b".git", b"..", b".", b"git~1", b".GIT", b"a/../../x", b"../x", b"/etc/x", b"a\nb"])
def test_trees_that_no_honest_git_makes_are_refused(trap: Trap, name: bytes) -> None:
    commit = raw_tree(trap.root, b"100644 " + name)
    trap.begin()
    out = trap.tmp / "deep" / "out"
    with pytest.raises(UserError, match="not a path inside the repository"):
        Repository(trap.root).export(commit, out)
    assert [path.name for path in (trap.tmp / "deep").rglob("*")] == ["out"]


def test_a_link_and_a_folder_of_one_name(trap: Trap) -> None:
    commit = raw_tree(trap.root, b"120000 a", b"100644 a/b", b"100644 caf\xe9\xff", b"100644 \x1b[31m")
    trap.begin()
    out = trap.tmp / "out"
    Repository(trap.root).export(commit, out)
    assert {os.fsencode(path.relative_to(out)) for path in out.rglob("*")} == {
        b"a",
        b"a/b",
        b"caf\xe9\xff",
        b"\x1b[31m",
    }


def test_refs_with_odd_names(trap: Trap) -> None:
    head = git(trap.root, "rev-parse", "HEAD").strip()
    other = git(trap.root, "rev-parse", "HEAD~1").strip()
    for name in (*ODD_REFS, f"refs/heads/{head}"):
        path = trap.root / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{other}\n")
    repo = Repository(trap.root)
    assert repo.head() == head == repo.resolve(head)
    assert repo.resolve("--upload-pack=x") == other  # a name, not an option
    everything(repo)


def test_a_missing_object_is_fetched_from_nowhere(trap: Trap) -> None:
    """A partial clone asks its remote for what it lacks, by whatever program the configuration names."""
    for number, url in enumerate((f"ext::{trap.program} x", "ssh://example.org/x", f"file://{trap.tmp}/nothing")):
        with (trap.root / ".git" / "config").open("a") as file:
            file.write(f'[remote "p{number}"]\n\turl = {url}\n\tpromisor = true\n\tpartialclonefilter = blob:none\n')
            file.write(f"\tuploadpack = {trap.program}\n[extensions]\n\tpartialClone = p{number}\n")
            file.write("[core]\n\trepositoryFormatVersion = 1\n")
    blob = git(trap.root, "rev-parse", "HEAD:train.py").strip()
    (trap.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    trap.marker.unlink(missing_ok=True)
    subprocess.run(["git", "cat-file", "-p", blob], cwd=trap.root, capture_output=True, check=False, timeout=30)
    assert trap.marker.exists()  # so does the person's own git
    trap.begin()
    repo = Repository(trap.root)
    with pytest.raises(UserError, match=r"misses .* of its own"):
        repo.files(repo.head(), ["train.py"])
    with pytest.raises(UserError):
        repo.export(repo.head(), trap.tmp / "out")


def test_objects_may_be_borrowed_and_are_never_written_there(trap: Trap) -> None:
    lender = trap.tmp / "lender"
    git(trap.tmp, "init", "-q", "--bare", str(lender))
    (trap.root / ".git" / "objects" / "info" / "alternates").write_text(f"{lender}/objects\n{trap.tmp}/nowhere\n")
    before = set((lender / "objects").rglob("*"))
    trap.begin()
    everything(Repository(trap.root))
    assert set((lender / "objects").rglob("*")) == before


VARIABLES = words("""
GIT_SSH GIT_SSH_COMMAND GIT_ASKPASS SSH_ASKPASS GIT_EDITOR GIT_SEQUENCE_EDITOR GIT_PAGER PAGER EDITOR VISUAL
GIT_EXTERNAL_DIFF GIT_PROXY_COMMAND GIT_TEMPLATE_DIR GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG
GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE GIT_GRAFT_FILE GIT_SHALLOW_FILE
GIT_REPLACE_REF_BASE GIT_PREFIX GIT_NAMESPACE GIT_TRACE GIT_TRACE2 GIT_TRACE2_EVENT GIT_TRACE2_PERF GIT_TRACE_SETUP
GIT_TRACE_PACK_ACCESS GIT_ATTR_SOURCE GIT_QUARANTINE_PATH GIT_REFLOG_ACTION GIT_INTERNAL_SUPER_PREFIX
GIT_DEFAULT_HASH GIT_DIFF_OPTS GIT_AUTHOR_DATE GIT_COMMITTER_DATE GIT_AUTHOR_NAME
""")
SWITCHES = words("""
GIT_ICASE_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS GIT_FLUSH GIT_TRACE_CURL GIT_NO_REPLACE_OBJECTS
""")


def test_no_variable_of_the_launcher_has_an_effect(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Repository(trap.root)
    for name in VARIABLES:
        monkeypatch.setenv(name, str(trap.program))
    for name in SWITCHES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "2")
    for number, name in enumerate(("core.hooksPath", "core.fsmonitor")):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", name)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", str(trap.program))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor'='{trap.program}'")
    program = trap.program.read_bytes()
    sha = everything(repo)
    assert trap.program.read_bytes() == program  # no trace was written to it
    for name in (*VARIABLES, *SWITCHES, "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.delenv(name)
    said = git(trap.root, "cat-file", "commit", sha)
    assert "Caddie <caddie@localhost>" in said and "author" in said
    assert git(trap.root, "rev-parse", "refs/caddie/night/p1").strip() == sha

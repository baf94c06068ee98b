"""Clients from outside: skills copied to where they find them, and the lines by which they start our server."""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import clients
from agent.cli.app import app
from agent.errors import UserError

OURS = Path(__file__).parent.parent / "skills"
SKILL = "---\nname: muon\ndescription: What Muon needs.\n---\n\nOne.\n"


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    folder = tmp_path / "skills"
    (folder / "muon" / "more").mkdir(parents=True)
    (folder / "muon" / "SKILL.md").write_text(SKILL)
    (folder / "muon" / "more" / "table.csv").write_text("a,b\n")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    (root / "runs.db").touch()
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return root


@pytest.mark.parametrize(("client", "folder"), [("claude", ".claude/skills"), ("codex", ".agents/skills")])
@pytest.mark.parametrize("user", [False, True])
def test_each_client_finds_the_skills_where_it_looks(
    workspace: Path, tmp_path: Path, client: str, folder: str, user: bool
) -> None:
    args = ["skills", "--folder", str(OURS), "--install", client, *(["--user"] if user else []), "--json"]
    said = CliRunner().invoke(app, args)
    root = tmp_path / "home" if user else workspace
    assert said.exit_code == 0 and json.loads(said.output)["folder"] == str(root / folder)
    names = {path.parent.name for path in (root / folder).glob("*/SKILL.md")}
    assert names == {path.parent.name for path in OURS.glob("*/SKILL.md")} and len(names) >= 20
    assert (root / folder / "muon" / "SKILL.md").read_bytes() == (OURS / "muon" / "SKILL.md").read_bytes()


def test_a_file_that_differs_stays_until_force_is_said(skills: Path, tmp_path: Path) -> None:
    into = tmp_path / "client"
    assert [one.done for one in clients.install(skills, into)] == ["new", "new"]
    assert [one.done for one in clients.install(skills, into)] == ["same", "same"]
    mine = into / "muon" / "SKILL.md"
    mine.write_text("mine\n")
    assert [one.done for one in clients.install(skills, into)] == ["kept", "same"]
    assert mine.read_text() == "mine\n"
    said = CliRunner().invoke(app, ["skills", "--folder", str(skills), "--install", str(into)])
    assert said.exit_code == 1 and f"{mine} differs and was left as it is (--force replaces it)" in said.output
    assert [one.done for one in clients.install(skills, into, force=True)] == ["replaced", "same"]
    assert mine.read_text() == SKILL and not list(into.rglob(".SKILL*"))


def test_a_link_in_the_clients_folder_is_replaced_and_not_followed(skills: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    into = tmp_path / "client"
    (into / "muon").mkdir(parents=True)
    (into / "muon" / "SKILL.md").symlink_to(precious)
    assert clients.install(skills, into)[0].done == "kept"
    clients.install(skills, into, force=True)
    assert precious.read_text() == "precious" and (into / "muon" / "SKILL.md").read_text() == SKILL


@pytest.mark.parametrize("what", ["fault", "link", "none", "itself"])
def test_nothing_is_installed_where_anything_is_wrong(skills: Path, tmp_path: Path, what: str) -> None:
    into = tmp_path / "client"
    if what == "fault":
        (skills / "zz").mkdir()
        (skills / "zz" / "SKILL.md").write_text("no head")
    elif what == "link":
        (skills / "muon" / "passwd").symlink_to("/etc/passwd")
    elif what == "none":
        skills = tmp_path / "empty"
        skills.mkdir()
    else:
        into = skills
    words = {
        "fault": "does not start with YAML",
        "link": "passwd is no regular file",
        "none": "there are no skills in",
        "itself": "is where the skills are already",
    }
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words[what]):
        clients.install(skills, into)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_client_that_is_spelt_wrongly_is_no_folder(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"no client 'cluade'\. Did you mean 'claude'"):
        clients.skills_folder("cluade", workspace, user=False)
    with pytest.raises(UserError, match="--user goes with a client"):
        clients.skills_folder("./here", workspace, user=True)
    assert clients.skills_folder("./cluade", workspace, user=False) == Path("cluade")


def test_connect_says_how_and_writes_only_when_told(workspace: Path) -> None:
    said = CliRunner().invoke(app, ["connect", "claude", "--json"])
    found = json.loads(said.output)
    assert found["file"] == str(workspace / ".mcp.json") and not (workspace / ".mcp.json").exists()
    server = json.loads(found["text"])["mcpServers"]["caddie"]
    assert server["type"] == "stdio" and server["args"][-1] == "mcp"
    start = [server["command"], *server["args"]]
    assert found["command"] == ["claude", "mcp", "add", "--scope", "user", "caddie", "--", *start]
    assert "claude mcp add --scope user caddie -- " in CliRunner().invoke(app, ["connect", "claude"]).output
    CliRunner().invoke(app, ["connect", "claude", "--write"])
    assert json.loads((workspace / ".mcp.json").read_text())["mcpServers"]["caddie"] == server
    again = CliRunner().invoke(app, ["connect", "claude", "--write"])
    assert again.exit_code == 0 and "says it already" in again.output


def test_what_else_a_clients_file_says_stays(workspace: Path) -> None:
    file = workspace / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text('model = "o"  # mine\n[mcp_servers.other]\ncommand = "x"\n')
    clients.connect(clients.connection("codex", workspace, ("--may-approve",)))
    assert file.read_text().startswith('model = "o"  # mine\n')
    servers = tomllib.loads(file.read_text())["mcp_servers"]
    assert servers["other"] == {"command": "x"} and servers["caddie"]["args"][-2:] == ["mcp", "--may-approve"]
    with pytest.raises(UserError, match="another server caddie already"):
        clients.connect(clients.connection("codex", workspace))
    theirs = workspace / ".mcp.json"
    theirs.write_text('{"mcpServers": {"other": {"command": "é"}}, "more": 1}')
    clients.connect(clients.connection("claude", workspace))
    found = json.loads(theirs.read_text())
    assert found["more"] == 1 and found["mcpServers"]["other"] == {"command": "é"} and "caddie" in found["mcpServers"]


@pytest.mark.parametrize("text", ["{", "[]", '{"mcpServers": 3}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_file_that_is_not_understood_is_left_alone(workspace: Path, text: str | bytes) -> None:
    file = workspace / ".mcp.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"\.mcp\.json"):
        clients.connect(clients.connection("claude", workspace))
    assert file.read_bytes() == before

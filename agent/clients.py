"""Programs that can be the researcher from outside (Claude Code, Codex): where each looks for skills and for servers.

Takes the workspace; copies the skills to where a client finds them and gives, or writes, the lines by which it starts
`agent mcp`. Nothing of a person's is overwritten: a file that differs stays until `force` is said.
"""

import json
import os
import shutil
import stat
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent import skills
from agent.errors import UserError, did_you_mean

NAME = "caddie"
"""What our server is called in a client's list."""
MOST_FILES, MOST_BYTES = 2000, 20_000_000  # of all skills together; a client's folder is no place for more


@dataclass(frozen=True)
class Client:
    """Folders are relative to the workspace, or to the person's home."""

    title: str
    project_skills: str
    home_skills: str
    servers: str
    """The workspace's file that lists its servers."""
    add: tuple[str, ...]
    """How its own command adds one for all workspaces; what is to be started follows."""


CLIENTS = {
    "claude": Client(
        title="Claude Code",
        project_skills=".claude/skills",
        home_skills=".claude/skills",
        servers=".mcp.json",
        add=("claude", "mcp", "add", "--scope", "user", NAME, "--"),
    ),
    "codex": Client(
        title="Codex",
        project_skills=".agents/skills",
        home_skills=".agents/skills",  # it still reads ~/.codex/skills too, and calls that deprecated
        servers=".codex/config.toml",
        add=("codex", "mcp", "add", NAME, "--"),
    ),
}


def client(name: str) -> Client:
    found = CLIENTS.get(name)
    if found is None:
        raise UserError(f"no client {name!r}.{did_you_mean(name, CLIENTS)} There are {', '.join(CLIENTS)}.")
    return found


# ---------------------------------------------------------------- skills

Done = Literal["new", "same", "replaced", "kept"]


@dataclass(frozen=True)
class Copied:
    """What became of one file. `kept`: it differs from ours and was left as it is."""

    path: Path
    done: Done


def skills_folder(where: str, workspace: Path, *, user: bool) -> Path:
    """Where the skills go: a client by its name, or a folder."""
    if where in CLIENTS:
        known = CLIENTS[where]
        return Path.home() / known.home_skills if user else workspace / known.project_skills
    if user:
        raise UserError(f"--user goes with a client ({', '.join(CLIENTS)}); {where} is a folder of its own")
    if "/" not in where and not Path(where).is_dir():
        client(where)
    return Path(where)


def install(source: Path, into: Path, *, force: bool = False) -> tuple[Copied, ...]:
    """Copies every skill, with what lies beside it. A skill with a fault stops all: nothing is copied."""
    faults = skills.lint(source)
    if faults:
        words = "; ".join(f"{fault.path}: {fault.words}" for fault in faults[:3])
        raise UserError(f"nothing was installed: {words}. `agent skills --lint` lists what is wrong")
    found = skills.load(source)
    if not found:
        raise UserError(f"there are no skills in {source}")
    if into.resolve() == source.resolve():
        raise UserError(f"{into} is where the skills are already")
    files = list(_files(found))
    try:
        return tuple(_copy(file, into / file.relative_to(source), force) for file in files)
    except OSError as error:
        raise UserError(f"can't write the skills to {into}: {error}") from error


def _files(found: tuple[skills.Skill, ...]) -> Iterator[Path]:
    """Plain files alone: a link could bring in anything, and a skill may be a stranger's."""
    files, size = 0, 0
    for skill in found:
        for path in sorted(skill.path.parent.rglob("*")):
            kind = path.lstat()
            if stat.S_ISDIR(kind.st_mode):
                continue
            if not stat.S_ISREG(kind.st_mode):
                raise UserError(f"nothing was installed: {path} is no regular file")
            files, size = files + 1, size + kind.st_size
            if files > MOST_FILES or size > MOST_BYTES:
                raise UserError(f"nothing was installed: more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes")
            yield path


def _copy(source: Path, target: Path, force: bool) -> Copied:
    data = source.read_bytes()
    there = os.path.lexists(target)
    if there and not target.is_symlink() and target.is_file() and target.read_bytes() == data:
        return Copied(target, "same")
    if there and (not force or target.is_dir()):
        return Copied(target, "kept")
    _put(target, data)
    return Copied(target, "replaced" if there else "new")


def _put(target: Path, data: bytes) -> None:
    """Made aside and moved into place: no reader sees half a file, and a link there is replaced, not followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


# ---------------------------------------------------------------- servers


@dataclass(frozen=True)
class Connection:
    """How a client is told of our server."""

    path: Path
    """The workspace's file for it."""
    text: str
    """What has to stand there."""
    command: tuple[str, ...]
    """The client's own command that does it for all workspaces."""


def connection(name: str, workspace: Path, extra: tuple[str, ...] = ()) -> Connection:
    """`extra`: further arguments of `agent mcp`."""
    known = client(name)
    start = (*agent_command(), "mcp", *extra)
    return Connection(workspace / known.servers, _text(known, start), (*known.add, *start))


def agent_command() -> tuple[str, ...]:
    """How a client starts this installation: by name where that means us, else by its whole path."""
    script = Path(sys.executable).with_name("agent")
    named = shutil.which("agent")
    if named is not None and script.exists() and Path(named).resolve() == script.resolve():
        return ("agent",)
    return (str(script),) if script.exists() else (sys.executable, "-m", "agent.cli")


def connect(found: Connection) -> Done:
    """Adds our server to the workspace's file; another one of our name in it is an error."""
    try:
        before = found.path.read_text("utf-8") if found.path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {found.path}: {error}") from error
    after = _with(found, before)
    if after == before:
        return "same"
    try:
        _put(found.path, after.encode())
    except OSError as error:
        raise UserError(f"can't write {found.path}: {error}") from error
    return "replaced" if before else "new"


def _text(known: Client, start: tuple[str, ...]) -> str:
    if known.servers.endswith(".json"):
        server = {"type": "stdio", "command": start[0], "args": list(start[1:])}
        return json.dumps({"mcpServers": {NAME: server}}, indent=2) + "\n"
    # A JSON string is a TOML string, as long as nothing outside ASCII is escaped by halves.
    command, args = (json.dumps(part, ensure_ascii=False) for part in (start[0], list(start[1:])))
    return f"[mcp_servers.{NAME}]\ncommand = {command}\nargs = {args}\n"


def _with(found: Connection, before: str) -> str:
    """The file's text with our server in it."""
    is_json = found.path.suffix == ".json"
    key = "mcpServers" if is_json else "mcp_servers"
    parse = json.loads if is_json else tomllib.loads
    try:
        there = parse(before) if before.strip() else {}
    except ValueError as error:
        raise UserError(f"{found.path} can't be parsed ({error}); mend it, or add by hand:\n{found.text}") from error
    servers = there.get(key, {}) if isinstance(there, dict) else None
    if not isinstance(servers, dict):
        raise UserError(f"{found.path} has no table {key}; add by hand:\n{found.text}")
    ours = parse(found.text)[key][NAME]
    if servers.get(NAME) == ours:
        return before
    if NAME in servers:
        raise UserError(f"{found.path} has another server {NAME} already; remove it, then do this again")
    if is_json:
        return json.dumps({**there, key: {**servers, NAME: ours}}, indent=2, ensure_ascii=False) + "\n"
    return f"{before.rstrip()}\n\n{found.text}" if before.strip() else found.text

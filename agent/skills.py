"""Skills: what a planner can read about the work, one folder each, in the open Agent Skills format.

Takes the folder `skills/` of a workspace; gives `Skill` records, and for each file what is wrong with it. A skill may
be a stranger's: it is text, nothing in it is ever run, and what could mislead a reader's eye is refused.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from agent.errors import UserError, did_you_mean

FILE = "SKILL.md"
MOST_NAME, MOST_DESCRIPTION, MOST_LINES, MOST_BYTES = 64, 1024, 500, 64_000
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PARTS = re.compile(r"---\n(.*?)\n---\n(.*)", re.DOTALL)
_KEYS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Skill:
    name: str
    description: str
    """What it holds and when to read it: all that a reader sees of it before he asks for the rest."""
    body: str
    path: Path


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file."""

    path: Path
    words: str


def folder_of(workspace: Path) -> Path:
    return workspace / "skills"


def load(folder: Path) -> tuple[Skill, ...]:
    """Every skill without a fault, by name."""
    return tuple(found for _, found in _each(folder) if isinstance(found, Skill))


def lint(folder: Path) -> tuple[Fault, ...]:
    """What is wrong with the skills of a folder; nothing: empty."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of skills")
    return tuple(fault for _, found in _each(folder) if not isinstance(found, Skill) for fault in found)


def read(folder: Path, name: str) -> Skill:
    """One skill by its name. Raises UserError."""
    found = dict(_each(folder))
    skill = found.get(name)
    if isinstance(skill, Skill):
        return skill
    if skill is not None:
        raise UserError(f"skill {name}: " + "; ".join(fault.words for fault in skill))
    names = sorted(one for one, known in found.items() if isinstance(known, Skill))
    there = f"There are {', '.join(names)}." if names else f"There are none in {folder}."
    raise UserError(f"no skill {name!r}.{did_you_mean(name, names)} {there}")


def good_name(name: str) -> bool:
    return len(name) <= MOST_NAME and _NAME.fullmatch(name) is not None


def index(skills: tuple[Skill, ...]) -> str:
    """One line a skill: what a planner is shown before it asks for one."""
    return "\n".join(f"- {skill.name}: {' '.join(skill.description.split())}" for skill in skills)


def _each(folder: Path) -> Iterator[tuple[str, Skill | tuple[Fault, ...]]]:
    for path in sorted(folder.glob(f"*/{FILE}")):
        yield path.parent.name, _parse(path)


def _parse(path: Path) -> Skill | tuple[Fault, ...]:
    try:
        text = _text(path)
        parts = _PARTS.fullmatch(text)
        if parts is None:
            raise ValueError("does not start with YAML between two lines of ---")
        head = yaml.safe_load(parts[1])
        if not isinstance(head, dict):
            raise ValueError("its YAML is no table of keys")
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        return (Fault(path, " ".join(str(error).split())[:300]),)
    faults = [*_head_faults(path, head), *_body_faults(path, parts[2])]
    if faults:
        return tuple(Fault(path, words) for words in faults)
    return Skill(head["name"], head["description"].strip(), parts[2].strip() + "\n", path)


def _text(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise ValueError("is no regular file")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES:,} bytes")
    return data.decode("utf-8")


def _head_faults(path: Path, head: dict[object, object]) -> Iterator[str]:
    unknown = [str(key) for key in head if key not in _KEYS]
    if unknown:
        yield f"unknown key {unknown[0]!r}.{did_you_mean(unknown[0], sorted(_KEYS))}"
    name, description = head.get("name"), head.get("description")
    if not isinstance(name, str) or not good_name(name):
        yield f"name {name!r}: lower-case letters, digits and single hyphens, {MOST_NAME} characters at most"
    elif name != path.parent.name:
        yield f"name {name!r} is not that of its folder, {path.parent.name!r}"
    if not isinstance(description, str) or not description.strip():
        yield "description: is missing; it says what the skill holds and when to read it"
    elif len(description) > MOST_DESCRIPTION or _hidden(description):
        yield f"description: {MOST_DESCRIPTION} characters at most, and none that can't be seen"


def _body_faults(path: Path, body: str) -> Iterator[str]:
    lines = body.splitlines()
    if not body.strip():
        yield "has no text"
    if len(lines) > MOST_LINES:
        yield f"has {len(lines)} lines; {MOST_LINES} at most, the rest into files beside it"
    if hidden := _hidden(body):
        yield f"holds a character that can't be seen: {hidden}"
    for target in _LINK.findall(body):
        here = target.partition("#")[0]
        if "://" not in target and here and not (path.parent / here).exists():
            yield f"links to {target}, which is not there"


def _hidden(text: str) -> str:
    """The first control or formatting character: text that people see and text that models read must be the same."""
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs") and char not in "\n\t":
            return f"U+{ord(char):04X}"
    return ""

"""Search/replace blocks: how a planner writes an edit, read strictly.

Takes the planner's text; gives one `Change` per block, not yet looked up in a file:

    path/of/the/file.py
    <<<<<<< SEARCH
    lines as they are
    =======
    lines as they shall be
    >>>>>>> REPLACE

The three markers of a block are of one length, seven characters or more, so that any text can be quoted.
prompts/system.md.j2 teaches this to models.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from agent.errors import EditError

OPEN = re.compile(r"(<{7,}) SEARCH\s*$")
DIVIDER = re.compile(r"(={7,})\s*$")
CLOSE = re.compile(r"(>{7,}) REPLACE\s*$")
PATH = re.compile(r"[\w./+@-]+\.\w+$")


@dataclass(frozen=True)
class Change:
    """These lines shall become those. `line`: where a diff says they are, counted from 1."""

    name: str
    path: str | None
    old: tuple[str, ...]
    new: tuple[str, ...]
    line: int | None = None
    old_open: bool | None = None
    """The old lines end the file without a newline (True), or with one (False); None: not said."""
    new_open: bool | None = None


def is_blocks(lines: Collection[str]) -> bool:
    return any(OPEN.match(line) or CLOSE.match(line) for line in lines)


def read_blocks(lines: list[str], known: Collection[str]) -> list[Change]:
    """All blocks of a text. `known` are the paths a line may name. Raises EditError."""
    changes: list[Change] = []
    path: str | None = None
    numbered = iter(enumerate(lines))
    for at, line in numbered:
        opening = OPEN.match(line)
        if opening is None:
            if CLOSE.match(line):
                raise EditError(
                    f"block {len(changes) + 1}: `{line.strip()}` without its `<<<<<<< SEARCH` line before it"
                )
            continue
        name = f"block {len(changes) + 1}"
        path = _path_before(lines[:at], known) or path
        width = len(opening[1])
        old = tuple(_until(numbered, DIVIDER, width, name, "======="))
        new = tuple(_until(numbered, CLOSE, width, name, ">>>>>>> REPLACE"))
        changes.append(Change(name, path, old, new))
    return changes


def write_block(path: str, old: list[str], new: list[str]) -> str:
    """One block as text, with markers long enough for what it quotes."""
    runs = [len(m[1]) for line in [*old, *new] for m in [re.match(r"([<=>]{7,})", line)] if m]
    width = max([6, *runs]) + 1
    return "\n".join([path, "<" * width + " SEARCH", *old, "=" * width, *new, ">" * width + " REPLACE", ""])


def _until(
    numbered: Iterator[tuple[int, str]], marker: re.Pattern[str], width: int, name: str, shown: str
) -> Iterator[str]:
    for _, line in numbered:
        found = next((m for m in (OPEN.match(line), DIVIDER.match(line), CLOSE.match(line)) if m), None)
        if found is None or len(found[1]) > width:
            yield line
        elif found.re is marker and len(found[1]) == width:
            return
        elif len(found[1]) == width:
            raise EditError(
                f"{name}: `{line.strip()}` where `{shown}` was due: a marker is missing, or the block quotes "
                "one. To quote a line of markers, make all three markers of the block longer than it."
            )
        else:
            yield line
    raise EditError(f"{name}: is cut off: it has no `{shown}` line ({width} characters, like its first line)")


def _path_before(lines: list[str], known: Collection[str]) -> str | None:
    """The file that the line above a block names, if it names one; fences and decoration are allowed."""
    for line in reversed(lines[-3:]):
        text = line.strip()
        if not text or text.startswith("```"):
            continue
        text = text.strip("`*#: ").removeprefix("File: ").removeprefix("file: ").strip("`*: ")
        if text in known or PATH.match(text) or ("/" in text and " " not in text):
            return text
        return None
    return None

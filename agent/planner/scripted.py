"""The `scripted` planner: hands out the proposals of a file, in order; for tests, demos, one's own ideas.

Takes a JSONL file (one proposal a line) or a TOML file ([[proposal]] tables) with title, edits and, as options, the
other fields of `Idea`. The n-th proposal gets the n-th entry.
"""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.errors import UserError
from agent.planner.idea import Idea, explained
from agent.records import Draft, Mode

if TYPE_CHECKING:
    from agent.planner import Request

MAX_FILE = 64_000_000
NAME = "scripted"


@dataclass(frozen=True)
class Scripted:
    """Ideas in the order of a file; None when all were handed out."""

    entries: tuple[Idea, ...]
    name: str = NAME
    modes: frozenset[Mode] = frozenset({"exploit"})
    parallel: int = 1

    @classmethod
    def load(cls, path: Path) -> "Scripted":
        """Raises UserError with the file's name and line."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UserError(f"can't read the proposals in {path}: {error.strerror or error}") from error
        if len(raw) > MAX_FILE:
            raise UserError(f"{path} has {len(raw):,} bytes; at most {MAX_FILE:,} are read")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} line {raw[: error.start].count(10) + 1}: is not UTF-8") from error
        found = _toml(text, path) if path.suffix == ".toml" else _jsonl(text, path)
        entries = tuple(_entry(where, item) for where, item in found)
        if not entries:
            raise UserError(f"{path} holds no proposals")
        return cls(entries)

    def propose(self, request: "Request") -> Draft | None:
        """The n-th entry, always as an edit of the head."""
        # The campaign's base is its first proposal.
        at = request.made if request.made is not None else max(0, request.n - 1)
        if at >= len(self.entries):
            return None
        entry = self.entries[at]
        return entry.draft(planner=self.name, mode=request.mode, source_id=request.head.id)


def _jsonl(text: str, path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                yield where, json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: is not JSON: {error}") from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number")


def _toml(text: str, path: Path) -> Iterator[tuple[str, object]]:
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    if extra := sorted(set(tables) - {"proposal"}):
        raise UserError(f"{path}: no such key: {', '.join(extra)}; proposals are [[proposal]] tables")
    items = tables.get("proposal", [])
    if not isinstance(items, list):
        raise UserError(f"{path}: write [[proposal]], with two brackets")
    starts = [n for n, line in enumerate(text.split("\n"), 1) if line.strip().startswith("[[proposal]]")]
    for index, item in enumerate(items):
        yield f"{path} line {starts[index]}" if index < len(starts) else str(path), item


def _entry(where: str, item: object) -> Idea:
    try:
        return Idea.model_validate(item)
    except ValidationError as error:
        raise UserError(f"{where}: {explained(error)}") from error

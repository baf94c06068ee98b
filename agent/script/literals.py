"""The track's knobs in a script's text: read them, write them, tell whether an edit changes nothing else.

Takes a track and texts by path; a knob `at = "NAME.key"` is the literal under that key of a dict at module
level (`NAME.key.key` goes deeper). The script is parsed, never executed.
"""

import ast
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import EditError
from agent.script.syntax import Tables, tree_of
from agent.script.syntax import read as read_script
from agent.tables import Knob
from agent.track import Track

KnobValue = str | int | float
FEATURES = "step_features"
MOST = 2**63 - 1  # a whole number that databases keep and formulas can count with


@dataclass(frozen=True)
class Spot:
    """Where a literal stands in the text, as character offsets."""

    value: KnobValue
    start: int
    end: int


def spots(track: Track, files: Mapping[str, str]) -> dict[str, Spot]:
    """Every knob that is there, once, as a plain literal. Raises syntax.NotParsed."""
    text = files.get(track.script.path, "")
    if not track.knob or not text:
        return {}
    tables = read_script(track.script.path, text).tables
    offsets = _Offsets(text)
    found = {}
    for knob in track.knob:
        node = _literal(tables, knob)
        if node is not None:
            value = ast.literal_eval(node)
            found[knob.name] = Spot(value, *offsets.span(node))
    return found


def read(track: Track, files: Mapping[str, str]) -> dict[str, KnobValue]:
    """The effective configuration: the value of each knob that is there. Raises syntax.NotParsed."""
    return {name: spot.value for name, spot in spots(track, files).items()}


def settings(track: Track, files: Mapping[str, str]) -> dict[str, KnobValue]:
    """Every plain literal of the tables that hold knobs, by its key. Raises syntax.NotParsed."""
    found: dict[str, KnobValue] = {}
    if not files.get(track.script.path):
        return found
    tables = read_script(track.script.path, files[track.script.path]).tables
    for name in sorted({knob.at.split(".")[0] for knob in track.knob}):
        table = tables.get(name)
        for key, value in zip(table.keys, table.values, strict=True) if table else ():
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and _is_plain(value):
                found[key.value] = ast.literal_eval(value)
    return found


def priced(track: Track, files: Mapping[str, str]) -> frozenset[str] | None:
    """What the script prices in a step: the keys of the dict that its function `step_features` returns. None where it
    has no such function, or one that does not say it plainly. Raises syntax.NotParsed."""
    text = files.get(track.script.path, "")
    read_script(track.script.path, text)
    defined = [node for node in tree_of(text).body if isinstance(node, ast.FunctionDef) and node.name == FEATURES]
    returned = [node.value for one in defined for node in ast.walk(one) if isinstance(node, ast.Return)]
    if len(returned) != 1 or not isinstance(returned[0], ast.Dict):
        return None
    keys = [key.value if isinstance(key, ast.Constant) else None for key in returned[0].keys]
    return frozenset(str(key) for key in keys) if all(isinstance(key, str) for key in keys) else None


def write(track: Track, files: Mapping[str, str], values: Mapping[str, KnobValue]) -> dict[str, str]:
    """The files with these knobs set, and not one other character changed. EditError: a knob isn't there."""
    there = spots(track, files)
    if missing := sorted(set(values) - set(there)):
        raise EditError(f"{track.script.path} has no literal for the knobs {', '.join(missing)}")
    text = files[track.script.path]
    for name in sorted(values, key=lambda name: -there[name].start):
        spot = there[name]
        if not same(spot.value, values[name]):
            text = text[: spot.start] + _spell(values[name]) + text[spot.end :]
    return {**files, track.script.path: text}


def same(one: KnobValue | None, other: KnobValue | None) -> bool:
    """1 and 1.0 are the same setting, 1 and "1" are not."""
    return isinstance(one, str) == isinstance(other, str) and one == other


def changes(before: Mapping[str, KnobValue], after: Mapping[str, KnobValue]) -> list[str]:
    """In words, each knob that is not as it was."""
    return [
        f"{name} {_said(before[name])} -> {_said(value)}"
        for name, value in after.items()
        if name in before and not same(before[name], value)
    ]


def digest(values: Mapping[str, KnobValue]) -> str:
    """One hash for one effective configuration; empty when the track has no knobs."""
    if not values:
        return ""
    plain = {name: float(value) if isinstance(value, int | float) else value for name, value in values.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def only_knobs(track: Track, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """The edit changes declared literals to declared choices, and not one other character."""
    path = track.script.path
    if set(before) != set(after) or any(before[p] != after[p] for p in before if p != path):
        return False
    old, new = spots(track, before), spots(track, after)
    choices = {knob.name: knob.choices for knob in track.knob}
    for name, spot in new.items():
        if name not in old:
            return False
        if not same(old[name].value, spot.value) and not any(same(spot.value, c) for c in choices[name]):
            return False
    return _masked(before[path], old) == _masked(after[path], new)


def _literal(tables: Tables, knob: Knob) -> ast.expr | None:
    name, *keys = knob.at.split(".")
    node: ast.expr | None = tables.get(name)
    for key in keys:
        if not isinstance(node, ast.Dict):
            return None
        under = [
            value
            for k, value in zip(node.keys, node.values, strict=True)
            if isinstance(k, ast.Constant) and k.value == key
        ]
        if len(under) != 1:
            return None
        node = under[0]
    return node if node is not None and _is_plain(node) else None


def _is_plain(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and _is_number(node.operand.value)
    return isinstance(node, ast.Constant) and (type(node.value) is str or _is_number(node.value))


def _is_number(value: object) -> bool:
    """1e999 is infinite, and no setting of anything."""
    return (type(value) is int and value <= MOST) or (type(value) is float and math.isfinite(value))


def _said(value: KnobValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spell(value: KnobValue) -> str:
    if isinstance(value, str):
        spelt = repr(value)
        return f'"{value}"' if spelt == f"'{value}'" and '"' not in value else spelt
    return repr(value)


def _masked(text: str, there: Mapping[str, Spot]) -> str:
    for spot in sorted(there.values(), key=lambda spot: -spot.start):
        text = text[: spot.start] + "\0" + text[spot.end :]
    return text


class _Offsets:
    """From the parser's lines and UTF-8 columns to character offsets."""

    def __init__(self, text: str) -> None:
        self._text = text
        ends = [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]
        self._starts = [0, *ends]

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, column: int) -> int:
        start = self._starts[line - 1]
        ahead = self._text[start : start + column].encode("utf-8", "surrogatepass")[:column]
        return start + len(ahead.decode("utf-8", "surrogatepass"))

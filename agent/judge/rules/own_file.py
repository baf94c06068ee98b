"""Signs that a script writes over its own file: what ran must be what is shown.

Takes a parsed script; gives `Sign`s. The path that is written has to be the script's own: one beside it is honest.
"""

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from agent.judge.rules.constants import folded
from agent.judge.rules.names import Names, Parsed, Statement, bound_in
from agent.judge.rules.signs import Sign

_OPENS = ("open", "io.open", "codecs.open")
# Of these the second argument is written over.
_PUTS = ("os.rename", "os.replace", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.move")
_MAY_WRITE = {one.rsplit(".", 1)[-1] for one in (*_OPENS, *_PUTS)} | {"write_text", "write_bytes"}
_SAME_PATH = ("pathlib.Path", "Path", "str", "os.fspath", "os.path.abspath", "os.path.realpath", "os.path.normpath")
_SAME_METHODS = ("resolve", "absolute", "expanduser", "as_posix")


_WORDS = "it writes over its own file: what ran must be what is shown"


class Aliases(NamedTuple):
    """Names that stand for paths."""

    own: tuple[str, ...]
    """Bound to the script's own file, each time that they are."""
    written: tuple[tuple[str, int], ...]
    """Written to, with the line."""


def look(parsed: Parsed, by: int = 0) -> tuple[list[Sign], Aliases]:
    """What shows by itself, and what names have a say in. `by`: what the lines of these are moved by."""
    found, own, written = list[Sign](), list[str](), list[tuple[str, int]]()
    for node in parsed.nodes:
        if isinstance(node, ast.Assign | ast.NamedExpr) and _is_own(node.value, parsed.names):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own += (one.id for one in targets if isinstance(one, ast.Name))
        elif isinstance(node, ast.Call) and (path := _written(node, parsed.names)) is not None:
            root = _root(path, parsed.names)
            if _is_own(root, parsed.names):
                found.append(Sign(24, "invalid", "writes_itself", _WORDS, path.lineno))
            elif isinstance(root, ast.Name):
                written.append((root.id, node.lineno + by))
    return found, Aliases(tuple(own), tuple(written))


def together(found: Sequence[Aliases], statements: Collection[Statement]) -> Iterator[Sign]:
    """A name that is bound to another path too may be that one where it is written to."""
    own = Counter(name for one in found for name in one.own)
    bound = bound_in(statements) if own else {}
    for one in found:
        for name, line in one.written:
            if name in own:
                surely = len(bound.get(name, ())) == own[name]
                yield Sign(24, "invalid" if surely else "flag", "writes_itself", _WORDS, line)


def _written(call: ast.Call, names: Names) -> ast.expr | None:
    """The path that a call writes to."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if (method or names.bound.get(getattr(call.func, "id", ""), "open").rsplit(".", 1)[-1]) not in _MAY_WRITE:
        return None
    called = names.dotted(call.func)
    named = {word.arg: word.value for word in call.keywords}
    if called in _OPENS:
        path = call.args[0] if call.args else named.get("file")
        return path if _writes([*call.args[1:2], *(named[key] for key in ("mode",) if key in named)]) else None
    if called in _PUTS:
        return call.args[1] if len(call.args) > 1 else named.get("dst")
    if not isinstance(call.func, ast.Attribute):
        return None
    if method in ("write_text", "write_bytes"):
        return call.func.value
    if method == "open" and _writes([*call.args[:1], *(named[key] for key in ("mode",) if key in named)]):
        return call.func.value
    return None


def _writes(modes: list[ast.expr]) -> bool:
    return any(
        isinstance(one, ast.Constant) and isinstance(one.value, str) and set(one.value) & set("wax+") for one in modes
    )


def _is_own(path: ast.expr, names: Names) -> bool:
    """Whether it is the script's own file, not one that is named after it or lies beside it."""
    root = _root(path, names)
    if isinstance(root, ast.Subscript):
        return names.dotted(root.value) == "sys.argv" and folded(root.slice) == 0
    return "__file__" in (getattr(root, "id", ""), getattr(root, "attr", ""))


def _root(path: ast.expr, names: Names) -> ast.expr:
    """Of all that leaves a path the same."""
    while isinstance(path, ast.Call):
        if names.dotted(path.func) in _SAME_PATH and len(path.args) == 1:
            path = path.args[0]
        elif isinstance(path.func, ast.Attribute) and path.func.attr in _SAME_METHODS:
            path = path.func.value
        else:
            break
    return path

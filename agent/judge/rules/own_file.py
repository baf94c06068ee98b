"""Signs that a script writes over its own file: what ran must be what is shown.

Takes a parsed script; gives `Sign`s. The path that is written has to be the script's own: one beside it is honest.
"""

import ast
from collections.abc import Iterator

from agent.judge.rules.names import Names, Parsed
from agent.judge.rules.signs import Sign

_OPENS = ("open", "io.open", "codecs.open")
# Of these the second argument is written over.
_PUTS = ("os.rename", "os.replace", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.move")
_SAME_PATH = ("pathlib.Path", "Path", "str", "os.fspath", "os.path.abspath", "os.path.realpath", "os.path.normpath")
_SAME_METHODS = ("resolve", "absolute", "expanduser", "as_posix")


def signs(parsed: Parsed) -> Iterator[Sign]:
    for node in parsed.nodes:
        path = _written(node, parsed.names) if isinstance(node, ast.Call) else None
        if path is not None and _is_own(path, parsed.names):
            words = "it writes over its own file: what ran must be what is shown"
            yield Sign(24, "invalid", "writes_itself", words, path.lineno)


def _written(call: ast.Call, names: Names) -> ast.expr | None:
    """The path that a call writes to."""
    called, method = names.dotted(call.func), getattr(call.func, "attr", "")
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
    while True:
        if isinstance(path, ast.Call):
            if names.dotted(path.func) in _SAME_PATH and len(path.args) == 1:
                path = path.args[0]
            elif isinstance(path.func, ast.Attribute) and path.func.attr in _SAME_METHODS:
                path = path.func.value
            else:
                return False
        elif isinstance(path, ast.Subscript):
            first = path.slice
            return names.dotted(path.value) == "sys.argv" and isinstance(first, ast.Constant) and first.value == 0
        else:
            return "__file__" in (getattr(path, "id", ""), getattr(path, "attr", ""))

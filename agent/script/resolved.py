"""What a statement comes to, however it is written: constants worked out, and marks where a track knows more.

Takes a node of a syntax tree; gives text as `ast.dump` does, the same for statements that must do the same. Nothing
is executed; arithmetic is bounded, since a model wrote it. `settled` then takes out what a track makes irrelevant:
defaults of variables that its environment sets, the order of its tables of settings.

What is not proven the same stays different: keyword arguments keep their order (a callee may look at it), 1 and 1.0 are
two values, names of builtins may mean something else.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

MOST_BITS = 256  # of a whole number that is worked out
MOST_TEXT = 1_000  # characters of a text that is put together

# No text of a tree holds control characters: they are escaped.
_DEFAULT = re.compile("\1([^\2]*)\2([^\3]*)\3")
_TABLE = re.compile("\4([^\5]*)\5([^\6]*)\6")


class Other:
    """No constant."""


OTHER = Other()
Number = int | float
Value = Number | str | Other


class Read(NamedTuple):
    text: str
    value: Value


def of(statement: ast.stmt) -> str:
    """Raises RecursionError for what is nested too deeply."""
    table = _table(statement)
    if table is not None:
        return table
    return _read(statement).text


def settled(text: str, given: Collection[str], tables: Collection[str]) -> str:
    """`given`: variables that the environment sets; `tables`: dicts of settings at module level."""

    def default(found: re.Match[str]) -> str:
        return "given" if found[1] in given else found[2]

    def table(found: re.Match[str]) -> str:
        items = found[2].split("\7")
        return ", ".join(sorted(items) if found[1] in tables else items)

    return _TABLE.sub(table, _DEFAULT.sub(default, text))


def defaults(text: str) -> list[tuple[str, str]]:
    """Every variable of the environment that is read with a default, and the default."""
    return [(found[1], found[2]) for found in _DEFAULT.finditer(text)]


def touches_environment(statement: ast.stmt) -> bool:
    """Whether the environment may not be what it was at the start, or `os` not what it seems."""
    read = {id(inner) for node in ast.walk(statement) for inner in _plainly_read(node)}
    for node in ast.walk(statement):
        name = getattr(node, "attr", None) or getattr(node, "id", None)
        if name in ("environ", "environb", "putenv", "unsetenv") and id(node) not in read:
            return True
        if "os" in _bound(node):
            return True
    return False


def _plainly_read(node: ast.AST) -> Iterator[ast.AST]:
    """`os.environ` where it is only looked into."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        yield node.func.value
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value
    elif isinstance(node, ast.Compare) and all(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
        yield from node.comparators


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that the node gives a meaning, other than by `import os`."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ImportFrom):
        yield from ("os" if alias.name == "*" else alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.asname for alias in node.names if alias.asname and alias.name != alias.asname)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _read(node: object) -> Read:
    if isinstance(node, list):
        return Read(f"[{', '.join(_read(item).text for item in node)}]", OTHER)
    if not isinstance(node, ast.AST):
        return Read(repr(node), OTHER)
    parts = {name: _read(value) for name in node._fields if not _left_out(node, name, value := getattr(node, name))}
    value = _value(node, parts)
    if not isinstance(value, Other):
        return Read(f"Constant(value={value!r})", value)
    if (marked := _environment(node, parts)) is not None:
        return Read(marked, OTHER)
    return Read(f"{type(node).__name__}({', '.join(f'{name}={part.text}' for name, part in parts.items())})", OTHER)


def _left_out(node: ast.AST, name: str, value: object) -> bool:
    """As `ast.dump` does."""
    return value is None and getattr(type(node), name, ...) is None


def _value(node: ast.AST, parts: dict[str, Read]) -> Value:
    """What an expression of constants comes to."""
    if isinstance(node, ast.Constant):
        plain = node.value
        return plain if isinstance(plain, int | float | str) and not isinstance(plain, bool) else OTHER
    if isinstance(node, ast.UnaryOp):
        operand = parts["operand"].value
        if isinstance(node.op, ast.USub | ast.UAdd) and isinstance(operand, int | float):
            return -operand if isinstance(node.op, ast.USub) else operand
    elif isinstance(node, ast.BinOp):
        left, right = parts["left"].value, parts["right"].value
        if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
            return left + right if len(left) + len(right) <= MOST_TEXT else OTHER
        if isinstance(left, int | float) and isinstance(right, int | float):
            return _worked_out(node.op, left, right)
    return OTHER


_OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


def _worked_out(op: ast.operator, left: Number, right: Number) -> Value:
    operation = _OPERATIONS.get(type(op))
    if operation is None or not all(_small(one) for one in (left, right)):
        return OTHER
    if isinstance(op, ast.LShift | ast.Pow) and abs(right) > MOST_BITS:
        return OTHER
    try:
        result = operation(left, right)
    except (ArithmeticError, TypeError, ValueError):
        return OTHER
    return result if isinstance(result, int | float) and _small(result) else OTHER


def _small(value: Number) -> bool:
    return value.bit_length() <= MOST_BITS if isinstance(value, int) else math.isfinite(value)


def _environment(node: ast.AST, parts: dict[str, Read]) -> str | None:
    """`os.environ.get("NAME", constant)` and `os.getenv`, with the default between marks."""
    if not isinstance(node, ast.Call) or node.keywords or not 1 <= len(node.args) <= 2:
        return None
    if _dotted(node.func) not in ("os.environ.get", "os.getenv"):
        return None
    name = node.args[0]
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str) or not name.value.isidentifier():
        return None
    default = _read(node.args[1]) if len(node.args) == 2 else Read("Constant(value=None)", OTHER)
    if isinstance(default.value, Other) and default.text != "Constant(value=None)":
        return None  # working it out may do something
    return f"Environment({name.value}, \1{name.value}\2{default.text}\3)"


def _dotted(node: ast.expr) -> str:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names, node = [node.attr, *names], node.value
        if len(names) > 2:
            return ""
    return ".".join([node.id, *names]) if isinstance(node, ast.Name) else ""


def _table(statement: ast.stmt) -> str | None:
    """A dict at module level with plain keys, its items between marks; None: it is something else."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    table = statement.value
    if not isinstance(target, ast.Name) or not isinstance(table, ast.Dict):
        return None
    names = [key.value if isinstance(key, ast.Constant) else None for key in table.keys]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    items = [f"{_read(k).text}: {_read(v).text}" for k, v in zip(table.keys, table.values, strict=True)]
    return f"{type(statement).__name__}({target.id}, \4{target.id}\5" + "\7".join(items) + "\6)"

"""What a script reads of its environment, and what it sets there itself.

Takes expressions and statements; gives the variables. Who starts a script sets its variables, and reads what they say;
what it set itself nobody has read.
"""

import ast
from collections.abc import Iterable
from typing import NamedTuple

from agent.judge.rules.names import Names

_GETS = ("os.environ.get", "os.getenv")


class Setting(NamedTuple):
    name: str
    default: ast.expr | None


def read(node: ast.expr, names: Names) -> Setting | None:
    """os.environ["NAME"], or with a default."""
    if isinstance(node, ast.Subscript) and names.dotted(node.value) == "os.environ":
        return _setting([node.slice])
    if isinstance(node, ast.Call) and not node.keywords and names.dotted(node.func) in _GETS:
        return _setting(node.args)
    return None


def _setting(given: list[ast.expr]) -> Setting | None:
    if not given or not isinstance(given[0], ast.Constant) or not isinstance(given[0].value, str):
        return None
    return Setting(given[0].value, given[1] if len(given) > 1 else None)


def written(nodes: Iterable[ast.AST], names: Names) -> frozenset[str] | None:
    """The variables that a script sets itself; None if they may be any: whatever is no plain reading may set them."""
    plain, environments, keys = set[ast.AST](), set[ast.AST](), list[ast.expr]()
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Name):
            if (name := names.dotted(node)) == "os.environ":
                environments.add(node)
            elif name == "os.putenv":
                return None
        if isinstance(node, ast.Attribute) and node.attr in ("get", "copy", "items", "keys"):
            plain.add(node.value)
        elif isinstance(node, ast.Subscript):
            plain.add(node.value)
            if not isinstance(node.ctx, ast.Load) and names.dotted(node.value) == "os.environ":
                keys.append(node.slice)
        elif isinstance(node, ast.Call) and names.dotted(node.func) == "os.environ.setdefault" and node.args:
            plain.add(node.func.value)  # type: ignore[attr-defined]
            keys.append(node.args[0])
        elif isinstance(node, ast.Call) and names.dotted(node.func) == "dict":
            plain.update(node.args)
        elif isinstance(node, ast.Dict):  # {**os.environ}
            plain.update(value for key, value in zip(node.keys, node.values, strict=True) if key is None)
        elif isinstance(node, ast.Compare):
            plain.update(node.comparators)
    said = {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    known = all(isinstance(key, ast.Constant) for key in keys) and environments <= plain
    return frozenset(said) if known else None

"""What an expression of literals comes to, without running it: "ur" + "llib", 1336 + 1.

Takes an expression; gives its value, or None.
"""

import ast

_DEEPEST = 40  # of one expression: deeper ones are not worked out
_BITS = 128


def folded(node: ast.AST, depth: int = 0) -> str | bytes | int | float | None:
    if depth > _DEEPEST:
        return None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str | bytes | int | float) else None
    if isinstance(node, ast.BinOp):
        return _binary(node.op, folded(node.left, depth + 1), folded(node.right, depth + 1))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = folded(node.operand, depth + 1)
        return -value if isinstance(value, int | float) and isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.JoinedStr):
        parts = [
            folded(part.value if isinstance(part, ast.FormattedValue) else part, depth + 1) for part in node.values
        ]
        return None if None in parts else "".join(map(str, parts))
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        return _called(node.func, node.args[0], depth + 1)
    return None


def _binary(operator: ast.operator, left: object, right: object) -> str | bytes | int | float | None:
    if isinstance(operator, ast.Add):
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, bytes) and isinstance(right, bytes):
            return left + right
    if not (isinstance(left, int) and isinstance(right, int)) or max(left.bit_length(), right.bit_length()) > _BITS:
        return None
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    if isinstance(operator, ast.BitXor):
        return left ^ right
    if isinstance(operator, ast.BitOr):
        return left | right
    if isinstance(operator, ast.LShift) and 0 <= right <= _BITS:
        return left << right
    if isinstance(operator, ast.FloorDiv) and right:
        return left // right
    return None


def _called(function: ast.expr, argument: ast.expr, depth: int) -> str | int | None:
    """int("1337"), and "".join of literals."""
    if isinstance(function, ast.Name) and function.id == "int":
        value = folded(argument, depth)
        if isinstance(value, str) and len(value) < 40 and value.strip().isdecimal():
            return int(value)
        return int(value) if isinstance(value, int) else None
    if isinstance(function, ast.Attribute) and function.attr == "join" and isinstance(argument, ast.List | ast.Tuple):
        between, parts = folded(function.value, depth), [folded(one, depth) for one in argument.elts]
        if isinstance(between, str) and all(isinstance(one, str) for one in parts):
            return between.join(map(str, parts))
    return None

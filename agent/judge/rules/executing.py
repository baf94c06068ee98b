"""Where a script executes text, and where it hands on what does, so that nobody sees of what.

Takes a statement; gives `Use`s of the builtins that execute. A name that a function binds itself is no builtin there.
"""

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple

from agent.judge.rules.constants import folded
from agent.judge.rules.names import Names, Statement
from agent.judge.rules.remembered import Remembered

EXECUTES = frozenset(f"{where}{name}" for where in ("", "builtins.", "__builtins__.") for name in ("exec", "eval"))
COMPILES = frozenset(("compile", "builtins.compile", "__builtins__.compile"))
_BUILTINS = ("builtins", "__builtins__")
_MAKES_CODE = ("types.FunctionType", "types.LambdaType", "types.CodeType")
_TABLES = ("vars", "globals", "locals")
_UNBINDS = re.compile(
    rb"(?<![A-Za-z0-9_])(?:vars|globals|locals|__dict__|delattr|del\b.{0,200}?\b(?:exec|eval))(?![A-Za-z0-9_])",
    re.DOTALL,
)
_RENAMED = EXECUTES.union(COMPILES, _BUILTINS, _MAKES_CODE, ("sys.modules",))
_NAMED = re.compile(
    rb"(?<![A-Za-z0-9_])(?:exec|eval|__import__|import_module|compile|builtins|__builtins__|__code__|__dict__|vars|globals"
    rb"|locals|modules|getattr|FunctionType|LambdaType|CodeType)(?![A-Za-z0-9_])"
)

Kind = Literal["call", "compile", "hidden", "argument"]
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Use(NamedTuple):
    kind: Kind
    """`argument`: of a command line, which whoever starts the script writes."""
    node: ast.expr
    words: str


class _Seen(NamedTuple):
    node: ast.AST
    parent: ast.AST
    bound: frozenset[str]
    """Names that a function around it binds."""


def may_execute(text: bytes) -> bool:
    """Without looking at its tree. Other letters than those of ASCII may be read as these."""
    return not text.isascii() or _NAMED.search(text) is not None


def is_renamed(names: Names) -> bool:
    """Whether an import gives another name to what executes."""
    return any(name in _RENAMED for name in names.bound.values())


_remembered: Remembered[bool] = Remembered()


def has_uses(statement: Statement, names: Names) -> bool:
    """Whether there are any, were everything a builtin that the module binds itself."""
    key = statement.text, names.meant_by(statement)
    return _remembered.answer(key, len(statement.text), lambda: any(True for _ in uses(statement.node, names)))


def uses(statement: ast.stmt, names: Names, rebound: Collection[str] = ()) -> Iterator[Use]:
    """`rebound`: names that the module binds itself."""
    for node, parent, bound in _walk(statement):
        if not isinstance(node, ast.expr) or (isinstance(node, ast.Name) and node.id in bound):
            continue
        name = _dotted(node, names)
        called = isinstance(parent, ast.Call) and parent.func is node
        if name in EXECUTES and name not in rebound and isinstance(getattr(node, "ctx", None), ast.Load):
            yield from _executes(node, parent, name) if not called else ()
        elif isinstance(node, ast.Call):
            yield from _calls(node, parent, names, bound, rebound)
        elif name in COMPILES and not called and name not in rebound and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            yield Use("argument", node, "what compile makes, which is handed on as a value")
        elif name in _MAKES_CODE and isinstance(parent, ast.Assign | ast.NamedExpr | ast.List | ast.arguments):
            yield Use("hidden", node, f"{name} is handed on as a value")
        elif isinstance(node, ast.Subscript) and _looks_up(node, names):
            yield Use("hidden", node, "what executes is looked up by its name")
        elif isinstance(node, ast.Attribute) and node.attr == "__code__" and isinstance(node.ctx, ast.Store):
            yield Use("hidden", node, "a function is given other code")
        if name in _BUILTINS and not isinstance(parent, ast.Attribute):
            yield Use("hidden", node, f"{name} is handed on as a value")


def _dotted(node: ast.AST, names: Names) -> str:
    """Of a short chain: all that is asked for here has two parts, and long ones would take long."""
    inner = node.value if isinstance(node, ast.Attribute) else node
    return "" if isinstance(inner, ast.Attribute) else names.dotted(node)


def _executes(node: ast.expr, parent: ast.AST, name: str) -> Iterator[Use]:
    if isinstance(parent, ast.keyword) and parent.arg == "type":
        yield Use("argument", node, "an argument of its command line")
    else:
        yield Use("hidden", node, f"{name} is handed on as a value")


def _calls(
    node: ast.Call, parent: ast.AST, names: Names, bound: frozenset[str], rebound: Collection[str]
) -> Iterator[Use]:
    if isinstance(node.func, ast.Name) and node.func.id in bound:
        return
    called = _dotted(node.func, names)
    if called in EXECUTES and called not in rebound:
        yield Use("call", node, called)
    elif called in COMPILES and called not in rebound:
        executed = isinstance(parent, ast.Call) and _dotted(parent.func, names) in EXECUTES and node in parent.args[:1]
        if not executed:
            yield Use("compile", node, called)
    elif called in _MAKES_CODE and not _is_code_of_a_function(node):
        yield Use("hidden", node, f"{called} of what is only known when it runs")
    elif called == "getattr" and len(node.args) > 1 and folded(node.args[1]) == "exec":
        yield Use("hidden", node, "what executes is looked up by its name")


def _is_code_of_a_function(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Attribute) and call.args[0].attr == "__code__"


def _looks_up(node: ast.Subscript, names: Names) -> bool:
    """vars(x)["exec"], sys.modules["builtins"]."""
    if (key := folded(node.slice)) not in ("exec", "eval", *_BUILTINS):
        return False
    table = node.value
    if isinstance(table, ast.Call):
        return _dotted(table.func, names) in _TABLES
    return (
        names.dotted(table) in ("sys.modules", *_BUILTINS)
        or getattr(table, "attr", "") == "__dict__"
        or (key == "exec" and isinstance(table, ast.Subscript))
    )


def _walk(statement: ast.stmt) -> Iterator[_Seen]:
    left = [_Seen(statement, statement, frozenset())]
    while left:
        here = left.pop()
        yield here
        node, _, bound = here
        if isinstance(node, Function):
            inner, body = bound | _binds(node), [node.body] if isinstance(node, ast.Lambda) else node.body
            left += (_Seen(one, node, inner) for one in body)
            rest = (node.args, *getattr(node, "decorator_list", ()), getattr(node, "returns", None))
            left += (_Seen(one, node, bound) for one in rest if one is not None)
        elif isinstance(node, _Comprehension):
            inner = bound | _stored(one.target for one in node.generators)
            made = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
            left += (_Seen(one, node, inner) for one in made)
            for number, one in enumerate(node.generators):
                left += (_Seen(part, one, inner) for part in (one.target, *one.ifs))
                left.append(_Seen(one.iter, one, inner if number else bound))
        else:
            left += (_Seen(one, node, bound) for one in ast.iter_child_nodes(node))


def _binds(function: Function) -> frozenset[str]:
    """Its arguments, and all that its own body binds."""
    given = function.args
    several = [one for one in (given.vararg, given.kwarg) if one is not None]
    arguments = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *several)}
    if isinstance(function, ast.Lambda):
        return frozenset(arguments)
    stored, elsewhere = set[str](), set[str]()
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Global):
            elsewhere.update(node.names)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored.add(node.id)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif not isinstance(node, ast.Lambda | _Comprehension):
            left += ast.iter_child_nodes(node)
    return frozenset(arguments | (stored - elsewhere))


def _stored(targets: Iterable[ast.expr]) -> frozenset[str]:
    return frozenset(one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def may_unbind(statement: Statement) -> bool:
    """Whether it may give a builtin its name back."""
    return _UNBINDS.search(statement.text) is not None


def defined(statement: ast.stmt) -> frozenset[str]:
    """`def eval(model): ...` at module level: from there on it is no builtin."""
    is_one = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name in EXECUTES
    return frozenset((statement.name,)) if is_one else frozenset()  # type: ignore[attr-defined]


def binds_itself(statement: ast.stmt) -> frozenset[str]:
    """Names that it binds at module level, of those that a script may call so: `compile = True`."""
    return _stored(one for one in statement.targets) if isinstance(statement, ast.Assign) else frozenset()

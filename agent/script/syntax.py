"""What the text of a hostile Python file says, without running it.

Takes source text; gives a `Script`: a hash of its normal form, its tables of literals, the risks that an edit adds.
Tokenizer and parser bound nesting themselves; what they raise at their bounds is reported as `NotParsed`.

Every idea is a long script that differs from its head in a few lines. So this is the only place that parses, it
remembers the newest scripts, and of a new one it looks only at the statements that no remembered script has. The tree
of the last one it parsed is there for whoever looks for something else in it.
"""

import ast
import gc
import hashlib
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary

from agent.script import facts, resolved

MANY_LINES = 150
# How much is remembered, in scripts and in characters: an idea and its head fit at the guard's longest.
MOST_SCRIPTS = 32
MOST_CHARACTERS = 4_000_000
KEPT = 200_000  # characters: of a longer script the tree is not kept, not even for a moment

Tables = Mapping[str, ast.Dict | None]
"""Dicts at module level by name; None for a name that is bound twice."""


class NotParsed(Exception):
    """The file is no Python that we would run. `name` is the failure's name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True)
class Statement:
    """One statement at module level, with all that stands in it."""

    normal: str
    """Its tree without docstrings and places; empty if it is a docstring."""
    facts: tuple[facts.Fact, ...]
    resolved: str
    """What it comes to, however it is written (`agent/script/resolved.py`)."""
    touches_environment: bool


@dataclass(frozen=True)
class Script:
    """All that is asked of a text; the tree itself is too big to be kept."""

    statements: tuple[Statement, ...]
    tables: Tables
    digest: str

    @cached_property
    def facts(self) -> Counter[facts.Fact]:
        return Counter(fact for statement in self.statements for fact in statement.facts)


def read(path: str, text: str) -> Script:
    """A Python file, parsed unless it is remembered. Raises NotParsed."""
    with _lock:  # planners read in threads of their own
        script = _scripts.pop(text, None)
        if script is None:
            _make_room(text)
            with uncollected():
                script = _look(path, text)
        _scripts[text] = script  # the newest stands last
        return script


def tree_of(text: str) -> ast.Module:
    """A tree that is the caller's own. Raises what `ast.parse` does."""
    with _lock:
        mine = _trees.pop(text, None)
        _trees.clear()
    return ast.parse(text) if mine is None else mine


def digest(path: str, text: str) -> str:
    """The same for all files that differ in comments, docstrings and layout alone. Raises NotParsed."""
    if path.endswith(".py"):
        return read(path, text).digest
    return _sha("\n".join(line.rstrip() for line in text.splitlines()).rstrip())


def resolve(path: str, text: str, given: Collection[str], tables: Collection[str]) -> str:
    """The same for all files that come to the same although they are written differently. Raises NotParsed.

    `given`: variables that the track's environment sets; `tables`: its dicts of settings.
    """
    if not path.endswith(".py"):
        return digest(path, text)
    script = read(path, text)
    if any(statement.touches_environment for statement in script.statements):
        given = ()
    return _sha("\n".join(resolved.settled(one.resolved, given, tables) for one in script.statements if one.normal))


def defaults(path: str, text: str) -> Counter[tuple[str, str]]:
    """Variables of the environment that a file reads with a default, each with it. Raises NotParsed."""
    if not path.endswith(".py"):
        return Counter()
    return Counter(pair for one in read(path, text).statements for pair in resolved.defaults(one.resolved))


def risks(before: str, after: str) -> list[str]:
    """What the edit adds that a person should look at. Both versions must parse, or the old one be empty."""
    new = sorted(read("script", after).facts - read("script", before).facts)
    flags = [f"adds import {name}" for kind, name in new if kind == "import"]
    flags += [f"adds use of {name}" for kind, name in new if kind == "use"]
    flags += [f"adds a mention of validation data: {words[:80]!r}" for kind, words in new if kind == "validation"]
    flags += [f"adds a literal of {size}" for kind, size in new if kind == "literal"]
    changed = _changed_lines(before, after)
    if changed > MANY_LINES:
        flags.append(f"changes {changed} lines")
    return flags


# ------------------------------------------------------------ what is remembered

_lock = threading.Lock()
_scripts: OrderedDict[str, Script] = OrderedDict()
_trees: dict[str, ast.Module] = {}  # the last one, if nobody has asked for it yet
# By text: the grammar looks at nothing around a statement of a module, so the same text has the same tree.
# A statement is kept as long as a remembered script has it.
_statements: WeakValueDictionary[bytes, Statement] = WeakValueDictionary()
_TAKEN_OUT = "taken_out"
_EMPTY = ast.dump(ast.Pass())
_MODULE = ast.dump(ast.Module([ast.Pass()], []))


def _make_room(text: str) -> None:
    """Before the text is parsed, so that a hostile one does not need its memory on top of an older one's."""
    while _scripts and (len(_scripts) >= MOST_SCRIPTS or len(text) + sum(map(len, _scripts)) > MOST_CHARACTERS):
        _scripts.popitem(last=False)


@contextmanager
def uncollected() -> Iterator[None]:
    """A tree has no cycles and is gone at once. The collector, woken by its many nodes, would double what it costs."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _look(path: str, text: str) -> Script:
    _trees.clear()
    tree = _parse(path, text)
    lines = lines_of(text)
    try:
        statements = tuple(_statement(node, lines) for node in tree.body)
    except RecursionError:
        raise NotParsed("too_deep", f"{path} is nested too deeply to be compared") from None
    except ValueError:  # a number in base 16 has no such limit when it is read
        raise NotParsed("syntax", f"{path} holds a whole number of too many digits") from None
    normal = [statement.normal for statement in statements if statement.normal]
    if statements and not normal:
        normal = [_EMPTY]  # as in a function that is nothing but a docstring
    # What ast.dump says of the whole tree: stores hold hashes of it.
    script = Script(statements, _tables(tree), _sha(_MODULE.replace(_EMPTY, ", ".join(normal))))
    if len(text) <= KEPT:
        _trees[text] = tree
    return script


def _parse(path: str, text: str) -> ast.Module:
    """The syntax tree. Raises NotParsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a candidate's "\d" is not ours to print
            return ast.parse(text, filename=path)
    except SyntaxError as error:
        raise NotParsed("syntax", _explain(path, text, error)) from None
    except (RecursionError, MemoryError):
        raise NotParsed("too_deep", f"{path} is nested too deeply to be parsed") from None
    except ValueError as error:  # NUL characters, lone surrogates
        raise NotParsed("syntax", f"{path} can't be parsed: {error}") from None


def lines_of(text: str) -> list[bytes]:
    """As the tokenizer counts them, which knows fewer line ends than str.splitlines does."""
    return text.replace("\r\n", "\n").replace("\r", "\n").encode().split(b"\n")


def _statement(node: ast.stmt, lines: list[bytes]) -> Statement:
    text = text_of(node, lines)
    found = _statements.get(text)
    if found is None:
        found_facts = tuple(_strip(node))
        normal = "" if _is_docstring(node) else ast.dump(node)
        found = Statement(normal, found_facts, _resolved(node, normal), resolved.touches_environment(node))
        _statements[text] = found
    return found


def _resolved(node: ast.stmt, normal: str) -> str:
    try:
        text = resolved.of(node)
    except RecursionError:  # what can just be compared as it stands
        return normal
    return normal if text == normal else text  # one text in the memory


def first_line(node: ast.stmt) -> int:
    """Where its text begins."""
    decorators = getattr(node, "decorator_list", None)
    return decorators[0].lineno if decorators else node.lineno


def text_of(node: ast.stmt, lines: list[bytes]) -> bytes:
    """A statement's own text, and no more: a hostile line may hold a million statements."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first = first_line(node)
    start = 0 if getattr(node, "decorator_list", None) else node.col_offset
    if first == node.end_lineno:
        return lines[first - 1][start : node.end_col_offset]
    between = lines[first : node.end_lineno - 1]
    return b"\n".join((lines[first - 1][start:], *between, lines[node.end_lineno - 1][: node.end_col_offset]))


def _strip(statement: ast.stmt) -> Iterator[facts.Fact]:
    """Takes out every string that stands alone as a statement, and the u of u"". Gives the facts of all there was."""
    for node in ast.walk(statement):
        yield from facts.of(node)
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                kept = [statement for statement in body if not _is_docstring(statement)]
                if len(kept) < len(body):
                    alone = [statement.value.value for statement in body if _is_docstring(statement)]
                    setattr(node, _TAKEN_OUT, [*getattr(node, _TAKEN_OUT, ()), *alone])
                setattr(node, field, kept if kept or not body else [ast.Pass()])
        if isinstance(node, ast.Constant):
            node.kind = None


def alone_in(node: ast.AST) -> Iterator[str | bytes]:
    """A string that stands alone as a statement: the node is one, or had some that were taken out of its tree."""
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str | bytes)
    ):
        yield node.value.value
    yield from getattr(node, _TAKEN_OUT, ())


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _tables(tree: ast.Module) -> Tables:
    tables: dict[str, ast.Dict | None] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target: ast.expr = node.targets[0]
        elif isinstance(node, ast.AnnAssign):
            target = node.target
        else:
            continue
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Dict):
            tables[target.id] = None if target.id in tables else node.value
    return tables


def _changed_lines(before: str, after: str) -> int:
    old, new = Counter(before.splitlines()), Counter(after.splitlines())
    return max((old - new).total(), (new - old).total())


def _explain(path: str, text: str, error: SyntaxError) -> str:
    where = f"{path} line {error.lineno}" if error.lineno else path
    lines = text.split("\n")
    shown = ""
    if error.lineno and 0 < error.lineno <= len(lines):
        shown = f": {lines[error.lineno - 1].strip()[:120]}"
    return f"{where} is not Python: {error.msg}{shown}"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

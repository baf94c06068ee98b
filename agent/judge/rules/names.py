"""What a name in a script stands for, as far as its imports say it.

Takes a script's text; gives it as `Parsed`, with `Names`, which writes `L.decompress` as "lzma.decompress" after
`import lzma as L`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from agent.judge.rules.constants import folded
from agent.judge.rules.remembered import Remembered
from agent.script.syntax import first_line, lines_of, text_of, tree_of


@dataclass(frozen=True)
class Statement:
    """One statement at module level. The same text has the same tree, wherever it stands."""

    node: ast.stmt
    text: bytes
    line: int
    """Where its text begins."""


class Import(NamedTuple):
    """A module or member that is imported; by __import__("name"), too."""

    depth: int
    """In the tree: of two names that are alike the deeper one counts."""
    name: str
    alias: str
    """What it is bound to here; empty: its own name leads to it."""
    line: int
    """From where its statement begins."""


class Words(NamedTuple):
    """What a statement says of names, by itself."""

    imports: tuple[Import, ...]
    names: frozenset[str]
    """All that stand in it."""
    bound: Mapping[str, Sequence[object]]
    """What each name is bound to in it: constants, and None for whatever else."""
    depths: int
    """Of all its nodes together: as many steps as it takes to look at all that is below each of them."""


@dataclass(frozen=True)
class Names:
    """Names that imports have bound, anywhere in the file, and what to."""

    bound: Mapping[str, str]
    imported: tuple[tuple[str, int], ...]
    """Every import, with its line."""

    @classmethod
    def of(cls, statements: Iterable[Statement]) -> "Names":
        found = [(one, statement.line) for statement in statements for one in words_of(statement).imports]
        found.sort(key=lambda one: one[0].depth)
        bound = {one.alias: one.name for one, _ in found if one.alias}
        return cls(bound, tuple((one.name, line + one.line) for one, line in found))

    def meant_by(self, statement: Statement) -> tuple[tuple[str, str], ...]:
        """All that the imports of its module say of what stands in a statement."""
        return tuple(sorted((name, self.bound[name]) for name in words_of(statement).names & self.bound.keys()))

    def dotted(self, node: ast.AST) -> str:
        """a.b.c with the imported name in front; empty for what is no chain of names."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            parts.append(self.bound.get(node.id, node.id))
        elif (module := _dynamic(node)) is not None:
            parts.append(module)
        else:
            return ""
        return ".".join(reversed(parts))


@dataclass(frozen=True)
class Parsed:
    """A syntax tree, for all who look for something in it."""

    statements: tuple[Statement, ...]
    names: Names
    between: int = 0
    """Bytes of its text that stand in no statement: comments."""

    @classmethod
    def of(cls, text: str) -> "Parsed":
        """Raises what `ast.parse` does."""
        lines = lines_of(text)
        statements = tuple(Statement(node, text_of(node, lines), first_line(node)) for node in tree_of(text).body)
        size = sum(map(len, lines)) - sum(len(one.text) - one.text.count(b"\n") for one in statements)
        return cls(statements, Names.of(statements), size)

    def only(self, statement: Statement) -> "Parsed":
        """One statement of it, as if there were no others but the imports."""
        return Parsed((statement,), self.names)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(ast.Module([statement.node for statement in self.statements], [])))


def bound_in(statements: Iterable[Statement]) -> dict[str, list[object]]:
    """All that each name is bound to, anywhere in them."""
    found: dict[str, list[object]] = {}
    for statement in statements:
        for name, values in words_of(statement).bound.items():
            found.setdefault(name, []).extend(values)
    return found


_words: Remembered[Words] = Remembered()


def words_of(statement: Statement) -> Words:
    return _words.answer(statement.text, len(statement.text), lambda: _find_words(statement))


def _find_words(statement: Statement) -> Words:
    imports, names, depth, depths = list[Import](), set[str](), 0, 0
    bound, constants = dict[str, list[object]](), dict[ast.AST, object]()
    level: list[ast.AST] = [statement.node]
    while level:
        for node in level:
            line = getattr(node, "lineno", statement.line) - statement.line
            imports += (Import(depth, name, alias, line) for name, alias in _imports(node))
            if isinstance(node, ast.Name):
                names.add(node.id)
                if isinstance(node.ctx, ast.Store):
                    bound.setdefault(node.id, []).append(constants.get(node))
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                value = folded(node.value)
                constants.update(
                    (one, value) for one in (node.targets if isinstance(node, ast.Assign) else [node.target])
                )
            elif isinstance(node, ast.arg):
                bound.setdefault(node.arg, []).append(None)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
        depths += depth * len(level)
    return Words(tuple(imports), frozenset(names), bound, depths)


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The name that is imported, and what it is bound to here."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            # `import a.b` binds a, and a.b is reached through it.
            yield alias.name, alias.asname or ""
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield f"{module}.{alias.name}", alias.asname or alias.name
    elif (module_name := _dynamic(node)) is not None:
        yield module_name, ""


def _dynamic(node: ast.AST) -> str | None:
    """The module in __import__("name") and importlib.import_module("name")."""
    if not (isinstance(node, ast.Call) and node.args):
        return None
    function, first = node.func, node.args[0]
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    module = folded(first) if name in ("__import__", "import_module") else None
    return module if isinstance(module, str) else None

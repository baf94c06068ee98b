"""What a name in a script stands for, as far as its imports say it.

Takes a syntax tree; gives it as `Parsed`, with `Names`, which writes `L.decompress` as "lzma.decompress" after
`import lzma as L`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Names that imports have bound, anywhere in the file, and what to."""

    bound: Mapping[str, str]
    imported: tuple[tuple[str, int], ...]
    """Every module or member that is imported, with its line; also by __import__("name")."""

    @classmethod
    def of(cls, nodes: Iterable[ast.AST]) -> "Names":
        bound: dict[str, str] = {}
        imported: list[tuple[str, int]] = []
        for node in nodes:
            for name, alias in _imports(node):
                imported.append((name, getattr(node, "lineno", 0)))
                if alias:
                    bound[alias] = name
        return cls(bound, tuple(imported))

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
    """A syntax tree that was walked through once, for all who look for something in it."""

    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    names: Names

    @classmethod
    def of(cls, tree: ast.Module) -> "Parsed":
        nodes = tuple(ast.walk(tree))
        return cls(tree, nodes, Names.of(nodes))


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
    if name not in ("__import__", "import_module") or not isinstance(first, ast.Constant):
        return None
    return first.value if isinstance(first.value, str) else None

"""What a reviewer may want to know of a Python file: what it imports, what it reaches for, what is hidden in it.

Takes a node of a syntax tree; gives `Fact`s, which `syntax.risks` compares before and after an edit.
"""

import ast
from collections.abc import Iterator

Fact = tuple[str, str]
"""A kind, import, use, validation or literal, and what was found."""

BIG_LITERAL = 1_000

# Names whose use a reviewer should see: they reach beyond the training script.
WORRYING = frozenset(
    (
        "__builtins__",
        "__import__",
        "breakpoint",
        "compile",
        "ctypes",
        "delattr",
        "eval",
        "exec",
        "exit",
        "fcntl",
        "getattr",
        "globals",
        "http",
        "importlib",
        "input",
        "locals",
        "marshal",
        "mmap",
        "multiprocessing",
        "open",
        "os",
        "pathlib",
        "pickle",
        "ptrace",
        "requests",
        "resource",
        "runpy",
        "setattr",
        "shelve",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "urllib",
        "vars",
    )
)
# Methods that read, write or load by another name.
WORRYING_METHODS = frozenset(
    (
        "fromfile",
        "load",
        "loads",
        "memmap",
        "read_bytes",
        "read_text",
        "system",
        "tofile",
        "unlink",
        "write_bytes",
        "write_text",
        "__class__",
        "__subclasses__",
        "__globals__",
        "__bases__",
        "__mro__",
        "__code__",
    )
)
VALIDATION = ("val_", "_val", "/val", "val/", "validation")


def of(node: ast.AST) -> Iterator[Fact]:
    if isinstance(node, ast.Import):
        yield from (("import", alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (("import", f"{node.module or '.'}.{alias.name}") for alias in node.names)
    elif isinstance(node, ast.Name) and node.id in WORRYING:
        yield "use", node.id
    elif isinstance(node, ast.Attribute):
        if node.attr in WORRYING_METHODS or node.attr in WORRYING:
            yield "use", f".{node.attr}"
        elif isinstance(node.value, ast.Name) and node.value.id in WORRYING:
            yield "use", f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        words = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        if len(words) > BIG_LITERAL:
            yield "literal", f"{len(words):,} characters"
        if any(mark in words.lower() for mark in VALIDATION):
            yield "validation", words[:200]
    elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
        size = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
        if size > BIG_LITERAL:
            yield "literal", f"{size:,} items"

"""What the text of a hostile Python file says, without running it.

Takes source text; gives its syntax tree, a normal form to compare, the risks that an edit adds.
Tokenizer and parser bound nesting themselves; what they raise at their bounds is reported as `NotParsed`.
"""

import ast
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache

MANY_LINES = 150
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


class NotParsed(Exception):
    """The file is no Python that we would run. `name` is the failure's name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def parse(path: str, text: str) -> ast.Module:
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


def normalised(path: str, text: str) -> str:
    """The same for all files that differ in comments, docstrings and layout alone. Raises NotParsed."""
    if not path.endswith(".py"):
        return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()
    tree = parse(path, text)
    try:
        _strip_docstrings(tree)
        return ast.dump(tree)
    except RecursionError:
        raise NotParsed("too_deep", f"{path} is nested too deeply to be compared") from None


@lru_cache(maxsize=16)  # the head's script is looked at with every idea on it
def digest(path: str, text: str) -> str:
    """A hash of the normal form. Raises NotParsed."""
    return hashlib.sha256(normalised(path, text).encode("utf-8", "surrogatepass")).hexdigest()


def risks(before: str, after: str) -> list[str]:
    """What the edit adds that a person should look at. Both versions must parse, or the old one be empty."""
    old, new = _facts(before), _facts(after)
    added = {kind: sorted((new[kind] - old[kind]).keys()) for kind in new}
    flags = [f"adds import {name}" for name in added["import"]]
    flags += [f"adds use of {name}" for name in added["use"]]
    flags += [f"adds a mention of validation data: {text[:80]!r}" for text in added["validation"]]
    flags += [f"adds a literal of {name}" for name in added["literal"]]
    changed = _changed_lines(before, after)
    if changed > MANY_LINES:
        flags.append(f"changes {changed} lines")
    return flags


@lru_cache(maxsize=16)
def _facts(text: str) -> Mapping[str, Counter[str]]:
    facts: dict[str, Counter[str]] = {kind: Counter() for kind in ("import", "use", "validation", "literal")}
    for node in ast.walk(parse("script", text)):
        for kind, name in _facts_of(node):
            facts[kind][name] += 1
    return facts


def _facts_of(node: ast.AST) -> Iterator[tuple[str, str]]:
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


def _changed_lines(before: str, after: str) -> int:
    old, new = Counter(before.splitlines()), Counter(after.splitlines())
    return max((old - new).total(), (new - old).total())


def _strip_docstrings(tree: ast.Module) -> None:
    """Takes out every string that stands alone as a statement, and the u of u""."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                kept = [statement for statement in body if not _is_docstring(statement)]
                setattr(node, field, kept if kept or not body else [ast.Pass()])
        if isinstance(node, ast.Constant):
            node.kind = None


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _explain(path: str, text: str, error: SyntaxError) -> str:
    where = f"{path} line {error.lineno}" if error.lineno else path
    lines = text.split("\n")
    shown = ""
    if error.lineno and 0 < error.lineno <= len(lines):
        shown = f": {lines[error.lineno - 1].strip()[:120]}"
    return f"{where} is not Python: {error.msg}{shown}"

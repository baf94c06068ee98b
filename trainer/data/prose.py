"""The prose of a Python file: the paragraphs of its documentation strings.

Takes source as bytes; gives paragraphs, each one line of printable text, in the order of the file. Code
samples, tables, formulas and section titles are left out. The file is parsed, never run.
"""

import ast
import re
import warnings
from collections.abc import Iterator

SHORTEST = 40
FEWEST_WORDS = 6
# Least share of letters and spaces: text that has less is a formula, a table or code.
PLAIN_SHARE = 0.8
_RULE = re.compile(r"^[-=~^*#_+.`'\"|<>\s]{3,}$")
_NOT_PROSE = (">>>", "...", "..", "|", "+-", "$ ", "% ", "In [", "@", "#")


def prose(source: bytes) -> list[str]:
    """Paragraphs of all documentation strings. A file that is no Python of this version has none."""
    if b'"""' not in source and b"'''" not in source:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return [text for docstring in _docstrings(tree) for text in paragraphs(docstring) if is_prose(text)]


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """In the order of the file. Goes into statements only: expressions hold no documentation."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text
        inside: list[ast.stmt | ast.ExceptHandler] = []
        for field in ("body", "handlers", "orelse", "finalbody"):
            inside += getattr(node, field, None) or []
        todo += reversed(inside)


def paragraphs(docstring: str) -> Iterator[str]:
    """Blocks between blank lines, each joined to one line; without code samples, rules and titles."""
    code_from: int | None = None  # lines indented deeper than this are a code sample
    for block in re.split(r"\n(?:[ \t]*\n)+", docstring.replace("\r\n", "\n").expandtabs(8)):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        indent = _indent(lines[0])
        if code_from is not None and indent > code_from:
            continue
        code_from = None
        kept = _without_titles(lines)
        if kept and kept[-1].rstrip().endswith("::"):
            code_from = _indent(kept[-1])
        text = " ".join(" ".join(kept).split())
        if text:
            yield text


def _without_titles(lines: list[str]) -> list[str]:
    kept: list[str] = []
    for line in lines:
        bare = line.strip()
        if bare.startswith(">>>"):
            break
        if _RULE.match(bare):
            kept = kept[:-1]
        else:
            kept.append(line)
    return kept


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_prose(text: str) -> bool:
    """Whether a paragraph reads as text: long enough, mostly letters, nothing that could not be printed."""
    if len(text) < SHORTEST or text.startswith(_NOT_PROSE) or not text.isprintable():
        return False
    plain = sum(map(str.isalpha, text)) + text.count(" ")
    return text.count(" ") + 1 >= FEWEST_WORDS and plain >= PLAIN_SHARE * len(text)

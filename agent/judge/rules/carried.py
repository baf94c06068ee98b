"""Signs that a script carries text or numbers, which validation text or the weights of a model can be.

Takes a parsed script; gives `Literals`. What a model knows belongs into the artifact, whose bytes count.
"""

import ast
import io
import re
import tokenize
import zlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from agent.judge.rules.names import Parsed
from agent.judge.rules.signs import Sign
from agent.script.syntax import alone_in

# A literal that is longer holds text or weights, which belong into the artifact; a list of a vocabulary is shorter.
LONG, TOO_LONG = 2_000, 16_384  # characters
MANY, TOO_MANY = 1_000, 8_192  # items of a list
LONGEST_PROGRAM = 65_536  # characters of one in another language that is compiled where the script runs
_CODE_ENDS = tuple(";{})(,=&|+\\")
_CODE_SHARE = 0.7  # of its characters stand in lines that end as no prose does
_PROGRAM_PACKED = 1 / 3
ALL_LITERALS = 65_536  # characters of all together, names too, which are four times those of the trainer


# By these a script reads its own text, and by the first its docstrings alone.
_READS_DOCSTRINGS = re.compile(rb"__doc__|getdoc\b")
_READS_ITSELF = re.compile(rb"__file__|__loader__|__spec__|\bargv\s*\[\s*0|getsource|getcomments|co_consts|linecache")
_COMMENT = re.compile(rb"#[^\n]*")
_SPELT: dict[type[ast.AST], str] = {
    ast.Name: "id", ast.Attribute: "attr", ast.arg: "arg", ast.keyword: "arg", ast.alias: "name",
    ast.FunctionDef: "name", ast.ClassDef: "name",
}  # fmt: skip


class Literals(NamedTuple):
    """What statements carry: the long literals, and how much there is of what else text can be hidden in."""

    signs: tuple[Sign, ...]
    characters: int
    """Of all literals, and of all names, each once in a statement."""
    docstrings: tuple[int, ...]
    """Characters of each."""
    comments: int
    """Characters; where they are few, those of strings behind a # too."""
    reads_docstrings: bool
    reads_itself: bool


def literals(parsed: Parsed, payload: Collection[tuple[int, int]] = ()) -> Literals:
    """Validation text, or the weights of a model of it, can be written into a script."""
    docstrings = _docstrings(parsed)
    found, characters, names, texts = list[Sign](), 0, set[str](), [one.text for one in parsed.statements]
    for node in parsed.nodes:
        if (spelt := _SPELT.get(type(node))) is not None:
            names.add(getattr(node, spelt) or "")
        elif isinstance(node, ast.Constant):
            if node in docstrings or (node.lineno, node.col_offset) in payload:
                continue
            size = _length(node.value)
            characters += _written(node)
            if size > LONG:
                surely = size > TOO_LONG and not _is_program(node.value)
                found.append(_long(f"{size:,} characters", node.lineno, surely=surely))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            items = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
            if items > MANY:
                found.append(_long(f"{items:,} items", node.lineno, surely=items > TOO_MANY))
    return Literals(
        tuple(found),
        characters + sum(map(len, names)),
        tuple(len(one) for node in parsed.nodes if isinstance(node, ast.stmt) for one in alone_in(node)),
        sum(map(_comments, texts)),
        any(_READS_DOCSTRINGS.search(text) for text in texts),
        any(_READS_ITSELF.search(text) for text in texts),
    )


def together(found: Collection[Literals], between: int) -> Iterator[Sign]:
    """In short pieces there is room as well, and in docstrings and comments, for a script that reads them. `between`:
    characters of comments that stand in no statement."""
    characters = sum(one.characters for one in found)
    docstrings = [size for one in found for size in one.docstrings]
    comments = between + sum(one.comments for one in found)
    reads_itself = any(one.reads_itself for one in found)
    if reads_docstrings := any(one.reads_docstrings for one in found):
        yield from (
            _long(f"{size:,} characters (a docstring)", 0, surely=True) for size in docstrings if size > TOO_LONG
        )
    if reads_itself:
        characters += comments
        said = comments + (0 if reads_docstrings else sum(docstrings))
        if said > TOO_LONG:
            words = f"it reads its own text, with comments and docstrings of {said:,} characters"
            yield Sign(1, "flag", "many_comments", words, 0, said)
    if reads_itself or reads_docstrings:
        characters += sum(docstrings)
    if characters > ALL_LITERALS:
        words = f"literals and names of {characters:,} characters together"
        yield Sign(1, "flag", "many_literals", words, 0, characters)


def _long(size: str, line: int, *, surely: bool) -> Sign:
    words = f"a literal of {size}: text and weights belong into the artifact"
    return Sign(1, "invalid" if surely else "flag", "long_literal", words, line)


def _length(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 8 if type(value) is int else 0


def _comments(text: bytes) -> int:
    most = sum(map(len, _COMMENT.findall(text)))
    if most <= LONG:
        return most
    try:  # what is packed has many a # that begins no comment
        tokens = tokenize.tokenize(io.BytesIO(text).readline)
        return sum(len(one.string) for one in tokens if one.type == tokenize.COMMENT)
    except (tokenize.TokenError, SyntaxError):
        return most


def _written(node: ast.Constant) -> int:
    """As it stands there: of numbers the digits."""
    if isinstance(node.value, str | bytes):
        return len(node.value)
    return (node.end_col_offset or 0) - node.col_offset if isinstance(node.value, int | float | complex) else 0


def _docstrings(parsed: Parsed) -> set[ast.Constant]:
    return {node.value for node in parsed.nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def _is_program(value: object) -> bool:
    """Whether it reads like one for a compiler, as of a kernel: such text a person can look at. What is packed, and
    prose, which takes twice as many bytes when it is compressed, are written otherwise."""
    if not isinstance(value, str) or len(value) > LONGEST_PROGRAM:
        return False
    lines = [line.strip() for line in value.splitlines() if line.strip()]
    code = sum(len(line) for line in lines if _is_code(line))
    packed = len(zlib.compress(value.encode("utf-8", "replace"), 6))
    return code > _CODE_SHARE * sum(map(len, lines)) and packed < _PROGRAM_PACKED * len(value)


def _is_code(line: str) -> bool:
    """Not a comment; one may stand behind it."""
    return len(line) <= 200 and (
        line.split("//")[0].rstrip().endswith(_CODE_ENDS) or line.startswith(("#define", "#if"))
    )

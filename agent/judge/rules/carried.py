"""Signs that a script carries text or numbers, which validation text or the weights of a model can be.

Takes a parsed script; gives `Literals`. What a model knows belongs into the artifact, whose bytes count.
"""

import ast
import zlib
from collections.abc import Collection
from typing import NamedTuple

from agent.judge.rules.names import Parsed
from agent.judge.rules.signs import Sign

# A literal that is longer holds text or weights, which belong into the artifact; a list of a vocabulary is shorter.
LONG, TOO_LONG = 2_000, 16_384  # characters
MANY, TOO_MANY = 1_000, 8_192  # items of a list
LONGEST_PROGRAM = 65_536  # characters of one in another language that is compiled where the script runs
_CODE_ENDS = tuple(";{})(,=&|+\\")
_CODE_SHARE = 0.7  # of its characters stand in lines that end as no prose does
_PROGRAM_PACKED = 1 / 3
ALL_LITERALS = 65_536  # characters of all together


class Literals(NamedTuple):
    """The long ones, and how many characters all have together."""

    signs: tuple[Sign, ...]
    characters: int


def literals(parsed: Parsed, payload: Collection[tuple[int, int]] = ()) -> Literals:
    """Validation text, or the weights of a model of it, can be written into a script."""
    docstrings = _docstrings(parsed)
    found, characters = list[Sign](), 0
    for node in parsed.nodes:
        if isinstance(node, ast.Constant):
            if node in docstrings or (node.lineno, node.col_offset) in payload:
                continue
            size = _length(node.value)
            characters += size if size > 64 else 0
            if size > LONG:
                found.append(
                    _long(f"{size:,} characters", node, surely=size > TOO_LONG and not _is_program(node.value))
                )
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            items = len(node.keys) if isinstance(node, ast.Dict) else len(node.elts)
            if items > MANY:
                found.append(_long(f"{items:,} items", node, surely=items > TOO_MANY))
    return Literals(tuple(found), characters)


def _long(size: str, node: ast.expr, *, surely: bool) -> Sign:
    words = f"a literal of {size}: text and weights belong into the artifact"
    return Sign(1, "invalid" if surely else "flag", "long_literal", words, node.lineno)


def _length(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 8 if type(value) is int else 0


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

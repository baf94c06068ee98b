"""Unpacks scripts that carry their source compressed in a literal, as data: nothing of them is executed.

Takes a file's bytes; gives `Source`s, the outermost first. Understood are literals, names that are bound to them, and
calls of the usual decoders, in any order; what an `exec` runs beyond that is `hidden`. Bounded in depth, size and work.
"""

import ast
import copy
import lzma
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.judge.rules.decoders import DECODERS, Decoder
from agent.judge.rules.names import Names, Parsed, Statement

MOST_BYTES = 4_000_000  # of all texts together
MOST_DEPTH = 4
MOST_WORK = 32_000_000  # bytes of all values that are worked out for one file, kept or not
_DECODING = 32_768  # bytes that a decoder counts for beside what it reads and gives: some have tables to make
_PLACE = 64  # bytes that the place of a literal counts for
_EXECUTES = frozenset(("exec", "eval", "builtins.exec"))
_NAMED = re.compile(rb"(?<![A-Za-z0-9_])(?:exec|eval|__import__|import_module)(?![A-Za-z0-9_])")
_CODINGS = ("utf-8", "utf8", "latin-1", "latin1", "iso-8859-1", "ascii")


@dataclass(frozen=True)
class Source:
    """One layer of a script."""

    name: str
    text: str
    parsed: Parsed | None  # None: it is no Python
    why: str = ""  # it is none
    hidden: tuple[str, ...] = ()  # what an exec runs that can't be read here, in words
    runs_files: tuple[str, ...] = ()  # files beside it whose text it executes
    payload: frozenset[tuple[int, int]] = frozenset()  # where the literals stand that it executes


class _Unknown(Exception):
    """The value is not known before it is run."""


def unpack(name: str, data: bytes) -> tuple[Source, ...]:
    """The file, and what it would execute of its own literals, layer by layer."""
    found: list[Source] = []
    left, layer, data_here, work = MOST_BYTES, name, data, _Work()
    while len(found) < MOST_DEPTH:
        source, inner = _layer(layer, data_here, left, work)
        found.append(source)
        if inner is None:
            break
        left -= len(inner)
        layer, data_here = f"{name}, unpacked", inner
    return tuple(found)


def _layer(name: str, data: bytes, left: int, work: "_Work") -> tuple[Source, bytes | None]:
    if len(data) > left:
        return Source(name, "", None, f"it has more than {MOST_BYTES:,} bytes"), None
    text = data.decode("latin-1" if _latin(data) else "utf-8", errors="replace")
    try:
        parsed = Parsed.of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Source(name, text, None, f"it is no Python: {str(error)[:120]}"), None
    reader = _Reader(parsed.names, left - len(data), work)
    try:
        reader.module(parsed.statements)
    except RecursionError:
        reader.hidden.append("an exec that is nested too deeply to be read")
    source = Source(name, text, parsed, "", tuple(reader.hidden), tuple(reader.files), frozenset(reader.payload))
    return source, reader.inner


def _latin(data: bytes) -> bool:
    """As its coding line says. A script in any other coding is read as UTF-8."""
    head = b"\n".join(data.split(b"\n", 2)[:2])
    return b"latin" in head and b"coding" in head


@dataclass
class _Work:
    """What may still be worked out. Nothing is given back: a name that is bound anew may have been copied."""

    left: int = MOST_WORK

    def do(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Unknown


@dataclass
class _Reader:
    """Goes through a module's statements and keeps what names are bound to."""

    names: Names
    most: int
    work: _Work
    values: dict[str, str | bytes] = field(default_factory=dict)
    made_of: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    payload: set[tuple[int, int]] = field(default_factory=set)
    used: set[tuple[int, int]] = field(default_factory=set)  # literals of the value that is worked out
    inner: bytes | None = None
    hidden: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def module(self, statements: Iterable[Statement]) -> None:
        renamed = any(name in _EXECUTES for name in self.names.bound.values())
        for statement in statements:
            node = statement.node
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._bind(node.targets[0], node.value)
            if renamed or _may_execute(statement.text):
                for part in ast.walk(node):
                    if isinstance(part, ast.Call) and self.names.dotted(part.func) in _EXECUTES:
                        self._executed(part)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            return
        self.used = set()
        try:
            found = self._value(value)
            self.work.do(_PLACE * len(self.used))
        except _Unknown:
            self.values.pop(target.id, None)
        else:
            self.values[target.id], self.made_of[target.id] = found, self.used

    def _executed(self, call: ast.Call) -> None:
        what = call.args[0] if call.args else None
        if isinstance(what, ast.Call) and self.names.dotted(what.func) == "compile" and what.args:
            what = what.args[0]
        if what is None:
            return
        if (path := self._read_file(what)) is not None:
            self.files.append(path)
            return
        self.used = set()
        try:
            value = self._value(what)
        except _Unknown:
            line = getattr(call, "lineno", 0)
            self.hidden.append(f"line {line}: {self.names.dotted(call.func)} of what is only known when it runs")
            return
        self.payload |= self.used
        if self.inner is None:
            self.inner = value.encode() if isinstance(value, str) else value

    def _read_file(self, node: ast.expr) -> str | None:
        """The name in open("x.py").read() or Path("x.py").read_text()."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return None
        if node.func.attr not in ("read", "read_text", "read_bytes") or not isinstance(node.func.value, ast.Call):
            return None
        opened = node.func.value
        if self.names.dotted(opened.func) not in ("open", "io.open", "pathlib.Path", "codecs.open") or not opened.args:
            return None
        path = opened.args[0]
        return path.value if isinstance(path, ast.Constant) and isinstance(path.value, str) else None

    # ------------------------------------------------------------ values of expressions

    def _value(self, node: ast.expr) -> str | bytes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            self.used.add((node.lineno, node.col_offset))
            return node.value
        if isinstance(node, ast.Name) and node.id in self.values:
            self.work.do(_PLACE * len(self.made_of[node.id]))
            self.used |= self.made_of[node.id]
            return self.values[node.id]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self._value(node.left), self._value(node.right)
            self._room(len(left) + len(right))
            if isinstance(left, str) and isinstance(right, str):
                return left + right
            if isinstance(left, bytes) and isinstance(right, bytes):
                return left + right
        if isinstance(node, ast.Call):
            return self._called(node)
        raise _Unknown

    def _called(self, node: ast.Call) -> str | bytes:
        name = self.names.dotted(node.func)
        if name in DECODERS and node.args:
            return self._decoded(DECODERS[name], node)
        if not isinstance(node.func, ast.Attribute):
            raise _Unknown
        value = self._value(node.func.value)
        self._room(len(value))
        coding = self._coding(node)
        try:
            if node.func.attr == "encode" and isinstance(value, str):
                return value.encode(coding)
            if node.func.attr == "decode" and isinstance(value, bytes):
                return value.decode(coding)
            if node.func.attr == "strip" and not node.args:
                return value.strip()
        except UnicodeError:
            pass
        raise _Unknown

    def _coding(self, node: ast.Call) -> str:
        if not node.args:
            return "utf-8"
        first = node.args[0]
        if isinstance(first, ast.Constant) and str(first.value).lower() in _CODINGS:
            return str(first.value)
        raise _Unknown

    def _decoded(self, decoder: Decoder, node: ast.Call) -> bytes:
        value = self._value(node.args[0])
        self.work.do(_DECODING + len(value))
        most = min(self.most, self.work.left)
        data = value.encode("latin-1", errors="replace") if isinstance(value, str) else value
        options: dict[str, object] = {}
        try:
            for keyword in node.keywords:
                options[str(keyword.arg)] = ast.literal_eval(_plain(keyword.value))
            options.update(
                zip(("second", "third", "fourth"), (ast.literal_eval(_plain(a)) for a in node.args[1:4]), strict=False)
            )
            found = decoder(data, most, options)
        except (
            ValueError,
            TypeError,
            OverflowError,
            SyntaxError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
            MemoryError,
        ) as error:
            self.work.left -= most  # it may have found so much before it failed
            raise _Unknown from error
        self.work.do(len(found))
        return found

    def _room(self, size: int) -> None:
        if size > self.most:
            raise _Unknown
        self.work.do(size)


def _may_execute(text: bytes) -> bool:
    """Without looking at its tree. Other letters than those of ASCII may be read as these."""
    return not text.isascii() or _NAMED.search(text) is not None


def _plain(node: ast.expr) -> ast.expr:
    """1<<20 as the number that it is, also inside lists and dicts of filters."""
    return _Shifts().visit(copy.deepcopy(node))  # type: ignore[no-any-return]


class _Shifts(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        left, right = self.visit(node.left), self.visit(node.right)
        sides = [side.value for side in (left, right) if isinstance(side, ast.Constant) and type(side.value) is int]
        if isinstance(node.op, ast.LShift) and len(sides) == 2 and 0 <= sides[0] < 256 and 0 <= sides[1] <= 40:
            return ast.copy_location(ast.Constant(sides[0] << sides[1]), node)
        return node

"""Unpacks scripts that carry their source compressed in a literal, as data: nothing of them is executed.

Takes a file's bytes; gives `Source`s, the outermost first. Understood are literals, names that are bound to them, and
calls of the usual decoders, in any order; what an `exec` runs beyond that, or beyond the bounds of depth, number, size
and work, is `hidden`.
"""

import ast
import codecs
import copy
import io
import lzma
import tokenize
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from agent.judge.rules import executing, settings
from agent.judge.rules.decoders import DECODERS, Decoder
from agent.judge.rules.names import Names, Parsed, Statement

MOST_BYTES = 4_000_000  # of all texts together
MOST_DEPTH = 4
MOST_LAYERS = 64
MOST_WORK = 32_000_000  # bytes of all values that are worked out for one file, kept or not
_DECODING = 32_768  # bytes that a decoder counts for beside what it reads and gives: some have tables to make
_PLACE = 64  # bytes that the place of a literal counts for
_READ_AS = ("utf-8", "utf-8-sig", "iso8859-1", "ascii")
_CODINGS = ("utf-8", "utf8", "latin-1", "latin1", "iso-8859-1", "ascii")


class Unread(NamedTuple):
    words: str
    line: int = 0


@dataclass(frozen=True)
class Source:
    """One layer of a script."""

    name: str
    text: str
    parsed: Parsed | None  # None: it is no Python
    why: str = ""  # it is none
    hidden: tuple[Unread, ...] = ()  # what an exec runs that can't be read here
    takes: tuple[Unread, ...] = ()  # what an eval takes from its environment
    runs_files: tuple[str, ...] = ()  # files beside it whose text it executes
    payload: frozenset[tuple[int, int]] = frozenset()  # where the literals stand that it executes


class _Unknown(Exception):
    """The value is not known before it is run."""


def unpack(name: str, data: bytes, most: int = MOST_BYTES) -> tuple[Source, ...]:
    """The file, and all that it would execute of its own literals, layer by layer. `most`: bytes of all together."""
    if len(data) > most:
        return (Source(name, "", None, f"it has more than {most:,} bytes"),)
    found: list[Source] = []
    room = _Room(most - len(data), {data})
    waiting = deque([(name, data, 1)])
    while waiting:
        layer, data_here, depth = waiting.popleft()
        source, inner = _layer(layer, data_here, depth, room)
        found.append(source)
        waiting += ((f"{name}, unpacked", one, depth + 1) for one in inner)
    return tuple(found)


def _layer(name: str, data: bytes, depth: int, room: "_Room") -> tuple[Source, list[bytes]]:
    coding = _coding_of(data)
    text = data.decode(coding if coding in _READ_AS else "utf-8", errors="replace")
    try:
        parsed = Parsed.of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Source(name, text, None, f"it is no Python: {str(error)[:120]}"), []
    reader = _Reader(parsed, room, depth)
    if coding not in _READ_AS:
        reader.hidden.append(Unread(f"it is in a coding of its own, {coding[:40]}"))
    try:
        reader.module(parsed.statements)
    except RecursionError:
        reader.hidden.append(Unread("an exec that is nested too deeply to be read"))
    seen = tuple(reader.hidden), tuple(reader.takes), tuple(reader.files), frozenset(reader.payload)
    return Source(name, text, parsed, "", *seen), reader.inner


def _coding_of(data: bytes) -> str:
    """What Python reads it as. In one that is not known here a comment may be code."""
    lines = io.BytesIO(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    try:
        return codecs.lookup(tokenize.detect_encoding(lines.readline)[0]).name  # latin-1 has many names
    except SyntaxError as error:
        return str(error)


@dataclass
class _Room:
    """What may still be unpacked and worked out.

    Nothing is given back: a name that is bound anew may have been copied.
    """

    most: int  # bytes of the layers to come
    seen: set[bytes]  # the layers, those to come too
    work: int = MOST_WORK

    def do(self, size: int) -> None:
        self.work -= size
        if self.work < 0:
            raise _Unknown

    def take(self, layer: bytes, depth: int) -> bool:
        """Whether it is one to come: each is looked at once, wherever it is executed."""
        if layer in self.seen:
            return False
        if len(layer) > self.most or len(self.seen) >= MOST_LAYERS or depth >= MOST_DEPTH:
            raise _Unknown
        self.most -= len(layer)
        self.seen.add(layer)
        return True


@dataclass
class _Reader:
    """Goes through a module's statements and keeps what names are bound to."""

    parsed: Parsed
    room: _Room
    depth: int
    values: dict[str, str | bytes] = field(default_factory=dict)
    made_of: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    payload: set[tuple[int, int]] = field(default_factory=set)
    used: set[tuple[int, int]] = field(default_factory=set)  # literals of the value that is worked out
    inner: list[bytes] = field(default_factory=list)
    hidden: list[Unread] = field(default_factory=list)
    takes: list[Unread] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def names(self) -> Names:
        return self.parsed.names

    @cached_property
    def written(self) -> frozenset[str] | None:
        return settings.written(self.parsed.nodes, self.names)

    def module(self, statements: Iterable[Statement]) -> None:
        renamed = executing.is_renamed(self.names)
        own = self.rebound - executing.EXECUTES  # what is assigned may be the builtin again
        for statement in statements:
            node = statement.node
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._bind(node.targets[0], node.value)
            if (renamed or executing.may_execute(statement.text)) and executing.has_uses(statement, self.names):
                for use in executing.uses(node, self.names, own):
                    self._used(use)
            if (defined := executing.defined(node)) and not self.unbinds:
                own |= defined

    @cached_property
    def unbinds(self) -> bool:
        return any(executing.may_unbind(one) for one in self.parsed.statements)

    @cached_property
    def rebound(self) -> frozenset[str]:
        return frozenset().union(*(executing.binds_itself(one.node) for one in self.parsed.statements))

    def _used(self, use: executing.Use) -> None:
        if use.kind == "hidden":
            self.hidden.append(Unread(use.words, use.node.lineno))
        elif use.kind == "argument":
            self.takes.append(Unread(use.words, use.node.lineno))
        elif isinstance(use.node, ast.Call):
            self._executed(use.node, unread=self.hidden if use.kind == "call" else self.takes)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            return
        self.used = set()
        try:
            found = self._value(value)
            self.room.do(_PLACE * len(self.used))
        except _Unknown:
            self.values.pop(target.id, None)
        else:
            self.values[target.id], self.made_of[target.id] = found, self.used

    def _executed(self, call: ast.Call, unread: list[Unread]) -> None:
        what = call.args[0] if call.args else None
        if isinstance(what, ast.Call) and self.names.dotted(what.func) in executing.COMPILES and what.args:
            what = what.args[0]
        if what is None:
            return
        if (path := self._read_file(what)) is not None:
            self.files.append(path)
            return
        if (setting := self._setting(call, what)) is not None:
            self.takes.append(Unread(f"what {setting.name[:40]} says in its environment", call.lineno))
            if setting.default is None:
                return
            what = setting.default
        self.used = set()
        try:
            value = self._value(what)
            data = value.encode("utf-8", "replace") if isinstance(value, str) else value
            if self.names.dotted(call.func).endswith("eval"):
                data = data.lstrip(b" \t")  # as eval does
            if self.room.take(data, self.depth):
                self.inner.append(data)
        except _Unknown:
            words = f"{self.names.dotted(call.func)} of what is only known when it runs, or is too much to be read"
            unread.append(Unread(words, call.lineno))
            return
        self.payload |= self.used

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

    def _setting(self, call: ast.Call, what: ast.expr) -> settings.Setting | None:
        """What an eval reads of its environment, unless the script itself may have put it there."""
        if not self.names.dotted(call.func).endswith("eval") or (found := settings.read(what, self.names)) is None:
            return None
        return found if self.written is not None and found.name not in self.written else None

    # ------------------------------------------------------------ values of expressions

    def _value(self, node: ast.expr) -> str | bytes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            self.used.add((node.lineno, node.col_offset))
            return node.value
        if isinstance(node, ast.Name) and node.id in self.values:
            self.room.do(_PLACE * len(self.made_of[node.id]))
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
        self.room.do(_DECODING + len(value))
        most = min(self.room.most, self.room.work)
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
            self.room.work -= most  # it may have found so much before it failed
            raise _Unknown from error
        self.room.do(len(found))
        return found

    def _room(self, size: int) -> None:
        if size > self.room.most:
            raise _Unknown
        self.room.do(size)


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

"""Signs of broken rules in the text of a script. It is parsed, never executed.

Takes a parsed script; gives `Sign`s in the order of lines. What a text can prove is little: a sign that is `invalid` is
something that no honest script needs, the rest are for a person's eye. What blind scoring proves is in scoring.py.
"""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from agent.judge.rules import carried, flow, own_file, packages, reaches, seeds
from agent.judge.rules.carried import LONG, Literals
from agent.judge.rules.names import Parsed, Statement, words_of
from agent.judge.rules.payload import Source, unpack
from agent.judge.rules.remembered import Remembered
from agent.judge.rules.signs import Sign
from agent.script.syntax import uncollected

# Characters of a script with all that it unpacks, which is six times the trainer; more would take many seconds.
LONGEST = 400_000
LONGEST_OWN = 2_000_000  # where a person's own script is longer already
DEEPEST = 1_000_000  # of `Words.depths` together: so would what is nested again and again. The trainer has 82,000
TOO_DEEP = Sign(24, "flag", "too_deep", "it is nested too deeply to be looked at", 0)
_PER_TOKEN = re.compile(
    r"bytes_per_token|tokens_per_byte|token_bytes_ratio|val_bytes|total_bytes|num_bytes", re.IGNORECASE
)


@lru_cache(maxsize=32)
def of_text(text: str, longest: int = LONGEST) -> tuple[Sign, ...]:
    """Of a script that is not packed yet, and of all that it unpacks: if it is too much to be looked at, it is bad."""
    if len(text) > longest:
        return (_too_long(len(text), longest),)
    data = text.encode("utf-8", "surrogatepass")
    with uncollected():
        # Letters that take several bytes leave no less room for what is unpacked.
        return tuple(of_layers(unpack("script", data, longest + len(data) - len(text))))


def longest(before: str) -> int:
    """Characters that an edit may come to."""
    unread = any(
        one.severity == "invalid" and one.name in ("too_long", "hidden_code") for one in of_text(before, LONGEST)
    )
    return LONGEST_OWN if unread else LONGEST


def new(before: str, after: str) -> list[Sign]:
    """What an edit adds."""
    most = longest(before)
    old = of_text(before, most)
    known, sizes = Counter(one.key() for one in old), {one.name: one.size for one in old}
    found = []
    for one in of_text(after, most):
        known[one.key()] -= 1
        if one.size:
            found += [one] if one.size > sizes.get(one.name, -LONG) + LONG else []
        elif known[one.key()] < 0:
            found.append(one)
    return found


def _too_long(length: int, most: int) -> Sign:
    words = f"it is longer than any honest script, and is not looked at: {length:,} characters of at most {most:,}"
    return Sign(24, "invalid", "too_long", words, 0)


class Shown(NamedTuple):
    """What one statement at module level shows by itself; lines count from where its text begins."""

    signs: tuple[Sign, ...]
    literals: Literals
    names_validation: bool
    seeding: seeds.Seeding = seeds.Seeding((), (), frozenset(), ())
    aliases: own_file.Aliases = own_file.Aliases((), ())


_remembered: Remembered[Shown] = Remembered()


def signs(parsed: Parsed, payload: Collection[tuple[int, int]] = ()) -> list[Sign]:
    """Everything that the text shows. `payload`: literals that are code, which was unpacked and is looked at too.

    What is nested too deeply hides nothing but itself, and not its imports and literals: they take a look at each node.
    """
    found = [*reaches.imports(parsed.names)]
    written, validation, deepest = list[Literals](), False, _deepest(parsed.statements)
    looked_at: list[Statement] = []
    seeding: list[tuple[seeds.Seeding, int]] = []
    aliases: list[own_file.Aliases] = []
    for statement in parsed.statements:
        alone = parsed.only(statement)
        if words_of(statement).depths <= deepest:
            looked_at.append(statement)
            shown = _shown(alone, statement)
        else:
            shown = _unseen(alone, -statement.line)
        validation |= shown.names_validation
        literals = carried.literals(alone, payload) if payload else shown.literals
        found += _moved(shown.signs, statement.line)
        found += literals.signs if payload else _moved(literals.signs, statement.line)
        written.append(literals)
        seeding.append((shown.seeding, statement.line))
        aliases.append(
            shown.aliases._replace(written=tuple((name, at + statement.line) for name, at in shown.aliases.written))
        )
    try:
        found += flow.together(replace(parsed, statements=tuple(looked_at))) if validation else ()
    except RecursionError:
        found.append(TOO_DEEP)
    found += seeds.together(seeding, looked_at)
    found += own_file.together(aliases, looked_at)
    found += carried.together(written, parsed.between)
    return sorted(dict.fromkeys(found), key=lambda one: (one.line, one.rule, one.name, one.words))


def _deepest(statements: Iterable[Statement]) -> int:
    """The most `Words.depths` of a statement that is looked at: the least deep ones first, until all that fits."""
    left = DEEPEST
    for depths in sorted(words_of(statement).depths for statement in statements):
        if (left := left - depths) < 0:
            return depths - 1
    return DEEPEST


def _shown(alone: Parsed, statement: Statement) -> Shown:
    """Remembered by all that it depends on: the statement's text, and what imports say of the names in it."""
    key = statement.text, alone.names.meant_by(statement)
    return _remembered.answer(key, len(statement.text), lambda: _look(alone, -statement.line))


def _look(alone: Parsed, by: int) -> Shown:
    found: list[Sign] = []
    for look in (reaches.calls, flow.alone, seeds.signs, packages.signs, _constants):
        try:
            found += look(alone)
        except RecursionError:  # one expression can be too deep to be written out: that hides nothing from the others
            found.append(TOO_DEEP)
    own, aliases = own_file.look(alone, by)
    found += own
    shown = _unseen(alone, by)._replace(aliases=aliases, names_validation=flow.names_validation(alone))
    try:
        shown = shown._replace(seeding=seeds.seeding(alone, by))
    except RecursionError:
        found.append(TOO_DEEP)
    return shown._replace(signs=tuple(_moved(found, by)))


def _unseen(alone: Parsed, by: int) -> Shown:
    """Its literals are seen all the same."""
    literals = carried.literals(alone)
    return Shown((TOO_DEEP,), literals._replace(signs=tuple(_moved(literals.signs, by))), names_validation=False)


def _moved(found: Iterable[Sign], by: int) -> Iterator[Sign]:
    return (replace(one, line=one.line + by) for one in found)


def of_layers(layers: tuple[Source, ...]) -> list[Sign]:
    """Of a script and of all that it unpacks."""
    found: list[Sign] = []
    for source in layers:
        if source.parsed is not None:
            found += signs(source.parsed, source.payload)
        found += (
            Sign(24, "invalid", "hidden_code", f"it executes code that nobody can read: {one.words}", one.line)
            for one in source.hidden
        )
        found += (
            Sign(24, "flag", "hidden_code", f"it executes what is not in it: {one.words}", one.line)
            for one in source.takes
        )
        found += [Sign(24, "flag", "no_python", source.why, 0)] if source.why else []
        found += (
            Sign(16, "policy", "runs_a_file", f"its code is in another file, {path[:80]}, which it executes", 0)
            for path in source.runs_files
        )
    return found


# ------------------------------------------------------------ others


def _constants(parsed: Parsed) -> Iterator[Sign]:
    """Rule 18: the number of bytes is counted, not written down."""
    for node in parsed.nodes:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)):
            continue
        value = node.value.value
        if isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1):
            for target in node.targets:
                name = ast.unparse(target)[:60]
                if _PER_TOKEN.search(name):
                    words = f"{name} is the constant {value!r}: bytes have to be counted"
                    yield Sign(18, "flag", "fixed_bytes", words, node.lineno)

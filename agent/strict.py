"""Records of ours as JSON, read as if somebody hostile had written it: what is odd is a ValueError and nothing else.

Takes a text and a frozen dataclass; gives one of these. Standard library only, because shepherds and far machines load
it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

INTEGERS = range(-(1 << 63), 1 << 63)  # what a database can hold
MOST_WORDS = 500  # characters of what is said of a bad text

T = TypeVar("T")


def strict(kind: type[T], text: str) -> T:
    """A frozen dataclass from JSON, or ValueError: no key unknown, none missing but those that have a
    default (a job in flight may be of an older version), types as declared, numbers finite."""
    raw = from_json(text)
    try:
        return _value(kind, raw, kind.__name__)  # type: ignore[no-any-return]
    except (ValueError, RecursionError) as error:
        raise ValueError(_words(error)) from error


def from_json(text: str) -> object:
    """What a text says, which hostile code may have written: ValueError for whatever is wrong with it."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(_words(error)) from error


def _words(error: Exception) -> str:
    """Fit to be stored: short, and without halves of characters."""
    return str(error)[:MOST_WORDS].encode("utf-8", "backslashreplace").decode("utf-8")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of ours")


def _value(kind: object, raw: object, where: str):  # type: ignore[no-untyped-def]
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, raw, where)
    if origin is tuple:
        if not isinstance(raw, list):
            raise ValueError(f"{where}: expected a list")
        return tuple(_value(args[0], item, f"{where}[{at}]") for at, item in enumerate(raw))
    if origin is dict:
        if not isinstance(raw, dict):
            raise ValueError(f"{where}: expected an object")
        return {str(key): _value(args[1], item, f"{where}.{key}") for key, item in raw.items()}
    if origin is Literal:
        if raw not in args:
            raise ValueError(f"{where}: {raw!r} is none of {', '.join(map(repr, args))}")
        return raw
    if origin in (Union, UnionType):
        if raw is None and type(None) in args:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), raw, where)
    if type(raw) is int and raw not in INTEGERS:
        raise ValueError(f"{where}: a number of that size is none of ours")
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is float and not math.isfinite(raw):
        raise ValueError(f"{where}: expected a finite number")
    if type(raw) is not kind:
        raise ValueError(f"{where}: expected {kind}, got {type(raw).__name__}")
    return raw


def _record(kind: type, raw: object, where: str):  # type: ignore[no-untyped-def]
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected an object")
    types, needed = _fields(kind)
    if odd := (raw.keys() - types.keys()) | (needed - raw.keys()):
        raise ValueError(f"{where}: missing or unknown: {', '.join(sorted(map(str, odd)))}")
    return kind(**{name: _value(types[name], raw[name], f"{where}.{name}") for name in raw})


@cache
def _fields(kind: type) -> tuple[Mapping[str, object], frozenset[str]]:
    """The type of each, and which of them have to be there. To find that out takes longer than to read a record."""
    hints = get_type_hints(kind)
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    return {item.name: hints[item.name] for item in fields(kind)}, frozenset(needed)

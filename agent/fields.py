"""What the values of a track file may be: types for the fields of its tables.

Each refuses with a ValueError that says what to write instead; pydantic adds the name of the key, and `explained`
puts both into a person's words. Other strict TOML files are read the same way.
"""

import string
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Annotated

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent import workspace
from agent.errors import did_you_mean

# The last word of a score command. The judge puts the role that it wants in its place.
ROLE = "score"

Loc = tuple[int | str, ...]
"""Where in a file: the keys that lead there."""


class Table(BaseModel):
    """A table of a track file: frozen, nothing unknown, no NaN, no infinity, no text in place of a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def _inside(path: str) -> str:
    """Nothing outside the repository is run, and nothing outside a run's folder is an artifact."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a path inside the folder, without .. or / at its start")
    if not path.isprintable():
        raise ValueError("must be a path of visible characters, without line breaks and control characters")
    return path


def _persons(path: str) -> str:
    parts = path.split("/")
    if "" in parts or "." in parts:
        raise ValueError(f"must be spelt as git lists it, such as train.py or trainer/train.py, not {path!r}")
    if any(part.lower() == ".git" for part in parts):
        raise ValueError(f"{path!r} lies in git's own folder; name a file of yours")
    if parts[0] == workspace.FOLDER or parts[0].startswith("runs.db"):
        raise ValueError(f"{path!r} is where Caddie keeps its runs; name a file of yours")
    return path


def _package(name: str) -> str:
    try:
        Requirement(name)
    except InvalidRequirement as error:
        raise ValueError(f"{name!r} is no name of a Python package, such as numpy") from error
    return name


def _elsewhere(path: str) -> str:
    """Neither from the repository, whose commits a run gets, nor all that a person has."""
    parts = PurePosixPath(path).parts
    if parts[:1] not in (("~",), ("/",)) or ".." in parts or "\0" in path or len(parts) < 2:
        raise ValueError(f'must be a folder such as "~/.cache/mine" or "/data/mine", not {path!r}')
    return path


def _filled(word: str) -> str:
    """A format may reach into what it is given, or ask for a width of gigabytes; a placeholder is a name alone."""
    known = "only {python}, {script} and {gpus} are filled in; write {{ and }} for braces of your own"
    try:
        fields = [field for field in string.Formatter().parse(word) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{word!r}: {known}") from error
    for _, name, spec, conversion in fields:
        if name not in ("python", "script", "gpus") or spec or conversion:
            raise ValueError(f"{word!r}: {known}")
    if "\0" in word:
        raise ValueError(f"{word!r}: no command can hold the character NUL; leave it out")
    return word


def _scores(words: tuple[str, ...]) -> tuple[str, ...]:
    if words and words[-1] != ROLE:
        raise ValueError(f"its last word must be {ROLE!r}, the role, not {words[-1]!r}")
    return words


def _set(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not name or "=" in name or not name.isprintable():
            raise ValueError(f"{name!r}: a variable's name must not be empty and has no = and no line break")
        if "\0" in value or "\n" in value or "\r" in value:
            raise ValueError(f"{name}: its value must be one line, without the character NUL")
    return env


def _dotted(at: str) -> str:
    table, *keys = at.split(".")
    if not table.isidentifier() or not keys or not all(keys):
        raise ValueError(f"must be NAME.key, a key of a dict at module level such as CONFIG.width, not {at!r}")
    return at


def _plain(choice: object) -> object:
    """Before the union looks: it would say three times what it is not."""
    if isinstance(choice, bool) or not isinstance(choice, int | float | str):
        raise ValueError("must be a number or a text in quotes; write 0 and 1 for a switch")
    return choice


def _choosable(choices: tuple[int | float | str, ...]) -> tuple[int | float | str, ...]:
    if len({isinstance(choice, str) for choice in choices}) > 1:
        raise ValueError("must be all numbers or all texts in quotes")
    refuse_twice(choices, "is there twice; write each choice once")
    if len(choices) < 2:
        raise ValueError("needs at least two different choices")
    return choices


def _costs(cost: dict[str, float]) -> dict[str, float]:
    for name, ms in cost.items():
        if ms < 0:
            raise ValueError(f"{name}: must be milliseconds of 0 or more, not {ms:g}")
    if not any(cost.values()):
        raise ValueError("needs a coefficient above 0, such as step = 0.5: no budget can be shared out at no price")
    return cost


def refuse_twice(values: Iterable[object], words: str) -> None:
    """1 and 1.0 are the same."""
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} {words}")


# By the name that pydantic has for what was expected.
_WRITE = {
    "int_type": "a whole number, such as 1000, without quotes",
    "float_type": "a number, such as 0.5, without quotes",
    "bool_type": "true or false, without quotes",
    "string_type": 'text in quotes, such as "x"',
    "tuple_type": 'a list, such as ["x", "y"]',
    "model_type": "a table",
    "dict_type": "a table",
}


def explained(error: ValidationError, keys: Callable[[Loc], Iterable[str]]) -> str:
    """A line for each thing that is wrong. `keys`: those that the table at a place may have."""
    lines = [_explain(item["loc"], item["type"], item["msg"], keys) for item in error.errors()]
    return "\n".join(f"  {line}" for line in lines)


def _explain(loc: Loc, kind: str, message: str, keys: Callable[[Loc], Iterable[str]]) -> str:
    where = ".".join(str(part) for part in loc) or "file"
    if kind == "extra_forbidden":
        return f"{where}: no such key.{did_you_mean(str(loc[-1]), keys(loc[:-1]))}"
    if kind == "missing":
        return f"{where}: is missing."
    if kind == "tuple_type" and len(loc) == 1:
        return f"{where}: there may be several: write [[{where}]], not [{where}]."
    if kind in _WRITE:
        return f"{where}: must be {_WRITE[kind]}."
    return f"{where}: {message.removeprefix('Value error, ')}"


def frozen(value: object) -> object:
    """Lists are tuples here; whoever is strict takes nothing else for one."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return value


Inside = Annotated[str, AfterValidator(_inside)]
Elsewhere = Annotated[str, AfterValidator(_elsewhere)]
Package = Annotated[str, AfterValidator(_package)]
Editable = Annotated[Inside, AfterValidator(_persons)]
Command = tuple[Annotated[str, AfterValidator(_filled)], ...]
TrainCommand = Annotated[Command, Field(min_length=1)]
ScoreCommand = Annotated[Command, AfterValidator(_scores)]
Env = Annotated[dict[str, str], AfterValidator(_set)]
Costs = Annotated[dict[str, float], AfterValidator(_costs)]
At = Annotated[str, AfterValidator(_dotted)]
Choices = Annotated[
    tuple[Annotated[int | float | str, BeforeValidator(_plain)], ...],
    AfterValidator(_choosable),
]

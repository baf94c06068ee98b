"""Which models there are, what they cost and how much of them one conversation may take; and a model made of a name.

Reads the table that ships with Caddie (models.toml beside this file), then a person's ~/.config/caddie/models.toml,
then .caddie/models.toml of the workspace: later ones add and override, key by key. Unknown keys are errors.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from agent.errors import UserError, did_you_mean
from agent.fields import Loc, Table, explained, frozen
from agent.llm import Price
from agent.workspace import own_folder

Provider = Literal["anthropic", "openai", "openai-compatible"]
PROVIDERS: tuple[Provider, ...] = ("anthropic", "openai", "openai-compatible")
SHIPPED = Path(__file__).with_name("models.toml")
# What a model may do that no file describes. Chat completions' own servers are small.
CONTEXT = 32_768
MAX_OUTPUT = 4_096


def _dated(date: str) -> str:
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?", date):
        raise ValueError(f'must be the month or day at which the price was read, such as "2025-11", not {date!r}')
    return date


Dollars = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Date = Annotated[str, AfterValidator(_dated)]


class Row(Table):
    """What one file says of one model; None: nothing."""

    input: Dollars | None = None
    """Dollars for a million tokens, like the next three."""
    output: Dollars | None = None
    cache_read: Dollars | None = None
    """As `input`, where no file says."""
    cache_write: Dollars | None = None
    """As `input`, where no file says."""
    date: Date | None = None
    context: Annotated[int, Field(gt=0)] | None = None
    """Tokens of question and answer together."""
    max_output: Annotated[int, Field(gt=0)] | None = None
    thinking: Count | None = None
    """Tokens of an answer."""
    adaptive: bool | None = None
    """Anthropic's later models think for as long as they see fit, and refuse a number."""
    cached_from: Count | None = None
    cache_s: Annotated[float, Field(ge=0)] | None = None
    tools: bool | None = None
    """Whether it can call tools; only chat completions' servers may lack it."""
    json_schema: bool | None = None
    """Whether the server takes response_format; only for chat completions."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        told = [name for name in ("input", "output", "cache_read", "cache_write") if getattr(self, name) is not None]
        if told and self.date is None:
            raise ValueError(f'{told[0]}: a price needs the date at which you read it: date = "2025-11"')
        return self


class Limits(Table):
    """What one planner may take."""

    turns: Annotated[int, Field(gt=0)] | None = None
    repairs: Count | None = None
    parallel: Annotated[int, Field(gt=0, le=64)] | None = None
    answer_s: Annotated[float, Field(gt=0)] | None = None
    output_share: Annotated[float, Field(gt=0, le=1)] | None = None
    lessons: bool | None = None
    lesson_output: Annotated[int, Field(gt=0)] | None = None
    call_usd: Annotated[float, Field(gt=0)] | None = None
    usd: Annotated[float, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    calls: Annotated[int, Field(gt=0)] | None = None


class Default(Table):
    anthropic: str | None = None
    openai: str | None = None


class File(Table):
    default: Default = Default()
    limits: Limits = Limits()
    anthropic: dict[str, Row] = Field(default_factory=dict)
    openai: dict[str, Row] = Field(default_factory=dict)
    openai_compatible: dict[str, Row] = Field(default_factory=dict, alias="openai-compatible")

    def rows(self, provider: Provider) -> dict[str, Row]:
        return {"anthropic": self.anthropic, "openai": self.openai}.get(provider, self.openai_compatible)


@dataclass(frozen=True)
class Allowed:
    """The limits that hold."""

    turns: int
    """Of one conversation."""
    repairs: int
    """Of edits that a check refused."""
    parallel: int
    """Calls of one planner at once."""
    answer_s: float
    """Seconds for one answer."""
    output_share: float
    """Of a model's longest answer, what one of ours may take."""
    lessons: bool
    """Whether a finding is written after each verdict."""
    lesson_output: int
    """Tokens of one, thinking included."""
    call_usd: float
    """Dollars of one call to a program that knows its own prices and keeps to a cap."""
    usd: float
    """Of a campaign, where a person named no cap; so the next two, for models without a price."""
    tokens: int
    calls: int


@dataclass(frozen=True)
class Described:
    """A model as the files describe it."""

    provider: Provider
    id: str
    price: Price | None = None
    price_from: str = ""
    """The file that said the price last."""
    context: int = CONTEXT
    max_output: int = MAX_OUTPUT
    thinking: int = 0
    adaptive: bool = False
    cached_from: int = 0
    """Tokens of the shortest prefix that is cached."""
    cache_s: float = 0.0
    """How long it stays cached after it was last read; 0: nobody said."""
    tools: bool = True
    json_schema: bool = False

    @property
    def name(self) -> str:
        return f"{self.provider}:{self.id}"


@dataclass(frozen=True)
class Config:
    models: tuple[Described, ...]
    default: Mapping[str, str]
    """A provider's model where none is named."""
    limits: Allowed
    files: tuple[str, ...]
    """Those that were read, the last one has the last word."""

    def model(self, provider: Provider, id_: str) -> Described | None:
        return next((one for one in self.models if (one.provider, one.id) == (provider, id_)), None)


def places(workspace: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a person may write: for all workspaces, and for this one."""
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(home) / "caddie" / "models.toml", own_folder(workspace) / "models.toml"


def load(workspace: Path, environ: Mapping[str, str]) -> Config:
    """All that the files say. Raises UserError, which names the file and the key."""
    found = [(SHIPPED, "shipped"), *((path, str(path)) for path in places(workspace, environ) if path.is_file())]
    read = [(_read(path), name) for path, name in found]
    models: dict[tuple[Provider, str], Described] = {}
    default: dict[str, str] = {}
    limits: dict[str, int | float] = {}
    for file, name in read:
        default |= file.default.model_dump(exclude_none=True)
        limits |= file.limits.model_dump(exclude_none=True)
        for provider in PROVIDERS:
            for id_, row in file.rows(provider).items():
                known = models.get((provider, id_), Described(provider, id_))
                models[provider, id_] = _told(known, row, name)
    return Config(tuple(models.values()), default, Allowed(**limits), tuple(name for _, name in read))  # type: ignore[arg-type]


def _told(known: Described, row: Row, file: str) -> Described:
    """What was known, and what one more file says."""
    said = row.model_dump(exclude_none=True)
    prices = {name: said.pop(name) for name in ("input", "output", "cache_read", "cache_write", "date") if name in said}
    model = replace(known, **said)
    if model.provider != "openai-compatible" and (model.json_schema or not model.tools):
        raise UserError(f"{file}: {known.name}: tools and json_schema are for openai-compatible; leave them out")
    if model.provider != "anthropic" and model.adaptive:
        raise UserError(f"{file}: {known.name}: adaptive is for anthropic; leave it out")
    if not prices:
        return model
    if known.price is None and not {"input", "output"} <= set(prices):
        raise UserError(f"{file}: {known.name}: a price needs input and output, dollars for a million tokens")
    if known.price is None:
        prices = {"cache_read": prices["input"], "cache_write": prices["input"], **prices}
        return replace(model, price=Price(**prices), price_from=file)
    return replace(model, price=replace(known.price, **prices), price_from=file)


def _read(path: Path) -> File:
    try:
        return File.model_validate(frozen(tomllib.loads(path.read_text("utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path} can't be used:\n{explained(error, _keys)}") from error


def _keys(loc: Loc) -> list[str]:
    if not loc:
        return ["default", "limits", *PROVIDERS]
    tables: dict[int | str, type[Table]] = {"default": Default, "limits": Limits}
    return list(tables.get(loc[0], Row).model_fields)


def unknown(config: Config, provider: Provider, id_: str, workspace: Path, environ: Mapping[str, str]) -> UserError:
    """Why a model that no file prices is not asked: its dollars could not be promised."""
    ids = [one.id for one in config.models if one.provider == provider]
    return UserError(
        f"no model {id_!r} of {provider} is known here.{did_you_mean(id_, ids)} `agent models` lists them; "
        f'for another, write [{provider}."{id_}"] with input, output (dollars for a million tokens), '
        f"date, context and max_output into {places(workspace, environ)[1]}"
    )

"""What a model may give its tools: strict records, whose JSON schemas it is shown.

Nothing unknown, nothing too long, no number in quotes. `read` gives a record, or UserError that says how to mend it.
"""

import json
from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import UserError, did_you_mean
from agent.words import line

MOST_FAULTS = 5


class Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class ReadSkill(Arguments):
    name: str = Field(max_length=64, description="As the index of skills spells it.")
    first_line: int = Field(default=1, ge=1, le=1_000_000)


class ReadScript(Arguments):
    path: str = Field(default="", max_length=300, description="An editable file; empty: the script.")
    of: str = Field(default="", max_length=20, description="A proposal (p7); empty: what your edits apply to.")
    first_line: int = Field(default=1, ge=1, le=10_000_000)
    last_line: int = Field(default=0, ge=0, le=10_000_000, description="0: to the end.")


class Query(Arguments):
    sql: str = Field(max_length=20_000, description="One SELECT, WITH or EXPLAIN.")


class ShowDiff(Arguments):
    proposal: str = Field(max_length=20, description="Such as p7.")
    first_line: int = Field(default=1, ge=1, le=10_000_000)


class ShowProposal(Arguments):
    proposal: str = Field(max_length=20, description="Such as p7.")


class ReadLog(Arguments):
    run: str = Field(max_length=20, description="Such as r12.")
    which: Literal["train", "score"] = "train"
    grep: str = Field(
        default="", max_length=300, description="A regular expression (Python's, upper and lower case alike)."
    )
    first_line: int = Field(default=0, ge=0, le=10_000_000, description="0: the last 100 lines that there are.")
    last_line: int = Field(default=0, ge=0, le=10_000_000, description="0: to the end.")


class CompareRuns(Arguments):
    a: str = Field(max_length=20, description="A run (r12), or a proposal (p7) for one of its runs.")
    b: str = Field(max_length=20, description="The other; with proposals, runs of the same seed are taken if any.")


class CheckEdits(Arguments):
    edits: str = Field(min_length=1, max_length=400_000, description="As in a proposal.")
    expected_bytes: int | None = Field(default=None, gt=0, lt=1 << 62, description="Code and artifact, if you know.")


A = TypeVar("A", bound=BaseModel)


def schema(kind: type[BaseModel]) -> dict[str, object]:
    """Its JSON schema, without the titles that pydantic makes up."""
    found = kind.model_json_schema()
    for part in (found, *found["properties"].values()):
        part.pop("title", None)
    return found


def read(tool: str, kind: type[A], given: Mapping[str, object] | str) -> A:
    """The arguments of one call. Raises UserError."""
    if isinstance(given, str):
        raise UserError(f"{tool}: its arguments are no JSON object. {_usage(tool, kind)}")
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        faults = [_explain(kind, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
        more = [f"and {len(faults) - MOST_FAULTS} more faults"] if len(faults) > MOST_FAULTS else []
        words = "; ".join([*faults[:MOST_FAULTS], *more])
        raise UserError(f"{tool}: {words}. {_usage(tool, kind)}") from None


def _explain(kind: type[BaseModel], loc: tuple[int | str, ...], fault: str, message: str) -> str:
    name = line(str(loc[0]), 40) if loc else "arguments"
    if fault == "extra_forbidden":
        return f"there is no argument {name!r}.{did_you_mean(name, kind.model_fields)}".rstrip(".")
    if fault == "missing":
        return f"{name} is missing"
    return f"{name}: {message[0].lower()}{message[1:]}"


def _usage(tool: str, kind: type[BaseModel]) -> str:
    example = {name: field.default if not field.is_required() else "..." for name, field in kind.model_fields.items()}
    return f"It takes {json.dumps(example)}"

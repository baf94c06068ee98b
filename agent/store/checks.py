"""What is refused before it is written: unknown columns, unknown words, numbers that are not finite. Pure."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from typing import get_args

from agent.errors import did_you_mean
from agent.records import Audited, Measurement, Trust, Verdict


def known(columns: Mapping[str, object], allowed: frozenset[str]) -> None:
    for name in columns:
        if name not in allowed:
            raise ValueError(f"no column {name!r} to change.{did_you_mean(name, allowed)}")


def one_of(what: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}, not one of {', '.join(map(str, allowed))}")


def finite(record: Measurement | Audited | Verdict) -> None:
    """SQLite would keep NaN as NULL, and a score that is not a number would pass for one that is absent."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{type(record).__name__}.{field.name} is not finite")


def of_track(toml: str) -> dict[str, object]:
    """What the store must know of a track, whose text its caller has checked."""
    track = tomllib.loads(toml)
    try:
        trust, rung = track["trust"], track["decision"]["rung"]
    except KeyError as error:
        raise ValueError(f"the track's text has no {error}") from error
    one_of("trust", trust, get_args(Trust))
    return {"trust": trust, "rung": rung, "artifact_limit": track.get("limits", {}).get("artifact_bytes")}

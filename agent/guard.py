"""Zero-cost checks of a diff before it may run: pure, and candidate code is parsed, never executed.

Takes the head's files and those with the idea on them; gives a `Report`: named failures that stop the idea,
risks that a reviewer should see, and the hashes by which the store knows it again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent import literals
from agent.syntax import NotParsed, digest, risks
from agent.track import Track

MAX_FILE = 2_000_000
# The planner's own estimate: hopeless above this many limits. Below, the judge measures.
HOPELESS = 2.5


class Claims(Protocol):
    """What its author says of an idea."""

    @property
    def expected_bytes(self) -> int | None: ...
    @property
    def risk(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Failure:
    """Why an idea does not run. `duplicate`: nothing is wrong with it, but it is known."""

    name: str
    text: str


@dataclass(frozen=True)
class Report:
    failures: tuple[Failure, ...]
    risks: tuple[str, ...]
    ast_hash: str
    config_hash: str
    knobs: dict[str, literals.KnobValue]
    """The values of the track's knobs after the edit."""


def check(
    track: Track,
    claims: Claims,
    before: Mapping[str, str],
    after: Mapping[str, str],
    seen: Callable[[str], str | None],
) -> Report:
    """All that can be known of an edit without running it. `seen` names the proposal with this hash."""
    failures = _files(track, before, after) or _parses(after)
    if failures:
        return Report(tuple(failures), claims.risk, "", "", {})
    values = literals.read(track, after)
    after_hash = ast_hash(after)
    if after_hash == ast_hash(before):
        text = "changes nothing: the script is the same but for comments, docstrings and layout"
        failures.append(Failure("duplicate", text))
    elif twin := seen(after_hash):
        failures.append(Failure("duplicate", f"{twin} is the same script but for comments and layout"))
    limit = track.limits.artifact_bytes
    expected = claims.expected_bytes
    if limit is not None and expected is not None and expected > HOPELESS * limit:
        text = f"expected size {expected:,} bytes is more than {HOPELESS} times the limit of {limit:,}"
        failures.append(Failure("too_big", text))
    flags = _risks(track, claims, before, after)
    return Report(tuple(failures), flags, after_hash, config_hash(values), values)


def ast_hash(files: Mapping[str, str]) -> str:
    """One hash for all scripts that differ in comments, docstrings and layout alone."""
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{path}\0{digest(path, files[path])}\0".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def config_hash(values: Mapping[str, literals.KnobValue]) -> str:
    """One hash for one effective configuration; empty when the track has no knobs."""
    if not values:
        return ""
    plain = {name: float(value) if isinstance(value, int | float) else value for name, value in values.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _files(track: Track, before: Mapping[str, str], after: Mapping[str, str]) -> list[Failure]:
    editable = set(track.script.editable)
    failures = []
    for path in sorted(set(before) | set(after)):
        changed = before.get(path) != after.get(path)
        if changed and path not in editable:
            text = f"touches {path}, which is not editable; editable are {', '.join(sorted(editable))}"
            failures.append(Failure("not_editable", text))
        elif path not in after:
            failures.append(Failure("removed", f"removes {path}"))
        elif len(after[path]) > MAX_FILE:
            failures.append(Failure("too_long", f"{path} has {len(after[path]):,} characters of at most {MAX_FILE:,}"))
        elif "\0" in after[path]:
            failures.append(Failure("binary", f"{path} holds a NUL character"))
    return failures


def _parses(after: Mapping[str, str]) -> list[Failure]:
    failures = []
    for path, text in after.items():
        try:
            digest(path, text)
        except NotParsed as error:
            failures.append(Failure(error.name, str(error)))
    return failures


def _risks(track: Track, claims: Claims, before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    flags = list(claims.risk)
    limit = track.limits.artifact_bytes
    if limit is not None and claims.expected_bytes is not None and claims.expected_bytes > limit:
        flags.append(f"expected size {claims.expected_bytes:,} is over the limit of {limit:,} bytes")
    if not literals.only_knobs(track, before, after):
        flags.append("free edit: changes more than declared knobs")
        for path in sorted(after):
            if path.endswith(".py"):
                flags += [f"{path}: {flag}" for flag in risks(before.get(path, ""), after[path])]
    return tuple(dict.fromkeys(flags))

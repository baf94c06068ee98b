"""Zero-cost checks of a diff before it may run: pure, and candidate code is parsed, never executed.

Takes the head's files and those with the idea on them; gives a `Report`: named failures that stop the idea,
risks that a reviewer should see, and the hashes by which the store knows it again.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.errors import did_you_mean
from agent.judge.rules import static
from agent.judge.rules.signs import Sign
from agent.records import Kind, Mode
from agent.script import literals
from agent.script.syntax import NotParsed, defaults, digest, resolve, risks, uncollected
from agent.tables import MAX_FILE
from agent.track import Track

# An estimate, the planner's own or ours: hopeless above this many limits. Below, the judge measures.
HOPELESS = 2.5
FREE_EDIT = "free edit: changes more than declared knobs"
# In the environment of training (agent/steps/jobs.py) and of scoring (agent/judge), whatever the track.
ALWAYS = frozenset({"SEED", "HOME", "PYTHONHASHSEED", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"})


class Claims(Protocol):
    """What its author says of an idea, and the size that was computed where it says none."""

    @property
    def expected_bytes(self) -> int | None: ...
    @property
    def sized_bytes(self) -> int | None: ...
    @property
    def risk(self) -> tuple[str, ...]: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def rung(self) -> str: ...


@dataclass(frozen=True)
class Failure:
    """Why an idea does not run. `duplicate`: nothing is wrong with it, but it is known."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class Report:
    failures: tuple[Failure, ...]
    risks: tuple[str, ...]
    ast_hash: str
    config_hash: str
    knobs: dict[str, literals.KnobValue]
    """The values of the track's knobs after the edit."""


@uncollected()  # one tree serves all questions: collected between them, it would be walked as if it were to stay
def check(
    track: Track,
    claims: Claims,
    before: Mapping[str, str],
    after: Mapping[str, str],
    seen: Callable[[str], str | None],
    seen_config: Callable[[str], str | None] = lambda _: None,
) -> Report:
    """All that can be known of an edit without running it.

    `seen` names the proposal with this hash of its syntax trees, `seen_config` the one that comes to the same.
    """
    failures = _rung(track, claims.rung) + (_files(track, before, after) or _parses(after))
    if failures:
        return Report(tuple(failures), claims.risk, "", "", {})
    values = literals.read(track, after)
    after_hash, after_config = ast_hash(after), config_hash(track, after)
    if after_hash == ast_hash(before):
        text = "changes nothing: the script is the same but for comments, docstrings and layout"
        failures.append(Failure("duplicate", text))
    elif twin := seen(after_hash):
        failures.append(Failure("duplicate", f"{twin} is the same script but for comments and layout"))
    elif not _saves_bytes(claims):
        failures += _same_configuration(track, before, after, seen_config)
    limit = track.limits.artifact_bytes
    expected = _size(claims)
    if limit is not None and expected is not None and expected > HOPELESS * limit:
        text = f"expected size {expected:,} bytes is more than {HOPELESS} times the limit of {limit:,}"
        failures.append(Failure("too_big", text))
    added = _signs(track, before, after)
    failures += [Failure("illegal", f"{path}: {_illegal(one)}") for path, one in added if one.severity == "invalid"]
    flags = _risks(track, claims, before, after, added)
    return Report(tuple(failures), flags, after_hash, after_config, values)


def ast_hash(files: Mapping[str, str]) -> str:
    """One hash for all scripts that differ in comments, docstrings and layout alone."""
    whole = hashlib.sha256()
    for path in sorted(files):
        whole.update(f"{path}\0{digest(path, files[path])}\0".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def config_hash(track: Track, files: Mapping[str, str]) -> str:
    """One hash for all scripts that come to the same on this track, however they are written."""
    return _config_hash(track, files, given(track))


def _config_hash(track: Track, files: Mapping[str, str], variables: Collection[str]) -> str:
    tables = {knob.at.split(".")[0] for knob in track.knob}
    whole = hashlib.sha256()
    for path in sorted(files):
        found = resolve(path, files[path], variables, tables)
        whole.update(f"{path}\0{found}\0".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def given(track: Track) -> frozenset[str]:
    """Variables that every process of a run has: training and, where the judge scores, scoring too."""
    if track.script.score:
        return ALWAYS | set(track.script.env)
    return ALWAYS | set(track.script.env) | set(track.deciding().env)


def _rung(track: Track, name: str) -> list[Failure]:
    """Where to try it first has to be a rung of the track; empty is none."""
    names = [rung.name for rung in track.rung]
    if not name or name in names:
        return []
    text = f"no rung {name!r} on this track.{did_you_mean(name, names)} There are {', '.join(names)}; or leave it empty"
    return [Failure("rung", text)]


def _size(claims: Claims) -> int | None:
    return claims.sized_bytes if claims.expected_bytes is None else claims.expected_bytes


def _saves_bytes(claims: Claims) -> bool:
    """Where the point may be how things are written."""
    return claims.mode in ("shrink", "simplify") or claims.kind == "simplification"


def _same_configuration(
    track: Track, before: Mapping[str, str], after: Mapping[str, str], seen_config: Callable[[str], str | None]
) -> list[Failure]:
    config = config_hash(track, after)
    if config == config_hash(track, before):
        return [Failure("duplicate", f"changes nothing: {_how_the_same(track, before, after)}")]
    if twin := seen_config(config):
        how = "constants, or defaults of variables that the track's environment sets, are written differently"
        return [Failure("duplicate", f"{twin} comes to the same: only {how}")]
    return []


def _how_the_same(track: Track, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if _config_hash(track, before, ()) == _config_hash(track, after, ()):
        return "the same values are only written differently, or settings stand in another order"
    changed: set[str] = set()
    for path in after:
        old, new = defaults(path, before[path]), defaults(path, after[path])
        changed |= {name for name, _ in (old - new) + (new - old)} & given(track)
    names = ", ".join(sorted(changed))
    return f"only the default of {names}, which the environment of every run sets"


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
        elif len(after[path]) > (most := _most(path, before)):
            failures.append(Failure("too_long", f"{path} has {len(after[path]):,} characters of at most {most:,}"))
        elif "\0" in after[path]:
            failures.append(Failure("binary", f"{path} holds a NUL character"))
    return failures


def _most(path: str, before: Mapping[str, str]) -> int:
    """Characters. What no honest script needs is not even parsed, unless a person's own is so long."""
    own = len(before.get(path, "")) > static.LONGEST or not path.endswith(".py")
    return MAX_FILE if own else static.LONGEST


def _parses(after: Mapping[str, str]) -> list[Failure]:
    failures = []
    for path, text in after.items():
        try:
            digest(path, text)
        except NotParsed as error:
            failures.append(Failure(error.name, str(error)))
    return failures


def _signs(track: Track, before: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, Sign]]:
    """What an edit adds that may break a rule of the contest, with the file it is in. Knobs alone can't."""
    if literals.only_knobs(track, before, after):
        return []
    paths = [path for path in sorted(after) if path.endswith(".py")]
    return [(path, one) for path in paths for one in static.new(before.get(path, ""), after[path])]


def _illegal(sign: Sign) -> str:
    return f"rule {sign.rule} of the contest, {sign}. Leave that out; the idea may come back without it"


def _risks(
    track: Track, claims: Claims, before: Mapping[str, str], after: Mapping[str, str], added: Sequence[tuple[str, Sign]]
) -> tuple[str, ...]:
    """What was found comes first: its author may name so many that a reviewer reads no further."""
    flags = [one.risk(path) for path, one in added if one.severity != "invalid"]
    limit, expected = track.limits.artifact_bytes, _size(claims)
    if limit is not None and expected is not None and expected > limit:
        flags.append(f"expected size {expected:,} is over the limit of {limit:,} bytes")
    if not literals.only_knobs(track, before, after):
        flags.append(FREE_EDIT)
        for path in sorted(after):
            if path.endswith(".py"):
                flags += [f"{path}: {flag}" for flag in risks(before.get(path, ""), after[path])]
    return tuple(dict.fromkeys((*flags, *claims.risk)))

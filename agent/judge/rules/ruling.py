"""What is known of a run or a submission, and what a rule says of it.

`Case` is the evidence, put together by `agent/judge/exhibits.py`; a rule is a function of it that gives an `Answer`;
`rule` writes down its number, its name and its reason. Pure.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from agent.judge.logs import Reported
from agent.judge.overlap import Overlap
from agent.judge.rules.payload import Source
from agent.judge.rules.signs import UNSEEN, Severity, Sign
from agent.records import Finding, Measurement
from sandbox import Level, level
from sandbox.policy import reaches

Kind = Literal["run", "job", "submission", "log", "script"]
State = Literal["passed", "violated", "unknown"]
_WORSE: tuple[Severity, ...] = ("policy", "flag", "invalid")
MOST_EVIDENCE = 12


class Log(NamedTuple):
    name: str
    said: Reported
    source_differs: str = ""  # from the script that is shipped, in words; empty: it does not, or prints none
    prints_source: bool = False

    def runs(self) -> Iterator[tuple[str, Reported]]:
        """Each run that it tells of, with a name: what one did wrong no other one mends."""
        if not self.said.runs:
            yield self.name, self.said
        for number, one in enumerate(self.said.runs, 1):
            yield f"{self.name}, run {number}", one


@dataclass(frozen=True)
class Limits:
    """The contest's, or a track's own."""

    artifact_bytes: int | None = 16_000_000
    train_s: float | None = 600.0
    score_s: float | None = 600.0


@dataclass(frozen=True)
class Case:
    """Everything that is known. What is None could not be had."""

    kind: Kind
    name: str
    layers: tuple[Source, ...] = ()
    signs: tuple[Sign, ...] = ()
    logs: tuple[Log, ...] = ()
    measured: Measurement | None = None
    score_s: float | None = None  # of the answers that make the score, by our clock: what the contest's limit is for
    audited: str = ""  # how closely it was asked again, in words; empty: it was not
    across: tuple[int, int] = (0, 0)  # documents asked for with another one before them, and those that it changed
    floor: bool = False  # the information content of the validation text is known
    hidden: str = ""  # that it gains no less on documents that nobody knows, in words; empty: that is not known
    contest: bool | None = None  # whether the contest's validation set is what has to be scored; None: its log may say
    verdict: str = ""  # the reason for which the idea was found invalid
    limits: Limits = Limits()
    files: dict[str, int] = field(default_factory=dict)  # that are shipped, with their bytes
    script: str = ""  # which of them is the script
    claims: dict[str, object] | None = None  # submission.json
    overlap: Overlap | None = None
    walls: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what could not be read, how it ended
    own_word: bool = False  # what was measured is only what a folder says of itself, which anybody may have written

    def runs(self) -> Iterator[tuple[str, Reported]]:
        """Of every log."""
        return (one for log in self.logs for one in log.runs())

    @property
    def blind(self) -> bool:
        """Whether a judge of ours scored it."""
        return self.measured is not None and self.measured.trust != "reported" and self.measured.bpb is not None

    def behind(self, least: Level) -> bool:
        """Whether the walls that stood around it are as strong."""
        return reaches(level(self.walls), least)

    @property
    def read(self) -> bool:
        """Whether all of its text could be looked at."""
        return bool(self.layers) and not any(one.name in UNSEEN for one in self.signs)

    @property
    def vouched(self) -> "Case":
        """What is left of it without a folder's own word."""
        if not self.own_word:
            return self
        return replace(
            self,
            measured=None,
            score_s=None,
            audited="",
            across=(0, 0),
            floor=False,
            hidden="",
            walls=(),
            own_word=False,
        )

    @property
    def believed(self) -> "Case":
        """As if the judge had written all of it: what that tells against it was no lie in its own favour."""
        if not self.own_word or self.measured is None:
            return self
        return replace(self, measured=replace(self.measured, trust="measured"))

    def found(self, names: Collection[str]) -> list[Finding]:
        every = self.measured.findings if self.measured is not None else ()
        return [one for one in every if one.rule in names and one.severity != "note"]


class Answer(NamedTuple):
    state: State
    words: str
    severity: Severity = "flag"
    evidence: tuple[str, ...] = ()


class Ruling(NamedTuple):
    """What one rule says of one case."""

    rule: int
    name: str
    state: State
    severity: Severity  # of what was found, or what a violation would be
    words: str
    evidence: tuple[str, ...]
    reason: str  # why there is this rule


class Rule(NamedTuple):
    number: int
    name: str
    severity: Severity
    reason: str
    ask: Callable[[Case], Answer]

    def __call__(self, case: Case) -> Ruling:
        said = self.ask(case)
        severity = said.severity if said.state == "violated" else self.severity
        return Ruling(
            self.number, self.name, said.state, severity, said.words, said.evidence[:MOST_EVIDENCE], self.reason
        )


def rule(number: int, name: str, severity: Severity, reason: str) -> Callable[[Callable[[Case], Answer]], Rule]:
    """Makes a rule of a function. `severity`: of a violation that is proven."""

    def made(ask: Callable[[Case], Answer]) -> Rule:
        return Rule(number, name, severity, reason, ask)

    return made


def passed(words: str, evidence: Iterable[str] = ()) -> Answer:
    return Answer("passed", words, evidence=tuple(evidence))


def unknown(words: str) -> Answer:
    return Answer("unknown", words)


def violated(severity: Severity, words: str, evidence: Iterable[str] = ()) -> Answer:
    return Answer("violated", words, severity, tuple(evidence))


def judged(case: Case, number: int, findings: Collection[str] = (), *, proof: str = "", lacking: str) -> Answer:
    """The usual way: what the judge found, then what the text shows, then a proof that all is well, if there is one.

    A proof outweighs what only asked for a person's eye: the text said what might be, the judge saw what is.
    """
    seen = case.found(findings)
    signs = [one for one in case.signs if one.rule == number]
    shown = tuple([f"{one.rule}: {one.text}" for one in seen] + [str(one) for one in signs])
    severe = [one.text for one in seen if one.severity == "invalid"]
    severe += [one.words for one in signs if one.severity == "invalid"]
    if severe:
        return violated("invalid", severe[0], shown)
    if proof and not seen:
        return passed(proof, shown)
    if seen:
        return violated("flag", seen[0].text, shown)
    if signs:
        worst = max(signs, key=lambda one: _WORSE.index(one.severity))
        return violated(worst.severity, worst.words, shown)
    return unknown(lacking)

"""What must hold of a submission, each by name and in words.

Takes fresh runs, their logs and the claim that is made of them; gives `Gate`s. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from agent.judge import allowed, claim, logs
from agent.records import Finding, Trust
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Scored

CONTEST_BYTES = 16_000_000  # where a track names no limit of its own
SAME = 1e-7  # of what is printed with eight decimals
TRUST: tuple[Trust, ...] = ("reported", "measured", "blind")


class Gate(NamedTuple):
    """One thing that must hold of a submission."""

    name: str
    ok: bool
    words: str


class Took(NamedTuple):
    """Scoring of a run, by the judge's clock."""

    seconds: float | None
    answers: bool
    """Whether that is the process that scores, to its last answer, as the contest counts; else the tokenizer and the
    judge's own work are in it."""

    def __str__(self) -> str:
        if self.seconds is None:
            return "scoring took an unknown time"
        if self.answers:
            return f"scoring took {self.seconds:,.1f} s"
        return f"all of scoring took {self.seconds:,.1f} s (what its answers took is not known)"


@dataclass(frozen=True)
class Wanted:
    """What the contestant says, which no store knows."""

    author: str
    github_id: str
    name: str
    blurb: str
    non_record: bool
    rule: claim.Rule
    against: tuple[float, ...]  # BPB of the record before, seed by seed
    against_tokens_per_byte: float | None


def of_runs(
    track: Track, runs: Sequence["Scored"], took: Sequence[Took], asked: claim.Claim | None, wanted: Wanted, spoilt: str
) -> list[Gate]:
    """All but those of the files. `spoilt`: by what it, or what it was built on, broke a rule; empty: nothing did."""
    gates = [_seeds(runs), Gate("lineage", not spoilt, spoilt or "nothing that it was built on broke a rule")]
    if runs:  # of none nothing else can be said
        gates += [_scored(runs), _valid(runs), _trusted(track, runs), _walled(runs), _small(track, runs), _same(runs)]
    gates += [_whole(track), _named(wanted)]
    if not wanted.non_record:
        gates.append(_claimed(asked, wanted))
    return [*gates, _clocks(track, runs, took)] if runs else gates


def _whole(track: Track) -> Gate:
    share = track.deciding().score_share
    words = (
        "all validation documents were scored"
        if share == 1
        else f"rung {track.decision.rung} scores {share:g} of the text"
    )
    return Gate("text", share == 1, words)


def _named(wanted: Wanted) -> Gate:
    ok = bool(wanted.author and wanted.github_id)
    return Gate("author", ok, f"{wanted.author} ({wanted.github_id})" if ok else "say --author and --github-id")


def _seeds(runs: Sequence["Scored"]) -> Gate:
    count = len({one.run.seed for one in runs})
    words = f"{count} fresh runs, each with a seed of its own that was fixed before it ran"
    if count < claim.LEAST_SEEDS:
        words = f"{count} fresh runs, {claim.LEAST_SEEDS} are needed: only a promoted commit is run with fresh seeds"
    return Gate("seeds", count >= claim.LEAST_SEEDS, words)


def _scored(runs: Sequence["Scored"]) -> Gate:
    """All runs are reported, so one without a score can't be left out."""
    bad = [f"r{one.run.id} ended as {one.run.outcome}" for one in runs if one.measurement.bpb is None]
    return Gate("scores", not bad, "; ".join(bad) or "every run has a score")


def _valid(runs: Sequence["Scored"]) -> Gate:
    bad = _found(runs, lambda found: found.severity == "invalid")
    return Gate("rules", not bad, "; ".join(bad) or "no rule is broken")


def _trusted(track: Track, runs: Sequence["Scored"]) -> Gate:
    least = max(track.trust, "measured", key=TRUST.index)
    low = [one for one in runs if TRUST.index(one.measurement.trust) < TRUST.index(least)]
    words = f"every score is {least}"
    if low:
        words = f"r{low[0].run.id} is {low[0].measurement.trust}, {least} is needed: a log proves nothing of itself"
    return Gate("trust", not low, words)


def _walled(runs: Sequence["Scored"]) -> Gate:
    """Without walls a script may read the text that it is scored on, whatever an audit says."""
    bad = [f"r{one.run.id}" for one in runs if "unsafe" in one.run.walls]
    words = f"{', '.join(bad)} ran without walls: what was within its reach is not known" if bad else "walls stood"
    return Gate("walls", not bad, words)


def _small(track: Track, runs: Sequence["Scored"]) -> Gate:
    limit = track.limits.artifact_bytes or CONTEST_BYTES
    sizes = {one.run.id: one.measurement.total_bytes for one in runs}
    unknown = [f"r{run}" for run, size in sizes.items() if size is None]
    most = max((size for size in sizes.values() if size is not None), default=0)
    words = f"{most:,} bytes at most, code included; {limit:,} are allowed"
    if unknown:
        words = f"the size of {', '.join(unknown)} is unknown"
    return Gate("size", not unknown and most <= limit, words)


def _clocks(track: Track, runs: Sequence["Scored"], took: Sequence[Took]) -> Gate:
    """A flag asks for a person's eye; a submission asks for it in public, where it is too late."""
    bad = _found(runs, lambda found: found.severity != "note" and found.rule in allowed.CLOCKS)
    eye = _found(runs, lambda found: found.severity != "note" and found.rule == allowed.LEFT_OUT)
    limit = track.limits.score_clock_s
    if limit is not None:
        bad += [
            f"r{one.run.id}: {scoring}"
            for one, scoring in zip(runs, took, strict=True)
            if scoring.seconds is None or scoring.seconds > limit
        ]
    kept = "training and scoring kept to their clocks"
    if eye:  # compressing longer touches no data, and whoever submits it has to say that it was that
        kept = f"kept by the script's own clocks; you answer for what these leave out: {'; '.join(eye)}"
    return Gate("clocks", not bad, "; ".join(bad) or kept)


def _found(runs: Sequence["Scored"], wanted: Callable[[Finding], bool]) -> list[str]:
    return [
        f"r{one.run.id}: {found.rule}: {found.text}"
        for one in runs
        for found in one.measurement.findings
        if wanted(found)
    ]


def _same(runs: Sequence["Scored"]) -> Gate:
    """One script, one setting, one text, one kind of machine, one judge."""
    read = {
        "script": [one.run.script_sha[:12] for one in runs],
        "rung": [one.run.rung for one in runs],
        "hardware": [one.run.hardware_class for one in runs],
        "text": [one.measurement.data_sha[:12] for one in runs],
        "judge": [str(one.measurement.judge_version) for one in runs],
    }
    differ = [f"{what}: {', '.join(sorted(set(seen)))}" for what, seen in read.items() if len(set(seen)) > 1]
    words = f"runs differ in {'; '.join(differ)}" if differ else f"one {', '.join(read)}"
    return Gate("one configuration", not differ, words)


def _claimed(asked: claim.Claim | None, wanted: Wanted) -> Gate:
    if asked is None:
        words = "a record needs the scores of the record before it: --against, two seeds at least (or --non-record)"
        return Gate("claim", False, words)
    rule = claim.RULES[wanted.rule].words
    hint = "" if asked.holds else "; --non-record claims nothing"
    return Gate("claim", asked.holds, f"{rule}: {asked.reason}{hint}")


def of_logs(runs: Sequence["Scored"], texts: Sequence[bytes]) -> Gate:
    """Whoever reads the logs must find what was measured; a script can print a better score than it has."""
    for one, text in zip(runs, texts, strict=True):
        said, bpb = logs.reported(text.decode("utf-8", errors="replace")).bpb, one.measurement.bpb
        if said is None or bpb is None or abs(said - bpb) > SAME:
            return Gate("logs", False, f"the log of r{one.run.id} says {said} BPB, and {bpb} was measured")
    return Gate("logs", True, "each log says what was measured")

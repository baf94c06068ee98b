"""A submission: the folder under `records/` that a pull request to the contest adds, and what must hold of it.

Takes a proposal's fresh runs, their job folders and, for a record, the scores of the record before it; gives a
`Package`: the gates that it passes or not, and its files. Only `write` changes anything, and it never overwrites.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import UserError
from agent.judge import allowed, claim, exhibits, logs
from agent.records import Campaign, Proposal, Run, Trust
from agent.report import submission
from agent.runners.job import JobPaths
from agent.runners.reading import read_plain
from agent.track import Track
from sandbox.limits import MB

if TYPE_CHECKING:
    from agent.store import Reads, Scored

CONTEST_BYTES = 16_000_000  # where a track names no limit of its own
MOST_CODE = 8 * MB
SCRIPT = "train_gpt.py"
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


@dataclass(frozen=True)
class Package:
    proposal: str
    runs: tuple[str, ...]
    gates: tuple[Gate, ...]
    claim: claim.Claim | None
    folder: str
    """Where it belongs below the contest's repository."""
    files: dict[str, bytes]

    @property
    def refused(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.gates if not gate.ok)


def fresh_runs(reads: "Reads", track: Track, proposal: Proposal) -> list["Scored"]:
    """The runs that gated nothing, of each seed the last. Only a commit that was promoted has any."""
    runs = reads.runs(proposal.campaign_id, proposal_id=proposal.id, purposes={"report"}, states={"done"})
    last = {run.seed: run.id for run in runs if run.rung == track.decision.rung}
    found = reads.scored(proposal.campaign_id, proposal_id=proposal.id, documents=False)
    return [one for one in found if last.get(one.run.seed) == one.run.id]


def package(
    track: Track,
    campaign: Campaign,
    lineage: Sequence[Proposal],
    runs: Sequence["Scored"],
    jobs: Path,
    wanted: Wanted,
) -> Package:
    """The last of the lineage. Raises UserError where files of a run are gone or are not what was measured."""
    asked = _claim(runs, wanted)
    took = [_took(one, jobs) for one in runs]
    score_s = tuple(one.seconds for one in took)
    gates = [*_gates(track, runs, asked, wanted), *([_clocks(track, runs, took)] if runs else [])]
    made = submission.Facts(
        track, campaign, tuple(lineage), tuple(runs), score_s, asked, wanted.non_record, _date(runs)
    )
    said = submission.Said(wanted.author, wanted.github_id, wanted.name, wanted.blurb)
    files: dict[str, bytes] = {}
    if all(gate.ok for gate in gates):
        texts = {f"train_seed{one.run.seed}.log": _log(track, one, jobs) for one in runs}
        gates.append(_logs(runs, list(texts.values())))
    if all(gate.ok for gate in gates):
        files = {
            **_code(track, runs, jobs),
            **texts,
            "requirements.txt": submission.requirements(track).encode(),
            "submission.json": submission.as_json(made, said).encode(),
            "README.md": submission.readme(made, said).encode(),
        }
    ids = tuple(f"r{one.run.id}" for one in runs)
    return Package(f"p{lineage[-1].id}", ids, tuple(gates), asked, submission.folder(made, said), files)


def _date(runs: Sequence["Scored"]) -> str:
    return max((one.run.ended or one.run.created for one in runs), default="")[:10]


def _claim(runs: Sequence["Scored"], wanted: Wanted) -> claim.Claim | None:
    scores = [one.measurement.bpb for one in runs if one.measurement.bpb is not None]
    if len(scores) < 2 or len(wanted.against) < 2:
        return None
    return claim.claim(
        claim.sample(scores),
        claim.sample(wanted.against),
        tokens_per_byte=submission.tokens_per_byte([one.measurement for one in runs]),
        old_tokens_per_byte=wanted.against_tokens_per_byte,
        rule=wanted.rule,
    )


# ---------------------------------------------------------------- gates


def _gates(track: Track, runs: Sequence["Scored"], asked: claim.Claim | None, wanted: Wanted) -> list[Gate]:
    gates = [_seeds(runs)]
    if runs:  # of none nothing else can be said
        gates += [_scored(runs), _valid(runs), _trusted(track, runs), _small(track, runs), _same(runs)]
    gates += [_whole(track), _named(wanted)]
    if not wanted.non_record:
        gates.append(_claimed(asked, wanted))
    return gates


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
    bad = [
        f"r{one.run.id}: {found.rule}: {found.text}"
        for one in runs
        for found in one.measurement.findings
        if found.severity == "invalid"
    ]
    return Gate("rules", not bad, "; ".join(bad) or "no rule is broken")


def _trusted(track: Track, runs: Sequence["Scored"]) -> Gate:
    least = max(track.trust, "measured", key=TRUST.index)
    low = [one for one in runs if TRUST.index(one.measurement.trust) < TRUST.index(least)]
    words = f"every score is {least}"
    if low:
        words = f"r{low[0].run.id} is {low[0].measurement.trust}, {least} is needed: a log proves nothing of itself"
    return Gate("trust", not low, words)


def _small(track: Track, runs: Sequence["Scored"]) -> Gate:
    limit = track.limits.artifact_bytes or CONTEST_BYTES
    sizes = {one.run.id: one.measurement.total_bytes for one in runs}
    unknown = [f"r{run}" for run, size in sizes.items() if size is None]
    most = max((size for size in sizes.values() if size is not None), default=0)
    words = f"{most:,} bytes at most, code included; {limit:,} are allowed"
    if unknown:
        words = f"the size of {', '.join(unknown)} is unknown"
    return Gate("size", not unknown and most <= limit, words)


def _took(one: "Scored", jobs: Path) -> Took:
    """What its answers took; where the judge's own account is gone, all of its scoring, which is more."""
    answer, _ = exhibits.session_answer(JobPaths(jobs / f"r{one.run.id}"))
    seconds = exhibits.score_seconds(answer)
    return Took(one.measurement.score_wall_s, answers=False) if seconds is None else Took(seconds, answers=True)


def _clocks(track: Track, runs: Sequence["Scored"], took: Sequence[Took]) -> Gate:
    """A flag asks for a person's eye; a submission asks for it in public, where it is too late."""
    bad = [
        f"r{one.run.id}: {found.rule}: {found.text}"
        for one in runs
        for found in one.measurement.findings
        if found.severity != "note" and found.rule in allowed.CLOCKS
    ]
    limit = track.limits.score_clock_s
    if limit is not None:
        bad += [
            f"r{one.run.id}: {scoring}"
            for one, scoring in zip(runs, took, strict=True)
            if scoring.seconds is None or scoring.seconds > limit
        ]
    return Gate("clocks", not bad, "; ".join(bad) or "training and scoring kept to their clocks")


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


def _logs(runs: Sequence["Scored"], texts: Sequence[bytes]) -> Gate:
    """Whoever reads the logs must find what was measured; a script can print a better score than it has."""
    for one, text in zip(runs, texts, strict=True):
        said, bpb = logs.reported(text.decode("utf-8", errors="replace")).bpb, one.measurement.bpb
        if said is None or bpb is None or abs(said - bpb) > SAME:
            return Gate("logs", False, f"the log of r{one.run.id} says {said} BPB, and {bpb} was measured")
    return Gate("logs", True, "each log says what was measured")


# ---------------------------------------------------------------- files


def _code(track: Track, runs: Sequence["Scored"], jobs: Path) -> dict[str, bytes]:
    """Every file that was counted as code, as it ran: the script under the contest's name, others under their own."""
    run = runs[0].run
    paths = JobPaths(jobs / f"r{run.id}")
    packed = track.script.pack
    script = Path(track.script.path).name if packed else track.script.path
    names = (script,) if packed else tuple(dict.fromkeys((script, *track.script.editable)))
    files = {name: _read(run, paths.code, name) for name in names}
    if hashlib.sha256(files[script]).hexdigest() != run.script_sha:
        raise UserError(f"the script in {paths.code} is not the one that r{run.id} ran; `agent rejudge` says more")
    renamed = {SCRIPT if name == script else name: data for name, data in files.items()}
    if len(renamed) < len(files):
        raise UserError(f"{SCRIPT} is the name of two files of this track: rename the one that is not the script")
    return renamed


def _log(track: Track, one: "Scored", jobs: Path) -> bytes:
    paths = JobPaths(jobs / f"r{one.run.id}")
    most = track.limits.log_mb * MB + MB
    return submission.log(one, _read(one.run, paths.folder, paths.train_log.name, most))


def _read(run: Run, folder: Path, name: str, most: int = MOST_CODE) -> bytes:
    try:
        return read_plain(folder, name, most)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / name} of r{run.id} can't be read ({error}), so there is nothing to submit"
        ) from error


def write(made: Package, folder: Path) -> None:
    """All files at once, or nothing: never into a folder that is there."""
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already, and nothing is overwritten: choose another --out, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder.parent) as aside:
        whole = Path(aside) / folder.name
        for name, data in made.files.items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            (whole / name).write_bytes(data)
        whole.chmod(0o755)
        whole.rename(folder)


def words(made: Package, written: Path | None) -> str:
    lines = [f"{'ok ' if gate.ok else 'NO '} {gate.name:<18} {gate.words}" for gate in made.gates]
    if made.claim is not None:
        lines += ["", claim.words(made.claim)]
    lines.append("")
    if written is None:
        return "\n".join([*lines, f"{made.proposal} is not packaged: {', '.join(g.name for g in made.refused)}"])
    lines.append(f"{written}: {', '.join(sorted(made.files))}")
    return "\n".join(
        [*lines, f"It belongs at {made.folder} of the contest's repository; `agent judge {written}` reads it."]
    )

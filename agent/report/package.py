"""A submission: the folder under `records/` that a pull request to the contest adds, and what must hold of it.

Takes a proposal's fresh runs, their job folders and, for a record, the scores of the record before it; gives a
`Package`: the gates that it passes or not, and its files. Only `write` changes anything, and it never overwrites.
"""

import hashlib
import os
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.job.reading import read_plain
from agent.judge import claim, exhibits
from agent.judge import folder as folders
from agent.records import Campaign, Proposal, Run
from agent.report import gates, submission
from agent.report.gates import Gate, Took, Wanted
from agent.track import Track
from sandbox.limits import MB

if TYPE_CHECKING:
    from agent.store import Reads, Scored

MOST_CODE = 8 * MB
SCRIPT = "train_gpt.py"
ASIDE = "repository"


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
    spoilt: str = "",
) -> Package:
    """The last of the lineage; `spoilt`: by what that, or what it was built on, broke a rule.

    Raises:
        UserError: files of a run are gone or are not what was measured.
    """
    asked = _claim(runs, wanted)
    took = [_took(one, jobs) for one in runs]
    score_s = tuple(one.seconds for one in took)
    held = gates.of_runs(track, runs, took, asked, wanted, spoilt)
    made = submission.Facts(
        track, campaign, tuple(lineage), tuple(runs), score_s, asked, wanted.non_record, _date(runs)
    )
    said = submission.Said(wanted.author, wanted.github_id, wanted.name, wanted.blurb)
    files: dict[str, bytes] = {}
    if all(gate.ok for gate in held):
        texts = {f"train_seed{one.run.seed}.log": _log(track, one, jobs) for one in runs}
        held.append(gates.of_logs(runs, list(texts.values())))
    if all(gate.ok for gate in held):
        own = {
            **texts,
            "requirements.txt": submission.requirements(track).encode(),
            "submission.json": submission.as_json(made, said).encode(),
            "README.md": submission.readme(made, said).encode(),
        }
        files = {**_code(track, runs, jobs, own), **own}
    ids = tuple(f"r{one.run.id}" for one in runs)
    return Package(f"p{lineage[-1].id}", ids, tuple(held), asked, submission.folder(made, said), files)


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


def _took(one: "Scored", jobs: Path) -> Took:
    """What its answers took; where the judge's own account is gone, all of its scoring, which is more."""
    answer, _ = exhibits.written_answer(JobPaths(jobs / f"r{one.run.id}"))
    seconds = exhibits.score_seconds(answer)
    return Took(one.measurement.score_wall_s, answers=False) if seconds is None else Took(seconds, answers=True)


# ---------------------------------------------------------------- files


def _code(track: Track, runs: Sequence["Scored"], jobs: Path, own: Collection[str]) -> dict[str, bytes]:
    """Every file that was counted as code, because the script could read it: that under the contest's name, others
    where they lay. One that has the name of an `own` file of the package goes into a folder."""
    run = runs[0].run
    paths = JobPaths(jobs / f"r{run.id}")
    packed = track.script.pack
    script = Path(track.script.path).name if packed else track.script.path
    names = (script,) if packed else _counted(run, paths.code)
    files = {name: _read(run, paths.code, name) for name in names}
    if script not in files or hashlib.sha256(files[script]).hexdigest() != run.script_sha:
        raise UserError(f"the script in {paths.code} is not the one that r{run.id} ran; `agent rejudge` says more")
    places = {name: SCRIPT if name == script else f"{ASIDE}/{name}" if name in own else name for name in files}
    if len(set(places.values())) < len(files):
        raise UserError(f"{SCRIPT} is the name of two files of this track: rename the one that is not the script")
    return {places[name]: data for name, data in files.items()}


def _counted(run: Run, code: Path) -> tuple[str, ...]:
    found = folders.listing(code)
    odd = [entry.name for entry in found if not entry.plain]
    if odd:
        raise UserError(
            f"{code / odd[0]} of r{run.id} is a link or too deep to be looked into, and was counted as code"
        )
    return tuple(entry.name for entry in found)


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

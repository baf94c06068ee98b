"""The command that judges what lies there: judge."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import opened
from agent.cli.printing import AsJson, emit
from agent.workspace import corpus_folder, job_folder, own_folder

if TYPE_CHECKING:
    from agent.judge.exhibits import Exhibits
    from agent.judge.overlap import Overlap

INVALID = 1  # exit code
MOST_DIGITS = 13  # of the name of a run
CONTEST = "golf-1xh100"  # whose data are those of the contest


def judge(
    what: Annotated[
        str,
        typer.Argument(help="A run (r12), a run's folder, the folder of a submission, a log, or a script (FILE.py)."),
    ],
    as_json: AsJson = False,
) -> None:
    """Judge a run, a submission's folder, a log or a script by the contest's rules.

    Says first what comes of it; then the official score of each log, by which line and why, and whether score
    and loss belong together; what is wrong with a package; and of every rule whether it is kept, broken or can't
    be checked, with the evidence. Nothing that it reads is executed, and no link is followed. Exit code 1 if a
    rule is broken or the package is; flags leave it 0.
    """
    from agent.report import judged
    from agent.words import colourful

    found = judged.report(_exhibits(what))
    if not as_json and colourful(sys.stdout):
        from rich.console import Console

        from agent.report import judged_terminal

        judged_terminal.show(found, Console())
    else:
        emit(judged.data(found), as_json, lambda: judged.words(found))
    if found.verdict == "invalid":
        raise typer.Exit(INVALID)


def _exhibits(what: str) -> "Exhibits":
    """A path if there is one of this name, else a run."""
    import re

    from agent.errors import UserError
    from agent.judge import exhibits

    path = Path(what)
    if path.exists() or path.is_symlink():
        if (run := _known(path)) is not None:
            return _run(f"r{run}")
        return exhibits.of_path(path, _shared(path))
    if re.fullmatch(r"[rR]?\d{1,12}", what.strip()):
        return _run(what)
    raise UserError(f"{what}: no such file or folder, and no run; runs are written r12")


def _shared(path: Path) -> "Overlap | None":
    """Of the data of this workspace: the corpus of the track that a submission names, else the contest's."""
    from agent import track
    from agent.judge import exhibits
    from agent.judge import overlap as overlaps

    said, root = exhibits.track_of(path), named.here()
    of, _ = track.load(said if said in track.shipped() else CONTEST, root)
    return overlaps.here(corpus_folder(root, of.data.corpus), own_folder(root))


def _known(path: Path) -> int | None:
    """The run whose folder this is, where the store of this workspace has measured it."""
    from agent.errors import UserError
    from agent.judge import exhibits

    if path.is_symlink() or not path.is_dir() or not exhibits.is_job(path):
        return None
    name = path.resolve().name
    if not (name.startswith("r") and name[1:].isdecimal() and len(name) <= MOST_DIGITS):
        return None
    try:
        with opened(None) as found, found.store.read() as reads:
            run = reads.run(int(name[1:]))
            ours = job_folder(found.root, reads.campaign_by_id(run.campaign_id).name, run.id)
            mine = ours.resolve() == path.resolve() and reads.measurement(run.id) is not None
            return run.id if mine else None
    except UserError:  # no workspace, or no such run in it
        return None


def _run(what: str) -> "Exhibits":
    from agent import track, training
    from agent.judge import exhibits, hidden
    from agent.judge import overlap as overlaps
    from agent.judge.beside.hidden import baseline
    from agent.judge.rules.ruling import Limits

    with opened(None) as found, found.store.read() as reads:
        run = named.run(reads, what)
        campaign = reads.campaign_by_id(run.campaign_id)
        measured = reads.measurement(run.id)
        proposal = reads.proposal(run.proposal_id)
        of = track.parse(campaign.track_toml, f"track of {campaign.name}")
        shared = overlaps.known(campaign.data_sha, own_folder(found.root))
        if shared is None and of.data.corpus != "none":
            shared = overlaps.here(corpus_folder(found.root, of.data.corpus), own_folder(found.root))
        others = baseline(reads, run, measured) if measured is not None else []
        return exhibits.of_job(
            job_folder(found.root, campaign.name, run.id),
            measured,
            kind="run",
            limits=Limits(of.limits.artifact_bytes, of.limits.train_clock_s, of.limits.score_clock_s),
            walls=run.walls,
            hidden=hidden.excluded(measured, others) if measured is not None else "",
            verdict=proposal.reason if proposal.state == "invalid" else "",
            contest=of.data.corpus == "fineweb",
            shared=shared,
            script=training.script_file(of, Path()).as_posix(),
        )


def register(app: typer.Typer) -> None:
    app.command()(judge)

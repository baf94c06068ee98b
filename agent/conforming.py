"""Tries a script against the contract of scoring: trained for a few steps in the sandbox, then asked in several ways.

Takes a script and a track, in any folder; gives a `Conformance`. Nothing is kept, and no validation text is touched.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent import corpus, reach
from agent.errors import MissingError, UserError
from agent.judge.contract import BUSY, Conformance, up_to
from agent.runners.here import sure_runner
from agent.tools.dry_run import DryRun, DryRuns, Place
from agent.track import Track
from sandbox.walls import HELP
from trainer.data.place import Say

MOST_SCRIPT = 4_000_000
PATIENCE = 3  # times what a dry run may take before a proposal: a person can wait, and asks for much more


def conform(script: Path, track: Track, root: Path, say: Say, *, unsafe: bool = False) -> Conformance:
    """What holds of this script.

    Raises:
        UserError: the track has no scoring to test, or the script can't be read.
        MissingError: the machine lacks walls, data or GPUs.
    """
    if not track.script.score or track.check is None:
        what = "answers no judge: it is judged from its log" if not track.script.score else "has no [check] table"
        raise UserError(f"track {track.name} {what}, so there is nothing to conform to. `agent tracks` lists others")
    patient = track.check.model_copy(update={"wall_s": PATIENCE * track.check.wall_s})
    files = _files(script, track, root)
    data = corpus.to_train_on(track, root, say)
    runner = sure_runner(track, 1)
    slot = runner.slots[0]
    level = runner.level(reach.asked(track, root))
    if words := reach.lacking(track, level, unsafe=unsafe):
        raise MissingError(f"{words}: {HELP}. For a script that you trust: --unsafe-no-sandbox")
    allowed = reach.Reach("unsafe" if unsafe else track.sandbox.minimum, runner.gpus(slot), runner.box())
    with tempfile.TemporaryDirectory(prefix="caddie-conform-") as name:
        folder = Path(name)
        place = Place(
            track=track.model_copy(update={"check": patient}),
            corpus=data,
            machine=runner.env(slot),
            reach=allowed,
            folder=folder / "checks",
            packed=folder / "packed",
            export=lambda code: _fill(code, files),
        )
        say(f"training a few steps of {track.name}, at most {patient.wall_s:g} s; then its scoring is asked")
        return of(DryRuns().of(place, files, "dense"))


def of(found: DryRun) -> Conformance:
    """With the end of the log beside what it explains. A script that does not train conforms to nothing."""
    if found.conformance is None or found.failure:
        words = f"{found.failure}{BUSY if found.slow else ''}"
        return Conformance("ok", "", 0, 0, up_to("trains", f"{words}\n{found.tail}".rstrip()))
    if not found.tail:
        return found.conformance
    last = found.conformance.broken[-1]
    told = replace(last, seen=f"{last.seen}\n{found.tail}")
    return replace(found.conformance, clauses=tuple(told if one is last else one for one in found.conformance.clauses))


def _files(script: Path, track: Track, root: Path) -> Mapping[str, str]:
    """The script in the place of the track's own, and beside it the other files that the track names."""
    files = {track.script.path: _text(script)}
    for name in () if track.script.pack else track.script.editable:
        if name not in files and (root / name).is_file():
            files[name] = _text(root / name)
    return files


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_SCRIPT:
            raise UserError(f"{path} has more than {MOST_SCRIPT:,} bytes: that is no script")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error


def _fill(code: Path, files: Mapping[str, str]) -> None:
    """Folders for what is written next."""
    for name in files:
        (code / name).parent.mkdir(parents=True, exist_ok=True)

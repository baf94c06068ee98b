"""The data of a track, made or found in the workspace: whole, and its training text apart from its validation text.

Takes a track, the workspace and whom to tell; gives what is there then, or errors that say what is missing.
"""

from pathlib import Path

from agent import hardware
from agent.errors import MissingError, UserError
from agent.judge.overlap import overlap
from agent.track import Track
from agent.workspace import corpus_folder, own_folder
from trainer.data.decoded import prepare_documents
from trainer.data.place import Say
from trainer.data.prepare import prepare


def prepared(track: Track, root: Path, say: Say) -> str:
    """Makes the data where it is missing; gives its sha256."""
    data = track.data
    if data.corpus == "none":
        return ""
    folder = corpus_folder(root, track.data.corpus)
    if data.corpus != "fineweb":
        manifest = prepare(data.corpus, folder, say=say)
    else:
        manifest = prepare("fineweb", folder, say=say, variant=data.variant, train_shards=max(1, data.train_shards))
        if track.script.score:
            prepare_documents(folder, say)
    disjoint(folder, own_folder(root), say)
    return manifest.data_sha


def disjoint(folder: Path, cache: Path, say: Say) -> None:
    """Training and validation share no document, or next to none. UserError: a score would mean nothing."""
    found = overlap(folder, cache)
    if found.spoilt:
        raise UserError(f"{folder}: {found.words()}; scores on them would mean nothing: make the data anew")
    if found.shared:
        say(found.words())


def to_train_on(track: Track, root: Path, say: Say) -> Path:
    """Training data, made where it is missing and can be made."""
    folder = corpus_folder(root, track.data.corpus)
    if track.data.corpus in ("docs", "synth"):
        prepare(track.data.corpus, folder, say=say)
    elif lines := hardware.missing_data(track, root):
        raise MissingError("\n".join(lines))
    return folder

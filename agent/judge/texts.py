"""The text that a judge scores: which it is, how to know that it is still the same, and what the contest counts in it.

Takes a track and the folder of its prepared corpus; gives `Documents`, which a session reads.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.track import Track

if TYPE_CHECKING:
    from trainer.data.manifest import Part


@dataclass(frozen=True)
class Official:
    """What the contest counts in the validation shards that the documents were decoded from."""

    window: int  # tokens; a rest that fills no window is dropped
    tokens: int  # that are predicted, separators included
    separators: int  # of these: they cost nats there and have no bytes
    bytes: int
    rest_bytes: int  # of that rest
    sha256: str  # of all tokens that are predicted, the rest too, as 32-bit numbers


@dataclass(frozen=True)
class Documents:
    """The validation text of a prepared corpus, and how to know that it is still the same."""

    path: str
    sha256: str
    docs: int
    bytes: int
    floor_bits: float | None
    official: Official | None = None  # tracks of token shards only: there the separators are scored too
    share: float = 1.0  # of the documents that are scored; floor and official count are those of all
    track: str = ""  # whose name draws them


def documents(track: Track, corpus: Path) -> Documents | None:
    """What is known of the corpus' validation text. None: this track has no corpus of ours."""
    if track.data.corpus == "none":
        return None
    from trainer.data import decoded
    from trainer.data.manifest import load

    manifest = load(corpus, verify=False)
    if track.data.corpus == "fineweb":
        found = decoded.load(corpus, manifest, verify=False)
        official = Official(**asdict(found.official))
        return Documents(str(corpus / found.file.path), found.file.sha256, found.docs, found.bytes, None, official)
    return _of(manifest.val, corpus, manifest.floor_bits)


def hidden_documents(track: Track, corpus: Path) -> Documents | None:
    """Where a corpus has text that is scored and never reported."""
    if track.data.corpus == "none":
        return None
    from trainer.data import decoded
    from trainer.data.manifest import load

    manifest = load(corpus, verify=False)
    if track.data.corpus == "fineweb":
        found = decoded.load(corpus, manifest, verify=False).hidden
        if found is None:
            return None
        return Documents(str(corpus / found.file.path), found.file.sha256, found.docs, found.bytes, None)
    return None if manifest.hidden is None else _of(manifest.hidden, corpus, None)


def _of(part: "Part", corpus: Path, floor_bits: float | None) -> Documents:
    assert part.docs is not None  # only shards don't say
    return Documents(str(corpus / part.files[0].path), part.files[0].sha256, part.docs, part.bytes, floor_bits)

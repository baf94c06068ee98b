"""Which validation documents stand in the training data too, word for word: every document, by its hash.

Takes a corpus folder; gives an `Overlap`. Training is read as a stream, and of validation only hashes are held. What
was found is kept beside other results of the workspace, by the sha of the data, because it can't change.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError
from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.strict import strict

if TYPE_CHECKING:
    from trainer.data.manifest import Manifest

FOLDER = "overlap"  # below .caddie
DIGEST = 12  # bytes: by chance two of 10^8 documents agree with probability 10^-13
EXAMPLES = 5
BLOCK = 1 << 20  # tokens that are held at once
CHEAP_BYTES = 200_000_000  # of training data: a second or two
MOST_SHARED = 0.05  # of the validation documents: more is no accident of the web, and no score means anything
SEPARATOR = 1  # the token that stands before every document of the published shards


@dataclass(frozen=True)
class Overlap:
    """What a comparison of all documents found."""

    data_sha: str
    training: int  # documents
    validation: int
    shared: int  # validation documents that stand in the training data
    examples: tuple[str, ...]

    @property
    def spoilt(self) -> bool:
        """Whether a score on this validation text would mean nothing."""
        return self.shared > MOST_SHARED * self.validation

    def words(self) -> str:
        share = f", {self.shared / self.validation:.2%}" if self.shared and self.validation else ""
        return (
            f"{self.shared:,} of {self.validation:,} validation documents stand in {self.training:,} training "
            f"documents{share}"
        )


def overlap(folder: Path, cache: Path) -> Overlap:
    """As it is known, or by reading everything once. `cache`: the workspace's .caddie.

    Raises:
        UserError: there is no corpus, or it is damaged.
    """
    from trainer.data.manifest import load

    manifest = load(folder, verify=False)
    found = known(manifest.data_sha, cache)
    if found is None:
        found = compare(manifest, folder)
        path = _kept(manifest.data_sha, cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, json.dumps(asdict(found)))
    return found


def known(data_sha: str, cache: Path) -> Overlap | None:
    """What an earlier comparison found."""
    try:
        found = strict(Overlap, read_small(_kept(data_sha, cache)) or "")
    except ValueError:
        return None
    return found if found.data_sha == data_sha else None


def here(folder: Path, cache: Path) -> Overlap | None:
    """Of the corpus in this folder, if there is one, and it is known or takes no longer than a person waits for."""
    from trainer.data.manifest import load

    try:
        found = known(load(folder, verify=False).data_sha, cache)
        return overlap(folder, cache) if found is None and cheap(folder) else found
    except UserError:  # there is none, or it is damaged
        return None


def cheap(folder: Path) -> bool:
    """Whether a comparison takes no longer than a person waits for."""
    from trainer.data.manifest import load

    return sum(file.bytes for file in load(folder, verify=False).train.files) <= CHEAP_BYTES


def compare(manifest: "Manifest", folder: Path) -> Overlap:
    """Reads both sides once."""
    kind = ".bin" if manifest.corpus == "fineweb" else ".jsonl"  # other files beside them hold no documents
    val = [folder / file.path for file in manifest.val.files if file.path.endswith(kind)]
    train = [folder / file.path for file in manifest.train.files if file.path.endswith(kind)]
    if manifest.corpus == "fineweb":
        return of_documents(manifest.data_sha, _shard_documents(train), _shard_documents(val))
    return of_documents(manifest.data_sha, _text_documents(train), _text_documents(val))


def of_documents(data_sha: str, training: Iterable[bytes], validation: Iterable[bytes]) -> Overlap:
    """The same of any documents, tokens or text."""
    numbers: dict[bytes, list[int]] = {}
    count = 0
    for number, document in enumerate(validation):
        numbers.setdefault(_digest(document), []).append(number)
        count += 1
    shared: dict[bytes, int] = {}
    seen = 0
    for number, document in enumerate(training):
        seen += 1
        digest = _digest(document)
        if digest in numbers:
            shared.setdefault(digest, number)
    examples = tuple(
        f"validation document {numbers[digest][0]} is training document {number}"
        for digest, number in list(shared.items())[:EXAMPLES]
    )
    return Overlap(data_sha, seen, count, sum(len(numbers[digest]) for digest in shared), examples)


def _digest(document: bytes) -> bytes:
    return hashlib.blake2b(document, digest_size=DIGEST).digest()


def _text_documents(paths: Iterable[Path]) -> Iterator[bytes]:
    """One {"text": ...} a line. Spaces around a document are no difference."""
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = json.loads(line)["text"].strip()
                    yield text.encode()
                except (ValueError, KeyError, AttributeError, TypeError) as error:
                    raise UserError(f"{path}:{number} is no document: {error}") from error


def _shard_documents(paths: list[Path]) -> Iterator[bytes]:
    """The tokens of each document, as bytes. One that two shards share is put together."""
    from trainer.data.decoded import documents
    from trainer.data.shards import blocks

    return (document.tobytes() for document in documents(blocks(paths, BLOCK), SEPARATOR) if len(document))


def _kept(data_sha: str, cache: Path) -> Path:
    return cache / FOLDER / f"{data_sha[:32] or 'none'}.json"

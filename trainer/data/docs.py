"""The `docs` corpus: prose of the documentation strings of the standard library and of installed packages.

Takes nothing but what is installed; gives training and validation documents, the same on every machine that
has the same versions of the same files. A document is the prose of one Python file, in order.

Validation documents are whole files of packages that a candidate's sandbox does not mount; other files of
those packages are in training. No validation paragraph is a training paragraph or shares a long run with one.
"""

import gc
import hashlib
from collections.abc import Callable
from typing import NamedTuple

from trainer.data.overlap import Seen
from trainer.data.prose import prose
from trainer.data.sources import VALIDATED, Module, Package, find_modules, find_packages

# Bytes of training text from one package, from a validated one, and of validation text from each of those.
TRAINING_QUOTA = 2_200_000
SHARED_QUOTA = 250_000
VALIDATION_QUOTA = 85_000
# Of text that is scored and never reported: a seventh of it, so that scoring takes little longer; of shorter files, so
# that they are several: what is told from them are differences between documents.
HIDDEN_QUOTA = 11_000
HIDDEN_SIZES = range(1_500, 3_700)
# A validation document is a page or more, and no book: one long file must not be a quarter of the score.
VALIDATION_SIZES = range(1_500, 24_000)
SMALLEST = 200
BETWEEN = "\n\n"


class Document(NamedTuple):
    name: str
    paragraphs: list[str]

    def text(self) -> str:
        return BETWEEN.join(self.paragraphs)

    def size(self) -> int:
        return len(self.text().encode())


class Texts(NamedTuple):
    """A corpus that is not written yet."""

    train: list[str]
    val: list[str]
    hidden: list[str]
    versions: dict[str, str]


def build(say: Callable[[str], None]) -> Texts:
    packages = find_packages()
    collecting = gc.isenabled()
    gc.disable()  # millions of syntax nodes and no cycle worth looking for: half the time
    try:
        documents = {package.name: _read(package, say) for package in packages}
    finally:
        if collecting:
            gc.enable()
    versions = {package.name: package.version for package in packages}
    train, val, hidden = ([document.text() for document in part] for part in split(documents))
    return Texts(train, val, hidden, versions)


def _read(package: Package, say: Callable[[str], None]) -> list[Document]:
    documents = [_document(module) for module in find_modules(package)]
    kept = [document for document in documents if document.paragraphs]
    say(f"docs: {package.name} {package.version}: prose in {len(kept):,} of {len(documents):,} files")
    return sorted(kept, key=_shuffled)


def _document(module: Module) -> Document:
    return Document(module.name(), prose(module.file.read_bytes()))


def _shuffled(document: Document) -> bytes:
    """A fixed order that mixes the sources, so that any stretch of the corpus looks like the whole."""
    return hashlib.sha256(document.name.encode()).digest()


def split(documents: dict[str, list[Document]]) -> tuple[list[Document], list[Document], list[Document]]:
    """Training, validation and hidden documents.

    Each package gives its last documents to training, up to a quota. Validated packages give their first ones
    to validation, without anything that training says, or that the rest of the other packages says: a
    candidate could read it where they are installed. Hidden are others, chosen in the same way.
    """
    pool, rest, candidates = [], [], []
    for package, its in documents.items():
        validated = package in VALIDATED
        half = sum(document.size() for document in its) // 2
        first, last = _cut(its, min(SHARED_QUOTA, half) if validated else TRAINING_QUOTA)
        pool += last
        if validated:
            candidates.append(first)
        else:
            rest += first
    seen = Seen()
    train = [Document(name, seen.add(paragraphs)) for name, paragraphs in sorted(pool, key=_shuffled)]
    for document in rest:
        seen.add(document.paragraphs)
    earlier = Seen()
    val, hidden = [], []
    for first in candidates:
        val += _chosen(first, VALIDATION_QUOTA, VALIDATION_SIZES, seen, earlier)
    taken = {document.name for document in val}
    for first in candidates:
        others = [document for document in first if document.name not in taken]
        hidden += _chosen(others, HIDDEN_QUOTA, HIDDEN_SIZES, seen, earlier)
    kept = [document for document in train if document.size() >= SMALLEST]
    return kept, sorted(val, key=_shuffled), sorted(hidden, key=_shuffled)


def _cut(documents: list[Document], quota: int) -> tuple[list[Document], list[Document]]:
    """The last documents whose text fits in the quota, and before them the others."""
    left = quota
    at = len(documents)
    while at and documents[at - 1].size() <= left:
        at -= 1
        left -= documents[at].size()
    return documents[:at], documents[at:]


def _chosen(candidates: list[Document], quota: int, sizes: range, seen: Seen, earlier: Seen) -> list[Document]:
    """Documents up to the quota, without what training or an earlier one of these documents says."""
    chosen: list[Document] = []
    left = quota
    for name, paragraphs in candidates:
        document = Document(name, seen.unseen(paragraphs))
        if document.size() not in sizes or document.size() > left:
            continue
        document = Document(name, earlier.add(document.paragraphs))
        if document.paragraphs:
            chosen.append(document)
            left -= document.size()
    return chosen

"""The validation documents of a corpus of token shards: decoded once, and read by the judge alone.

Takes a corpus folder with `fineweb` shards; gives `Decoded`, and beside it `val/docs.jsonl`. What is scored is the text
that the tokens stand for. Where the model changed the raw text before it cut it (its normal form), that text is gone,
for the contest too.

`python -m trainer.data fineweb --documents` makes them; `agent start` does where its track needs them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from agent.errors import MissingError, UserError
from trainer.data import manifest as manifests
from trainer.data.contest import Count, Official, Tokens
from trainer.data.manifest import PARTIAL, Damaged, File, Manifest, sha_of
from trainer.data.pieces import Pieces, read
from trainer.data.place import Say, place_in_parts
from trainer.data.shards import blocks

FORMAT = 3
FOLDER, DOCUMENTS, ABOUT, HIDDEN = "val", "docs.jsonl", "decoded.json", "hidden.jsonl"
HIDDEN_SHARE = 0.02  # of the validation tokens, and so of the time that scoring takes
HIDDEN_LEAST = 16  # documents: from fewer nothing could be told
HOW = "`python -m trainer.data fineweb --documents` decodes them, and so does `agent start`"
BLOCK = 1 << 20  # tokens that are held at once
LONGEST = 1 << 23  # tokens of one document: as text it must fit into a frame of the judge
AT_ONCE = 256  # documents that are encoded again at once
# Some text has no normal form that stays as it is when it is made again. More than that, and the model is another one.
MOST_CHANGED = 0.01


@dataclass(frozen=True)
class Hidden:
    """Documents of a training shard that training never sees: no score is made of them."""

    shard: str
    """Its sha256."""
    file: File
    docs: int
    bytes: int
    tokens: int


@dataclass(frozen=True)
class Decoded:
    """The documents, what they were made from, and what the contest counts in their tokens."""

    shards: str
    """sha256 of the validation side of the manifest."""
    model: str
    """sha256 of the SentencePiece model."""
    normal_form: str
    """The model's: the documents' text is in it."""
    file: File
    docs: int
    empty: int
    """Documents without text, which are left out."""
    changed: int
    """Documents that the model would cut into other tokens than the shards have."""
    bytes: int
    """Raw UTF-8 bytes of the documents."""
    tokens: int
    """Of the documents, separators not included."""
    official: Official
    hidden: Hidden | None = None
    """None: no shard was kept back."""


def prepare_documents(folder: Path, say: Say) -> Decoded:
    """The documents of the corpus in `folder`, decoded if they are not there, or not intact."""
    folder = folder.resolve()

    def find_or_make() -> Decoded:
        manifest = manifests.load(folder, verify=False)
        try:
            return load(folder, manifest, verify=True)
        except MissingError:
            pass
        except Damaged as damage:
            say(f"{damage}; decoding the validation text anew")
        return make(folder, manifest, say)

    return place_in_parts(folder, find_or_make)


def load(folder: Path, manifest: Manifest, *, verify: bool) -> Decoded:
    """What is known of the documents of this corpus. `verify` reads them once; without it only the size is compared."""
    path = folder / FOLDER / ABOUT
    try:
        found = parse(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise MissingError(f"the validation documents of {folder} are not decoded yet: {HOW}") from error
    except OSError as error:
        raise Damaged(f"can't read {path}: {error}") from error
    if (found.shards, found.model) != (manifest.val.sha256, _model(manifest).sha256):
        raise Damaged(f"{path} is of other shards or another model")
    if (found.hidden and found.hidden.shard) != (manifest.hidden and manifest.hidden.sha256):
        raise Damaged(f"{path} has hidden documents of another shard, or none")
    for file in (found.file, *((found.hidden.file,) if found.hidden else ())):
        documents = folder / file.path
        if documents.is_symlink() or not documents.is_file():
            raise Damaged(f"{documents} is missing")
        if documents.stat().st_size != file.bytes or (verify and sha_of(documents) != file.sha256):
            raise Damaged(f"{documents} was changed since it was made")
    return found


def parse(raw: bytes, where: str) -> Decoded:
    from pydantic import TypeAdapter, ValidationError  # late: most callers only want the types

    try:
        table = json.loads(raw)
        if not isinstance(table, dict) or table.pop("format", None) != FORMAT:
            raise Damaged(f"{where}: made by another version of Caddie")
        found = TypeAdapter(Decoded).validate_json(json.dumps(table), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        raise Damaged(f"{where} can't be read: {error}") from error
    paths = [found.file.path, found.hidden.file.path if found.hidden else f"{FOLDER}/{HIDDEN}"]
    if asdict(found) != table or paths != [f"{FOLDER}/{DOCUMENTS}", f"{FOLDER}/{HIDDEN}"]:
        raise Damaged(f"{where}: does not describe the documents")
    return found


def make(folder: Path, manifest: Manifest, say: Say) -> Decoded:
    """Writes the documents aside and moves them into place when all are there."""
    model = _model(manifest)
    for file in (*manifest.val.files, *(manifest.hidden.files if manifest.hidden else ()), model):
        if sha_of(folder / file.path) != file.sha256:
            raise Damaged(f"{folder / file.path} was changed since it came: fetch it again with --verify")
    aside, old = folder / PARTIAL / FOLDER, folder / PARTIAL / f"{FOLDER}.old"
    for left in (aside, old):
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    found = _write(folder, aside, manifest, model, say)
    text = json.dumps({"format": FORMAT, **asdict(found)}, indent=1, sort_keys=True) + "\n"
    _sync(aside / ABOUT, text.encode())
    if (folder / FOLDER).exists():
        (folder / FOLDER).rename(old)
    aside.rename(folder / FOLDER)
    shutil.rmtree(old, ignore_errors=True)
    return found


def _model(manifest: Manifest) -> File:
    models = [file for file in manifest.extra if file.path.endswith(".model")]
    if len(models) != 1:
        raise UserError(f"variant {manifest.variant!r} has no SentencePiece model to decode its shards with")
    return models[0]


def _write(folder: Path, aside: Path, manifest: Manifest, model: File, say: Say) -> Decoded:
    pieces, total = read(folder / model.path), manifest.val.tokens or 0
    count, tally, tenths = Count(pieces, total), Tally(), 0
    stream = _counted(blocks([folder / file.path for file in manifest.val.files], BLOCK), pieces, count)
    say(f"fineweb: decoding {total / 1e6:,.1f} M tokens of validation text")
    with (aside / DOCUMENTS).open("wb") as file:
        for batch in _batches(documents(stream, pieces.separator)):
            file.write(tally.add(batch, pieces))
            if 10 * tally.seen() // total > tenths:
                tenths = 10 * tally.seen() // total
                say(f"fineweb: {tally.docs:,} documents, {10 * tenths} % of the validation text is decoded")
        file.flush()
        os.fsync(file.fileno())
    if not tally.docs or tally.changed > max(1, MOST_CHANGED * tally.docs):
        raise UserError(
            f"{tally.changed:,} of {tally.docs:,} documents become other tokens when they are encoded again: "
            f"{model.path} is not the model that the validation shards were made with"
        )
    hidden = _write_hidden(folder, aside, manifest, pieces, HIDDEN_SHARE * total)
    found = Decoded(
        shards=manifest.val.sha256,
        model=model.sha256,
        normal_form=pieces.normal_form,
        file=File(f"{FOLDER}/{DOCUMENTS}", tally.file_bytes, tally.digest.hexdigest()),
        docs=tally.docs,
        empty=tally.empty,
        changed=tally.changed,
        bytes=tally.text_bytes,
        tokens=tally.tokens,
        official=count.counted(),
        hidden=hidden,
    )
    say(_said(found))
    return found


def _write_hidden(folder: Path, aside: Path, manifest: Manifest, pieces: Pieces, least: float) -> Hidden | None:
    """The first whole documents of the shard that was kept back, of `least` tokens together."""
    if manifest.hidden is None:
        return None
    tally = Tally()
    stream = blocks([folder / file.path for file in manifest.hidden.files], BLOCK)
    with (aside / HIDDEN).open("wb") as file:
        for batch in _batches(_first(documents(stream, pieces.separator), least)):
            file.write(tally.add(batch, pieces))
        file.flush()
        os.fsync(file.fileno())
    if tally.docs < 2:
        raise UserError(f"{manifest.hidden.files[0].path} holds no documents that could be hidden")
    written = File(f"{FOLDER}/{HIDDEN}", tally.file_bytes, tally.digest.hexdigest())
    return Hidden(manifest.hidden.sha256, written, tally.docs, tally.text_bytes, tally.tokens)


def _first(found: Iterator[Tokens], least: float) -> Iterator[Tokens]:
    """Documents until they have so many tokens; none that the begin or the end of the shard may have cut."""
    next(found, None)
    tokens, count, held = 0, 0, next(found, None)
    for document in found:
        if held is None or (tokens >= least and count >= HIDDEN_LEAST):
            return
        yield held
        tokens, count, held = tokens + len(held), count + 1, document


@dataclass
class Tally:
    """What was written so far."""

    docs: int = 0
    empty: int = 0
    changed: int = 0
    text_bytes: int = 0
    tokens: int = 0
    file_bytes: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, batch: list[Tokens], pieces: Pieces) -> bytes:
        """The lines of some more documents."""
        full = [document for document in batch if len(document)]
        texts = [text_of(document, pieces, self.docs + number) for number, document in enumerate(full)]
        again = pieces.encode(texts)
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
        self.docs += len(full)
        self.empty += len(batch) - len(full)
        self.changed += sum(found != document.tolist() for found, document in zip(again, full, strict=True))
        self.text_bytes += sum(len(text.encode()) for text in texts)
        self.tokens += sum(map(len, full))
        self.file_bytes += len(lines)
        self.digest.update(lines)
        return lines

    def seen(self) -> int:
        """Tokens, separators included."""
        return self.tokens + self.docs + self.empty


def _said(found: Decoded) -> str:
    hidden = f"; {found.hidden.docs:,} more of a training shard that was kept back are hidden" if found.hidden else ""
    return (
        f"fineweb: {found.docs:,} documents of {found.bytes:,} bytes ({found.empty:,} empty ones left out, "
        f"{found.changed:,} whose normal form does not stay); the contest counts {found.official.bytes:,} bytes in "
        f"{found.official.tokens:,} tokens{hidden}"
    )


def _batches(found: Iterator[Tokens]) -> Iterator[list[Tokens]]:
    while batch := list(islice(found, AT_ONCE)):
        yield batch


def _counted(stream: Iterator[Tokens], pieces: Pieces, count: Count) -> Iterator[Tokens]:
    vocab = len(pieces.texts)
    for block in stream:
        if len(block) and int(block.max()) >= vocab:
            raise UserError(f"the validation shards hold token {block.max()}, their model has {vocab:,} tokens")
        count.add(block)
        yield block


def documents(stream: Iterator[Tokens], separator: int) -> Iterator[Tokens]:
    """The tokens of each document, without the separator before it. Documents may cross blocks."""
    rest = np.zeros(0, dtype=np.uint16)
    begun = False  # whether a separator stands before `rest`
    for block in stream:
        at = 0
        for end in np.flatnonzero(block == separator).tolist():
            rest = np.concatenate([rest, block[at:end]])
            if begun or len(rest):
                yield rest
            rest, at, begun = rest[:0], end + 1, True
        rest = np.concatenate([rest, block[at:]])
        if len(rest) > LONGEST:
            raise UserError(f"the validation shards have no separator (token {separator}) in {len(rest):,} tokens")
    if begun or len(rest):
        yield rest


def text_of(document: Tokens, pieces: Pieces, number: int) -> str:
    """What the tokens say, and nothing that the model would add or take away."""
    parts = [text for token in document.tolist() if (text := pieces.texts[token]) is not None]
    if len(parts) != len(document):
        raise UserError(f"document {number} of the validation shards holds a token that stands for no text")
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"document {number} of the validation shards is no text: {error}") from error


def _sync(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

"""What a prepared corpus holds: its manifest, and the strict reading of its files.

Takes a corpus folder (`train/`, `val/`, `manifest.json`); gives a `Manifest`, after checking that the files
are the ones it describes, and the validation documents.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from agent.errors import MissingError, UserError

Corpus = Literal["docs", "synth", "fineweb"]
CORPORA: tuple[Corpus, ...] = ("docs", "synth", "fineweb")
FORMAT = 1
NAME = "manifest.json"
# Everything that a corpus folder may hold. A folder that holds anything else is not ours to replace.
PARTIAL = ".part"
ENTRIES = frozenset({NAME, f".{NAME}", PARTIAL, "train", "val", "datasets", "tokenizers"})
BLOCK = 1 << 20


@dataclass(frozen=True)
class File:
    """One file of a corpus."""

    path: str
    """From the corpus folder, with forward slashes."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """The training or the validation side of a corpus."""

    files: tuple[File, ...]
    docs: int | None
    """None: shards do not say how many documents they hold."""
    bytes: int
    """Raw UTF-8 bytes of the documents; for shards, bytes of the files."""
    sha256: str
    """Of one file, or over the shas of several."""
    tokens: int | None = None
    """Shards only."""


@dataclass(frozen=True)
class Manifest:
    """One prepared corpus."""

    corpus: Corpus
    versions: dict[str, str]
    """What the text was made from. Scores compare only where `data_sha` agrees."""
    train: Part
    val: Part
    data_sha: str
    floor_bits: float | None = None
    """synth only: information content of the validation documents, exact."""
    variant: str = ""
    """fineweb only: whose tokens the shards hold."""
    extra: tuple[File, ...] = ()
    """fineweb only: tokenizer files."""
    hidden: Part | None = None
    """More documents like the validation side's, which no score is made of; of fineweb a training shard that training
    never sees, whose first documents they are. None: older corpora."""

    def files(self) -> tuple[File, ...]:
        hidden = () if self.hidden is None else self.hidden.files
        return self.train.files + self.val.files + self.extra + hidden


class Damaged(UserError):
    """The corpus folder is not what its manifest says. `prepare` makes it anew."""


def sha_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha_over(files: tuple[File, ...]) -> str:
    """One sha for several files: their names, sizes and contents."""
    if len(files) == 1:
        return files[0].sha256
    lines = "".join(f"{file.path} {file.bytes} {file.sha256}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def data_sha(corpus: str, train: Part, val: Part, floor_bits: float | None, extra: tuple[File, ...] = ()) -> str:
    """Names everything a score depends on: corpus, training text, validation text, floor, tokenizer."""
    floor = "" if floor_bits is None else floor_bits.hex()
    lines = [corpus, train.sha256, val.sha256, floor, *(file.sha256 for file in extra)]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def write(manifest: Manifest, folder: Path) -> None:
    text = json.dumps({"format": FORMAT, **_table(manifest)}, indent=1, sort_keys=True) + "\n"
    aside = folder / f".{NAME}"
    aside.write_text(text, "utf-8")
    aside.replace(folder / NAME)


def _table(manifest: Manifest) -> dict[str, object]:
    """Without what it has not got, so that a corpus without hidden documents is what it was."""
    return {key: value for key, value in asdict(manifest).items() if key != "hidden" or value is not None}


def load(folder: Path, *, verify: bool = True) -> Manifest:
    """The manifest of a corpus folder. `verify` reads every file once; without it only sizes are compared."""
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"no corpus in {folder}: make it with `python -m trainer.data`") from error
    except OSError as error:
        raise Damaged(f"can't read {path}: {error}") from error
    manifest = parse(raw, str(path))
    check(manifest, folder, verify=verify)
    return manifest


def check(manifest: Manifest, folder: Path, *, verify: bool) -> None:
    """Raises Damaged at the first file that is not what the manifest says."""
    for file in manifest.files():
        path = folder / file.path
        if path.is_symlink() or not path.is_file():
            raise Damaged(f"{path} is missing")
        size = path.stat().st_size
        if size != file.bytes:
            raise Damaged(f"{path} has {size:,} bytes instead of {file.bytes:,}")
        if verify and sha_of(path) != file.sha256:
            raise Damaged(f"{path} was changed since it was made")


def validation_documents(folder: Path) -> list[bytes]:
    """The validation documents as raw UTF-8, in order. For the trusted side: candidates never see them."""
    manifest = load(folder, verify=False)
    if manifest.corpus == "fineweb":
        raise UserError(f"{folder} holds token shards: their documents are those of trainer.data.decoded")
    file = manifest.val.files[0]
    return read_documents(folder / file.path, file.sha256, manifest.val.docs, manifest.val.bytes)


def read_documents(path: Path, sha256: str, docs: int | None, size: int) -> list[bytes]:
    """The documents of a file as raw UTF-8, in order, if they are still those that the manifest counts."""
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise Damaged(f"{path} was changed since it was made")
    documents = parse_documents(raw, str(path))
    if len(documents) != docs or sum(map(len, documents)) != size:
        raise Damaged(f"{path} does not hold the documents that the manifest counts")
    return documents


def parse_documents(raw: bytes, where: str) -> list[bytes]:
    """Documents of a docs.jsonl: one {"text": ...} a line, nothing else, nothing empty."""
    if not raw.endswith(b"\n"):
        raise Damaged(f"{where} ends inside a line")
    documents = []
    for number, line in enumerate(io.BytesIO(raw), 1):  # not split: that would be all of it once more
        try:
            document = json.loads(line)
        except ValueError as error:
            raise Damaged(f"{where}:{number} is not JSON: {error}") from error
        text = document.get("text") if isinstance(document, dict) and len(document) == 1 else None
        if not isinstance(text, str) or not text:
            raise Damaged(f'{where}:{number} is not {{"text": "..."}}')
        try:
            documents.append(text.encode())
        except UnicodeEncodeError as error:
            raise Damaged(f"{where}:{number} is no valid text: {error}") from error
    return documents


def parse(raw: bytes, where: str) -> Manifest:
    """Strict: anything missing, unknown, of another type or that does not add up is Damaged."""
    from pydantic import TypeAdapter, ValidationError  # late: most callers only want the types

    try:
        table = json.loads(raw)
        if not isinstance(table, dict) or table.pop("format", None) != FORMAT:
            raise Damaged(f"{where}: made by another version of Caddie")
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(table), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        raise Damaged(f"{where} is no manifest: {error}") from error
    if json.loads(json.dumps(_table(manifest))) != table:
        raise Damaged(f"{where}: holds keys that are unknown or leaves some out")
    for file in manifest.files():
        parts = file.path.split("/")
        if ".." in parts or parts[0] not in ENTRIES:
            raise Damaged(f"{where}: {file.path!r} is no file of a corpus")
    for part in (manifest.train, manifest.val, manifest.hidden or manifest.val):
        if not part.files or sha_over(part.files) != part.sha256:
            raise Damaged(f"{where}: the sha of a part does not fit its files")
    named = data_sha(manifest.corpus, manifest.train, manifest.val, manifest.floor_bits, manifest.extra)
    if named != manifest.data_sha:
        raise Damaged(f"{where}: data_sha does not fit what it describes")
    return manifest

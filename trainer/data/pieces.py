"""What the tokens of a published SentencePiece model stand for.

Takes a model file; gives `Pieces`: the text of every token, the one that stands before a document, and the model
itself for encoding again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from agent.errors import UserError

SPACE = "\u2581"  # how SentencePiece writes a space
# Where a model file says how text is changed before it is cut: the field of the normaliser, in it the name of its rules
# and whether spaces at the ends and doubled ones are dropped.
NORMALISER, RULES, DROPS_SPACES = 3, 1, 4


@dataclass(frozen=True)
class Pieces:
    """One model."""

    processor: SentencePieceProcessor
    names: tuple[str, ...]
    """As the model writes them."""
    texts: tuple[bytes | None, ...]
    """What each token says; None: it is a mark, which says nothing."""
    singles: frozenset[int]
    """Tokens that are one byte of a character, whichever."""
    separator: int
    """Stands before every document."""
    normal_form: str
    """How text was changed before it became tokens: what is lost in that can't be had back."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.processor.encode(texts, num_threads=1)
        return found


def read(path: Path) -> Pieces:
    raw = path.read_bytes()
    try:
        model = SentencePieceProcessor(model_proto=raw)
        normal_form = _normal_form(raw)
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{path} is no SentencePiece model: {error}") from error
    if model.bos_id() < 0:
        raise UserError(f"{path} has no token that stands before a document")
    ids = range(model.get_piece_size())
    names = tuple(model.id_to_piece(token) for token in ids)
    singles = frozenset(token for token in ids if model.is_byte(token))
    texts = tuple(_text(model, token, name, token in singles) for token, name in enumerate(names))
    return Pieces(model, names, texts, singles, model.bos_id(), normal_form)


def _text(model: SentencePieceProcessor, token: int, name: str, single: bool) -> bytes | None:
    if model.is_control(token) or model.is_unknown(token) or model.is_unused(token):
        return None
    if single:
        return bytes([int(name.removeprefix("<0x").removesuffix(">"), 16)])
    return name.replace(SPACE, " ").encode()


def _normal_form(proto: bytes) -> str:
    for number, value in _fields(proto):
        if number == NORMALISER and isinstance(value, bytes):
            inside = dict(_fields(value))
            rules = inside.get(RULES, b"")
            name = rules.decode(errors="replace") if isinstance(rules, bytes) else ""
            return name + (", extra spaces dropped" if inside.get(DROPS_SPACES, 1) else "")
    return ""


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protocol buffer, in their order; IndexError if it is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(message) + 1), at)
        if at + size > len(message):
            raise IndexError("a field is cut short")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at

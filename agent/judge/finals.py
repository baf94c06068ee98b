"""The line of a log that is the official score: every format of it, and which one of several counts.

Takes the rows of one run's log; gives a `Final` and why, or why there is none. Pure. Never the lowest, and never the
last because it is the last.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from agent.judge.lines import Row

# A script may report several finals. The first of these that is present is the official one.
Family = Literal[
    "phased ttt",
    "lora ttt",
    "quantized ttt",
    "legal ttt",
    "early lora ttt",
    "sliding",
    "int8 roundtrip",
    "other roundtrip",
    "quantized",
    "other final",
    "json trailer",
    "trailer",
]
_ORDER: tuple[Family, ...] = Family.__args__  # type: ignore[attr-defined]

MOST_BPB = 1e6  # more is no score but an accident, or meant to break whoever squares it
NONE_LEFT = "the log holds no final score"
# ASCII: else a dotless i is an i, and float() does not think so.
_NUMBER = r"([+-]?(?:nan|inf(?:inity)?|\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,4})?))(?![\w.])"
_LOSS = re.compile(rf"(?:(?<= )sliding )?val_loss[:=]\s?{_NUMBER}", re.IGNORECASE | re.ASCII)
_BPB = re.compile(rf"(?:(?<= )sliding )?val_bpb[:=]\s?{_NUMBER}", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(r"[A-Za-z][\w:-]{0,60}")
_DETAIL = re.compile(r"(?:stride|(?:eval_)?seq_len|window|context|chunk):\d{1,9}")
_TRAILER = re.compile(rf"val_bpb:\s{{0,40}}{_NUMBER}\s*", re.IGNORECASE | re.ASCII)
_JSON = re.compile(rf'"(post_ttt_val_bpb|val_bpb)":\s{{0,8}}{_NUMBER},?\s*', re.IGNORECASE | re.ASCII)
_NOT_VALID = re.compile(r"valid:\s{1,20}false", re.IGNORECASE | re.ASCII)
# Steps, diagnostics and hold-outs begin otherwise, most of them.
_FINAL = ("final_", "quantized", "legal_ttt", "ttt_sliding:done")
# All of a label has to be known: what else it says may be that the figure is of a few documents, of training text, or
# of the model before it was quantised. Ways to quantise and to compress are many, so they are known by their look.
_CODEC = (
    r"(?:u?int|mx|mxfp|fp|bf|nf|q|w|e)\d{1,2}(?:[am]\d{1,2})?|\d{1,2}(?:bit)?|ternary|binary|xnor|mixed|gptq|awq|qat|"
    r"rdquant|pergroup|zlib|zstd|lzma|brotli|lrzip|bz2|gzip|xz|zip|ans"
)
_MEASURE = r"roundtrip|(?:ttt_)?sliding(?:_window)?(?:_eval)?|ttt(?:_lora|_phased)?"
_KNOWN = re.compile(
    rf"(?:final(?:[_-](?:{_CODEC}))*_(?:{_MEASURE})|quantized(?:[_-](?:{_CODEC}))*(?:_(?:{_MEASURE}))?|legal_ttt|"
    rf"ttt_sliding:done)(?:_exact)?(?: sliding)?",
    re.ASCII,
)
_NEVER = re.compile(r"\b(?:diagnostic|hold-?out|pre-?quant|subset|partial|train\b)", re.IGNORECASE)  # behind the score


class Final(NamedTuple):
    """One line that claims a final score."""

    family: Family
    label: str
    loss: float | None
    bpb: float
    digits: int
    row: Row


class Choice(NamedTuple):
    """The official score, if there is one, and why it is this one or none."""

    final: Final | None
    words: str


def read_final(row: Row) -> Final | None:
    """The final score that a line claims, if it does."""
    line = row.text
    if "val_bpb" not in line:
        return None
    if trailer := _TRAILER.fullmatch(line):
        return _final("trailer", "val_bpb", None, trailer[1], row) if row.whole else None
    if member := _JSON.fullmatch(line.strip()):
        return _final("json trailer", f"json {member[1]}", None, member[2], row) if row.whole else None
    claimed = _claimed(row)
    family = None if claimed is None else family_of(claimed.label)
    return None if claimed is None or family is None else _final(family, *claimed, row)


class _Claimed(NamedTuple):
    label: str
    loss: float
    bpb: str


def _claimed(row: Row) -> _Claimed | None:
    """A label, a loss and a score in one line, whatever they are of."""
    line = row.text
    loss, bpb = _LOSS.search(line), _BPB.search(line)
    if loss is None or bpb is None or line[loss.end() : bpb.start()].strip() or _cut(row, loss[1], bpb):
        return None
    label = read_label(line[: loss.start()], sliding=loss[0].startswith("sliding"))
    return None if label is None or _NEVER.search(line, bpb.end()) else _Claimed(label, float(loss[1]), bpb[1])


def _strange(rows: Sequence[Row]) -> str:
    """The first label that begins like a final score's and goes on otherwise, in words; empty: there is none."""
    for row in rows:
        if "val_bpb" not in row.text or (claimed := _claimed(row)) is None:
            continue
        if claimed.label.lower().startswith(_FINAL) and family_of(claimed.label) is None:
            return f"line {row.number} has a figure of {claimed.label}, which is no known label of one"
    return ""


def _cut(row: Row, loss: str, bpb: re.Match[str]) -> bool:
    """Whether the log ends inside the number: every format prints as many digits of the score as of the loss."""
    return not row.whole and bpb.end() == len(row.text) and _decimals(bpb[1]) < _decimals(loss)


def read_label(before: str, *, sliding: bool) -> str | None:
    """What stands before the loss: one or two words and perhaps details such as stride:64."""
    if "val_loss" in before or "val_bpb" in before:  # of another line, which two processes have written into one
        return None
    words = [word for word in before.split(" ") if word]
    while len(words) > 1 and _DETAIL.fullmatch(words[-1]):
        words.pop()
    if not 1 <= len(words) <= 3 or before[:1].isspace() or not all(map(_LABEL.fullmatch, words)):
        return None
    return " ".join(words) + (" sliding" if sliding else "")


def family_of(label: str) -> Family | None:
    """By the words of its label; None if it is no final score at all."""
    name = label.lower()
    if not _KNOWN.fullmatch(name):
        return None
    ttt: dict[str, Family] = {
        "quantized_ttt_phased": "phased ttt",
        "quantized_ttt_lora": "lora ttt",
        "quantized_ttt": "quantized ttt",
        "legal_ttt": "legal ttt",
        "ttt_sliding:done": "legal ttt",
    }
    if (known := ttt.get(name.removesuffix("_exact"))) is not None:
        return known
    if name.endswith("_ttt_lora"):
        return "early lora ttt"
    if "sliding" in name:
        return "sliding"
    if "roundtrip" in name:
        return "int8 roundtrip" if "_int8_" in name else "other roundtrip"
    return "quantized" if name == "quantized" else "other final"


def official(rows: Sequence[Row]) -> Choice:
    """The official one: by family, then the most digits, then the last; or why there is none."""
    finals = [one for row in rows if (one := read_final(row)) is not None]
    strange = _strange(rows)
    if not finals:
        return Choice(None, f"{NONE_LEFT}: {strange}" if strange else NONE_LEFT)
    family = min((one.family for one in finals), key=_ORDER.index)
    mine = [one for one in finals if one.family == family]
    if (broken := _broken(mine)) is not None:
        return Choice(None, f"its final score is {broken.bpb:g} ({broken.label})")
    mine = [one for one in mine if 0 < one.bpb < MOST_BPB]
    most = max(one.digits for one in mine)
    best = [one for one in mine if one.digits == most][-1]
    if family == "trailer" and any(_NOT_VALID.fullmatch(row.text) for row in rows):
        return Choice(None, "the script calls its own result invalid")
    return Choice(best, "; ".join(filter(None, (_why(best, mine, finals), strange))))


def _broken(finals: Sequence[Final]) -> Final | None:
    """The last that is no number, unless the same label was said again, and better."""
    broken: Final | None = None
    for one in finals:
        if not 0 < one.bpb < MOST_BPB:
            broken = one
        elif broken is not None and broken.label == one.label:
            broken = None
    return broken


def _why(best: Final, mine: Sequence[Final], finals: Sequence[Final]) -> str:
    words = f"line {best.row.number}, {best.label}: "
    others = dict.fromkeys(one.family for one in finals if one.family != best.family)
    if len(finals) == 1:
        return f"{words}the only final score"
    parts = []
    if others:
        parts.append(f"{best.family} comes before {', '.join(others)}")
    fewer = sum(one.digits < best.digits for one in mine)
    same = len(mine) - fewer
    if fewer:
        parts.append(f"it has the most digits of {len(mine)} of this family")
    if same > 1:
        parts.append(f"the last of {same} that are as exact")
    return f"{words}{'; '.join(parts)}"


def _final(family: Family, label: str, loss: float | None, bpb: str, row: Row) -> Final:
    return Final(family, label, loss, float(bpb), _decimals(bpb), row)


def _decimals(number: str) -> int:
    return len(number.partition(".")[2])

"""What a script says of itself: its final score, its sizes, its steps, in every format that is in use.

Takes the text of a log; gives `Reported`. Pure. A candidate wrote the text, so it is evidence of nothing: the
figure is kept beside what was measured, and is the score only on tracks that say so.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent.judge.sizes import Sizes, read_sizes

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

MOST_BPB = 1e6  # more is no score but an accident, or meant to break whoever squares it
HEAD_CHARS, TAIL_CHARS, LINE_CHARS = 1 << 18, 1 << 21, 2000
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|[@-Z\\-_])")
_STAMP = re.compile(r"\d{9,20}\.\d{1,12}\s{1,8}")
# ASCII: else a dotless i is an i, and float() does not think so.
_NUMBER = r"([+-]?(?:nan|inf(?:inity)?|\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,4})?))(?![\w.])"
_LOSS = re.compile(rf"(?:(?<= )sliding )?val_loss[:=]\s?{_NUMBER}", re.IGNORECASE | re.ASCII)
_BPB = re.compile(rf"(?:(?<= )sliding )?val_bpb[:=]\s?{_NUMBER}", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(r"[A-Za-z][\w:-]{0,60}")
_DETAIL = re.compile(r"[a-z_]{1,30}:\S{1,40}")
_TRAILER = re.compile(rf"val_bpb:\s{{0,40}}{_NUMBER}\s*", re.IGNORECASE | re.ASCII)
_JSON = re.compile(rf'"(post_ttt_val_bpb|val_bpb)":\s{{0,8}}{_NUMBER},?\s*', re.IGNORECASE | re.ASCII)
_NOT_VALID = re.compile(r"valid:\s{1,20}false", re.IGNORECASE | re.ASCII)
_STEPS = re.compile(r"step:\s?(\d{1,12})/\d{1,12}\b")
_STEP_LINE = re.compile(r"(?:step:)?(\d{1,12})/\d{1,12} .{0,200}loss")
_STEPS_SAID = re.compile(r"num_steps:\s{1,20}(\d{1,12})\s*")
_TRAINED = re.compile(r"train_time:\s?(\d{1,12})ms\b")
_SEED = re.compile(r"\s{0,4}seed:\s?(\d{1,20})\s*")
# Steps, diagnostics and hold-outs begin otherwise.
_FINAL = ("final_", "quantized", "legal_ttt", "ttt_sliding:done")
_NEVER = re.compile(r"final_temped|post[-_]ema")


@dataclass(frozen=True)
class Reported:
    bpb: float | None
    loss: float | None  # nats per token, as printed beside the score
    artifact_bytes: int | None
    code_bytes: int | None
    total_bytes: int | None
    steps: int | None
    train_ms: int | None
    seed: int | None
    family: Family | None
    label: str
    reason: str  # why there is no score; empty if there is one
    notes: tuple[str, ...]  # what does not add up


class Final(NamedTuple):
    """One line that claims a final score."""

    family: Family
    label: str
    loss: float | None
    bpb: float
    digits: int


def reported(text: str) -> Reported:
    """Everything the log says of the run that printed it."""
    rows = list(lines(text))
    final, reason = choose(one for row in rows if (one := read_final(row)) is not None)
    if final is not None and final.family == "trailer" and any(_NOT_VALID.fullmatch(row) for row in rows):
        final, reason = None, "the script calls its own result invalid"
    sizes: Sizes = read_sizes(rows)
    return Reported(
        bpb=None if final is None else final.bpb,
        loss=None if final is None else final.loss,
        artifact_bytes=sizes.artifact,
        code_bytes=sizes.code,
        total_bytes=sizes.total,
        steps=read_steps(rows),
        train_ms=_last(_TRAINED, rows),
        seed=next((int(found[1]) for row in rows if (found := _SEED.fullmatch(row))), None),
        family=None if final is None else final.family,
        label="" if final is None else final.label,
        reason=reason,
        notes=sizes.notes,
    )


def lines(text: str) -> Iterator[str]:
    """The lines worth reading: of a huge log its head and its tail, no terminal escapes, no time stamps."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    for line in text.replace("\r", "\n").split("\n"):
        if ":" not in line[:LINE_CHARS]:  # no format does without
            continue
        line = _ESCAPE.sub("", line[:LINE_CHARS])
        stamp = _STAMP.match(line)
        yield line[stamp.end() :] if stamp else line


def read_final(line: str) -> Final | None:
    """The final score that a line claims, if it does."""
    if "val_bpb" not in line:
        return None
    if trailer := _TRAILER.fullmatch(line):
        return _final("trailer", "val_bpb", None, trailer[1])
    if member := _JSON.fullmatch(line.strip()):
        return _final("json trailer", f"json {member[1]}", None, member[2])
    loss, bpb = _LOSS.search(line), _BPB.search(line)
    if loss is None or bpb is None or loss.start() > bpb.start():
        return None
    label = read_label(line[: loss.start()], sliding=loss[0].startswith("sliding"))
    family = None if label is None else family_of(label)
    return None if label is None or family is None else _final(family, label, float(loss[1]), bpb[1])


def read_label(before: str, *, sliding: bool) -> str | None:
    """What stands before the loss: one or two words and perhaps details such as stride:64."""
    words = [word for word in before.split(" ") if word]
    while len(words) > 1 and _DETAIL.fullmatch(words[-1]):
        words.pop()
    if not 1 <= len(words) <= 3 or before[:1].isspace() or not all(map(_LABEL.fullmatch, words)):
        return None
    return " ".join(words) + (" sliding" if sliding else "")


def family_of(label: str) -> Family | None:
    """By the words of its label; None if it is no final score at all."""
    name = label.lower()
    if not name.startswith(_FINAL) or _NEVER.search(name):
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


_ORDER: tuple[Family, ...] = Family.__args__  # type: ignore[attr-defined]


def choose(finals: Iterable[Final]) -> tuple[Final | None, str]:
    """The official one: by family, then the most digits, then the last; or why there is none."""
    best: Final | None = None
    broken: Final | None = None  # of the best family
    for final in finals:
        if best is None or _ORDER.index(final.family) < _ORDER.index(best.family):
            best, broken = final, None
        if final.family == best.family:
            if not 0 < final.bpb < MOST_BPB:
                broken = final
            elif broken is not None and broken.label == final.label:
                broken = None  # said again, and better
            best = final if final.digits >= best.digits else best
    if best is None:
        return None, "the log holds no final score"
    if broken is not None:
        return None, f"its final score is {broken.bpb:g} ({broken.label})"
    return best, ""


def read_steps(rows: list[str]) -> int | None:
    """Steps that were made: where it says that it stopped, or the furthest step line."""
    stopped = _last(_STEPS, [row for row in rows if row.startswith("stopping_early")])
    said = next((int(found[1]) for row in rows if (found := _STEPS_SAID.fullmatch(row))), None)
    reached = (int(found[1]) for row in rows if (found := _STEP_LINE.match(row)))
    return stopped if stopped is not None else said if said is not None else max(reached, default=None)


def _final(family: Family, label: str, loss: float | None, bpb: str) -> Final:
    _, _, decimals = bpb.partition(".")
    return Final(family, label, loss, float(bpb), len(decimals))


def _last(pattern: re.Pattern[str], rows: Iterable[str]) -> int | None:
    found = [match for row in rows if (match := pattern.search(row))]
    return int(found[-1][1]) if found else None

"""What a script says of itself: its final score, its sizes, its steps, its clocks, in every format that is in use.

Takes the text of a log; gives `Reported`. Pure. A candidate wrote the text, so it is evidence of nothing: the
figure is kept beside what was measured, and is the score only on tracks that say so.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent import step_lines
from agent.judge import several
from agent.judge.finals import MOST_BPB as MOST_BPB
from agent.judge.finals import Family, Final, official, read_final
from agent.judge.lines import Row, of_first_rank, rows
from agent.judge.recount import Recount, of_contest, recount
from agent.judge.sizes import Sizes, read_sizes

_STEPS = re.compile(r"step:\s?(\d{1,12})/\d{1,12}\b")
_STEPS_SAID = re.compile(r"num_steps:\s{1,20}(\d{1,12})\s*")
_TRAINED = re.compile(r"train_time:\s?(\d{1,12})ms\b")
_EVALUATED = re.compile(r"\b(?:eval_time|time):\s?(\d{1,12})ms\b|\belapsed=(\d{1,9})s\b")
_CALIBRATED = re.compile(r"GPTQ:\s?collected \d{1,6} Hessians in (\d{1,6}(?:\.\d{1,6})?)s\s*")
_SEED = re.compile(r'\s{0,4}(?:seed|"seed"):\s?(\d{1,20}),?\s*')
_PEAK = re.compile(r"peak memory allocated: (\d{1,12}) MiB|peak_vram_mb:\s{1,20}(\d{1,12})")
_SCORED = re.compile(r"(?:val_loader:.{0,400} tokens:|\s{0,4}val_tokens:\s?)(\d{1,15})\b")
_SHARDS = re.compile(r"val_loader:.{0,100}(?:pattern=|dataset:)(\S{1,300})")
_TOKENIZER = re.compile(r"(?:val_bpb:enabled .{0,200}tokenizer_(?:path|kind)=|\s{0,4}tokenizer_path: )(\S{1,300})")
LEAST_CURVE = 5  # lines of steps: so many losses are not alike by chance


@dataclass(frozen=True)
class Reported:
    bpb: float | None
    loss: float | None  # nats per token, as printed beside the score
    artifact_bytes: int | None
    code_bytes: int | None
    total_bytes: int | None
    steps: int | None
    train_ms: int | None  # the most that it says of its clock
    seed: int | None
    family: Family | None
    label: str
    reason: str  # why there is no score; empty if there is one
    notes: tuple[str, ...]  # what does not add up
    line: str = ""  # that was used
    line_number: int | None = None
    why: str = ""  # this line and no other
    eval_ms: int | None = None
    peak_mb: int | None = None
    tokens: int | None = None  # that were scored
    tokenizer: str = ""
    shards: str = ""  # where the validation text lay
    calibration_ms: int | None = None  # for what quantising has to know of training data
    digits: int = 0  # behind the point of the score
    curve: str = ""  # a hash of what it says of each step but its clock; empty: it says too little
    runs: tuple["Reported", ...] = ()  # each by itself, where the log holds several

    def recount(self) -> Recount | None:
        """Whether score and loss belong together."""
        return recount(self.bpb, self.loss, self.tokens, self.tokenizer)

    def of_contest(self, told: Recount) -> bool:
        """Whether it says that its score is over the contest's validation set."""
        return of_contest(told, self.tokens, self.tokenizer, self.shards)


def reported(text: str) -> Reported:
    """Everything the log says of the run that printed it; of several runs what it says of the last complete one."""
    found = tuple(_of_one(run) for run in several.runs(rows(text)))
    if len(found) == 1:
        return found[0]
    complete = [at for at, one in enumerate(found) if one.bpb is not None]
    at = complete[-1] if complete else len(found) - 1
    which = f"the log holds {len(found)} runs, {len(complete)} with a score; these figures are of run {at + 1}"
    one_seed = len({one.seed for one in found}) == 1
    last = found[at]
    return replace(last, seed=last.seed if one_seed else None, notes=(*last.notes, which), runs=found)


def _of_one(said: Sequence[Row]) -> Reported:
    first = of_first_rank(said)
    final, words = official(first)
    texts = [row.text for row in first]
    sizes: Sizes = read_sizes(texts)
    return Reported(
        bpb=None if final is None else final.bpb,
        loss=None if final is None else final.loss,
        artifact_bytes=sizes.artifact,
        code_bytes=sizes.code,
        total_bytes=sizes.total,
        steps=read_steps(texts),
        train_ms=_most(_TRAINED, texts),
        seed=next((int(found[1]) for text in texts if (found := _SEED.fullmatch(text))), None),
        family=None if final is None else final.family,
        label="" if final is None else final.label,
        reason=words if final is None else "",
        notes=(*sizes.notes, *_ranks_differ(said)),
        line="" if final is None else final.row.text,
        line_number=None if final is None else final.row.number,
        why="" if final is None else words,
        eval_ms=None if final is None else _evaluated(final, texts),
        peak_mb=_last(_PEAK, texts),
        tokens=_last(_SCORED, texts),
        tokenizer=next((found[1] for text in texts if (found := _TOKENIZER.match(text))), ""),
        shards=next((found[1] for text in texts if (found := _SHARDS.match(text))), ""),
        calibration_ms=_calibrated(texts),
        digits=0 if final is None else final.digits,
        curve=_curve(texts),
    )


def read_steps(texts: Sequence[str]) -> int | None:
    """Steps that were made: where it says that it stopped, or the furthest step line."""
    stopped = _last(_STEPS, [text for text in texts if text.startswith("stopping_early")])
    said = next((int(found[1]) for text in texts if (found := _STEPS_SAID.fullmatch(text))), None)
    reached = (step for text in texts if (step := step_lines.official(text)) is not None)
    return stopped if stopped is not None else said if said is not None else max(reached, default=None)


def _curve(texts: Sequence[str]) -> str:
    steps = [text.partition(" train_time")[0] for text in texts if step_lines.official(text) is not None]
    return hashlib.sha256("\n".join(steps).encode("utf-8", "replace")).hexdigest() if len(steps) >= LEAST_CURVE else ""


def _ranks_differ(said: Sequence[Row]) -> tuple[str, ...]:
    """Processes of one run have one score; the first one's counts."""
    by_rank: dict[int, list[Row]] = {}
    for row in said:
        if row.rank is not None and read_final(row) is not None:
            by_rank.setdefault(row.rank, []).append(row)
    chosen = {rank: final.bpb for rank, mine in sorted(by_rank.items()) if (final := official(mine).final) is not None}
    if len(set(chosen.values())) < 2:
        return ()
    few = ", ".join(f"{bpb:g} (rank {rank})" for rank, bpb in list(chosen.items())[:4])
    return (f"its processes print different scores: {few}; the first one's counts",)


def _calibrated(texts: Sequence[str]) -> int | None:
    found = [match for text in texts if (match := _CALIBRATED.fullmatch(text))]
    return round(1000 * float(found[-1][1])) if found else None


def _evaluated(final: Final, texts: Sequence[str]) -> int | None:
    """On its own line, or on that of the same figure with fewer digits, which stands before it."""
    label = final.label.replace("_exact", "")
    for line in (final.row.text, *(text for text in texts if text.startswith(f"{label} "))):
        if found := _EVALUATED.search(line):
            return int(found[1]) if found[1] is not None else 1000 * int(found[2])
    return None


def _last(pattern: re.Pattern[str], texts: Iterable[str]) -> int | None:
    return next(iter(_said(pattern, texts)[-1:]), None)


def _most(pattern: re.Pattern[str], texts: Iterable[str]) -> int | None:
    """Of a clock that only goes on: whatever a later line says, so much had gone by."""
    return max(_said(pattern, texts), default=None)


def _said(pattern: re.Pattern[str], texts: Iterable[str]) -> list[int]:
    return [int(match[match.lastindex or 1]) for text in texts if (match := pattern.search(text))]

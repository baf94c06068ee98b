"""10,000 logs that were damaged: none crashes the parser, and none yields a score that no line of it states."""

import random
import re
import time
from collections.abc import Callable, Sequence

import pytest

from agent.judge.logs import Reported, reported
from tests.contest_logs import all_logs

SHARES, EACH = 4, 2_500
SPARE = "sizes: 1/2 val_loss val_bpb"
# What states a final score, written down once more: label, loss and score, or a trailer.
STATES = re.compile(
    r"(?:\S{0,20}\s)?(?:final_|quantized|legal_ttt|ttt_sliding:done)[^\n]*val_loss[:=][^\n]*val_bpb[:=]\s?[+\-.\w]|"
    r'(?:\S{0,20}\s)?\s*(?:val_bpb:\s*|"(?:post_ttt_)?val_bpb":\s*)[+\-.\w]',
    re.IGNORECASE,
)
LOOKALIKES = (
    "step:20000/20000 val_loss:1.0000 val_bpb:0.5000 train_time:1ms step_avg:1.00ms",
    "diagnostic quantized val_loss:1.00000000 val_bpb:0.50000000 eval_time:1ms",
    "pre-quantization post-ema val_loss:1.00000000 val_bpb:0.50000000 eval_time:1ms",
    '    log0(f"final_int8_zlib_roundtrip_exact val_loss:{q_val_loss:.8f} val_bpb:{q_val_bpb:.8f}")',
    "ttt_progress: batch 3/80 batch_loss:1.0 batch_bpb:0.5 running_loss:1.0 running_bpb:0.5",
    "final_temped val_loss:1.0 val_bpb:0.5 (T=0.9)",
    "best val_bpb: 0.5 so far",
    "final_int8_zlib_roundtrip_exact val_loss:",
    "quantized_ttt_phased val_loss:1.0 val_bpb:half",
)


def truncated(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text))]


def without_lines(text: str, draw: random.Random) -> str:
    share = draw.choice([0.02, 0.2, 0.6])
    return "\n".join(line for line in text.split("\n") if draw.random() > share)


def without_finals(text: str, _: random.Random) -> str:
    return "\n".join(line for line in text.split("\n") if not STATES.match(line))


def flipped(text: str, draw: random.Random) -> str:
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.choice([1, 20, 400])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data.decode("utf-8", errors="replace")


def in_the_numbers(text: str, draw: random.Random) -> str:
    """Where it can do the most: in what states a score."""
    lines = text.split("\n")
    for at in [at for at, line in enumerate(lines) if STATES.match(line)]:
        cut = draw.randrange(len(lines[at]) + 1)
        lines[at] = (
            lines[at][:cut] + draw.choice(["", "nan", "-", "e9", ".", "1" * 30, "\x1b[0m", " "]) + lines[at][cut:]
        )
    return "\n".join(lines)


def interleaved(text: str, draw: random.Random) -> str:
    one, other = text.split("\n"), draw.choice(LOGS).split("\n")
    mixed = []
    while one or other:
        side = one if (draw.random() < 0.5 and one) or not other else other
        mixed.append(side.pop(0))
        if len(mixed) > 1_500:
            break
    return "\n".join(mixed)


def torn(text: str, draw: random.Random) -> str:
    """Two processes that write at once, without regard to lines."""
    step = draw.randrange(5, 90)
    half = text[draw.randrange(len(text)) :]
    return "".join(text[at : at + step] + half[at : at + step] for at in range(0, len(text), step))


def doubled(text: str, draw: random.Random) -> str:
    begin = draw.randrange(len(text))
    end = draw.randrange(begin, len(text))
    return text[:end] + text[begin:end] + text[end:]


def with_lookalikes(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(draw.choice([1, 5, 30])):
        lines.insert(draw.randrange(len(lines) + 1), draw.choice(LOOKALIKES))
    return "\n".join(lines)


MUTATIONS: Sequence[Callable[[str, random.Random], str]] = (
    truncated, without_lines, without_finals, flipped, in_the_numbers, interleaved, torn, doubled, with_lookalikes,
)  # fmt: skip
LOGS = [text if len(text) < 5_000 else text[:1_500] + text[-3_500:] for text in all_logs()]


def holds(found: Reported, text: str) -> None:
    """No score but one that a line states, and nothing that a database could not hold."""
    for one in (found, *found.runs):
        if one.bpb is None:
            assert one.reason and not one.line and one.family is None
            continue
        assert 0 < one.bpb < 1e6 and one.reason == "" and STATES.match(one.line), one.line
        assert one.line in text or "\x1b" in text or "\r" in text
        assert any(float(number) == one.bpb for number in re.findall(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", one.line))
        assert "diagnostic" not in one.line and "post-ema" not in one.line and not one.line.startswith("step:")
        told = one.recount()
        assert told is None or told.words
    if "\x1b" not in text and not any(STATES.search(line) for line in text.splitlines()):
        assert found.bpb is None


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_damaged_logs(share: int) -> None:
    draw = random.Random(f"damage {share}")
    slowest = 0.0
    for _ in range(EACH):
        text = draw.choice(LOGS)
        for _ in range(draw.choice([1, 1, 2, 3])):
            text = draw.choice(MUTATIONS)(text, draw) or SPARE
        began = time.process_time()
        found = reported(text)
        slowest = max(slowest, time.process_time() - began)
        holds(found, text)
    assert slowest < 1.0


def test_where_no_final_is_left_there_is_no_score() -> None:
    """The same in brief, of every log."""
    draw = random.Random(1)
    for text in LOGS:
        bare = without_finals(text, draw)
        for changed in (bare, with_lookalikes(bare, draw), doubled(with_lookalikes(bare, draw), draw)):
            assert reported(changed).bpb is None
        holds(reported(in_the_numbers(text, draw)), text + "\x1b")

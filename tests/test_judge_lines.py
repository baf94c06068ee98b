"""Logs that hold more than one run's lines: several runs, several processes, printed source, a cut-off end."""

import pytest

from agent.judge.lines import HEAD_CHARS, LINE_CHARS, TAIL_CHARS, rows
from agent.judge.logs import reported
from tests.contest_logs import EXACT, LOSS, SLIDING, TRAILER, TTT, log

LOOKALIKE = "final_int8_zlib_roundtrip_exact val_loss:1.00000000 val_bpb:0.50000000\n"
SOURCE = f'''"""A script that explains what it prints:
{LOOKALIKE}
val_bpb: 0.4
Total submission size int8+zlib: 12 bytes
seed:99
"""
import os
import torch.nn as nn
from pathlib import Path

seed = int(os.environ["SEED"])


class Model(nn.Module):
    """quantized_ttt_phased val_loss:1.0 val_bpb:0.3 eval_time:1ms"""

    def forward(self, x):
        return x


def main():
    print("""
{LOOKALIKE}
    """)


if __name__ == "__main__":
    main()
'''
BARS = "=" * 100 + "\n"


# ------------------------------------------------------------ which line, and what else it says


def test_the_line_that_is_used_and_why() -> None:
    found = reported(log(finals=LOSS + EXACT + TTT))
    assert found.line == "quantized_ttt_phased val_loss:2.00348383 val_bpb:1.18657740 eval_time:416500ms"
    assert found.line_number == 18
    assert found.why == "line 18, quantized_ttt_phased: phased ttt comes before int8 roundtrip"
    last = reported(log(finals=EXACT + LOSS + EXACT.replace("1.22756946", "1.22756947")))
    assert last.bpb == 1.22756947
    assert last.why.endswith("it has the most digits of 3 of this family; the last of 2 that are as exact")
    assert reported("seed:1\n").why == ""


def test_clocks_memory_and_tokens() -> None:
    found = reported(log())
    assert (found.train_ms, found.eval_ms, found.peak_mb, found.tokens) == (600028, 1401, 10119, 62_021_632)
    assert found.tokenizer == "./data/tokenizers/fineweb_1024_bpe.model"
    assert reported(log(finals=TTT)).eval_ms == 416_500
    assert reported("ttt_sliding:done val_loss=1.9 val_bpb=1.11 elapsed=300s\n").eval_ms == 300_000
    assert reported(TRAILER).peak_mb == 45060


# ------------------------------------------------------------ several runs


def test_each_run_of_a_log_has_an_answer() -> None:
    found = reported(log(1337, LOSS + EXACT) + log(42, SLIDING))
    assert [(one.seed, one.bpb) for one in found.runs] == [(1337, 1.22756946), (42, 1.19250007)]
    assert (found.bpb, found.seed, found.label) == (1.19250007, None, "final_int6_sliding_window_exact")
    assert found.notes == ("the log holds 2 runs, 2 with a score; these figures are of run 2",)
    assert [one.line_number for one in found.runs] == [17, 33]


def test_a_run_that_was_started_again_does_not_lend_its_lines() -> None:
    half = log(7).splitlines(keepends=True)[:9]
    found = reported("".join(half) + log(7, SLIDING))
    assert [one.bpb for one in found.runs] == [None, 1.19250007] and found.seed == 7
    later = reported(log(7, SLIDING) + "".join(half))
    assert later.bpb == 1.19250007 and later.runs[1].bpb is None
    assert "2 runs, 1 with a score; these figures are of run 1" in later.notes[0]
    none = reported("".join(half + half))
    assert none.bpb is None and len(none.runs) == 2 and none.reason == "the log holds no final score"


def test_one_run_is_one_run() -> None:
    """Ranks that print at once, a warm-up that is announced twice: nothing has trained yet."""
    assert reported(log()).runs == ()
    twice = [line for line in log().splitlines(keepends=True) for _ in range(2)]
    assert reported("".join(twice)).runs == () and reported("".join(twice)).bpb == 1.22756946


# ------------------------------------------------------------ several processes


@pytest.mark.parametrize("mark", ["[rank{}]: ", "[default{}]:", "[rank{}]:", "rank{}: ", "{}: "])
def test_the_first_process_speaks(mark: str) -> None:
    lines = log(finals=LOSS + EXACT).splitlines()
    mixed = []
    for line in lines:
        mixed += [mark.format(0) + line, mark.format(1) + line.replace("1.2275", "1.1111")]
    found = reported("\n".join([*mixed, ""]))
    assert (found.bpb, found.seed, found.steps, found.runs) == (1.22756946, 1337, 13450, ())
    assert "1.22757 (rank 0), 1.11117 (rank 1)" in found.notes[0]
    alone = reported("\n".join([mark.format(3) + line for line in lines] + [""]))
    assert alone.bpb == 1.22756946 and alone.notes == ()


def test_lines_that_two_processes_wrote_at_once() -> None:
    torn = "final_roundtrip_exact val_loss:2.0726final_roundtrip_exact val_loss:2.07269931 val_bpb:1.1\n"
    assert reported(torn).bpb is None
    glued = "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22756946step:3/9 train_loss:2.0\n"
    assert reported(glued).bpb is None
    between = "final_roundtrip_exact val_loss:2.07269931 step:3/9 val_bpb:1.12756946\n"
    assert reported(between).bpb is None
    assert reported(torn + glued + between + EXACT).bpb == 1.22756946


# ------------------------------------------------------------ printed source


@pytest.mark.parametrize("between", [BARS, "", "\n\n"])
def test_printed_source_says_nothing(between: str) -> None:
    found = reported(SOURCE + between + log())
    assert (found.bpb, found.seed, found.total_bytes, found.runs) == (1.22756946, 1337, 15874829, ())
    assert reported(SOURCE + between).bpb is None
    assert reported(SOURCE + between).total_bytes is None


def test_every_run_prints_its_source() -> None:
    one = SOURCE + BARS + "Running Python 3.11\n" + BARS
    found = reported(one + log(1, SLIDING) + one + log(2))
    assert [(run.seed, run.bpb) for run in found.runs] == [(1, 1.19250007), (2, 1.22756946)]


def test_a_traceback_is_no_source() -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 3, in <module>\n    import os\nimport os\n'
    assert reported(trace + log() + trace).bpb == 1.22756946


def test_what_follows_the_source_counts() -> None:
    assert reported(SOURCE + EXACT).bpb == 1.22756946
    assert reported(SOURCE + "ttt_sliding:done val_loss=1.9 val_bpb=1.11 elapsed=300s\n").bpb == 1.11


# ------------------------------------------------------------ cut off


def test_a_number_that_was_cut_off_is_no_score() -> None:
    whole = log(finals=EXACT)
    start = whole.index("val_bpb:1.22756946") + len("val_bpb:")
    for end in range(start - 20, len(whole)):
        found = reported(whole[:end]).bpb
        assert found in (None, 1.22756946), whole[start - 20 : end]
    assert reported(whole[:-1]).bpb == 1.22756946  # as many digits as the loss has: only the line's end is missing
    assert reported("val_bpb: 1.1").bpb is None and reported("val_bpb: 1.1227\n").bpb == 1.1227


def test_where_a_huge_log_is_cut_no_half_line_counts() -> None:
    filler = "x:" * 30 + "\n"
    line = "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22756946\n"
    for shift in (62, 64, 66, 70, 71):
        head = filler * ((HEAD_CHARS - shift) // len(filler))
        head += "y" * (HEAD_CHARS - shift - len(head) - 1) + "\n"
        assert reported(head + line + filler * ((TAIL_CHARS + HEAD_CHARS) // len(filler))).bpb in (None, 1.22756946)
    tail = "zfinal_roundtrip val_loss:2.0 val_bpb:1.5\n"
    text = filler * (2 * HEAD_CHARS // len(filler)) + tail
    text += "z" * (TAIL_CHARS - len(tail)) + "\n"
    assert reported(text).bpb is None


def test_numbers_of_lines_are_those_of_the_file() -> None:
    text = "step:1/2 train_loss:3.0\n" * 200_000 + EXACT
    assert rows(text)[-1].number == 200_001
    assert reported(text).line_number == 200_001
    assert not rows("a:" + "b" * LINE_CHARS)[0].whole

"""Logs that are all there is of a run: what does not add up becomes findings."""

from agent.judge.doubts import of_log
from agent.judge.logs import reported
from agent.track import parse, shipped
from tests.contest_logs import EXACT, LOSS, log

UPSTREAM = parse(shipped()["golf-upstream"].read_text("utf-8"), "golf-upstream")
OWN = parse(shipped()["autoresearch"].read_text("utf-8"), "autoresearch")


def told(text: str, track=UPSTREAM) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
    return [(one.rule, one.severity) for one in of_log(track, reported(text))]


def test_the_line_that_was_used_is_on_record() -> None:
    (constant, line) = of_log(UPSTREAM, reported(log()))
    assert constant.text.startswith("0.410521 tokens per byte (./data/tokenizers/fineweb_1024_bpe.model)")
    assert line.text.startswith("final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22756946 (line 17,")


def test_a_score_that_does_not_belong_to_its_loss_is_flagged() -> None:
    wrong = log(finals=LOSS + EXACT.replace("1.22756946", "1.04509573"))
    assert told(wrong) == [("tokens_per_byte", "flag"), ("official_line", "note")]
    assert told(wrong, OWN) == [("official_line", "note")]  # the constants are of the contest's text alone


def test_several_runs_and_sizes_that_do_not_add_up() -> None:
    found = told(log(1) + log(2).replace("submission size int8+zlib: 15874829", "submission size int8+zlib: 99"))
    assert found[:2] == [("several_runs", "flag"), ("log_note", "note")]
    assert told("nothing\n") == []

"""Scores that do not belong to their losses: wrong denominators, parts of the validation set, other sets."""

import math

import pytest

from agent.judge.logs import reported
from agent.judge.recount import EXPORTS, LEAST_BYTES, MOST_BYTES, recount
from tests.contest_logs import VECTORS, log


def found(per_byte: float, tokens: int | None, loss: float = 2.07269931):  # type: ignore[no-untyped-def]
    return recount(loss * per_byte / math.log(2), loss, tokens)


@pytest.mark.parametrize("export", EXPORTS, ids=lambda one: one.name)
def test_each_export_is_known_by_its_constant(export) -> None:  # type: ignore[no-untyped-def]
    told = found(export.per_byte, export.tokens)
    assert told.export == export.name and told.fine is (not export.old)
    assert found(export.per_byte * (1 - 3e-4), export.tokens).fine is (not export.old)
    assert abs(told.implied_bytes - export.bytes()) < 2
    assert (LEAST_BYTES <= export.bytes() <= MOST_BYTES) is (not export.old)


def test_a_wrong_denominator_is_seen() -> None:
    """A space that is counted twice makes 17 % more bytes; three bytes for one, 4 %."""
    for factor in (1.1746, 1.0413, 0.8):
        told = found(0.410521 / factor, 62_021_632)
        assert told.fine is False and told.export == "" and "the validation set has" in told.words
    assert found(0.410521 / 1.1746, None).fine is None


def test_a_part_of_the_validation_set_is_seen() -> None:
    told = found(0.268339, 8_000_000)
    assert told.fine is False and told.export == "sp8192" and "8,000,000 tokens make" in told.words
    assert found(0.268339, 40_540_160 - 2048).fine is True  # a tail that fills no window


def test_another_tokenizer_is_fine_if_its_bytes_are_the_set() -> None:
    assert found(0.35, round(0.35 * 151_076_000)).fine is True
    assert found(1.0, 151_076_864).fine is True
    assert found(0.35, None).fine is None


def test_without_score_or_loss_there_is_nothing_to_count() -> None:
    assert recount(None, 2.0, 1) is None and recount(1.0, None, 1) is None
    for loss in (0.0, math.nan, math.inf):
        assert recount(1.0, loss, 1) is None
    assert recount(1e5, 1e-12, 10**15) is not None


def test_a_changed_digit_of_the_score_shows() -> None:
    told = reported(log(finals="final_roundtrip_exact val_loss:2.07269931 val_bpb:1.12756946\n")).recount()
    assert told is not None and told.fine is False


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the contest's logs are not kept in this repository")
def test_every_log_of_the_contest_has_its_constant() -> None:
    told = {path.name: reported(path.read_text("utf-8", errors="replace")).recount() for path in VECTORS.glob("*.log")}
    assert [name for name, one in told.items() if one is None] == [
        "2026-04-23_SP8192_CaseOps_SparseGate_QuantGate_Loop45_Phased__summary.log"
    ]
    assert all(one.fine for one in told.values() if one is not None)

"""Which documents a rung scores that does not score all: the same for everybody, and what is measured of them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import TrackError
from agent.judge.sampling import chosen
from agent.track import parse, shipped
from tests.judging import TEXTS, make_job, run_session

MANY = [f"document {n}".encode() for n in range(4000)]


def test_a_share_of_the_documents_in_their_order() -> None:
    some = chosen(MANY, 0.25, "tiny")
    assert 900 < len(some) < 1100 and some == [text for text in MANY if text in set(some)]
    assert chosen(MANY, 0.25, "tiny") == some
    assert set(chosen(MANY, 0.1, "tiny")) < set(some)  # a smaller share is a part of a larger one
    assert set(chosen(MANY, 0.25, "golf-1xh100")) != set(some)
    assert chosen(MANY, 1.0, "tiny") == MANY
    assert len(chosen(MANY[:3], 1e-9, "tiny")) == 1
    assert chosen([], 0.5, "tiny") == []


def test_a_document_is_drawn_by_its_text_and_not_by_its_place() -> None:
    assert set(chosen(MANY[::-1], 0.25, "tiny")) == set(chosen(MANY, 0.25, "tiny"))


def test_the_judge_scores_the_share_and_counts_its_bytes(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", script="honest.py", how="plain")
    assert task.documents is not None
    part = chosen([text.encode() for text in TEXTS], 0.5, "toy")
    found = run_session(task, documents=replace(task.documents, share=0.5, track="toy"))
    assert found.status == "ok" and found.bytes == sum(map(len, part)) < task.documents.bytes
    assert len(found.doc_nats) == len(part) and found.nats is not None and math.isfinite(found.nats)


def test_a_track_says_which_rung_scores_how_much() -> None:
    text = shipped()["tiny"].read_text("utf-8")
    short = parse(text.replace('name = "short"', 'name = "short"\nscore_share = 0.25'), "tiny")
    assert short.rung_named("short").score_share == 0.25 and short.deciding().score_share == 1.0
    for bad in ("0", "1.5", '"half"'):
        with pytest.raises(TrackError, match="score_share"):
            parse(text.replace('name = "short"', f'name = "short"\nscore_share = {bad}'), "tiny")

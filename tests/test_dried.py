"""Answers of dry runs that processes keep for one another: what comes back is what was written, or nothing."""

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.judge.contract import Conformance, up_to
from agent.tools import dried
from agent.tools.dried import DryRun

BROKEN = Conformance("ok", "", 0, 0, up_to("sums", "they sum to 2"), ("namespaces",), capped=True)
FOUND = DryRun("", "last line", {1: 5.9, 2: 5.5}, 4000, 0.25, 900, 120, 33.0, 1.5, conformance=BROKEN)


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    dried.write(tmp_path / "checked", "k", FOUND)
    assert dried.read(tmp_path / "checked", "k") == FOUND
    dried.write(tmp_path / "checked", "k", replace(FOUND, conformance=None, losses={}))
    assert dried.read(tmp_path / "checked", "k") == replace(FOUND, conformance=None, losses={})
    assert dried.read(tmp_path / "checked", "other") is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[" * 9000, '{"failure": 1}', "\0"], ids=["nothing", "empty", "deep", "another", "null"]
)
def test_what_is_no_answer_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.json").write_text(text)
    assert dried.read(tmp_path, "k") is None


def test_an_old_answer_is_asked_for_anew(tmp_path: Path) -> None:
    dried.write(tmp_path, "k", FOUND)
    os.utime(tmp_path / "k.json", (0, 0))
    assert dried.read(tmp_path, "k") is None


def test_a_loss_that_is_no_number_is_not_kept(tmp_path: Path) -> None:
    dried.write(tmp_path, "k", replace(FOUND, losses={1: math.nan}))
    assert list(tmp_path.iterdir()) == []


def test_the_newest_are_kept(tmp_path: Path) -> None:
    before = time.time() - 1000
    for number in range(dried.MOST + 3):
        dried.write(tmp_path, f"k{number}", FOUND)
        os.utime(tmp_path / f"k{number}.json", (before + number, before + number))
    assert len(list(tmp_path.iterdir())) == dried.MOST
    assert dried.read(tmp_path, "k0") is None and dried.read(tmp_path, f"k{dried.MOST + 2}") == FOUND

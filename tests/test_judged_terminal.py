"""What was handed in, as a terminal shows it: the verdict first, and no character that a stranger wrote for effect."""

import re
from dataclasses import replace
from pathlib import Path

from agent.judge import exhibits
from agent.records import Audited, Finding
from agent.report import judged
from agent.words import plain
from tests import filling
from tests.exhibiting import SCRIPT, claim, on_terminal, seed_log


def test_on_a_terminal_the_verdict_comes_first_then_what_shows_it_then_the_figures(submission: Path) -> None:
    clean = on_terminal(judged.report(exhibits.of_path(submission)))
    assert "NO FAULT FOUND" in clean.splitlines()[0] and "findings" not in clean
    (submission / "train_gpt.py").write_text(SCRIPT + "import requests\n")
    case = exhibits.of_path(submission)
    seen = Finding("mean_mismatch", "invalid", "it claimed too much")
    audit = Audited(
        "full",
        4000,
        3000,
        900,
        40,
        0,
        2e-6,
        1e-7,
        0.01,
        "fp32",
        1e-7,
        2e-8,
        5e-8,
        1e-8,
        "a bigram",
        1e-5,
        2e-3,
        5e-3,
        9,
        2,
    )
    measured = replace(filling.measurement(1, 1.2), findings=(seen,), audit=audit, code_bytes=900)
    found = judged.report(replace(case, case=replace(case.case, measured=measured)))
    text = plain(on_terminal(found))
    order = ("INVALID", "\nfindings", "rule 4,", "rule 22,", "\nlogs", "\nmeasured", "\nrules", "\nfiles: 6")
    places = [text.index(word) for word in order]
    assert places == sorted(places), dict(zip(order, places, strict=True))
    text = " ".join(text.split())
    assert "it imports requests: nothing may come from a network" in text and "900 bytes" in text
    assert "4,000: 3,000 uniform, 900 surprising, 40 twice" in text and "why: what is fetched" in text
    assert judged.words(found).count("it claimed too much") >= 1 and "audit  full, positions: 4,000" in judged.words(
        found
    )
    assert "1,475" not in text and all(str(seed) in text for seed in (1, 2, 3))


def test_nothing_that_a_stranger_wrote_reaches_the_terminal(submission: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    claim(submission, author=evil, name=evil)
    (submission / "README.md").write_text(f"python {evil}train_x.py\n")
    (submission / f"b{evil}.so").write_bytes(b"x")
    (submission / "train_seed1.log").write_text(seed_log(1) + f"final_{evil}roundtrip val_loss:2.0 val_bpb:1.0\n")
    submission = submission.rename(submission.with_name(f"x{evil}"))
    text = judged.words(judged.report(exhibits.of_path(submission)))
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    shown = on_terminal(judged.report(exhibits.of_path(submission)))
    assert "\u202e" not in shown and "\x07" not in shown and not re.search(r"\x1b(?!\[[\d;]*m)", shown)
    claim(submission, author="[red]x[/red] [link=http://a]b[/link]")
    (submission / "[bold]b.so").write_bytes(b"x")
    assert "[bold]b.so" in on_terminal(judged.report(exhibits.of_path(submission)))

"""How much a planner is told: estimates of tokens, windows, and long campaigns within their budgets."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from sqlalchemy import text as sql

from agent import skills
from agent.context import Budgets, gather, render
from agent.context.tokens import estimate, fit, shorten, window
from agent.planner import Request
from agent.records import Verdict
from agent.store import Store, open_store
from tests.contexts import ROOT, SCRIPT, add_lesson, evidence, request, whole
from tests.filling import add_base, add_campaign, add_idea, add_measured, draft


@pytest.fixture(scope="module")
def long_campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """3,000 ideas with long texts and a finding each."""
    store = open_store(tmp_path_factory.mktemp("long") / "runs.db")
    words = "The learning rate of the embedding is what limits the first hundred steps, see r12. " * 4
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        add_measured(tx, base, 0, 2.3, purpose="report")
        for n in range(3000):
            told = draft(f"idea {n}", base.id, hypothesis=words)
            one = tx.add_proposal(base.campaign_id, told, baseline_id=base.id, state="worse")
            tx.add_verdict(Verdict(one.id, base.id, "worse", words, gain=0.001 * (n % 7 - 5), stderr=0.01))
            add_lesson(tx, one.id, f"{n}: {words}")
            if n % 100 == 0:
                add_idea(tx, base, f"waits {n}")
                tx.add_review(one.id, "reject", "ann", words)
        for n in range(400):
            add_idea(tx, base, f"waits too {n}")
        tx.connection.execute(sql("UPDATE proposals SET reason = :words WHERE state = 'worse'"), {"words": words})
    yield store
    store.close()


def long_request(store: Store) -> Request:
    asked = request(store)
    return replace(asked, head_files={"trainer/train_gpt.py": SCRIPT * 5}, files={"trainer/train_gpt.py": SCRIPT * 5})


def test_a_long_campaign_is_told_within_its_budgets_and_at_once(long_campaign: Store) -> None:
    asked = long_request(long_campaign)
    render(evidence(long_campaign))  # templates are read once
    began = time.process_time()
    with long_campaign.read() as reads:
        found = gather(reads, asked, planner="model:x", skills=skills.load(ROOT / "skills"))
    context = render(found)
    assert time.process_time() - began < 1.0
    budgets = Budgets()
    assert estimate(whole(context)) <= budgets.most
    assert estimate(context.user[-1].text) <= budgets.near + budgets.reviews + budgets.in_flight + 2000
    assert estimate(context.user[0].text) <= budgets.script + budgets.lineage + 500
    journal = "".join(part.text for part in context.user[1:-1])
    assert estimate(journal) <= budgets.failed + budgets.lessons + budgets.older_failed + budgets.older_lessons + 2500
    assert estimate(journal) >= 0.7 * (budgets.failed + budgets.lessons)
    left = re.search(r"^(\d+) older failures and (\d+) older findings are left out", journal, re.MULTILINE)
    assert left is not None
    told = re.findall(r"^p\d+ worse .*: (idea \d+) ", journal, re.MULTILINE)
    assert told == [f"idea {n}" for n in range(int(left[1]), 3000)]
    assert "2999: The learning" in journal
    assert re.search(r"The last \d+ lines of it are left out here", context.user[0].text)
    assert re.search(r"^\d+ older ones are left out\.$", context.user[-1].text, re.MULTILINE)


def test_a_small_model_gets_less_of_everything(long_campaign: Store) -> None:
    with long_campaign.read() as reads:
        found = gather(reads, long_request(long_campaign), planner="model:x", skills=skills.load(ROOT / "skills"))
    assert Budgets().within(10**9) == Budgets()
    for total in (60_000, 30_000, 16_000):
        small = Budgets().within(total)
        assert small.most <= total
        assert 0.5 * total <= estimate(whole(render(found, small, tools=False))) <= total
        assert estimate(whole(render(found, small))) <= total


def test_one_more_failure_changes_the_end_of_the_journal_only(long_campaign: Store) -> None:
    """But for the question at which the window moves on, which is one of many."""
    kept, stayed = [], 0
    for n in range(20):
        with long_campaign.write() as tx:
            base = tx.base(1)
            one = tx.add_proposal(1, draft(f"more {n}", base.id), baseline_id=base.id)
            tx.move(one.id, "blocked", "it was seen before, in almost the same words, and came to nothing there too")
        parts = render(evidence(long_campaign)).user
        stable = max(n for n, part in enumerate(parts) if part.stable)
        kept.append([part.text for part in parts[: stable + 1]])
    for before, after in pairwise(kept):
        stayed += after[: len(before)] == before
    assert stayed >= 17


# A text and what published tokenizers make of it: 200,000 pieces, 100,000 pieces, 65,000 pieces.
COUNTED = [
    (
        "Seed noise is larger than most effects. One run against one run has a standard error of about 0.02, so a "
        "single\ncomparison with an unlucky baseline is not evidence, however many ideas agree, because all of them "
        "share its luck.\n",
        50,
        50,
        51,
    ),
    (
        "class Attention(nn.Module):\n"
        "    def __init__(self, dim: int, heads: int) -> None:\n"
        "        super().__init__()\n"
        "        self.qkv = nn.Linear(dim, 3 * dim, bias=False)\n"
        "        self.heads, self.head_dim = heads, dim // heads\n"
        "\n"
        "    def forward(self, x: Tensor) -> Tensor:\n"
        "        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.head_dim).unbind(2)\n"
        "        return F.scaled_dot_product_attention(q, k, v, is_causal=True)\n",
        125,
        125,
        143,
    ),
    (
        "| base, 10 seeds | mean 2.3625, sd 0.0166, range 0.041 |\n"
        "| their paired difference | -0.1373, sd 0.0184, standard error 0.0058 |\n"
        "p31 worse against p26 [knob] gain -0.01200 ± 0.00988, 3 runs: matrix_lr = 0.06 | +0.0120 BPB\n",
        96,
        96,
        90,
    ),
    (
        "step:150/300 train_loss:4.1234 train_time:9876ms step_avg:82.30ms\n"
        "step:156/300 train_loss:4.1102 train_time:10371ms step_avg:82.31ms\n"
        "Traceback (most recent call last):\n"
        '  File "train.py", line 41, in <module>\n'
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2048x64 and 96x64)\n",
        97,
        97,
        99,
    ),
]


@pytest.mark.parametrize(("text", "a", "b", "c"), COUNTED)
def test_estimates_are_a_little_too_high(text: str, a: int, b: int, c: int) -> None:
    assert max(a, b, c) <= estimate(text) <= 1.35 * min(a, b, c)


def test_what_fits_a_budget() -> None:
    assert estimate("") == 0
    lines = [f"line number {n}" for n in range(100)]
    assert fit(lines, 0) == 0
    assert fit(lines, 10**6) == 100
    assert 5 < fit(lines, 60) < 20
    assert shorten("one\ntwo", 100) == ("one\ntwo", 0)
    assert shorten("\n".join(lines), 60).text.startswith("line number 0\n")
    end = shorten("\n".join(lines), 60, end=True)
    assert end.text.endswith("line number 99")
    assert end.left_out == 100 - len(end.text.splitlines())
    long = shorten("word " * 1000 + "\nnext", 50)
    assert long.left_out == 1
    assert 0 < estimate(long.text) <= 52


def test_a_window_moves_in_steps() -> None:
    items = ["an entry of the journal with so and so many words in it"] * 400
    starts = [window(items[:n], 0, 4000) for n in range(1, 401)]
    assert starts[0] == 0
    assert len(set(starts)) < 30
    assert all(sum(map(estimate, items[start : n + 1])) <= 4000 for n, start in enumerate(starts))
    assert window(items[100:], 100, 4000) + 100 == window(items, 0, 4000)  # wherever the reading began

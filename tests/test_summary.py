"""How a campaign ended, in words: what the head gained, how surely, and by which runs."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.report.summary import gained, summary
from agent.report.tables import lineage
from agent.store import Store, open_store
from tests.filling import add_base, add_campaign
from tests.fixture_campaign import build


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = build(tmp_path_factory.mktemp("campaign"))
    yield made
    made.close()


def test_the_heads_gain_is_that_of_fresh_runs_with_its_error(store: Store) -> None:
    with store.read() as reads:
        head = reads.head(1)
        rows = lineage(reads, head.id)
        (line,) = gained(reads, 1)
    base, last = (row["bpb"] for row in (rows[0], rows[-1]))
    assert isinstance(base, float) and isinstance(last, float)
    found = re.search(r"gain +(\d\.\d{4}) ± (\d\.\d{4}) BPB over the base", line)
    assert found is not None, line
    assert float(found[1]) == pytest.approx(base - last, abs=1e-4)
    assert float(found[2]) == pytest.approx(0.011 * math.sqrt(1 / 3 + 1 / 3), abs=1e-4)
    assert f"by 3 fresh runs of p{head.id} and 3 of the base's" in line and "decided nothing" in line
    assert f"p{head.id} was accepted by 3 other runs" in line


def test_a_campaign_that_gained_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    made = open_store(tmp_path / "runs.db")
    with made.write() as tx:
        campaign = add_campaign(tx)
        add_base(tx, campaign)
    with made.read() as reads:
        assert gained(reads, campaign.id) == []
    made.close()


def test_plots_that_can_not_be_written_take_nothing_from_the_rest(store: Store, tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("in their place")
    text = summary(store, 1, tmp_path)
    assert "\nplots    none: the plots can't be written: " in text and "\ncost " in text and "\nbranch " in text

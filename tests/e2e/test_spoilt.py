"""Heads that turn out to have broken a rule, or to stand on what did."""

from pathlib import Path

import pytest

from agent.loop import Loop
from agent.records import Finding, Proposal
from agent.setting import Setting
from agent.steps.ending import over
from agent.steps.promote import promote
from agent.store import Tx
from agent.store.spoilt import spoilt
from tests.e2e import world
from tests.filling import add_measured, measurement

CHEAT = Finding("not_normalised", "invalid", "sums to 3")
IDEAS = [
    world.idea("wider", ('"width": 4', '"width": 8')),
    world.idea("a better rate", ('"rate": 0.10', '"rate": 0.20')),
]


@pytest.fixture
def setting(root: Path) -> Setting:
    """A campaign that promoted both ideas, one on the other."""
    world.write_ideas(root, IDEAS)
    setting = world.open_campaign(root)
    Loop(setting).run()
    with setting.store.read() as reads:
        assert len(reads.lineage(reads.head(setting.campaign.id).id)) == 3
    return setting


def anchored(tx: Tx, of: Proposal) -> int:
    """One more run of a commit, which no idea's verdict rests on, breaks a rule."""
    return add_measured(tx, of, 99, 1.8, purpose="anchor", rung="decide", findings=(CHEAT,)).id


@pytest.mark.parametrize("which", [1, 2])
def test_a_head_that_stands_on_a_broken_rule_is_reverted(setting: Setting, root: Path, which: int) -> None:
    with setting.store.write() as tx:
        chain = tx.lineage(tx.head(setting.campaign.id).id)
        run = anchored(tx, chain[which])
    while promote(setting):
        pass
    with setting.store.read() as reads:
        head, top = reads.head(setting.campaign.id), reads.proposal(chain[2].id)
        assert (head.id, top.state) == (chain[which - 1].id, "reverted")
        assert top.reason.endswith(f"r{run}: not_normalised: sums to 3")
        assert ("on which it was built, broke a rule" in top.reason) == (which == 1)
        assert over(setting, reads) is None
    files = world.git(root, "show", f"{chain[which - 1].commit}:train.py")
    assert world.git(root, "show", "caddie/toy-1:train.py") == files


def test_a_base_that_breaks_a_rule_ends_the_campaign(setting: Setting) -> None:
    with setting.store.write() as tx:
        base = tx.base(setting.campaign.id)
        run = anchored(tx, base)
        head = tx.head(setting.campaign.id)
        assert spoilt(tx, base.id) == f"r{run}: not_normalised: sums to 3"
        assert spoilt(tx, head.id).startswith(f"p{base.id}, on which it was built, broke a rule: r{run}")
        found = over(setting, tx)
        assert found is not None and found.failed
        assert found.reason == f"the base breaks a rule (r{run}: not_normalised: sums to 3)"
        tx.add_measurement(measurement(run, 1.8, judge_version=2))  # a newer judge sees nothing
        assert spoilt(tx, base.id) == spoilt(tx, head.id) == "" and over(setting, tx) is None

"""How closely runs are looked at in a campaign, and that nothing is accepted on less."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge.task import Auditing
from agent.loop import Loop
from agent.records import Audited, Finding, Run, Trust
from agent.runners.fake import FakeRunner, Imagined
from agent.runners.order import Order
from agent.setting import Setting
from agent.steps import auditing
from tests.e2e import world
from tests.filling import add_idea, add_measured

BLIND = world.TRACK.replace('trust = "measured"', 'trust = "blind"')
IDEAS = [
    world.idea("wider", ('"width": 4', '"width": 6')),
    world.idea("worse", ("0.10", "0.02")),
]


def asked(setting: Setting, run: Run) -> Auditing:
    """What the judge was asked for, as it stands in the job folder."""
    return Order.from_json(JobPaths(setting.job(run.id)).order.read_text()).auditing


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A campaign with one good idea and a bad one, on a track that demands blind scores."""
    root = world.make_workspace(tmp_path_factory.mktemp("blind") / "w", track=BLIND)
    world.write_ideas(root, IDEAS)
    setting = world.open_campaign(root)
    assert Loop(setting).run().state == "finished"
    return setting


def runs_of(setting: Setting, title: str) -> list[Run]:
    with setting.store.read() as reads:
        found = next(p for p in reads.proposals(setting.campaign.id) if p.title == title)
        return reads.runs(setting.campaign.id, proposal_id=found.id)


def test_what_an_acceptance_rests_on_is_audited_in_full(played: Setting) -> None:
    with played.store.read() as reads:
        base = reads.base(played.campaign.id)
        mean = auditing.mean_bpb(auditing.fresh_of(played, reads, base.id, "")[:3])
        trusts = {s.run.id: s.measurement.trust for s in reads.scored(played.campaign.id)}
        head = reads.head(played.campaign.id)
    assert head.title == "wider"
    for run in runs_of(played, "wider"):
        wanted = asked(played, run)
        if run.purpose == "screen":
            assert (wanted.strength, wanted.full_below) == ("quick", pytest.approx(mean - 0.01))
        else:
            assert (wanted.strength, wanted.full_below) == ("full", None)
        assert wanted.min_gain == 0.01
        assert trusts[run.id] == "blind"  # its first run too: it was that good
    (bad,) = runs_of(played, "worse")
    assert asked(played, bad).strength == "quick" and trusts[bad.id] == "measured"
    with played.store.read() as reads:
        assert {asked(played, run).strength for run in reads.runs(played.campaign.id, proposal_id=base.id)} == {"full"}
        assert [row["proposal_id"] for row in reads.view("best_valid", played.campaign.id)] == [head.id]


def test_a_track_that_is_content_with_measured_scores_has_quick_audits(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "w")
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root)
    Loop(setting).run()
    with setting.store.read() as reads:
        assert reads.head(setting.campaign.id).title == "wider"
        assert {asked(setting, run) for run in reads.runs(setting.campaign.id)} == {Auditing()}
        assert {s.measurement.trust for s in reads.scored(setting.campaign.id)} == {"measured"}


class Careless(FakeRunner):
    """A judge that audits nothing in full, whatever it was asked for."""

    def _write(self, paths: JobPaths, order: Order, run: Imagined, code_sha: str, code_bytes: int) -> None:
        super()._write(paths, replace(order, auditing=Auditing()), run, code_sha, code_bytes)


def test_nothing_is_accepted_without_a_full_audit_of_its_own(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "w", track=BLIND)
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root, make_runner=Careless)
    Loop(setting).run()
    with setting.store.read() as reads:
        (idea,) = [p for p in reads.proposals(setting.campaign.id) if p.title == "wider"]
        assert (idea.state, idea.reason) == ("inconclusive", "none of its runs has a blind score")
        assert reads.head(setting.campaign.id).kind == "base"
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        ({"measured": 1.95}, None),  # what was not audited speaks against it
        ({"measured": 1.85}, "its gain rests on r{}, whose scores are not blind"),
        ({"blind": 1.85}, None),
    ],
)
def test_what_was_not_audited_may_not_carry_a_gain(
    tmp_path: Path, others: dict[Trust, float], wanted: str | None
) -> None:
    root = world.make_workspace(tmp_path / "w", track=BLIND)
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root)
    ((trust, bpb),) = others.items()
    with setting.store.write() as tx:
        base = tx.base(setting.campaign.id)
        idea = add_idea(tx, base)
        add_measured(tx, idea, 1, 1.9, rung="decide", trust="blind")
        other = add_measured(tx, idea, 2, bpb, rung="decide", trust=trust)
        found = auditing.unaudited(setting, tx, idea)
        tx.update_run(other.id, set_aside="its machine drifted")
        assert auditing.unaudited(setting, tx, idea) is None
    assert found == (wanted and wanted.format(other.id))


FULL = Audited(
    "full", 6000, 3000, 1000, 4, 0, 1e-6, 1e-6, 0.01, "fp32", 0.0, 1e-6, 0.0, 1e-6, "bigram", 1e-3, 1e-3, 5e-3, 3.0, 0.5
)


@pytest.mark.parametrize(
    ("unsafe", "audit", "rules", "enough"),
    [
        (True, FULL, (), True),
        (False, FULL, (), False),
        (True, None, (), False),
        (True, replace(FULL, strength="quick"), (), False),
        (True, FULL, ("mean_mismatch",), False),
        (True, FULL, ("audit_dim",), False),
    ],
)
def test_without_walls_a_full_audit_has_to_do_where_a_person_said_so(
    tmp_path: Path, unsafe: bool, audit: Audited | None, rules: tuple[str, ...], enough: bool
) -> None:
    root = world.make_workspace(tmp_path / "w", track=BLIND)
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root)
    setting = replace(setting, campaign=replace(setting.campaign, unsafe=unsafe))
    findings = tuple(Finding(rule, "flag", "seen") for rule in rules)
    with setting.store.write() as tx:
        idea = add_idea(tx, tx.base(setting.campaign.id))
        run = add_measured(tx, idea, 1, 1.9, rung="decide", trust="measured", audit=audit, findings=findings)
        tx.update_run(run.id, walls=("env", "unsafe"))
        found = auditing.unaudited(setting, tx, idea)
    assert found == (None if enough else "none of its runs has a blind score")

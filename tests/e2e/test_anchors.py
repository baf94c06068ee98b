"""Campaigns on machines that make a score: anchors first, verdicts within leases and across them, drift, lost ties."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from agent import track as tracks
from agent.errors import TrackError
from agent.loop import Loop
from agent.runners import NEW, lease_of
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.setting import Setting
from agent.steps import anchors, decide, wanted
from agent.steps.collect import collect
from agent.steps.launch import start
from agent.store import Tx
from tests.e2e import world
from tests.e2e.leased import Found, Gathered, Leased, Machines, later, opened, runs_of
from tests.filling import draft


def verdicts(setting: Setting) -> list[tuple[object, ...]]:
    query = "SELECT proposal_id, decision, words, gain, stderr, p, sigma, rho, df FROM verdicts ORDER BY id"
    with setting.store.read() as reads:
        return [tuple(row) for row in reads.connection.execute(text(query))]


def test_a_lease_first_runs_the_head_and_every_head(tmp_path: Path) -> None:
    setting = opened(tmp_path / "w", ("a", "b"), Machines())
    Loop(setting).run()
    runs = runs_of(setting)
    assert [(run.purpose, run.lease) for run in runs[:2]] == [("anchor", "a"), ("anchor", "b")]
    mine = [run for run in runs if run.purpose == "anchor"]
    heads = {run.proposal_id for run in mine}
    assert len(heads) == 2 and Counter((run.proposal_id, run.lease) for run in mine).most_common(1)[0][1] == 1
    assert len({(run.proposal_id, run.seed) for run in mine}) == 2  # one registered seed a head
    others = {run.seed for run in runs if run.purpose != "anchor"}
    assert not others & {run.seed for run in mine}


def test_a_machine_s_luck_is_no_gain_and_its_misfortune_no_loss(tmp_path: Path) -> None:
    """The second machine is twenty standard deviations worse; the idea that helps is found, and no other."""
    setting = opened(tmp_path / "w", ("a", "b"), Machines({"b": 0.2}))
    Loop(setting).run()
    with setting.store.read() as reads:
        states = {one.title: one.state for one in reads.proposals(setting.campaign.id)}
    assert states.pop("wider") == "promoted"
    assert set(states.values()) <= {"promoted", "worse", "inconclusive", "duplicate"}
    gains = [row[3] for row in verdicts(setting) if row[3] is not None]
    assert gains and all(abs(float(gain)) < 0.12 for gain in gains)  # type: ignore[arg-type]
    plain = opened(tmp_path / "plain", ("a", "b"), Machines({"b": 0.2}), world.TRACK)
    Loop(plain).run()
    assert any(abs(float(row[3])) > 0.12 for row in verdicts(plain) if row[3] is not None)  # type: ignore[arg-type]


def test_a_lease_is_timed_by_what_it_was_anchored_with_first_however_often_the_head_moves(tmp_path: Path) -> None:
    setting = opened(tmp_path / "w", ("a", "b"), Machines())
    Loop(setting).run()
    first, head = dict.fromkeys(run.proposal_id for run in runs_of(setting) if run.purpose == "anchor")
    later(setting, 5, f"proposal_id = {head}")
    assert anchors.due(setting, setting.runner.slots) == []  # timed less than four hours ago
    later(setting, 5, f"proposal_id = {first} AND lease = 'b'")
    (one,) = anchors.due(setting, setting.runner.slots)
    assert (one.slot, one.item.proposal.id, one.item.attempt) == ("fake/1", first, 2)
    with setting.store.write() as tx:
        gone = "UPDATE runs SET state = 'cancelled' WHERE purpose = 'anchor' AND proposal_id = :head"
        tx.connection.execute(text(gone), {"head": head})  # which has not run there yet, and comes first
    found = anchors.due(setting, setting.runner.slots)
    assert [(one.slot, one.item.proposal.id) for one in found] == [("fake/0", head), ("fake/1", head)]


def test_a_drift_closes_the_lease_and_its_runs_since_the_last_good_anchor_count_for_nothing(tmp_path: Path) -> None:
    machines = Machines()
    setting = opened(tmp_path / "w", ("a", "b"), machines)
    Loop(setting).run()
    before = runs_of(setting)
    mine = [run for run in before if run.purpose == "anchor" and run.lease == "b"]
    last = mine[0]  # before the head moved; what it is now was timed once, and tells no drift
    assert [run.proposal_id == last.proposal_id for run in mine] == [True, False]
    # Four hours later it is a hundredth and a half slower.
    machines.slower = lambda lease, nth: 1.015 if lease == "b" else 1.0
    later(setting, 5)
    found = {one.slot: one.item for one in anchors.due(setting, setting.runner.slots)}
    assert sorted(found) == ["fake/0", "fake/1"]
    assert {(item.proposal.id, item.seed) for item in found.values()} == {(last.proposal_id, last.seed)}
    for slot, item in found.items():
        assert start(setting, item, slot) is not None
    collect(setting, {setting.job(run.id): run for run in runs_of(setting) if run.state == "running"})
    decide.decide(setting)
    after = {run.id: run for run in runs_of(setting)}
    assert list(machines.refused) == ["b"] and "drifted by +1.5 %" in machines.refused["b"]
    spoilt = {run.id for run in after.values() if run.set_aside}
    assert spoilt == {run.id for run in after.values() if run.lease == "b" and run.id > last.id}
    assert anchors.usable(setting, setting.runner.slots) == ["fake/0"]
    assert anchors.due(setting, setting.runner.slots) == []  # the other one was just timed again
    later(setting, 5)
    assert [one.slot for one in anchors.due(setting, setting.runner.slots)] == ["fake/0"]
    with setting.store.read() as reads:
        counted = {one.lease for one in reads.replicates(setting.campaign.id) if one.lease == "b"}
        assert len(reads.replicates(setting.campaign.id)) == sum(
            run.state == "done" and run.outcome == "ok" and not run.set_aside for run in after.values()
        )
    assert counted == {"b"}  # what ran before stays
    again = dict(machines.refused)
    decide.decide(setting)  # after a crash it is found again, and nothing more happens
    assert machines.refused == again and {run.id for run in runs_of(setting) if run.set_aside} == spoilt


def test_a_run_that_no_verdict_has_looked_at_is_made_again_elsewhere(tmp_path: Path) -> None:
    """Its lease is gone before the head ran on it."""
    machines = Machines()
    setting = opened(tmp_path / "w", ("a", "b"), machines)
    Loop(setting).run()
    with setting.store.write() as tx:
        head = tx.head(setting.campaign.id)
        made = draft("made by hand", head.id)
        one = tx.add_proposal(setting.campaign.id, made, baseline_id=head.id, commit=head.commit)
        for state in ("approved", "queued", "running", "measured"):
            tx.move(one.id, state)  # type: ignore[arg-type]
        done = tx.runs(setting.campaign.id, proposal_id=head.id, purposes={"report"})[0]
        changes = {"proposal_id": one.id, "baseline_id": head.id, "purpose": "screen", "lease": "gone"}
        run_id = copy(tx, done.id, **changes)
        measured = tx.measurement(done.id)
        assert measured is not None
        tx.add_measurement(replace(measured, run_id=run_id))
    decide.decide(setting)
    with setting.store.read() as reads:
        found = reads.run(run_id)
        assert (found.state, found.set_aside) == ("lost", "its machine was gone before the head had run on it")
        assert reads.proposal(one.id).state == "measured" and reads.verdicts(one.id) == []
        (again,) = [item for item in wanted.wanted(setting, reads) if item.proposal.id == one.id]
    assert again.purpose == "screen" and again.attempt == 1 + (again.seed == found.seed)


class Rented(Leased):
    """A machine comes for the first run of its slot."""

    def lease(self, slot: str) -> str:
        return self._names[slot] if self._machines.counts[self._names[slot]] else NEW


def test_a_machine_that_comes_for_its_first_run_is_anchored_by_it(tmp_path: Path) -> None:
    machines = Machines()
    setting = opened(tmp_path / "w", ("m1", "m2"), machines, runner=Rented)
    Loop(setting).run()
    runs = runs_of(setting)
    assert [(run.purpose, run.lease) for run in runs[:2]] == [("anchor", "m1"), ("anchor", "m2")]
    assert {run.lease for run in runs if run.state == "done"} == {"m1", "m2"}
    assert len([run for run in runs if run.purpose == "anchor"]) == 4  # two heads


@pytest.mark.parametrize(("runner", "leases"), [(Gathered, ("a", "b")), (Found, ("a", "b", "c", "d", "e"))])
def test_machines_that_are_found_when_a_run_begins_have_anchors_too(
    tmp_path: Path, runner: type[Leased], leases: tuple[str, ...]
) -> None:
    """Where nobody knows of a machine before a run was on it: those on which the head has not run otherwise."""
    setting = opened(tmp_path / "w", leases, Machines({"b": 0.2, "e": -0.2}), runner=runner)
    ending = Loop(setting).run()
    runs = runs_of(setting)
    mine = [run for run in runs if run.purpose == "anchor"]
    assert {run.lease for run in runs} == set(leases)
    assert mine and (runner is Found or {run.lease for run in mine} == set(leases))
    assert all(run.slot == f"fake/@{run.lease}" for run in mine)
    assert max(Counter((run.proposal_id, run.lease) for run in mine).values()) == 1
    with setting.store.read() as reads:
        states = {one.title: one.state for one in reads.proposals(setting.campaign.id)}
    assert states["wider"] == "promoted" and ending.reason == "the planner has no more ideas"
    gains = [row[3] for row in verdicts(setting) if row[3] is not None]
    assert gains and all(abs(float(gain)) < 0.12 for gain in gains)  # type: ignore[arg-type]


def test_a_lease_on_which_the_head_can_t_run_is_closed(tmp_path: Path) -> None:
    machines = Machines()
    setting = opened(tmp_path / "w", ("a", "b"), machines)
    Loop(setting).run()
    with setting.store.write() as tx:
        tx.connection.execute(text("UPDATE runs SET state = 'lost' WHERE purpose = 'anchor' AND lease = 'b'"))
        last = [run for run in tx.runs(setting.campaign.id, purposes={"anchor"}) if run.lease == "b"][-1]
        copy(tx, last.id)
        assert anchors.closed(setting, tx) == []
        copy(tx, last.id)
    with setting.store.read() as reads:
        (shut,) = anchors.closed(setting, reads)
    assert (shut.lease, shut.after) == ("b", 0) and "could not run there 3 times" in shut.words


def copy(tx: Tx, run_id: int, **changes: object) -> int:
    """Another run like it."""
    row = tx.connection.execute(text("SELECT * FROM runs WHERE id = :id"), {"id": run_id}).mappings().one()
    values = {**row, **changes}
    del values["id"]
    tx.connection.execute(text(f"INSERT INTO runs ({', '.join(values)}) VALUES (:{', :'.join(values)})"), values)
    return int(tx.connection.execute(text("SELECT MAX(id) FROM runs")).scalar_one())


def test_without_anchors_nothing_is_different(tmp_path: Path) -> None:
    """A runner that knows its machines changes nothing on a track whose budget no machine changes."""
    told = opened(tmp_path / "told", ("a", "b"), Machines(), world.TRACK)
    Loop(told).run()
    world.make_workspace(tmp_path / "plain")
    (tmp_path / "plain" / ".ideas.jsonl").write_text((tmp_path / "told" / ".ideas.jsonl").read_text())
    plain = world.open_campaign(tmp_path / "plain", slots=2)
    Loop(plain).run()
    assert verdicts(told) == verdicts(plain) != []
    keys = [(run.proposal_id, run.purpose, run.seed, run.state) for run in runs_of(told)]
    assert keys == [(run.proposal_id, run.purpose, run.seed, run.state) for run in runs_of(plain)]
    assert not any(run.purpose == "anchor" or run.set_aside for run in runs_of(told))


@pytest.mark.parametrize("name", ["tiny", "synth"])
def test_tracks_with_a_declared_budget_have_no_anchors(name: str) -> None:
    track, toml = tracks.load(name, Path())
    assert track.hardware.anchor_every_s is None
    with pytest.raises(TrackError, match="whose budget no machine changes"):
        tracks.parse(toml.replace('kind = "cpu"', 'kind = "cpu"\nanchor_every_s = 60'), name)


@pytest.mark.parametrize("name", ["golf-1xh100", "golf-8xh100", "golf-upstream", "autoresearch"])
def test_tracks_that_a_clock_ends_have(name: str) -> None:
    track, _ = tracks.load(name, Path())
    assert track.hardware.anchor_every_s == 4 * 3600


def test_a_fleet_asks_whoever_has_the_machine() -> None:
    machines = Machines()
    fleet = Fleet({"fake": Leased(("a", "b"), machines), "other": FakeRunner(1, name="other")})
    assert [lease_of(fleet, slot) for slot in fleet.slots] == ["a", "b", ""]
    fleet.refuse("b", "it drifted")
    assert machines.refused == {"b": "it drifted"}

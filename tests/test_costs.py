"""Where time and money went: every second and every cent in one place, whoever was paid."""

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from matplotlib.image import imread
from sqlalchemy import text

from agent import budget
from agent.errors import UserError
from agent.records import Amount
from agent.report.costs import Costs, Line, costs
from agent.report.costs_shown import words, write
from agent.store import Store, open_store, statements, talks
from agent.store.rows import iso
from agent.store.schema import machines
from agent.store.schema.rented import STORAGE
from agent.store.spending import NO_IDEA, open_s
from tests.filling import add_campaign
from tests.fixture_campaign import START, build
from tests.postgres import fresh_url


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("night")
    build(root).close()
    return root / "runs.db"


@pytest.fixture
def night(made: Path, tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(Path(shutil.copy(made, tmp_path)), create=False)) as store:
        yield store


def of(store: Store) -> Costs:
    with store.read() as reads:
        return costs(reads, 1)


def rent(store: Store) -> None:
    """The first 29 runs on one rented machine, the others on another; a third was sent back, a fourth never came."""
    rows = (
        ("pod-a", 4, 375, 2.1, None),
        ("pod-b", 1, 1300, None, 1.5),
        ("pod-c", 1, 60, None, 0.07),
        ("", 1, 9, None, 9),
    )
    with store.write() as tx:
        for provider_id, gpus, seconds, billed, settled in rows:
            entry = budget.reserve(tx, 1, Amount(usd=10.0), "machine")
            budget.settle(tx, entry, Amount(usd=settled or 9.9))
            values = {"campaign_id": 1, "provider": "pods", "provider_id": provider_id, "kind": "H100", "gpus": gpus}
            values |= {"state": "refused" if provider_id == "pod-c" else "gone", "facts": {}}
            times = {"created": iso(START), "ended": iso(START + timedelta(seconds=seconds))}
            values |= {"usd_per_hour": 3.0, "entry_id": entry, "billed_usd": billed, **times}
            statements.add(tx.connection, machines, values)
        tx.connection.execute(text("UPDATE runs SET lease = CASE WHEN id < 30 THEN 'm1' ELSE 'm2' END"))


def ask(store: Store, planner: str, usd: float, proposal_id: int | None) -> None:
    with store.write() as tx:
        entry = budget.reserve(tx, 1, Amount(llm_usd=usd, llm_calls=1), "planner")
        talk = talks.add_conversation(tx, 1, "propose", planner, "exploit", proposal_id)
        talks.add_call(tx, 1, talk, entry, planner, {})
        budget.settle(tx, entry, Amount(llm_usd=usd, llm_calls=1))


def by_name(lines: tuple[Line, ...]) -> dict[str, Line]:
    return {line.name: line for line in lines}


def test_every_second_of_the_ledger_is_in_each_account(night: Store) -> None:
    found = of(night)
    with night.read() as reads:
        settled = reads.balance(1).settled.gpu_s
    assert found.whole.gpu_s == pytest.approx(settled) and found.unit == "slot" and found.runs == 64
    for lines in (found.by_rung, found.by_kind, found.by_planner):
        assert sum(line.gpu_s for line in lines) == pytest.approx(settled)
        assert sum(line.share for line in lines) == pytest.approx(1) and sum(line.runs for line in lines) == 64
        assert [line.gpu_s for line in lines] == sorted((line.gpu_s for line in lines), reverse=True)
    assert by_name(found.by_kind)["tokenizer"].runs == 6 and by_name(found.by_kind)["base"].runs == 3
    assert {line.usd for line in found.by_kind} == {None} and found.whole.usd is None and found.whole.usd_each is None


def test_a_gain_is_what_fresh_runs_show_and_the_whole_pays_for_the_losers_too(night: Store) -> None:
    found = of(night)
    with night.read() as reads:
        steps = [row for row in reads.view("lineage", 1) if row["baseline_id"] is not None]
    assert [gain.milli_bpb for gain in found.by_gain] == pytest.approx([-1000 * row["delta_bpb"] for row in steps])
    assert found.whole.milli_bpb == pytest.approx(sum(gain.milli_bpb or 0 for gain in found.by_gain))
    for gain in found.by_gain:
        assert gain.milli_bpb and gain.gpu_s_each == pytest.approx(gain.gpu_s / gain.milli_bpb)
    assert found.whole.gpu_s_each and found.whole.milli_bpb
    assert found.whole.gpu_s_each == pytest.approx(found.whole.gpu_s / found.whole.milli_bpb)


def test_bills_are_divided_to_the_cent_and_the_rest_was_idle(night: Store) -> None:
    rent(night)
    found = of(night)
    idle = sum(machine.idle_usd or 0 for machine in found.by_machine)
    assert found.whole.usd == pytest.approx(3.67) and found.unbilled_usd == 0.0 and "reckoned" not in words(found)
    for lines in (found.by_rung, found.by_kind, found.by_planner):
        assert sum(line.usd or 0 for line in lines) + idle == pytest.approx(3.67)
    with night.read() as reads:
        first = sum(budget_s(reads.connection, one.id) for one in reads.runs(1, states={"done"}) if one.lease == "m1")
    one, two, three = found.by_machine
    assert (one.name, one.runs, three.runs, three.idle) == ("m1", 29, 0, 1.0) and three.idle_usd == pytest.approx(0.07)
    assert one.used_s == pytest.approx(first) and one.idle == pytest.approx(1 - first / 1500)
    assert found.paid_s == 2860 and found.idle == pytest.approx(1 - (one.used_s + two.used_s) / 2860)
    gain = found.by_gain[0]
    assert gain.usd == pytest.approx(gain.gpu_s * 2.1 / 1500) and gain.usd_each == pytest.approx(
        gain.usd / gain.milli_bpb
    )  # type: ignore[operator]


def test_a_volume_costs_and_is_no_machine_that_stands_idle(night: Store) -> None:
    rent(night)
    before = of(night)
    with night.write() as tx:
        entry = budget.reserve(tx, 1, Amount(usd=10.0), "machine")
        budget.settle(tx, entry, Amount(usd=0.5))
        values = {"campaign_id": 1, "provider": f"pods{STORAGE}", "provider_id": "vol1", "kind": "volume of 50 GB"}
        values |= {"gpus": 0, "state": "gone", "facts": {}, "usd_per_hour": 0.01, "entry_id": entry, "billed_usd": 0.5}
        times = {"created": iso(START), "ended": iso(START + timedelta(hours=24))}
        statements.add(tx.connection, machines, {**values, **times})
    found = of(night)
    assert (found.idle, found.paid_s) == (before.idle, before.paid_s)
    assert found.whole.usd == pytest.approx(3.67 + 0.5)
    volume = found.by_machine[-1]
    assert (volume.words, volume.usd, volume.idle_usd) == (f"pods{STORAGE} volume of 50 GB", 0.5, 0.0)


def budget_s(connection: object, run_id: int) -> float:
    query = text("SELECT settled_gpu_s FROM ledger WHERE run_id = :id")
    return float(connection.execute(query, {"id": run_id}).scalar_one())  # type: ignore[attr-defined]


def test_a_machine_that_is_there_still_costs_its_price_and_one_of_our_own_nothing(night: Store) -> None:
    rent(night)
    with night.write() as tx:
        tx.connection.execute(text("DELETE FROM machines WHERE id > 1"))
        hour = {"at": iso(datetime.now(UTC) - timedelta(hours=1))}
        tx.connection.execute(text("UPDATE machines SET ended = NULL, billed_usd = NULL, created = :at"), hour)
        tx.connection.execute(text("UPDATE ledger SET state = 'reserved' WHERE what = 'machine'"))
        tx.connection.execute(text("UPDATE runs SET slot = 'box/' || slot"))
    rented, own = of(night).by_machine
    assert rented.usd == pytest.approx(3.0, rel=0.02) and rented.paid_s == pytest.approx(4 * 3600, rel=0.02)
    assert (own.name, own.usd, own.idle_usd, own.runs) == ("box", None, None, 35)
    found = of(night)  # what is one's own is not paid for, idle or not
    assert own.paid_s > 0 and found.paid_s == pytest.approx(rented.paid_s, rel=0.02)
    assert found.idle == pytest.approx(rented.idle, abs=0.01) and found.unbilled_usd == pytest.approx(
        rented.usd, rel=0.02
    )
    assert "of it is reckoned from prices: no bill has come" in words(found)


def test_models_are_paid_by_planner_and_kind_and_for_ideas_that_never_came(night: Store) -> None:
    ask(night, "anthropic:some", 0.5, 6)
    ask(night, "anthropic:some", 0.25, None)
    found = of(night)
    assert found.whole.model_usd == 0.75 and by_name(found.by_planner)["anthropic:some"].model_usd == 0.75
    kinds = by_name(found.by_kind)
    assert kinds["optimiser"].model_usd == 0.5 and kinds[NO_IDEA].model_usd == 0.25 and kinds[NO_IDEA].runs == 0
    gain = next(one for one in found.by_gain if one.name.startswith("p6 "))
    assert gain.model_usd == 0.5 and gain.usd is None and gain.usd_each == pytest.approx(0.5 / gain.milli_bpb)  # type: ignore[operator]
    said = words(found)
    assert "$0.75 for models" in said and "No machine sent a bill" in said and "of models a milli-BPB" in said


def test_runs_that_came_to_nothing_are_told_apart(night: Store) -> None:
    with night.write() as tx:
        tx.update_run(tx.runs(1, states={"done"})[0].id, state="lost")
    assert 31 < of(night).lost_s < 37 and "went to runs that were lost or cancelled" in words(of(night))


def test_slots_are_idle_only_while_a_controller_was_there(tmp_path: Path) -> None:
    at = ("10:00", "running"), ("10:10", "stopped"), ("12:00", "running"), ("12:20", "planned"), ("13:00", "running")
    with closing(open_store(tmp_path / "runs.db")) as store, store.write() as tx:
        campaign = add_campaign(tx)
        tx.connection.execute(text("DELETE FROM events"))
        for clock, what in (*at, ("13:30", "finished")):
            event = tx.add_event(campaign.id, what, "")
            where = {"at": f"2026-01-01T{clock}:00.000Z", "id": event}
            tx.connection.execute(text("UPDATE events SET at = :at WHERE id = :id"), where)
        # 10 minutes, 20 to the last word of a controller that was killed, 30.
        assert open_s(tx, campaign.id) == 3600
        tx.add_event(campaign.id, "running", "")
        tx.connection.execute(text("UPDATE events SET at = '2026-01-01T14:00:00.000Z' WHERE id > 6"))
        assert open_s(tx, campaign.id) == 3600  # nothing has happened since


def test_a_campaign_without_runs_has_cost_nothing(night: Store, tmp_path: Path) -> None:
    with night.write() as tx:
        tx.connection.execute(text("DELETE FROM ledger"))
    found = of(night)
    assert (found.runs, found.whole.gpu_s, found.by_rung, found.idle) == (0, 0, (), None)
    assert "0 slot-seconds in 0 runs" in words(found)
    write(found, tmp_path / "nothing.svg")


def test_nothing_gained_has_no_price(night: Store) -> None:
    found = of(night)
    none = replace(found, whole=replace(found.whole, milli_bpb=None, gpu_s_each=None), by_gain=())
    assert "Nothing was gained yet." in words(none)


def test_the_same_on_postgresql(night: Store) -> None:
    """What groups and sums there must be the same words and numbers."""
    with closing(open_store(fresh_url())) as heavy:
        with night.read() as reads, heavy.write() as tx:
            for name in (
                "campaigns",
                "proposals",
                "heads",
                "trunk",
                "runs",
                "boards",
                "measurements",
                "scores",
                "events",
                "ledger",
            ):
                rows = reads.connection.execute(text(f"SELECT * FROM {name} ORDER BY 1")).mappings().all()
                names = ", ".join(rows[0])
                values = ", ".join(f":{key}" for key in rows[0])
                tx.connection.execute(text(f"INSERT INTO {name} ({names}) VALUES ({values})"), [dict(r) for r in rows])
        assert of(heavy) == of(night)


def test_titles_are_text_wherever_they_are_shown(night: Store) -> None:
    with night.write() as tx:
        tx.connection.execute(text("UPDATE proposals SET title = :t WHERE id = 6"), {"t": "\x1b[2J$\\frac{1}{0}$\nx"})
    said = words(of(night))
    assert "\x1b" not in said and "\\frac" in said


def test_the_plot_is_what_its_name_says(night: Store, tmp_path: Path) -> None:
    write(of(night), tmp_path / "own.svg")
    rent(night)
    write(of(night), tmp_path / "rented.png")
    pixels = imread(tmp_path / "rented.png")
    assert pixels.shape[1] > 1500 and len({tuple(one) for row in pixels[::40] for one in row[::20]}) > 4
    ids = [item.get("id", "") for item in ET.parse(tmp_path / "own.svg").iter()]
    assert sum(one.startswith("axes_") for one in ids) == 5
    with pytest.raises(UserError, match=r"Did you mean 'png'\? name a file"):
        write(of(night), tmp_path / "x.pgn")
    assert not (tmp_path / "x.pgn").exists()

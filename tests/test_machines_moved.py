"""What a database rents is its own wherever it was moved; a copy leaves it alone, and what was not done is said."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.machines import book
from agent.machines.homes import home
from agent.machines.reaping import reap
from agent.machines.renting import LOST_S, Renter, rent
from agent.machines.sweep import settle, sweep
from tests.renting import HOUR, PLACED, opened, renter
from tests.runpod import StandIn


def there(stand: StandIn, folder: Path) -> Renter:
    """As one rents by the database in this folder."""
    folder.mkdir(exist_ok=True)
    store, _ = opened(folder)
    return replace(renter(stand, store), home=home(store))


def name(one: Renter) -> str:
    with one.store.write() as tx:
        return book.prefix(tx, one.home)


def rented(stand: StandIn, folder: Path, *, heard: bool = True) -> str:
    """A machine, of which only its provider knows the id where it was not heard; gives what its name begins with."""
    one = there(stand, folder)
    with closing(one.store):
        if heard:
            rent(one, 1, PLACED, 4 * HOUR)
        else:
            stand.hidden_s = 60.0
            stand.faults.append(("POST", "500 done"))
            with pytest.raises(InfraError):
                rent(one, 1, PLACED, 4 * HOUR)
        stand.advance(LOST_S)
        return name(one)


def settled(one: Renter, stand: StandIn) -> None:
    stand.advance(3 * HOUR)
    settle(one)
    with one.store.read() as reads:
        balance = reads.balance(1)
        assert book.everyone(reads) == []
    assert balance.reserved.usd == 0.0 and balance.settled.usd == pytest.approx(stand.billed(), abs=0.005)
    assert stand.billed() > 0.5


@pytest.mark.parametrize("heard", [True, False])
def test_names_go_along_where_a_database_is_moved(stand: StandIn, tmp_path: Path, heard: bool) -> None:
    before = rented(stand, tmp_path / "one", heard=heard)
    one = there(stand, (tmp_path / "one").rename(tmp_path / "two"))
    with closing(one.store):
        assert name(one) == before
        done = sweep(one)
        assert [action.do for action in done.actions] == (["close"] if heard else ["adopt", "close"])
        assert done.failed == () and stand.living() == []
        settled(one, stand)


@pytest.mark.parametrize("heard", [True, False])
def test_what_was_rented_elsewhere_is_ended_when_nobody_wants_it(stand: StandIn, tmp_path: Path, heard: bool) -> None:
    before = rented(stand, tmp_path / "one", heard=heard)
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # as to another disk
    shutil.rmtree(tmp_path / "one")
    one = there(stand, tmp_path / "two")
    with closing(one.store):
        assert name(one) != before
        assert [action.do for action in sweep(one, [1]).actions] == ([] if heard else ["adopt"])
        assert len(stand.living()) == 1  # its campaign goes on with it
        stand.storm = lambda method, path: "500" if path.endswith("/pod000001") else None
        said = reap([one])
        assert said.done == () and len(said.failed) == 1 and said.failed[0].startswith("m1")
        stand.storm = lambda method, path: None
        assert [action.do for action in sweep(one).actions] == ["close"] and stand.living() == []
        settled(one, stand)


def test_a_copy_leaves_what_the_other_rents_and_says_so(stand: StandIn, tmp_path: Path) -> None:
    before = rented(stand, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy, one = there(stand, tmp_path / "two"), there(stand, tmp_path / "one")
    place = (tmp_path / "one/runs.db").resolve()
    with closing(copy.store), closing(one.store):
        assert name(copy) != before == name(one)
        for dry_run in (True, False):
            said = reap([copy], dry_run=dry_run)
            assert (said.done, said.orphans, len(stand.living())) == ((), 0, 1)
            assert said.failed == (f"m1 (pod000001): is rented by {place}, of which this is a copy",)
        assert reap([one]).orphans == 1 and stand.living() == []
        assert reap([copy]).failed == ()
        for each in (one, copy):
            settled(each, stand)


def test_what_does_not_end_is_not_said_to_have_ended(stand: StandIn, tmp_path: Path) -> None:
    rented(stand, tmp_path / "one")
    one = there(stand, tmp_path / "one")
    with closing(one.store):
        stand.dying_s = 100.0
        said = reap([one])
        assert said.done == () and "still there" in said.failed[0] and len(stand.living()) == 1
        stand.advance(100)
        assert len(reap([one]).done) == 1 and stand.living() == []
        settled(one, stand)

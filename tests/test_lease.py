"""One controller a campaign: a living one is respected and named, a dead one is replaced at once."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import BusyError
from agent.store import Store
from agent.store.lease import hold, holder, place, process_started
from agent.store.rows import iso
from tests.filling import add_campaign

HOLD = """
import sys, time
from agent.store import open_store
from agent.store.lease import hold
store = open_store(sys.argv[1])
with hold(store, "night"):
    print("held", flush=True)
    sys.stdin.read()
"""

WRITE = """
import sys
from agent.errors import BusyError
from agent.store import open_store
from agent.store.lease import hold
from tests.filling import add_campaign
store = open_store(sys.argv[1])
with store.write() as tx:
    add_campaign(tx)
try:
    with hold(store, "night"):
        with store.write() as tx:
            tx.add_event(1, "old", "")
        print("wrote", flush=True)
        sys.stdin.readline()
        with store.write() as tx:
            tx.add_event(1, "late", "")
except BusyError as error:
    print("refused:", error)
"""


def url(store: Store) -> str:
    return str(store.path) if store.path else store.url.render_as_string(hide_password=False)


def start_holder(store: Store) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLD, url(store)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_the_second_controller_is_told_who_the_first_is(store: Store) -> None:
    child = start_holder(store)
    try:
        with pytest.raises(BusyError) as busy, hold(store, "night"):
            pass
        words = str(busy.value)
        assert f"process {child.pid} on {os.uname().nodename} since 20" in words and "agent stop" in words
        assert busy.value.exit_code == 4
        with hold(store, "another night") as lease:
            lease.check()
        with store.read() as reads:
            assert f"process {child.pid}" in (holder(reads.connection, "night") or "")
            assert holder(reads.connection, "another night") is None
    finally:
        child.communicate("", timeout=20)
    assert child.returncode == 0
    with hold(store, "night"):
        pass


def test_kill_9_frees_the_campaign_at_once_even_unreaped(store: Store) -> None:
    child = start_holder(store)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, a zombie still
    assert process_started(child.pid) is None
    with hold(store, "night"), store.read() as reads:
        assert f"process {os.getpid()} " in (holder(reads.connection, "night") or "")
    child.communicate()


def test_a_process_id_that_was_given_to_another_is_not_the_holder(store: Store) -> None:
    child = start_holder(store)
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE controllers SET process_started = '1'")
    with hold(store, "night"):
        pass
    child.kill()
    child.communicate()


def test_a_holder_elsewhere_counts_as_dead_when_its_heartbeat_is_old(store: Store) -> None:
    child = start_holder(store)
    child.kill()
    child.communicate()
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE controllers SET place = 'another boot', host = 'far'")
    with pytest.raises(BusyError, match=r"on far .*free in (14|15) s"), hold(store, "night"):
        pass
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE controllers SET heartbeat = '2020-01-01T00:00:00.000Z'")
    with hold(store, "night"):
        pass


def test_the_heartbeat_goes_on_and_a_lost_lease_is_noticed(store: Store) -> None:
    def beat() -> str:
        with store.read() as reads:
            return str(reads.connection.exec_driver_sql("SELECT heartbeat FROM controllers").scalar_one())

    with hold(store, "night", heartbeat_s=0.02) as lease:
        first, deadline = beat(), time.monotonic() + 20
        while beat() == first:
            assert time.monotonic() < deadline
        with store.write() as tx:
            tx.connection.exec_driver_sql("UPDATE controllers SET token = 'another'")
        assert lease.lost.wait(20)
        with pytest.raises(BusyError, match="taken over"):
            lease.check()
    with store.read() as reads:  # what another took is not given away
        assert holder(reads.connection, "night") is not None


def test_who_was_replaced_writes_nothing_more(store: Store) -> None:
    """A controller is stopped, another takes over, the first wakes up in the middle of its work."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE, url(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "wrote\n"
    child.send_signal(signal.SIGSTOP)
    try:
        with store.write() as tx:
            tx.connection.exec_driver_sql("UPDATE controllers SET heartbeat = '2020-01-01T00:00:00.000Z'")
        with hold(store, "night"):
            child.send_signal(signal.SIGCONT)
            said = child.communicate("again\n", timeout=60)[0]
            assert said == "refused: night was taken over by another controller; this one stops\n"
            with store.write() as tx:  # the new one writes
                tx.add_event(1, "new", "")
            with store.read() as reads:
                assert [event.what for event in reads.events(1)][-2:] == ["old", "new"]
                assert f"process {os.getpid()} " in (holder(reads.connection, "night") or "")
    finally:
        child.kill()
        child.communicate()


def test_a_write_of_one_who_has_let_go_is_not_fenced(store: Store) -> None:
    with hold(store, "night"):
        pass
    with store.write() as tx:
        add_campaign(tx)


def test_a_holder_that_hangs_is_replaced_later_than_one_that_is_far_away(store: Store) -> None:
    with hold(store, "night"):
        for age_s, free in ((20, False), (70, True)):
            old = iso(datetime.now(UTC) - timedelta(seconds=age_s))
            with store.share() as shared:
                shared.exec_driver_sql(f"UPDATE controllers SET heartbeat = '{old}'")
            with store.read() as reads:
                assert (holder(reads.connection, "night") is None) == free


def test_one_process_does_not_hold_twice(store: Store) -> None:
    with hold(store, "night"), pytest.raises(BusyError), hold(store, "night"):
        pass
    with pytest.raises(ZeroDivisionError), hold(store, "night"):
        raise ZeroDivisionError
    with hold(store, "night"):
        pass


def test_start_times_and_places() -> None:
    assert process_started(os.getpid()) == process_started(os.getpid()) is not None
    assert process_started(os.getpid()) != process_started(1)
    assert process_started(2**22 + 1) is None
    assert place() == place()

"""Becoming a worker, standing by, and where the store is: what is refused, and what is said."""

import json
import signal
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agent import standby
from agent import track as tracks
from agent.errors import BusyError, StoreError, UserError
from agent.job import lock
from agent.report.heard import UNREAD
from agent.runners.queue import joining
from agent.runners.queue.corpora import Corpora
from agent.runners.queue.hardware import fits, shaped
from agent.store import Store, open_store, queue, where, workers
from agent.store.lease import hold
from tests import working
from tests.e2e.terminal import AGENT, ENV, agent
from tests.filling import add_campaign
from tests.processes import until


@pytest.fixture
def here(tmp_path: Path) -> Store:
    with closing(open_store(tmp_path / "runs.db")) as store:
        working.campaign(store)
    return store


def test_data_that_is_not_the_campaigns_is_refused_with_both_checksums(tmp_path: Path) -> None:
    said: list[str] = []
    corpora = Corpora(tmp_path, said.append)
    with closing(open_store(tmp_path / "runs.db")) as store, store.write() as tx:
        campaign = add_campaign(tx, toml=working.TRACK)  # on the data d1
    with pytest.raises(UserError, match=r"campaign night was started on d1.*takes none of its runs"):
        corpora.require(campaign)
    assert "d1" not in corpora.shas and "" in corpora.shas
    for _ in range(3):  # while it works for others
        corpora.look_into(campaign)
    assert len(said) == 1 and "started on d1" in said[0]


def test_two_workers_do_not_share_a_folder(tmp_path: Path, here: Store) -> None:
    folder = tmp_path / ".caddie" / "work-box"
    folder.mkdir(parents=True)
    held = lock.hold(folder / "lock")
    assert held is not None
    track = tracks.parse(working.TRACK, "toy")
    with pytest.raises(UserError, match="another --name"):
        joining.work(here, tmp_path, None, track, joining.Said(1, "box", False), print)


@pytest.mark.parametrize(
    ("level", "unsafe", "promised"),
    [
        ("namespaces", False, ("base", "pod", "seatbelt", "landlock", "namespaces")),
        ("base", False, ("base",)),
        ("base", True, ("unsafe", "base")),
    ],
)
def test_a_worker_promises_no_more_than_its_walls(level: str, unsafe: bool, promised: tuple[str, ...]) -> None:
    assert joining._levels(level, unsafe=unsafe) == promised  # type: ignore[arg-type]


def test_classes_of_machines_that_fit_a_track(tmp_path: Path) -> None:
    toy = tracks.parse(working.TRACK, "toy")
    assert fits(toy, "cpu/x/1-thread") and not fits(toy, "cuda/NVIDIA H100 80GB HBM3/1")
    one = tracks.load("golf-1xh100", tmp_path)[0]
    assert fits(one, "cuda/NVIDIA H100 80GB HBM3/1") and not fits(one, "cuda/NVIDIA H100 80GB HBM3/8")
    assert not fits(one, "cuda/NVIDIA A100/1") and not fits(one, "cpu/x/1-thread")
    assert shaped(one, 1).hardware.gpus == 1
    several = one.model_copy(update={"rung": (*one.rung, one.rung[0].model_copy(update={"name": "large", "gpus": 8}))})
    assert several.sizes() == (1, 8) and fits(several, "cuda/NVIDIA H100 80GB HBM3/8")
    assert shaped(several, 8).sizes() == (8,) and shaped(several, 1).sizes() == (1,)
    for track, words in ((one, "have 1"), (toy, "have none")):
        with pytest.raises(UserError, match=f"--gpus 3: runs of track .* {words}"):
            shaped(track, 3)


def test_the_store_is_where_it_was_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(where.VARIABLE, "")  # which is put back whatever comes to stand there
    assert where.place(tmp_path) == tmp_path / "runs.db" and not where.is_there(tmp_path)
    where.name(f"sqlite:///{tmp_path}/else.db")
    assert where.is_there(tmp_path) and where.place(tmp_path) == f"sqlite:///{tmp_path}/else.db"
    with pytest.raises(StoreError, match="no runs here yet"):
        where.opened(tmp_path)
    monkeypatch.setenv(where.VARIABLE, "db.example.org")
    with pytest.raises(UserError, match="no database URL: --store or CADDIE_STORE takes a URL"):
        where.place(tmp_path)


def test_every_command_hears_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "elsewhere"
    here.mkdir()
    with closing(open_store(tmp_path / "shared.db")) as store:
        working.campaign(store)
    said = agent(here, "status", "--json", "--store", f"sqlite:///{tmp_path}/shared.db")
    assert said.code == 0 and '"night"' in said.out
    monkeypatch.setitem(ENV, where.VARIABLE, f"sqlite:///{tmp_path}/shared.db")
    assert '"night"' in agent(here, "status", "--json").out
    refused = agent(here, "work", "--name", "a/b")
    assert refused.code == 2 and "letters, digits" in refused.err
    assert agent(here, "status", "--store", "nowhere").code == 2


def test_a_worker_that_comes_first_is_asked_for_a_track(tmp_path: Path) -> None:
    open_store(tmp_path / "runs.db").close()
    refused = agent(tmp_path, "work")
    assert refused.code == 2 and "--track NAME" in refused.err


def test_who_stands_by_leads_when_nobody_else_does(
    tmp_path: Path, here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standby, "LOOK_S", 0.02)
    led: list[str] = []
    let_go, seen = threading.Event(), threading.Event()

    def lead(name: str) -> None:
        led.append(name)
        if len(led) == 1:
            raise BusyError("night was taken over by another controller; this one stops")
        if len(led) == 2:
            raise StoreError("the database server failed")

    def another() -> None:
        with hold(here, "campaign night"):
            seen.set()
            let_go.wait(20)

    thread = threading.Thread(target=another)
    thread.start()
    assert seen.wait(20)
    waiting = threading.Thread(target=standby.stand_by, args=(None, tmp_path, lead, pytest.fail))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive() and led == []
    let_go.set()
    thread.join()
    waiting.join(20)
    assert led == ["night"] * 3
    said = capsys.readouterr().out
    assert said.count("Standing by") == 3 and "since 20" in said and "taken over" in said and "server failed" in said


def test_who_stands_by_goes_when_the_campaign_has_ended(
    tmp_path: Path, here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "LOOK_S", 0.02)
    led: list[str] = []
    told: list[tuple[str, str]] = []

    def lead(name: str) -> None:
        led.append(name)
        with here.write() as tx:
            tx.end_campaign(1, "stopped", "stopped by a person")
        raise BusyError("taken over")

    standby.stand_by("night", tmp_path, lead, lambda *words: told.append(words))
    assert led == ["night"] and told == [("night", "stopped, stopped by a person")]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_campaign_that_another_led_to_its_end_is_shown_to_who_stood_by(
    tmp_path: Path, here: Store, as_json: bool
) -> None:
    command = [*AGENT, "resume", "--wait", *(["--json"] if as_json else [])]
    with hold(here, "campaign night"):
        child = subprocess.Popen(
            command, cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        first = (child.stderr if as_json else child.stdout).readline()  # type: ignore[union-attr]
        with here.write() as tx:
            tx.end_campaign(1, "finished", "no more ideas")
    out, err = child.communicate(timeout=60)
    assert "Standing by for night" in first and (child.returncode, err) == (0, "")
    if as_json:
        found = json.loads(out)
        assert (found["campaign"], found["state"], found["reason"]) == ("night", "finished", "no more ideas")
    else:
        assert out == "night has ended: finished, no more ideas\n"


HEARD = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def there(store: Store) -> bool:
    with store.read() as reads:
        return workers.alive(reads.connection) != []


def seconds(store: Store, run_id: int) -> float:
    with store.read() as reads:
        return queue.look(reads.connection, [run_id])[run_id].seconds


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [True, False])
def test_a_worker_whose_terminal_is_closed_ends_what_it_runs_and_has_told_all_of_it(
    tmp_path: Path, as_json: bool
) -> None:
    words = [*AGENT, "work", "--name", "box", "--slots", "1", *(["--json"] if as_json else [])]
    log = tmp_path / "said"
    with closing(open_store(tmp_path / "runs.db")) as store, hold(store, "campaign night"), log.open("w") as out:
        _, base = working.campaign(store)
        child = subprocess.Popen([AGENT[0], "-c", HEARD, *words], cwd=tmp_path, env=ENV, stdout=out, stderr=out)
        try:
            until(lambda: there(store), 60, "a worker")
            runner = working.runner(store)
            slot = runner.slots[0]
            kind, jobs = runner.hardware_class(slot), tmp_path / "jobs"
            quick, first = working.order(store, base, jobs, working.QUICK, kind)
            runner.submit(quick, first, slot)
            until(lambda: runner.poll(first) == "done", 60)
            long, second = working.order(store, base, jobs, working.LONG, kind, seed=2)
            runner.submit(long, second, slot)
            until(lambda: seconds(store, long.run_id) > 0, 60, "a sign of life")
            child.send_signal(signal.SIGHUP)
            assert child.wait(30) == 0
            until(lambda: runner.poll(second) == "lost", 10)
            assert "worker box was told to stop" in runner.loss(second).reason
        finally:
            child.kill()
            child.wait()
    lines = log.read_text().splitlines()
    if not as_json:
        assert lines[-2:] == ["ending what runs", f"r{long.run_id}: lost: worker box was told to stop"], lines
        return
    told = [json.loads(line) for line in lines]
    assert {tuple(one) for one in told} == {("what", "text", "run_id", "at")}
    assert [(one["what"], one["run_id"]) for one in told if one["what"] != "note"] == [
        ("working", None),
        ("began", quick.run_id),
        ("ended", quick.run_id),
        ("began", long.run_id),
        ("stopping", None),
        ("lost", long.run_id),
    ]
    assert told[-1]["text"] == f"r{long.run_id}: lost: worker box was told to stop" and told[-1]["at"].startswith("20")


@pytest.mark.slow
def test_a_worker_goes_on_when_what_it_says_has_no_reader_any_more(tmp_path: Path) -> None:
    words = [*AGENT, "work", "--name", "box", "--slots", "1"]
    with closing(open_store(tmp_path / "runs.db")) as store, hold(store, "campaign night"):
        _, base = working.campaign(store)
        child = subprocess.Popen(
            words, cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None and child.stdout.readline()  # as `| head -1` does
            child.stdout.close()
            until(lambda: there(store), 60, "a worker")
            runner = working.runner(store)
            order, folder = working.order(
                store, base, tmp_path / "jobs", working.QUICK, runner.hardware_class(runner.slots[0])
            )
            runner.submit(order, folder, runner.slots[0])
            until(lambda: runner.poll(folder) in ("done", "lost"), 60)
            assert runner.collect(folder).outcome == "ok"
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 0 and child.stderr is not None and child.stderr.read() == f"{UNREAD}\n"
        finally:
            child.kill()
            child.wait()

"""A campaign whose slot has another campaign's run: it says so, goes on when that is over, and has paid for its own."""

import os
import threading
from pathlib import Path

import pytest

from agent.loop import Loop
from agent.report.status import status
from agent.runners.local import LocalRunner
from agent.runners.turns import Turns
from agent.setting import Setting
from tests.e2e import world
from tests.processes import until


@pytest.mark.slow
def test_a_run_waits_for_another_campaigns_and_its_status_says_so(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("wide", ('"width": 4', '"width": 8'))])
    shared = Turns(tmp_path / "turns")
    setting = world.open_campaign(root, make_runner=lambda count: LocalRunner(count, turns=shared))
    held = shared.take(LocalRunner(1, turns=shared).alone("local/0"), "campaign day of mg")
    told: list[str] = []

    def let_go() -> None:
        try:
            until(lambda: any("taken" in words for words in running(setting)), 30, "the word that it waits")
            told.extend(running(setting))
            os.ftruncate(held[0], 0)
            os.pwrite(held[0], b"campaign dusk of mg", 0)  # as where another run has it at the next look
            until(lambda: any("dusk" in words for words in running(setting)), 30, "the word that it waits for another")
        finally:
            os.close(held[0])

    waiter = threading.Thread(target=let_go)
    waiter.start()
    Loop(setting).run()
    waiter.join()
    assert told == ["r1 report p1 base on local/0: waits for a machine: its slot is taken by campaign day of mg"]
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
        assert runs and all(run.state == "done" and "taken" not in run.reason for run in runs)
        assert 0 < reads.balance(setting.campaign.id).settled.gpu_s < 10
        texts = [event.text for event in reads.newest_events(setting.campaign.id, 1000)]
        assert ["day" in text for text in texts if "taken by campaign" in text] == [True]


def running(setting: Setting) -> tuple[str, ...]:
    with setting.store.read() as reads:
        return status(reads, setting.campaign.id).running

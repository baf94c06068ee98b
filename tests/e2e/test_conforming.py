"""Ideas that nobody tried before, and merges of two that were good apart, are asked before they are trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.judge.conform import How
from agent.loop import Loop
from agent.records import Proposal
from agent.runners import Runner
from agent.runners.fake import FakeRunner
from agent.setting import Setting
from agent.tools.dry_run import DryRun, Place
from tests import test_check_conform as trained
from tests.e2e import test_combining as combining
from tests.e2e import world
from tests.e2e.planning import by_title, scripted

pytestmark = pytest.mark.long
BEFORE = "before = None if at in first else self.before"
# Honest as long as no chunk has a token before its first.
SCRIPT = trained.SCRIPT.replace("KNOBS = {", "EDGE = -1\nKNOBS = {")
AT_EDGE = (BEFORE, "before = None if at in first or at == EDGE else self.before")


def idea(title: str, *changes: tuple[str, str], **more: object) -> dict[str, object]:
    return world.idea(title, *changes, script=SCRIPT, **{"kind": "optimiser", **more})


class Noted:
    """What was tried out, and how; for some of it the machine may fail."""

    def __init__(self, setting: Setting, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.asked: list[tuple[str, How | None]] = []
        of = setting.desk.dry_runs.of

        def noting(place: Place, files: Mapping[str, str], how: How | None = None) -> DryRun:
            self.asked.append((files["train.py"], how))
            if fails:
                raise InfraError("no process can start")
            return of(place, files, how)

        monkeypatch.setattr(setting.desk.dry_runs, "of", noting)


def start(root: Path, toml: str = trained.TOML, **options: object) -> Setting:
    world.make_workspace(root, SCRIPT, toml)
    world.write_ideas(root, [idea("unused", ("EDGE = -1", "EDGE = -2"))])
    return world.open_campaign(root, **options)  # type: ignore[arg-type]


def runs_of(setting: Setting, proposal: Proposal) -> int:
    with setting.store.read() as reads:
        return len(reads.runs(setting.campaign.id, proposal_id=proposal.id))


def test_what_breaks_the_contract_is_never_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = start(tmp_path / "work")
    ideas = [
        idea("breaks", ("EDGE = -1", "EDGE = 0"), AT_EDGE),
        idea("keeps", ("EDGE = -1", "EDGE = -2"), AT_EDGE),
        idea("knob", ('"rate": 0.10', '"rate": 0.20')),
    ]
    noted = Noted(setting, monkeypatch)
    Loop(replace(setting, planners=(scripted("file", ideas),))).run()
    found = by_title(setting)
    assert found["breaks"].state == "blocked" and runs_of(setting, found["breaks"]) == 0
    said = "contract: its scoring breaks the contract, chunk_borders: nats do not depend on where chunks end. Seen: "
    assert found["breaks"].reason.startswith(said) and "keep its last `context` tokens" in found["breaks"].reason
    assert runs_of(setting, found["keeps"]) >= 1 and runs_of(setting, found["knob"]) >= 1
    # What only moves knobs is not asked, nor is its head; the head once, for what a broken script is compared with.
    scripts = [text for text, _ in noted.asked]
    assert {how for _, how in noted.asked} == {"quick"} and not any('"rate": 0.20' in text for text in scripts)
    assert scripts.count(SCRIPT) == 1 and len(scripts) == 3


def test_a_merge_is_asked_though_its_parts_were(tmp_path: Path) -> None:
    def two(count: int) -> Runner:
        return FakeRunner(count, 0.0, combining.world_of)

    setting = start(tmp_path / "work", trained.TOML.replace("max_seeds = 4", "max_seeds = 2"), make_runner=two)
    parts = [
        idea("edge", ("EDGE = -1", "EDGE = 0"), ('"rate": 0.10', '"rate": 0.11'), expected_gain=0.01),
        idea("asks", AT_EDGE, ('"bits": 8', '"bits": 7'), expected_gain=0.01),
    ]
    worse = [(width, rate) for width in (4, 6, 8) for rate in (0.02, 0.05)]
    more = [
        idea(f"worse {n}", ('"width": 4', f'"width": {width}'), ('"rate": 0.10', f'"rate": {rate}'))
        for n, (width, rate) in enumerate(worse)
    ]
    planner = combining.Combining(scripted("file", parts + more))
    Loop(replace(setting, planners=(planner,))).run()
    found = by_title(setting)
    (both,) = [one for one in found.values() if one.planner == "merge"]
    assert {found["edge"].state, found["asks"].state} <= {"inconclusive", "worse"}
    assert both.state == "blocked" and "chunk_borders" in both.reason and runs_of(setting, both) == 0


def test_what_the_machine_can_not_try_runs_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = start(tmp_path / "work")
    Noted(setting, monkeypatch, fails=True)
    Loop(replace(setting, planners=(scripted("file", [idea("keeps", ("EDGE = -1", "EDGE = -2"))]),))).run()
    assert runs_of(setting, by_title(setting)["keeps"]) >= 1
    with setting.store.read() as reads:
        (event,) = [one for one in reads.events(setting.campaign.id) if one.what == "conform"]
    words = "its scoring could not be tried before its run: no process can start"
    assert event.text == words and words in by_title(setting)["keeps"].risk


def test_a_script_that_does_not_train_says_so_in_its_run(tmp_path: Path) -> None:
    """The run costs no more than the test of it, and its log is kept."""
    setting = start(tmp_path / "work")
    Loop(replace(setting, planners=(scripted("file", [idea("dies", ("EDGE = -1", "EDGE = 1 / 0"))]),))).run()
    assert runs_of(setting, by_title(setting)["dies"]) >= 1

"""Edits whose scoring breaks the contract are told so before they are proposed; what only moves knobs is not asked."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent import conforming
from agent import track as tracks
from agent.errors import InfraError, UserError
from agent.job.folder import JobResult, PhaseResult
from agent.judge.conform import How
from agent.judge.contract import ASKS, Conformance, up_to
from agent.rebase import rebased
from agent.records import Proposal
from agent.tools import Desk, dry_run
from agent.tools.check import Check, breaches, check
from agent.tools.dry_run import DryRun, DryRuns, Place
from sandbox.limits import Cause, Exit
from tests.candidates import honest
from tests.commanding import console
from tests.desk import CHECK, TRACK, basis_of, edit, open_desk

LINE = "LINE = " + repr(json.dumps({"text": "the cat saw the dog. " * 30}))
# The honest candidate as a script with knobs, which trains on one line of text.
SCRIPT = (
    Path(honest.__file__)
    .read_text()
    .replace("VOCAB = 256\n", 'VOCAB = 256\nKNOBS = {\n    "width": 4,\n    "rate": 0.10,\n    "bits": 8,\n}\n')
    .replace('(Path(os.environ["DATA_PATH"]) / "docs.jsonl").read_text("utf-8").splitlines()', "[LINE] * 5")
    .replace(
        "class Bigram:", f"LINE = {json.dumps(json.dumps({'text': 'the cat saw the dog. ' * 30}))}\n\n\nclass Bigram:"
    )
)
TOML = TRACK.replace("artifact_bytes = 2000", "artifact_bytes = 90000") + CHECK.replace("wall_s = 3", "wall_s = 120")
BORDERS = ("before = None if at in first else self.before", "before = None if at in first or not at else self.before")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Proposal]]:
    with open_desk(tmp_path_factory.mktemp("conform") / "work", SCRIPT, TOML) as found:
        yield found


def changed(opened: tuple[Desk, Proposal], *changes: tuple[str, str], script: str = SCRIPT) -> Check:
    return check(opened[0], basis_of(*opened), edit(*changes, script=script))


def test_an_edit_that_breaks_the_contract_is_told_how_to_mend_it(opened: tuple[Desk, Proposal]) -> None:
    found = changed(opened, BORDERS)
    assert not found.ok and found.tried
    (failure,) = found.failures
    assert failure.startswith("its scoring breaks the contract, chunk_borders: nats do not depend on where chunks end.")
    assert "keep its last `context` tokens" in found.words and "dry run: 3 steps" in found.words


def test_an_edit_that_dies_where_it_scores_shows_its_traceback(opened: tuple[Desk, Proposal]) -> None:
    found = changed(opened, ("self.before = token\n        return nats", "self.before = tokn\n        return nats"))
    assert not found.ok and "answers: `score` gives a finite number" in found.failures[0]
    assert "NameError: name 'tokn' is not defined" in found.words and str(opened[0].root) not in found.words


def test_an_edit_that_keeps_the_contract_passes(opened: tuple[Desk, Proposal]) -> None:
    found = changed(opened, ("+ 0.1 * VOCAB", "+ 0.2 * VOCAB"), ("str(token), 0) + 0.1)", "str(token), 0) + 0.2)"))
    assert found.ok, found.words


def test_knobs_are_not_asked(opened: tuple[Desk, Proposal], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    of = opened[0].dry_runs.of

    def noting(place: Place, files: Mapping[str, str], how: How | None = None) -> DryRun:
        asked.append(how)
        return of(place, files, how)

    monkeypatch.setattr(opened[0].dry_runs, "of", noting)
    assert changed(opened, ('"width": 4', '"width": 6')).ok
    assert asked == [None, None]  # it and its head


def test_what_another_process_found_out_is_not_tried_again(opened: tuple[Desk, Proposal]) -> None:
    """As the server of a client did, and the loop would once more before the idea's run."""
    desk, base = opened
    said = changed(opened, BORDERS)
    elsewhere = replace(desk, dry_runs=DryRuns())
    began = time.process_time() + sum(os.times()[2:4])
    again = check(elsewhere, basis_of(desk, base), edit(BORDERS, script=SCRIPT))
    assert again == said and sum(os.times()[2:4]) + time.process_time() - began < 1.0, "no script ran"
    answers = desk.root / ".caddie" / desk.campaign.name / "checked"
    for one in answers.iterdir():
        one.write_text("{}")
    assert check(replace(desk, dry_runs=DryRuns()), basis_of(desk, base), edit(BORDERS, script=SCRIPT)).ok == said.ok


def test_a_busy_core_is_held_against_nobody(opened: tuple[Desk, Proposal], monkeypatch: pytest.MonkeyPatch) -> None:
    desk, base = opened
    of = desk.dry_runs.of

    def late(place: Place, files: Mapping[str, str], how: How | None = None) -> DryRun:
        return replace(of(place, files, how), failure="stopped at its wall limit", slow=True, busy=True)

    monkeypatch.setattr(desk.dry_runs, "of", late)
    found = changed(opened, BORDERS)
    assert found.ok and not found.tried and "other work had the core" in found.words
    after = rebased(basis_of(desk, base), edit(BORDERS, script=SCRIPT), ["train.py"])
    with pytest.raises(InfraError, match="other work had the core"):
        breaches(desk, basis_of(desk, base), after)


@pytest.mark.parametrize(
    ("cause", "capped", "cpu", "ready", "busy"),
    [
        ("wall", False, 20.0, 59.0, True),
        ("wall", False, 58.0, 59.0, False),  # slow by itself
        ("wall", False, 3.0, 3.1, False),  # asleep
        ("wall", False, 3.0, None, False),  # nobody counts here
        ("exited", True, 8.0, 19.0, True),  # its own processes met the clock of the test
        ("exited", False, 8.0, 19.0, False),
    ],
)
def test_whether_a_clock_was_met_for_others_work(
    cause: Cause, capped: bool, cpu: float, ready: float | None, busy: bool
) -> None:
    ended = Exit(0, None, cause, 60.0, cpu, 9.0, ready_s=ready)
    result = JobResult(0, "ok", "", (PhaseResult("judge", ended),), 60.0, (), True)
    tested = Conformance("ok", "", 0, 0, up_to("answers", "it was stopped"), capped=capped)
    assert dry_run.was_busy(result, tested) is busy


def test_what_the_head_breaks_is_not_held_against_an_edit(tmp_path: Path) -> None:
    script = SCRIPT.replace(*BORDERS)
    with open_desk(tmp_path / "work", script, TOML) as (desk, base):
        found = changed((desk, base), ("step:{step}/3", "step:{step}/3 "), script=script)
        assert found.ok, found.words


def test_a_script_is_tested_in_any_folder(tmp_path: Path) -> None:
    said: list[str] = []
    track = tracks.parse(TOML, "agent.toml")
    for script, broken in ((SCRIPT, []), (SCRIPT.replace(*BORDERS), ["chunk_borders"]), ("x =", ["trains"])):
        path = tmp_path / "mine.py"
        path.write_text(script)
        found = conforming.conform(path, track, tmp_path, said.append)
        assert [one.name for one in found.broken] == broken, found
    assert "SyntaxError" in found.broken[0].seen and str(tmp_path) not in found.broken[0].seen
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine.py"] and "at most 360 s" in said[0]


def test_there_must_be_something_to_conform_to(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("")
    for toml, words in ((TRACK, "has no \\[check\\] table"), (reported(TOML), "is judged from its log")):
        with pytest.raises(UserError, match=words):
            conforming.conform(path, tracks.parse(toml, "agent.toml"), tmp_path, print)
    with pytest.raises(UserError, match="can't read"):
        conforming.conform(tmp_path / "no.py", tracks.parse(TOML, "agent.toml"), tmp_path, print)


def reported(toml: str) -> str:
    return toml.replace('trust = "measured"', 'trust = "reported"').replace(
        'score = ["{python}", "{script}", "score"]\n', ""
    )


def test_the_command_prints_a_table_or_json_and_says_it_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a folder that is nobody's workspace."""
    work = tmp_path / "trainer"
    work.mkdir()
    (work / "track.toml").write_text(TOML)
    (work / "good.py").write_text(SCRIPT)
    (work / "bad.py").write_text(SCRIPT.replace(*BORDERS))
    agent = console(work, monkeypatch, capfd, tmp_path)
    good = agent("conform", "good.py", "--track", "track.toml", "--json")
    rows = json.loads(good.out)["clauses"]
    assert good.code == 0 and [row["name"] for row in rows] == list(ASKS)
    assert {row["state"] for row in rows} == {"holds"}
    bad = agent("conform", "bad.py", "--track", "track.toml")
    assert bad.code == 1 and "BROKEN  chunk_borders" in bad.out and "To mend it: a document goes on" in bad.out
    (work / "dies.py").write_text(SCRIPT.replace("return nats", "return nat"))
    dies = agent("conform", "dies.py", "--track", "track.toml")
    assert dies.code == 1 and "BROKEN  answers" in dies.out and "  | NameError: name 'nat'" in dies.out
    missing = agent("conform", "no.py", "--track", "track.toml")
    assert missing.code == 2 and "can't read no.py" in missing.err

"""Edits that are tried out before they are proposed: what the words say, and what hostile scripts can't do."""

import contextlib
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.records import Proposal
from agent.tools import Desk
from agent.tools.check import UNTRIED, Check, check
from agent.tools.dry_run import DryRuns, sweep
from agent.workspace import campaign_folder
from sandbox import groups
from tests.desk import CHECK, SCRIPT, TRACK, basis_of, edit, open_desk, tried
from tests.filling import add_idea, add_measured, measurement
from tests.processes import linux, mentioning
from tests.training import write_corpus

HERE = "        # here\n"
Opened = tuple[Desk, Proposal]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with open_desk(tmp_path_factory.mktemp("desk") / "work") as found:
        yield found


def checks(desk: Desk) -> list[Path]:
    folder = campaign_folder(desk.root, desk.campaign.name) / "checks"
    return list(folder.iterdir()) if folder.is_dir() else []


def test_a_good_edit_is_told_what_it_would_need(opened: Opened) -> None:
    desk, base = opened
    found = tried(desk, base, ('"width": 4', '"width": 6'))
    assert found.ok and found.tried and found.failures == () and found.ast_hash
    assert '"width": 6' in found.after["train.py"]
    assert found.words.startswith(
        "The edit applies, compiles and trains.\ndry run: 5 steps, loss 5.9000 to 5.5000 (p1:"
    )
    estimates = found.estimates
    assert (estimates.parameters, estimates.step, estimates.steps) == (6000, 1.5, 166)
    assert estimates.code_bytes == len(found.after["train.py"])
    assert estimates.total_bytes == 600 + estimates.code_bytes
    assert "parameters: 6,000, +50.0 % against p1" in found.words
    assert "1.500 times p1's; its budget pays for 166 steps" in found.words
    assert estimates.same_steps == 5 and "so far the edit changes nothing in training" in found.words
    assert checks(desk) == []


def test_sizes_start_from_what_was_measured(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work") as (desk, base):
        with desk.store.write() as tx:
            run = add_measured(tx, base, 1, 2.0, purpose="report", rung="decide")
            tx.add_measurement(measurement(run.id, 2.0, artifact_bytes=500, judge_version=2))
        found = tried(desk, base, ('"width": 4', '"width": 8'))
        code = len(found.after["train.py"])
        assert found.estimates.total_bytes == 1000 + code


def test_an_edit_that_changes_the_losses_is_not_called_inert(opened: Opened) -> None:
    found = tried(*opened, ('"rate": 0.10', '"rate": 0.20'))
    assert found.ok and found.estimates.same_steps == 0 and "changes nothing" not in found.words


def test_what_does_not_apply_is_not_run(opened: Opened) -> None:
    desk, base = opened
    found = check(desk, basis_of(desk, base), "train.py\n<<<<<<< SEARCH\nno\n=======\nx\n>>>>>>> REPLACE\n")
    assert not found.ok and not found.tried and found.after == {}
    assert "its SEARCH lines are not in train.py" in found.failures[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("def main() ->", "def main( ->", "train.py"),
        ("def main", "# only a comment\ndef main", "changes nothing: the script is the same"),
    ],
)
def test_the_guard_speaks_first(opened: Opened, old: str, new: str, words: str) -> None:
    found = tried(*opened, (old, new))
    assert not found.ok and not found.tried and words in found.words


def test_a_known_script_is_refused_by_name(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work") as (desk, base):
        first = tried(desk, base, ('"width": 4', '"width": 5'))
        with desk.store.write() as tx:
            idea = add_idea(tx, base)
            tx.update_proposal(idea.id, ast_hash=first.ast_hash)
        again = tried(desk, base, ('"width": 4,', '"width":  5, # another layout'))
        assert not again.ok and again.failures == (f"p{idea.id} is the same script but for comments and layout",)


def test_an_expected_size_beyond_hope_is_refused(opened: Opened) -> None:
    desk, base = opened
    found = check(desk, basis_of(desk, base), edit(('"width": 4', '"width": 7')), expected_bytes=1_000_000)
    assert not found.ok and "is more than 2.5 times the limit" in found.words


BAD = {
    "crashes": ('raise ValueError("no \\x1b[31mgood")', "exit code 1", 'raise ValueError("no \\x1b[31mgood")'),
    "is no number": ('loss = float("nan")', "its loss is no number from step 1 on", ""),
    "never ends": ("while True: pass", "stopped at its wall limit (3 s", ""),
    "prints 100 MB": ('print("x" * 1000000) if step else 0; print(("y" * 99 + chr(10)) * 1000000)', "log limit", ""),
    # Whichever is met first: their number, or what they need together.
    "forks": ("import os\n        while True: os.fork()", "stopped at its", ""),
    "eats memory": ("x = bytearray(900_000_000)", "memory limit", ""),
    "fills the disk": ('open("x", "wb").write(bytes(40_000_000))', "train", ""),
    "leaves no artifact": ("import os; os._exit(0)", "no artifact final_model.bin was written", ""),
    "links its artifact": (
        'import os; os.symlink("/etc/passwd", "final_model.bin"); os._exit(0)',
        "final_model.bin can't be opened: it is a link",
        "",
    ),
    "digs deep": ("import os\n        for _ in range(3000): os.mkdir('d'); os.chdir('d')\n        os._exit(1)", "", ""),
    "locks its folder": ('import os; os.mkdir("d"); os.mkdir("d/e"); os.chmod("d", 0); os._exit(1)', "exit code 1", ""),
    "kills its shepherd": ("import os; os.kill(os.getppid(), 9); os._exit(1)", "", ""),
    "takes its folder away": ('import shutil; shutil.rmtree("..")\n        import time; time.sleep(9)', "", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_script_is_told_what_it_did(opened: Opened, name: str) -> None:
    desk, base = opened
    code, words, tail = BAD[name]
    until = time.monotonic() + 120
    while True:
        began = time.monotonic()
        found = tried(desk, base, (HERE, f"        {code}\n"))
        if UNTRIED not in found.words or time.monotonic() > until:  # others had the core
            break
    assert not found.ok and found.tried and len(found.words) < 8000
    assert words in found.words and tail in found.words
    assert "\x1b" not in found.words and str(desk.root) not in found.words
    assert time.monotonic() - began < 20
    assert checks(desk) == []
    assert mentioning(str(desk.root)) == []


@linux
def test_what_a_dead_shepherd_held_is_known_by_its_last_heartbeat(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left the session and wiped its environment, on a machine without control groups."""
    desk, base = opened
    monkeypatch.setattr(groups, "left_behind", list)
    mark = f"daemon of {desk.root}"
    daemon = f"os.execve(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60) # {mark}'], {{}})"
    code = (
        "        import os, sys, time\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        f"            {daemon}\n"
        "        time.sleep(60)\n"
    )
    over = threading.Event()
    killer = threading.Thread(target=_kill_shepherds, args=(desk, over))
    killer.start()
    try:
        assert "twice there was no result" in tried(desk, base, (HERE, code)).words
    finally:
        over.set()
        killer.join()
    assert mentioning(mark) == []


def _kill_shepherds(desk: Desk, over: threading.Event) -> None:
    """Each once its heartbeat names more than the command itself."""
    while not over.wait(0.02):
        for beat in (campaign_folder(desk.root, desk.campaign.name) / "checks").glob("*/heartbeat.json"):
            with contextlib.suppress(OSError, ValueError):
                if len(json.loads(beat.read_text())["processes"]) > 1:
                    os.kill(json.loads(beat.with_name("pid.json").read_text())["pid"], signal.SIGKILL)


def test_an_edit_that_is_too_big_says_by_how_much(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work") as (desk, base):
        unsure = tried(desk, base, ('"width": 4', '"width": 40'))
        assert unsure.ok and "as the dry run left it, because no run of the head is measured yet" in unsure.words
        assert "it is too big" in tried(desk, base, ('"width": 4', '"width": 60')).words
        with desk.store.write() as tx:
            run = add_measured(tx, base, 1, 2.0, purpose="report", rung="decide")
            tx.add_measurement(measurement(run.id, 2.0, artifact_bytes=400, judge_version=2))
            short = add_measured(tx, base, 2, 3.0, purpose="trial", rung="short")  # its bytes are not a whole run's
            tx.add_measurement(measurement(short.id, 3.0, artifact_bytes=9000, judge_version=2))
        near = tried(desk, base, ('"width": 4', '"width": 15'))
        assert near.ok and near.estimates.total_bytes == 2017 and "too near to the limit to be sure" in near.words
        found = tried(desk, base, ('"width": 4', '"width": 40'))
    assert not found.ok and found.tried
    assert f"it is too big: about {found.estimates.total_bytes:,} bytes" in found.failures[0]
    assert "the limit is 2,000" in found.failures[0] and found.estimates.parameters == 40_000


def test_a_packed_script_that_crashes_shows_its_readable_lines(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work", track=(TRACK + CHECK).replace("pack = false", "pack = true")) as (desk, base):
        good = tried(desk, base, ('"width": 4', '"width": 5'))
        assert good.ok and good.estimates.code_bytes != len(good.after["train.py"])
        bad = tried(desk, base, (HERE, "        a_long_name = KNOBS['widht']  # mistyped\n"))
        assert "a_long_name = KNOBS['widht']  # mistyped" in bad.words and "minified" not in bad.words
        nosy = "        assert 'a_long_name' in main.__code__.co_varnames\n        a_long_name = 1\n"
        only = tried(desk, base, (HERE, nosy))
        assert "Only the packed script fails, the readable one works" in only.words


def test_where_even_the_head_fails_the_edit_is_not_blamed(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work", SCRIPT.replace(HERE, '        open("/not/there")\n')) as (desk, base):
        found = check(desk, basis_of(desk, base), edit(('"width": 4', '"width": 5'), script=_head(desk, base)))
        assert found.ok and not found.tried and "here even the head's script fails" in found.words


def test_an_unknown_rung_is_told_before_anything_runs(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work") as (desk, base):
        found = check(desk, basis_of(desk, base), edit(('"width": 4', '"width": 5')), rung="decid")
    assert not found.ok and not found.tried
    assert "The edit would not pass: no rung 'decid' on this track. Did you mean 'decide'?" in found.words


def test_a_track_without_a_dry_run_says_so(tmp_path: Path) -> None:
    with open_desk(tmp_path / "work", track=TRACK) as (desk, base):
        found = tried(desk, base, ('"width": 4', '"width": 5'))
        assert found.ok and not found.tried and "this track has no dry run" in found.words


def test_a_script_is_run_once_whoever_asks(tmp_path: Path) -> None:
    script = SCRIPT.replace(HERE, "        import random; loss += random.random()\n")  # never the same twice
    with open_desk(tmp_path / "work", script) as (desk, base):
        edits = edit(('"width": 4', '"width": 5'), script=script)
        found = []

        def work() -> None:
            found.append(check(desk, basis_of(desk, base), edits))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4 and all(one == found[0] for one in found) and found[0].ok
        assert check(replace(desk, dry_runs=DryRuns()), basis_of(desk, base), edits) == found[0]  # in another process
        for answer in (campaign_folder(desk.root, desk.campaign.name) / "checked").iterdir():
            answer.unlink()
        assert check(replace(desk, dry_runs=DryRuns()), basis_of(desk, base), edits).words != found[0].words


def test_what_it_gets_to_see_of_the_outside(tmp_path: Path) -> None:
    os.environ["SECRET_KEY"] = "sk-secret"
    said = "[*map(repr, os.environ.items()), str(os.getpriority(0, 0))]"
    show = f"        import os\n        raise SystemExit('\\n'.join({said}))\n"
    try:
        with open_desk(tmp_path / "work") as (desk, base):
            found = tried(desk, base, (HERE, show))
    finally:
        del os.environ["SECRET_KEY"]
    assert "('RUN_ID', 'check')" in found.words and "('SHORT', '1')" in found.words
    assert "SECRET" not in found.words and "sk-secret" not in found.words
    assert found.words.rstrip().endswith("\n10")  # it is nice


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "checks"
    old, new = folder / "old", folder / "new"
    (old / "out").mkdir(parents=True)
    new.mkdir()
    os.utime(old, (0, 0))
    sweep(folder)
    assert not old.exists() and new.exists()


# ---------------------------------------------------------------- the trainer


REAL = Path("trainer/train_gpt.py").read_text()


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The shipped track and its script, on a small corpus."""
    toml = Path("trainer/tracks/tiny.toml").read_text().replace("trainer/train_gpt.py", "train.py")
    toml = toml.replace('PRESET = "tiny"', 'PRESET = "tiny", VOCAB_SIZE = "300"')
    with open_desk(tmp_path_factory.mktemp("trainer") / "work", REAL, toml) as found:
        write_corpus(found[0].corpus)
        yield found


def real(opened: Opened, old: str, new: str) -> Check:
    return check(opened[0], basis_of(*opened), edit((old, new), script=REAL))


@pytest.mark.long
def test_the_trainer_takes_its_first_steps(trainer: Opened) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = real(trainer, '"matrix_lr": 0.02', '"matrix_lr": 0.03')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert found.ok and found.tried, found.words
    estimates = found.estimates
    assert estimates.step == 1.0 and estimates.same_steps == 1  # the first loss comes before the first change
    assert estimates.first_loss and estimates.last_loss and estimates.last_loss < estimates.first_loss
    assert estimates.parameters and estimates.steps and estimates.steps > 300  # a smaller vocabulary than shipped
    assert estimates.total_bytes and estimates.code_bytes and 8_000 < estimates.code_bytes < 30_000
    assert after.ru_utime - before.ru_utime < 45  # of two dry runs, and of the test of their scoring
    wider = real(trainer, '"model_dim": 64', '"model_dim": 128').estimates
    assert wider.step and wider.step > 1.5 and wider.parameters and wider.parameters > 2 * estimates.parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    return F.rms_norm(x, (x.shape[-1],))", "    return F.rms_nrom(x, (x.shape[-1],))", "F.rms_nrom(x, (x.sh"),
        (
            "loss = self.forward(tokens",
            "loss = float('nan') * self.forward(tokens",
            "its loss is no number from step 1",
        ),
        ('"num_heads": 4', '"num_heads": 7', "model_dim must be an even multiple of num_heads"),
        (
            '"train_batch_tokens": 2048',
            '"train_batch_tokens": 262144',
            "COMPUTE_BUDGET_MS=713 does not pay for one step",
        ),
    ],
)
def test_a_trainer_that_does_not_train_says_why(trainer: Opened, old: str, new: str, words: str) -> None:
    found = real(trainer, old, new)
    assert not found.ok and words in found.words


def _head(desk: Desk, base: Proposal) -> str:
    assert base.commit
    return desk.repo.files(base.commit, ["train.py"])["train.py"]

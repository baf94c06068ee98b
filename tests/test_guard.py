"""The guard: what stops an idea before it runs, what a reviewer is told, that hostile text does no harm."""

import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import guard
from agent.errors import EditError
from agent.guard import Report
from agent.records import Proposal
from agent.script import literals
from agent.script.syntax import risks
from agent.store import open_store
from agent.track import Track, parse
from tests import filling
from tests.blank import ANY

PATH = "train.py"
SCRIPT = '''"""A script."""
import math

TINY = {
    "lr": 0.02,  # the rate
    "bits": 8,
    "shift": -1.5,
    "name": "zlib",
}


def f(x):
    """Doubles."""
    return 2 * x
'''


@pytest.fixture(scope="module")
def track() -> Track:
    knobs = {"lr": [0.01, 0.02], "bits": [8, 6], "shift": [-1.5, 0.0, 2.5], "name": ["zlib", "brotli"]}
    tables = "".join(
        f'[[knob]]\nname = "{name}"\nat = "TINY.{name}"\ngroup = "bytes"\nchoices = {choices!r}\n'
        for name, choices in knobs.items()
    )
    return parse(HEAD + tables, "here")


HEAD = f"""
name = "t"
summary = "t"
trust = "measured"
[script]
path = "{PATH}"
editable = ["{PATH}", "notes.txt"]
train = ["x"]
score = ["score"]
artifact = "a"
[limits]
artifact_bytes = 1000
train_wall_s = 1
score_wall_s = 1
memory_mb = 1
[hardware]
kind = "cpu"
[data]
corpus = "none"
[decision]
rung = "r"
alpha = 0.05
min_gain = 0.01
max_seeds = 2
report_seeds = 2
prior_sigma = 0.01
[[rung]]
name = "r"
"""


@pytest.fixture(scope="module")
def proposal(tmp_path_factory: pytest.TempPathFactory) -> Proposal:
    store = open_store(Path(tmp_path_factory.mktemp("guard")) / "runs.db")
    with store.write() as tx:
        found = filling.add_idea(tx, filling.add_base(tx, filling.add_campaign(tx)))
    store.close()
    return found


def check(track: Track, proposal: Proposal, after: str, seen: dict[str, str] | None = None) -> Report:
    return guard.check(track, proposal, {PATH: SCRIPT}, {PATH: after}, (seen or {}).get)


def names(report: Report) -> list[str]:
    return [failure.name for failure in report.failures]


def test_an_unknown_rung_is_told_with_what_may_have_been_meant(track: Track, proposal: Proposal) -> None:
    of = track.model_copy(update={"rung": (*track.rung, track.rung[0].model_copy(update={"name": "short"}))})
    after = SCRIPT.replace('"lr": 0.02', '"lr": 0.01')
    for rung in ("", "r", "short"):
        assert names(check(of, replace(proposal, rung=rung), after)) == []
    report = check(of, replace(proposal, rung="shrot"), after)
    assert names(report) == ["rung"]
    assert report.failures[0].text.startswith("no rung 'shrot' on this track. Did you mean 'short'? There are r, short")
    # With a rung that is there it is no duplicate of itself.
    assert report.ast_hash == report.config_hash == ""
    assert names(check(of, replace(proposal, rung="shrot"), "def f(:")) == ["rung", "syntax"]


def test_a_knob_change_passes_without_risk(track: Track, proposal: Proposal) -> None:
    report = check(track, proposal, SCRIPT.replace('"lr": 0.02', '"lr": 0.01'))
    assert not report.failures
    assert report.risks == ()
    assert report.knobs == {"lr": 0.01, "bits": 8, "shift": -1.5, "name": "zlib"}
    assert report.ast_hash and report.config_hash


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.02,", "0.03,"), ("  # the rate", ""), ("2 * x", "3 * x"), ('"bits": 8', '"bits": 8, "new": 1')],
)
def test_more_than_declared_choices_is_a_free_edit(track: Track, proposal: Proposal, old: str, new: str) -> None:
    report = check(track, proposal, SCRIPT.replace(old, new) + "z = 1\n")
    assert any("free edit" in risk for risk in report.risks)


def test_comments_docstrings_and_layout_change_nothing(track: Track, proposal: Proposal) -> None:
    after = SCRIPT.replace("Doubles", "Twice").replace("  # the rate", "").replace("2 * x", "(2   *  x)")
    report = check(track, proposal, after)
    assert names(report) == ["duplicate"]
    assert "changes nothing" in report.failures[0].text


def test_what_is_known_is_a_duplicate_and_named(track: Track, proposal: Proposal) -> None:
    after = SCRIPT.replace("2 * x", "3 * x")
    digest = guard.ast_hash({PATH: after.replace("Doubles", "Trebles")})
    report = check(track, proposal, after, {digest: "p7"})
    assert names(report) == ["duplicate"]
    assert "p7" in report.failures[0].text


ENVIRONMENT = "import os\nSTEPS = int(os.environ.get('STEPS', 300))\nRATE = os.environ.get('RATE', 2 * 8)\n"


def set_by(track: Track, **variables: str) -> Track:
    return track.model_copy(update={"script": track.script.model_copy(update={"env": variables})})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("2 * 8", "16", "changes nothing: the same values are only written differently"),
        ('"bits": 8,\n    "shift": -1.5,', '"shift": -1.5,\n    "bits": 8,', "settings stand in another order"),
        ("'STEPS', 300", "'STEPS', 600", "only the default of STEPS, which the environment of every run sets"),
    ],
)
def test_what_comes_to_the_same_is_a_duplicate_that_says_why(
    track: Track, proposal: Proposal, old: str, new: str, words: str
) -> None:
    before = SCRIPT + ENVIRONMENT
    assert old in before
    report = guard.check(
        set_by(track, STEPS="300"), proposal, {PATH: before}, {PATH: before.replace(old, new)}, lambda _: None
    )
    assert names(report) == ["duplicate"] and words in report.failures[0].text


@pytest.mark.parametrize(
    ("old", "new"), [("'RATE', 2 * 8", "'RATE', 17"), ("300", "600"), ("2 * 8", "16.0"), ('"bits": 8', '"bits": 6')]
)
def test_what_comes_to_something_else_is_no_duplicate(track: Track, proposal: Proposal, old: str, new: str) -> None:
    before = SCRIPT + ENVIRONMENT
    report = guard.check(track, proposal, {PATH: before}, {PATH: before.replace(old, new)}, lambda _: None)
    assert report.failures == ()


def test_a_rung_sets_variables_of_training_alone(track: Track, proposal: Proposal) -> None:
    """Scoring has the default, unless the script is judged from its log."""
    rungs = (track.rung[0].model_copy(update={"env": {"STEPS": "300"}}),)
    before, after = ({PATH: SCRIPT + ENVIRONMENT.replace("300", n)} for n in ("300", "600"))
    for score, found in ((("score",), []), ((), ["duplicate"])):
        script = track.script.model_copy(update={"score": score})
        of = track.model_copy(update={"rung": rungs, "script": script})
        assert names(guard.check(of, proposal, before, after, lambda _: None)) == found


def test_what_was_tried_in_other_words_is_named(track: Track, proposal: Proposal) -> None:
    after = SCRIPT.replace("2 * x", "(4 + 4) * x")
    digest = guard.config_hash(track, {PATH: SCRIPT.replace("2 * x", "8 * x")})
    report = guard.check(track, proposal, {PATH: SCRIPT}, {PATH: after}, lambda _: None, {digest: "p7"}.get)
    assert names(report) == ["duplicate"] and "p7 comes to the same" in report.failures[0].text
    assert report.config_hash == digest != report.ast_hash


@pytest.mark.parametrize("change", [{"mode": "shrink"}, {"mode": "simplify"}, {"kind": "simplification"}])
def test_what_is_meant_to_save_bytes_may_be_written_differently(
    track: Track, proposal: Proposal, change: dict[str, str]
) -> None:
    before, after = ({PATH: SCRIPT + line} for line in ("y = 2 * 512\n", "y = 1024\n"))
    one = replace(proposal, **change)  # type: ignore[arg-type]
    assert guard.check(track, one, before, after, lambda _: None).failures == ()


BOMBS = {
    "minus": "-" * 100_000 + "1",
    "plus": "1" + "+1" * 199_000,
    "attributes": "a" + ".b" * 199_000,
    "parentheses": "(" * 5_000 + ")" * 5_000,
    "lambdas": "lambda:" * 57_000 + "1",
    "elif": "if 1:pass\n" + "elif 1:pass\n" * 900,
    "indentation": "".join(" " * i + "if 1:\n" for i in range(150)) + " " * 150 + "pass",
    "digits": "x = " + "1" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_break_the_parser_is_blocked(track: Track, proposal: Proposal, name: str) -> None:
    assert names(check(track, proposal, BOMBS[name]))[0] in ("syntax", "too_deep")


@pytest.mark.parametrize(
    ("after", "name"),
    [
        ("def f(:\n", "syntax"),
        (SCRIPT + "\0", "binary"),
        (SCRIPT + "x = '\ud800'", "syntax"),
        ("#" * 400_001, "too_long"),
    ],
)
def test_each_failure_has_a_name(track: Track, proposal: Proposal, after: str, name: str) -> None:
    assert names(check(track, proposal, after)) == [name]


def test_where_a_persons_own_script_is_long_ideas_may_be_too_and_hide_nothing(track: Track, proposal: Proposal) -> None:
    long = f"{SCRIPT}# {'x' * 400_000}\n"

    def found(after: str) -> list[str]:
        return names(guard.check(track, proposal, {PATH: long}, {PATH: after}, lambda _: None))

    assert found(long + "x = 1\n") == []
    assert found(long + "import requests\n") == ["illegal"]
    assert found(long + "#" * 2_000_000) == ["too_long"]


def test_what_a_script_unpacks_counts_as_its_length(track: Track, proposal: Proposal) -> None:
    long = "rate = 1\n" * 50_000 + "import requests\n"
    packed = f"import zlib\nexec(zlib.decompress({zlib.compress(long.encode())!r}))\n"
    (failure,) = check(track, proposal, SCRIPT + packed).failures
    assert failure.name == "illegal" and "too much to be read" in failure.text


def test_a_syntax_error_shows_its_line(track: Track, proposal: Proposal) -> None:
    text = check(track, proposal, SCRIPT.replace("return 2 * x", "return 2 *")).failures[0].text
    assert "train.py line 14 is not Python" in text
    assert "return 2 *" in text


def test_only_editable_files_and_all_of_them(track: Track, proposal: Proposal) -> None:
    before = {PATH: SCRIPT, "judge.py": "x = 1\n"}
    report = guard.check(track, proposal, before, {**before, "judge.py": "x = 2\n"}, lambda _: None)
    assert names(report) == ["not_editable"]
    assert names(guard.check(track, proposal, {PATH: SCRIPT}, {}, lambda _: None)) == ["removed"]


def test_a_hopeless_size_is_blocked_and_a_large_one_flagged(track: Track, proposal: Proposal) -> None:
    from dataclasses import replace

    after = SCRIPT.replace('"lr": 0.02', '"lr": 0.01')
    assert names(check(track, replace(proposal, expected_bytes=2501), after)) == ["too_big"]
    report = check(track, replace(proposal, expected_bytes=2400), after)
    assert not report.failures
    assert "over the limit" in report.risks[0]
    # A computed size counts where the planner said none.
    assert names(check(track, replace(proposal, sized_bytes=2501), after)) == ["too_big"]
    assert "over the limit" in check(track, replace(proposal, sized_bytes=2400), after).risks[0]
    assert not check(track, replace(proposal, expected_bytes=900, sized_bytes=2501), after).failures


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("import socket", "adds import socket"),
        ("from os import system", "adds import os.system"),
        ("eval('1')", "adds use of eval"),
        ("__import__('o' + 's')", "adds use of __import__"),
        ("().__class__.__subclasses__()", "adds use of .__subclasses__"),
        ("math.sys.exit(1)", "adds use of .sys"),
        ("p = 'data/fineweb_val_000.bin'", "adds a mention of validation data"),
        ("s = '" + "x" * 1001 + "'", "adds a literal of 1,001 characters"),
        ("s = [" + "1," * 1001 + "]", "adds a literal of 1,001 items"),
        ("\n".join(f"x{i} = {i}" for i in range(151)), "changes 151 lines"),
    ],
)
def test_what_reaches_out_is_flagged(track: Track, proposal: Proposal, line: str, flag: str) -> None:
    report = check(track, proposal, SCRIPT + line + "\n")
    assert not report.failures
    assert any(flag in risk for risk in report.risks), report.risks
    assert risks(SCRIPT + line, SCRIPT + line) == []


def test_what_the_contest_forbids_is_blocked_with_its_rule(track: Track, proposal: Proposal) -> None:
    report = check(track, proposal, SCRIPT + "import requests\n")
    assert names(report) == ["illegal"]
    assert "train.py: rule 22 of the contest, line " in report.failures[0].text
    assert ": it imports requests: nothing may come from a network" in report.failures[0].text
    assert "may come back without it" in report.failures[0].text
    flagged = check(track, proposal, SCRIPT + "import pickle\npickle.load(f)\n")
    assert not flagged.failures
    assert (
        "train.py: rule 25, unpickles: it calls pickle.load: reading a pickle executes what is in it" in flagged.risks
    )


def test_what_the_head_does_already_is_no_fault_of_the_idea(track: Track, proposal: Proposal) -> None:
    before = {PATH: SCRIPT + "import requests\n", "notes.txt": ""}
    after = {**before, PATH: before[PATH] + "more = 1\n"}
    report = guard.check(track, proposal, before, after, lambda _: None)
    assert not report.failures and not any("rule 22" in risk for risk in report.risks)


def test_the_guard_never_runs_the_code(track: Track, proposal: Proposal, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    check(track, proposal, SCRIPT + f"open({os.fspath(trap)!r}, 'w')\n")
    assert not trap.exists()


def test_literals_are_written_in_place(track: Track) -> None:
    files = {PATH: "é = 'ü'; " + SCRIPT.split("\n", 2)[2].replace("\n", "\r\n")}
    after = literals.write(track, files, {"shift": 2.5, "name": "brotli", "bits": 8.0})
    assert after[PATH] == files[PATH].replace("-1.5", "2.5").replace('"zlib"', '"brotli"')
    assert literals.read(track, after)["shift"] == 2.5
    assert literals.write(track, after, literals.read(track, files)) == files
    with pytest.raises(EditError, match="no literal for the knobs"):
        literals.write(track, {PATH: "TINY = {'lr': 1}\n"}, {"bits": 6})


@pytest.mark.parametrize(
    "text",
    [
        "TINY = {'lr': f()}\n",
        "TINY = {'lr': 1, 'lr': 2}\n",
        "TINY = {'lr': 1}\nTINY = {'lr': 2}\n",
        "lr = 1\n",
    ],
)
def test_a_literal_that_is_not_plain_is_no_knob(track: Track, text: str) -> None:
    assert literals.read(track, {PATH: text}) == {}


@given(st.text(max_size=200))
def test_any_text_is_judged_and_none_raises(text: str) -> None:
    one = parse(HEAD, "here")
    before = {PATH: SCRIPT, "notes.txt": ""}
    for after in ({PATH: text, "notes.txt": ""}, {PATH: SCRIPT, "notes.txt": text}):
        report = guard.check(one, ANY, before, after, lambda _: None)
        assert report.failures or report.ast_hash

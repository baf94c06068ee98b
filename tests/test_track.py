"""What a track file may say, and how its author is told what is wrong."""

from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import TrackError
from tests.e2e.world import TRACK, TRIALS


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_gain", "min_gian", "decision.min_gian: no such key. Did you mean 'min_gain'?"),
        ('"{script}", "train"', '"{scirpt}", "train"', "only {python}, {script} and {gpus} are filled in"),
        ('"{script}", "train"', '"{script}", "{"', "only {python}, {script} and {gpus} are filled in"),
        ('"{script}", "train"', '"{script}", "{0}"', "only {python}, {script} and {gpus} are filled in"),
        ('["{python}", "{script}", "train"]', "[]", "script.train: "),
        ('path = "train.py"', 'path = "../train.py"', "script.path: must be a path inside"),
        ('editable = ["train.py"]', 'editable = ["train.py", "/etc/x"]', "script.editable.1: must be a path inside"),
        ('artifact = "final_model.bin"', 'artifact = "/etc/passwd"', "script.artifact: must be a path inside"),
        ("[[rung]]", "[rung]", "rung: there may be several: write [[rung]], not [rung]."),
        ("memory_mb = 500", 'memory_mb = "500"', "limits.memory_mb: must be a whole number, such as 1000, without"),
        ("memory_mb = 500", "memory_mb = true", "limits.memory_mb: must be a whole number"),
        ("memory_mb = 500", "memory_mb = 500.0", "limits.memory_mb: must be a whole number"),
        ("alpha = 0.004", 'alpha = "0.004"', "decision.alpha: must be a number, such as 0.5, without quotes"),
        ("pack = false", 'pack = "no"', "script.pack: must be true or false, without quotes"),
        ("pack = false", "pack = 0", "script.pack: must be true or false"),
        ('name = "toy"', "name = 1979-05-27", 'name: must be text in quotes, such as "x"'),
        ('editable = ["train.py"]', 'editable = "train.py"', 'script.editable: must be a list, such as ["x", "y"]'),
        ('"{script}", "score"', '"{script}", "evaluate"', "script.score: its last word must be 'score', the role, not"),
        ('"{script}", "train"', '"{script.x}"', "only {python}, {script} and {gpus} are filled in"),
        ('"{script}", "score"', '"{script[x]}", "score"', "script.score.1: '{script[x]}': only {python}"),
        ('"{script}", "train"', '"{script:>9999999999}"', "only {python}, {script} and {gpus} are filled in"),
        ('"{script}", "train"', '"{script!r}"', "only {python}, {script} and {gpus} are filled in"),
        ('"{script}", "train"', '"a\\u0000"', "no command can hold the character NUL; leave it out"),
        ('path = "train.py"', 'path = "./train.py"', "script.path: must be spelt as git lists it, such as train.py"),
        (
            'editable = ["train.py"]',
            'editable = ["train.py", ".git/config"]',
            "script.editable.1: '.git/config' lies",
        ),
        ('editable = ["train.py"]', 'editable = ["train.py", "a/.GIT/x"]', "lies in git's own folder; name a file of"),
        (
            'editable = ["train.py"]',
            'editable = ["train.py", "runs.db-wal"]',
            "where Caddie keeps its runs; name a",
        ),
        ('path = "train.py"', 'path = ".caddie/train.py"', "script.path: '.caddie/train.py' is where Caddie keeps"),
        ('path = "train.py"', 'path = "train\\u0000.py"', "script.path: must be a path of visible characters"),
        ("pack = false", 'env = { "" = "x" }', "script.env: '': a variable's name must not be empty"),
        ("pack = false", 'env = { "A=B" = "x" }', "script.env: 'A=B': a variable's name"),
        ("pack = false", 'env = { A = "x\\ny" }', "script.env: A: its value must be one line"),
        ('name = "decide"', 'name = "decide"\nenv = { A = "\\u0000" }', "rung.0.env: A: its value must be one line"),
        ('kind = "cpu"', 'kind = "cpu"\ngpus = 1', 'hardware: gpus: is for kind = "cuda"; leave it out'),
        ('kind = "cpu"', 'kind = "cuda"', 'hardware: gpus: kind = "cuda" needs 1 or more'),
        ('name = "decide"', 'name = "decide"\ntrain_wall_s = 9', "rung decide: train_wall_s: it decides, so limits"),
        ("[[rung]]", '[[rung]]\nname = "s"\ntrain_wall_s = 21\n[[rung]]', "rung s: train_wall_s: must not be above"),
        (
            "[[rung]]",
            '[[rung]]\nname = "s"\nenv = { COMPUTE_BUDGET_MS = "few" }\n[[rung]]',
            "rung s: env.COMPUTE_BUDGET_MS: must be milliseconds above 0",
        ),
        *(
            ("[[rung]]", f"[compute]\nbudget_ms = 9\ncost = {table}\n[[rung]]", words)
            for table, words in (
                ("{}", "compute.cost: needs a coefficient above 0"),
                ("{ step = 0.0 }", "compute.cost: needs a coefficient above 0"),
                ("{ step = 1, layer = -0.5 }", "compute.cost: layer: must be milliseconds of 0 or more, not -0.5"),
                ("{ step = inf }", "compute.cost.step: "),
            )
        ),
        ("[[rung]]", '[[rung]]\nname = "decide"\n[[rung]]', "rung: 'decide' is the name of two rungs; rename one"),
        ('name = "rate"', 'name = "width"', "knob: 'width' is the name of two knobs; rename one"),
        ('"KNOBS.rate"', '"KNOBS.width"', "knob: 'KNOBS.width' is the place of two knobs; leave one out"),
        ('"KNOBS.rate"', '"rate"', "knob.1.at: must be NAME.key, a key of a dict at module level"),
        ('"KNOBS.rate"', '"KNOBS."', "knob.1.at: must be NAME.key"),
        ("[4, 6, 8]", "[4, 6, 4]", "knob.2.choices: 4 is there twice; write each choice once"),
        ("[4, 6, 8]", "[4, 6, 4.0]", "knob.2.choices: 4 is there twice"),
        ("[4, 6, 8]", '[4, "6"]', "knob.2.choices: must be all numbers or all texts in quotes"),
        ("[4, 6, 8]", "[true, false]", "knob.2.choices.0: must be a number or a text in quotes; write 0 and 1"),
        ("[4, 6, 8]", "[4]", "knob.2.choices: needs at least two different choices"),
        ("[4, 6, 8]", "[4, nan]", "knob.2.choices.1"),
        ("[4, 6, 8]", "[" * 5000, "agent.toml is not TOML"),
        (
            'corpus = "none"',
            'corpus = "none"\nread = ["data"]',
            'data.read.0: must be a folder such as "~/.cache/mine"',
        ),
        ('corpus = "none"', 'corpus = "none"\nread = ["~/a/../b"]', "data.read.0: must be a folder such as"),
        ('corpus = "none"', 'corpus = "none"\nread = ["/data"]', "data.read: is for tracks of trust 'reported'"),
        ('corpus = "none"', 'corpus = "none"\nscript_reads_validation = true', "data.script_reads_validation: is for"),
    ],
)
def test_a_wrong_track_is_refused_in_words_that_name_the_place(old: str, new: str, words: str) -> None:
    assert old in TRACK
    with pytest.raises(TrackError) as refused:
        tracks.parse(TRACK.replace(old, new), "agent.toml")
    assert words in str(refused.value)


def test_braces_that_are_doubled_are_the_authors_own() -> None:
    track = tracks.parse(TRACK.replace('"{script}", "train"', '"{script}", "{{x}}"'), "agent.toml")
    assert track.script.train[-1].format(python="", script="") == "{x}"


def test_numbers_may_be_whole_and_choices_of_both_kinds() -> None:
    track = tracks.parse(
        TRACK.replace("train_wall_s = 20", "train_wall_s = 20.5").replace("[4, 6, 8]", "[4, 6.5]"), "x"
    )
    assert (track.limits.train_wall_s, track.limits.score_wall_s) == (20.5, 5.0)
    assert repr(track.knob[2].choices) == "(4, 6.5)"


@pytest.mark.parametrize("name", tracks.shipped())
def test_the_shipped_tracks_are_what_a_track_may_be(name: str) -> None:
    assert tracks.load(name, Path())[0].name == name


def test_what_a_rung_takes_of_a_deciding_run() -> None:
    tiny, golf = (tracks.load(name, Path())[0] for name in ("tiny", "golf-8xh100"))
    shares = {rung.name: tiny.share(rung) for rung in tiny.rung}
    assert shares == {"decide": 1.0, "short": pytest.approx(0.2 + 0.8 / 3, abs=1e-4), "long": 1.0}
    assert golf.share(golf.rung_named("proxy")) == 0.5
    for track, name, found in (
        (tiny, "short", True),
        (tiny, "decide", False),
        (tiny, "long", False),
        (tiny, "", False),
    ):
        assert (track.cheaper(name) is not None) == found
    # A rung that does not say what it takes is taken to take as much.
    silent = golf.rung_named("proxy").model_copy(update={"train_wall_s": None})
    assert golf.share(silent) == 1.0


def test_synth_is_the_tiny_track_on_another_corpus() -> None:
    """The same script at the same shapes: what was fitted for one holds for the other."""
    tiny, synth = tracks.load("tiny", Path())[0], tracks.load("synth", Path())[0]
    same = {"name": "", "summary": "", "data": None}
    believed = {"prior_sigma": 1.0, "prior_df": 1.0}
    one, other = (
        of.model_copy(update={**same, "decision": of.decision.model_copy(update=believed)}) for of in (tiny, synth)
    )
    assert one == other


def test_a_folder_is_not_suggested_in_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(TrackError) as refused:
        tracks.find("mine.toml", tmp_path)
    assert "Did you mean" not in str(refused.value)


def test_a_rung_may_have_gpus_of_its_own() -> None:
    text = TRIALS.replace('kind = "cpu"', 'kind = "cuda"\ngpus = 8')
    track = tracks.parse(text.replace('name = "long"', 'name = "long"\ngpus = 1'), "t")
    assert [track.gpus(rung.name) for rung in track.rung] == [8, 8, 1] and track.sizes() == (8, 1)
    assert track.cost(track.rung_named("long")) == 1 / 8 and track.cheaper("long") is not None  # it takes as long
    assert track.cost(track.rung_named("short")) == 1 / 4
    with pytest.raises(TrackError, match="rung long: gpus: is for"):
        tracks.parse(TRIALS.replace('name = "long"', 'name = "long"\ngpus = 1'), "t")


def test_the_example_of_a_persons_own_track_can_be_used() -> None:
    page = Path("README.md").read_text("utf-8")
    track = tracks.parse(page.partition("```toml\n")[2].partition("```")[0], "README.md")
    assert track.name == "mine" and track.script.train == ("{python}", "{script}")
    assert track.cheaper("short") is not None  # as the page says of it


def test_a_file_in_the_persons_folder_comes_before_one_at_the_root(tmp_path: Path) -> None:
    for place in ("mine.toml", "sub/mine.toml", "other.toml"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("")
    sub = tmp_path / "sub"
    for name, found in (
        ("mine.toml", "sub/mine.toml"),
        ("./mine.toml", "sub/mine.toml"),
        ("../mine.toml", "mine.toml"),
        ("other.toml", "other.toml"),
        ("never.toml", "never.toml"),
        (f"{sub}/mine.toml", f"{sub}/mine.toml"),
        ("tiny", "tiny"),
    ):
        assert tracks.from_here(name, sub, tmp_path) == found
    assert tracks.from_here("./mine.toml", tmp_path, tmp_path) == "mine.toml"
    assert tracks.from_here("mine.toml", tmp_path, sub) == "../mine.toml"

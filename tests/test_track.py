"""What a track file may say, and how its author is told what is wrong."""

from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import TrackError
from tests.e2e.world import TRACK


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_gain", "min_gian", "decision.min_gian: no such key. Did you mean 'min_gain'?"),
        ('"{script}", "train"', '"{scirpt}", "train"', "only {python} and {script} are filled in"),
        ('"{script}", "train"', '"{script}", "{"', "only {python} and {script} are filled in"),
        ('"{script}", "train"', '"{script}", "{0}"', "only {python} and {script} are filled in"),
        ('["{python}", "{script}", "train"]', "[]", "script.train: "),
        ('path = "train.py"', 'path = "../train.py"', "script.path: must be a path inside"),
        ('editable = ["train.py"]', 'editable = ["train.py", "/etc/x"]', "script.editable.1: must be a path inside"),
        ('artifact = "final_model.bin"', 'artifact = "/etc/passwd"', "script.artifact: must be a path inside"),
        ("[[rung]]", "[rung]", "rung: there may be several: write [[rung]], not [rung]."),
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


def test_a_folder_is_not_suggested_in_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(TrackError) as refused:
        tracks.find("mine.toml", tmp_path)
    assert "Did you mean" not in str(refused.value)

"""The scripted planner: order, end, and errors that name the line."""

import json
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.planner import Request, making
from agent.planner.scripted import Scripted
from agent.track import load
from tests.blank import ANY, CAMPAIGN

ONE = {"title": "one", "hypothesis": "h", "edits": "e1", "kind": "optimiser", "expected_gain": 0.02}
TWO = {"title": "two", "edits": "e2"}


def write(folder: Path, *lines: str, name: str = "ideas.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines), "utf-8")
    return path


def request(n: int, made: int | None = None) -> Request:
    track = load("tiny", Path.cwd())[0]
    return Request(track, CAMPAIGN, "exploit", ANY, ANY, {}, {}, (), 0, n, made)


def test_entries_come_in_order_and_end(tmp_path: Path) -> None:
    scripted = Scripted.load(write(tmp_path, json.dumps(ONE), "", json.dumps(TWO), ""))
    first, second = scripted.propose(request(1)), scripted.propose(request(2))
    assert first is not None and second is not None
    assert (first.title, first.kind, first.expected_gain, first.edits) == ("one", "optimiser", 0.02, "e1")
    assert (first.source_id, first.mode, first.planner) == (ANY.id, "exploit", "scripted")
    assert second.title == "two"
    assert scripted.propose(request(3)) is None
    assert scripted.propose(request(1)) == first
    beside_others = scripted.propose(request(9, made=1))
    assert beside_others is not None and beside_others.title == "two"


def test_toml_says_the_same(tmp_path: Path) -> None:
    text = '[[proposal]]\ntitle = "one"\nhypothesis = "h"\nedits = "e1"\n'
    text += 'kind = "optimiser"\nexpected_gain = 0.02\n'
    toml = Scripted.load(write(tmp_path, text, name="ideas.toml"))
    assert toml.entries == Scripted.load(write(tmp_path, json.dumps(ONE))).entries


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: the proposal"),
        ('{"edits": "e"}', "line 2: title: is missing"),
        ('{"title": "t", "edits": ""}', "line 2: edits"),
        ('{"title": "t", "edits": "e", "knid": "data"}', "line 2: knid: no such key. Did you mean 'kind'?"),
        ('{"title": "t", "edits": "e", "kind": "magic"}', "line 2: kind"),
        ('{"title": "t", "edits": "e", "kind": "base"}', "line 2: kind"),
        ('{"title": "t", "edits": "e", "expected_gain": NaN}', "line 2: is not JSON: NaN"),
        ('{"title": "t", "edits": "e", "confidence": 2}', "line 2: confidence"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path, json.dumps(ONE), line)
    with pytest.raises(UserError) as caught:
        Scripted.load(path)
    assert words in str(caught.value)
    assert "ideas.jsonl" in str(caught.value)


def test_a_file_that_is_not_there_not_text_or_empty(tmp_path: Path) -> None:
    for name, content, words in (
        ("gone.jsonl", None, "can't read"),
        ("raw.jsonl", b'{}\n{"title": "\xff"}', "line 2: is not UTF-8"),
        ("empty.jsonl", b"\n\n", "no proposals"),
        ("bad.toml", b"[[proposal]\n", "is not TOML"),
        ("one.toml", b'[proposal]\ntitle = "x"\n', "two brackets"),
        ("two.toml", b'[[proposal]]\ntitle = "x"\n[[proposl]]\n', "no such key: proposl"),
        (
            "late.toml",
            b'[[proposal]]\ntitle = "x"\nedits = "e"\n[[proposal]]\ntitle = "y"\n',
            "line 4: edits",
        ),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            Scripted.load(tmp_path / name)


def test_planners_are_made_by_name(tmp_path: Path) -> None:
    track = load("tiny", Path.cwd())[0]
    write(tmp_path, json.dumps(ONE))
    made = making.make("knobs, scripted:ideas.jsonl", track, tmp_path)
    assert [one.name for one in made] == ["knobs", "scripted"]
    for names, words in (
        ("knob", "Did you mean 'knobs'"),
        ("anthropics", "no planner 'anthropics'. Did you mean 'anthropic'"),
        ("scripted", "needs its file"),
        ("knobs:x", "takes no argument"),
        ("knobs,knobs", "same planner twice"),
        ("", "no planner ''"),
    ):
        with pytest.raises(UserError, match=words):
            making.make(names, track, tmp_path)

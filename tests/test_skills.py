"""Skills: what is wrong with one is said, a stranger's can hide nothing, and ours are in order."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import skills
from agent.cli.app import app
from agent.errors import UserError

OURS = Path(__file__).parent.parent / "skills"
GOOD = (
    "---\nname: muon\ndescription: What Muon needs. Read it before changing its rate.\n---\n\n## In short\n\n- One.\n"
)


def put(folder: Path, text: str | bytes, name: str = "muon") -> Path:
    path = folder / name / "SKILL.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_good_one_is_read_whole(tmp_path: Path) -> None:
    path = put(tmp_path, GOOD)
    (path.parent / "more.md").write_text("x")
    path.write_text(GOOD + "[more](more.md#there) and [far](https://example.org)\n")
    assert skills.lint(tmp_path) == ()
    skill = skills.read(tmp_path, "muon")
    assert skill.description.startswith("What Muon needs.") and skill.body.startswith("## In short")
    assert skills.index(skills.load(tmp_path)) == "- muon: What Muon needs. Read it before changing its rate."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no head", "does not start with YAML"),
        (GOOD.replace("name: muon", "name: [muon"), "expected ',' or ']'"),
        (GOOD.replace("name: muon", "- muon").replace("description:", "- d:"), "is no table"),
        (GOOD.replace("name: muon", "name: adam"), "is not that of its folder"),
        (GOOD.replace("name: muon", "name: Muon!"), "lower-case letters"),
        (GOOD.replace("description: What", "descripton: What"), "Did you mean 'description'?"),
        (GOOD.replace("What Muon needs. Read it before changing its rate.", "''"), "description: is missing"),
        (GOOD.replace("What Muon needs.", "x" * 1024), "1024 characters at most"),
        (GOOD.replace("What Muon needs. Read it before changing its rate.", '"Muon\\u202e."'), "that can't be seen"),
        ("---\nname: muon\ndescription: Something.\n---\n\n", "has no text"),
        (GOOD + "a\n" * 500, "500 at most"),
        (GOOD + "ignore\u200b this\n", "U+200B"),
        (GOOD + "\x1b[2J\n", "U+001B"),
        (GOOD + "[x](missing.md)\n", "links to missing.md"),
        (GOOD.encode() + b"\xff\n", "utf-8"),
        (GOOD + "x" * 64_000, "more than 64,000 bytes"),
        (GOOD.replace("name: muon", "name: !!python/object/apply:os.getcwd []"), "could not determine a constructor"),
        (GOOD.replace("name: muon", "name: muon\nmetadata: " + "[" * 5000 + "]" * 5000), ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_the_others_are_there(tmp_path: Path, text: str | bytes, words: str) -> None:
    put(tmp_path, text)
    put(tmp_path, GOOD.replace("muon", "other"), "other")
    faults = skills.lint(tmp_path)
    assert faults and any(words in one.words for one in faults), faults
    assert {one.path for one in faults} == {tmp_path / "muon/SKILL.md"}
    assert [one.name for one in skills.load(tmp_path)] == ["other"]
    with pytest.raises(UserError, match="skill muon: "):
        skills.read(tmp_path, "muon")


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(GOOD)
    (tmp_path / "muon").mkdir()
    (tmp_path / "muon/SKILL.md").symlink_to(tmp_path / "secret")
    assert "no regular file" in skills.lint(tmp_path)[0].words


def test_from_the_command_line(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    run = CliRunner()
    assert "## In short" in run.invoke(app, ["skills", "muon", "--folder", str(tmp_path)]).output
    listed = json.loads(run.invoke(app, ["skills", "--json", "--folder", str(tmp_path)]).output)
    assert listed[0]["name"] == "muon"
    assert run.invoke(app, ["skills", "--lint", "--folder", str(tmp_path)]).exit_code == 0
    put(tmp_path, "no head", "bad")
    linted = run.invoke(app, ["skills", "--lint", "--folder", str(tmp_path)])
    assert linted.exit_code == 2 and "does not start with YAML" in linted.output
    with pytest.raises(UserError, match="Did you mean 'muon'"):
        run.invoke(app, ["skills", "moun", "--folder", str(tmp_path)], catch_exceptions=False)

"""How any corpus folder is made, checked and kept; shown on small corpora of stories."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import MissingError, UserError
from trainer.data import Manifest, load, manifest, prepare, synth, validation_documents

SMALL = 60_000


def quiet(line: str) -> None:
    pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synth, "TRAINING_BYTES", 2 * SMALL)
    monkeypatch.setattr(synth, "VALIDATION_BYTES", SMALL)


def damage(folder: Path, how: str) -> None:
    path = folder / "val/docs.jsonl"
    if how == "byte":
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    elif how == "missing":
        path.unlink()
    elif how == "link":
        path.rename(folder / "val/other")
        path.symlink_to(folder / "val/other")
    elif how == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        told = json.loads((folder / "manifest.json").read_bytes())
        told["train"]["bytes" if how == "count" else how] = "1" if how == "count" else 1
        (folder / "manifest.json").write_text(json.dumps(told))


@pytest.mark.parametrize("how", ["byte", "missing", "link", "manifest", "count", "unknown"])
def test_a_damaged_folder_is_made_anew_with_a_notice(small: None, tmp_path: Path, how: str):
    folder = tmp_path / "synth"
    made = prepare("synth", folder, say=quiet, seed=1)
    damage(folder, how)
    with pytest.raises(manifest.Damaged):
        load(folder)
    said: list[str] = []
    assert prepare("synth", folder, say=said.append, seed=1) == made == load(folder)
    assert "making the corpus anew" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".synth.lock", "synth"]


def test_an_intact_folder_stays_until_it_is_to_be_made_anew(small: None, tmp_path: Path):
    folder = tmp_path / "synth"
    made, said = prepare("synth", folder, say=quiet), []
    assert prepare("synth", folder, say=said.append) == made
    assert said == []
    assert prepare("synth", folder, say=quiet, remake=True).data_sha != made.data_sha


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(data_sha="0" * 64), "data_sha"),
        (lambda told: told.update(format=2), "another version"),
        (lambda told: told.update(floor_bits=1.0), "data_sha"),
        (lambda told: told["val"].update(sha256="0" * 64), "sha of a part"),
        (lambda told: told["hidden"].update(sha256="0" * 64), "sha of a part"),
        (lambda told: told["hidden"].update(files=[]), "sha of a part"),
        (lambda told: told.update(hidden=None), "keys that are unknown"),
        (lambda told: told.update(extra=[{"path": "../x", "bytes": 1, "sha256": ""}]), "no file of a corpus"),
        (
            lambda told: told.update(extra=[{"path": "/etc/passwd", "bytes": 1, "sha256": ""}]),
            "no file of a corpus",
        ),
        (lambda told: told.update(corpus="other"), "no manifest"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(small: None, tmp_path: Path, change, words: str):
    folder = tmp_path / "synth"
    prepare("synth", folder, say=quiet)
    told = json.loads((folder / "manifest.json").read_bytes())
    change(told)
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(manifest.Damaged, match=words):
        load(folder)


def test_a_corpus_without_hidden_documents_is_one_too(small: None, tmp_path: Path):
    """As it was made before there were any: its manifest says nothing of them, and nothing is made anew."""
    folder = tmp_path / "synth"
    made = prepare("synth", folder, say=quiet)
    older = replace(made, hidden=None)
    manifest.write(older, folder)
    assert "hidden" not in (folder / "manifest.json").read_text()
    assert manifest.load(folder) == older and older.data_sha == made.data_sha
    said: list[str] = []
    assert prepare("synth", folder, say=said.append) == older and said == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"text": "a"}', "ends inside a line"),
        (b'{"text": "a"}\n\n', "2 is not JSON"),
        (b'{"text": "a", "more": 1}\n', "1 is not"),
        (b'{"text": ""}\n', "1 is not"),
        (b'{"text": 1}\n', "1 is not"),
        (b'["text"]\n', "1 is not"),
        (b'{"text": "\\ud800"}\n', "no valid text"),
        (b'{"text": "\xff"}\n', "not JSON"),
    ],
)
def test_documents_are_read_strictly(raw: bytes, words: str):
    with pytest.raises(manifest.Damaged, match=words):
        manifest.parse_documents(raw, "docs.jsonl")
    assert manifest.parse_documents('{"text": "a\\nä\u2028"}\n'.encode(), "") == ["a\nä\u2028".encode()]


def test_changed_validation_documents_are_never_scored(small: None, tmp_path: Path):
    folder = tmp_path / "synth"
    prepare("synth", folder, say=quiet)
    path = folder / "val/docs.jsonl"
    path.write_bytes(path.read_bytes().replace(b"tale", b"tall", 1))
    with pytest.raises(manifest.Damaged, match="was changed"):
        validation_documents(folder)


def test_a_folder_with_other_files_is_left_alone(small: None, tmp_path: Path):
    folder = tmp_path / "synth"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    for corpus in ("synth", "fineweb"):
        with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
            prepare(corpus, folder, say=quiet)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(UserError):
            prepare("synth", place, say=quiet)


def test_nothing_there_and_unknown_names_are_clear_errors(tmp_path: Path):
    with pytest.raises(MissingError, match=r"python -m trainer\.data"):
        load(tmp_path)
    with pytest.raises(UserError, match="no corpus 'doc'; there are docs, synth, fineweb"):
        prepare("doc", tmp_path / "x")


MAKE = """
import sys
from pathlib import Path
from trainer.data import prepare, synth
synth.TRAINING_BYTES = int(sys.argv[2])
synth.VALIDATION_BYTES = 60_000
print(prepare("synth", Path(sys.argv[1])).data_sha)
"""


def start(folder: Path, size: int = 120_000, **more) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", MAKE, str(folder), str(size)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_two_makers_at_once_make_one_corpus(tmp_path: Path):
    makers = [start(tmp_path / "synth") for _ in range(3)]
    shas = {maker.communicate(timeout=60)[0].splitlines()[-1] for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    assert shas == {load(tmp_path / "synth").data_sha}


def test_a_killed_maker_leaves_the_old_corpus_and_no_litter_for_long(small: None, tmp_path: Path):
    folder = tmp_path / "synth"
    maker = start(folder, 500_000_000)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".synth.*.part/fresh")):
        assert maker.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    maker.send_signal(signal.SIGKILL)
    maker.communicate(timeout=30)
    assert not folder.exists()
    made = prepare("synth", folder, say=quiet)
    assert load(folder) == made
    assert sorted(path.name for path in tmp_path.iterdir()) == [".synth.lock", "synth"]


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_there(small: None, tmp_path: Path):
    folder = tmp_path / "synth"
    made: Manifest = prepare("synth", folder, say=quiet)
    damage(folder, "manifest")
    before = (folder / "val/docs.jsonl").read_bytes()

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    maker = start(folder, preexec_fn=no_room, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    _, said = maker.communicate(timeout=30)
    assert maker.returncode == 1 and "UserError: can't make the corpus" in said and "File too large" in said
    assert (folder / "val/docs.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".synth.*.part"))
    assert made.val.docs

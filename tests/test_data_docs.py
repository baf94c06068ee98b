"""The docs corpus: what counts as prose, what validation may not repeat, and that it is deterministic."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import MissingError
from trainer.data import docs, load, overlap, prepare, sources, validation_documents
from trainer.data.prose import is_prose, paragraphs, prose

SOURCE = '''"""First paragraph of the module, which
is joined to one line of text.

    >>> print("no doctest is prose, however many words it may have")

A heading
---------
Text after a heading is kept, and here comes a sample of code::

    for x in numbers which are in the list of numbers:
        print(x, "and this is not prose at all, but code")

    still_code = "because it is indented as the sample was"

After the sample the text goes on in a paragraph of its own.

====  =====  ========================
a     b      x = f(a, b) + g(b) * 2.5
"""

raise SystemExit("a source is parsed and never run")

class Thing(object):
    """Things have documentation, which comes in the order of the file."""

    if True:
        def method(self):
            r"""Methods have documentation too, even inside of conditions \\o/ in classes."""

            def inner():
                """Functions inside of functions may be documented as well as others."""

    x = """A plain string is no documentation, wherever it may stand in the file."""

async def last():
    \'\'\'Other quotes are as good as the usual ones for documentation strings.\'\'\'
'''


def test_prose_is_the_documentation_without_code_and_titles():
    assert prose(SOURCE.encode()) == [
        "First paragraph of the module, which is joined to one line of text.",
        "Text after a heading is kept, and here comes a sample of code::",
        "After the sample the text goes on in a paragraph of its own.",
        "Things have documentation, which comes in the order of the file.",
        "Methods have documentation too, even inside of conditions \\o/ in classes.",
        "Functions inside of functions may be documented as well as others.",
        "Other quotes are as good as the usual ones for documentation strings.",
    ]
    assert prose(SOURCE.replace("\n", "\r\n").encode()) == prose(SOURCE.encode())


def test_prose_of_strange_files():
    good = "Words enough to be taken for a paragraph of prose, as they are."
    latin = f'# coding: latin-1\n"""{good} Caf\xe9."""\n'
    assert prose(latin.encode("latin-1")) == [good + " Café."]
    assert prose(b'"""' + good.encode() + b'"""\ndef broken(:\n') == []
    assert prose(b"\0" * 10 + b'"""') == []
    assert prose(b'\xff"""' + good.encode() + b'"""') == []
    assert prose(b'"""Half of a pair makes no text that could be written: \\ud800 alone."""') == []
    assert prose(b'"""A zero byte in a text makes no end of trouble: \\0 leave it out."""') == []
    assert prose(f'"""{good}"""\nx = "\\d"\n'.encode()) == [good], "warnings of the compiler are not errors"
    assert prose(good.encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        "Too short to be a text.",
        "x = f(a, b) + g(b) * 2.5 - h(c) ** 3 / (1 + 4)",
        "Fivewordsarenotenough evenifthey arelongerthan fortycharacters together",
        ">>> the prompt of an interpreter starts what follows, so it is code",
        "| a table | may have words | in it, but it is a table, not prose |",
        ".. note:: directives of the markup are left to the programs that know them",
    ],
)
def test_what_is_no_prose(text: str):
    assert not is_prose(text)


def test_paragraphs_keep_the_text_of_lists():
    text = "Args:\n    x (int): the first of the numbers\n    y (int): the other one\n\nReturns the sum."
    assert list(paragraphs(text)) == [
        "Args: x (int): the first of the numbers y (int): the other one",
        "Returns the sum.",
    ]


def words(seed: int, count: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=draw.randint(2, 9))) for _ in range(count))


@settings(max_examples=150, deadline=None)
@given(
    before=st.integers(0, 300),
    start=st.integers(0, 500),
    length=st.integers(overlap.RUN + 30, 400),
    cuts=st.lists(st.integers(0, 400), max_size=3),
)
def test_a_long_shared_run_is_always_found(before: int, start: int, length: int, cuts: list[int]):
    """Wherever it begins in either text, in other punctuation, and when paragraphs break it up."""
    seen = overlap.Seen()
    training = [words(1, 60), words(2, 80), words(3, 70)]
    assert seen.add(training) == training
    run = " ".join(training)[start : start + length]
    inside = run.upper().replace(" ", ",  ")
    pieces, last = [], 0
    for cut in sorted(cut for cut in cuts if cut < len(inside)):
        pieces.append(inside[last:cut])
        last = cut
    own = words(9, 20)
    document = [words(8, 40)[:before], *pieces, inside[last:], own]
    kept = " ".join(seen.unseen(document))
    normal = overlap.normalise(kept)
    told = overlap.normalise(" ".join(training))
    windows = {told[at : at + overlap.RUN] for at in range(len(told) - overlap.RUN + 1)}
    assert not any(normal[at : at + overlap.RUN] in windows for at in range(len(normal)))
    assert own in kept


def test_what_is_not_shared_stays():
    seen = overlap.Seen()
    seen.add([words(1, 200)])
    document = [words(5, 100), words(1, 200)[:50] + words(6, 60), words(7, 100)]
    assert seen.unseen(document) == document
    assert seen.unseen([words(5, 100), "  " + words(1, 200).upper() + "!"]) == [words(5, 100)]
    # Two paragraphs that meet because one between them was dropped are looked at again.
    text = words(1, 200)
    half = overlap.RUN // 2
    spaces = [at for at in range(half + 1, 900) if text[at] == " "]
    cut = next(at for at in spaces if " " not in text[at - half] + text[at + half])
    left, right = text[cut - half : cut], text[cut + 1 : cut + 1 + half]
    assert seen.unseen([left, words(5, 100), right]) == [left, words(5, 100), right]
    assert seen.unseen([left, text, words(5, 100), right]) == [left, words(5, 100), right]
    assert len(seen.unseen([left, text[600:900], right])) == 1
    assert len(seen.unseen([left, text, right])) == 1
    assert seen.add([words(1, 200), words(4, 9), words(4, 9).title()]) == [words(4, 9)]


def test_a_corpus_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sources, "VALIDATED", ("scipy", "no-such-package", "nor-this-one"))
    with pytest.raises(MissingError) as caught:
        prepare("docs", tmp_path / "docs")
    assert f"{sys.executable} -m pip install no-such-package nor-this-one" in str(caught.value)
    assert not (tmp_path / "docs").exists()


SMALL = """
import sys
from pathlib import Path
from trainer.data import docs, prepare, sources
sources.TRAINING_ONLY = ("networkx",)
sources.VALIDATED = docs.VALIDATED = ("optuna",)
if sources.find_packages()[1].root != Path(sys.argv[2]) / "networkx":
    sys.exit(f"found in {sources.find_packages()[1].root}")
print(prepare("docs", Path(sys.argv[1]), say=lambda line: None).data_sha)
"""


@pytest.mark.slow
def test_the_same_versions_give_the_same_bytes_anywhere(tmp_path: Path):
    """Other folder, locale, time zone, hash seed, order of creation and optimisation level."""
    installed = Path(str(metadata.distribution("networkx").locate_file("")))
    elsewhere = tmp_path / "elsewhere"
    for name in ("optuna", "networkx"):
        shutil.copytree(installed / name, elsewhere / name, ignore=shutil.ignore_patterns("tests", "*.pyc"))
        about = next(path.name for path in installed.glob(f"{name}-*.dist-info"))
        shutil.copytree(installed / about, elsewhere / about)
    root = str(Path.cwd())
    first = {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "PYTHONPATH": root}
    second = {"PYTHONHASHSEED": "7", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONOPTIMIZE": "2"}
    second["PYTHONPATH"] = os.pathsep.join([str(elsewhere), root])
    shas = set()
    for env, place in ((first, installed), (second, elsewhere)):
        folder = tmp_path / f"out{len(shas)}"
        done = subprocess.run(
            [sys.executable, "-c", SMALL, str(folder), str(place)],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shas.add(done.stdout)
        folder.rename(tmp_path / f"kept{place.name}")
    assert len(shas) == 1


@pytest.mark.long
def test_the_corpus_of_this_machine():
    packages = sources.find_packages()
    documents = {package.name: docs._read(package, lambda line: None) for package in packages}
    train, val, hidden = docs.split(documents)
    assert 7_000_000 < sum(document.size() for document in train) < 9_500_000
    size = sum(document.size() for document in val)
    assert 250_000 < size < 350_000
    assert 1_000 < max(document.size() for document in val) < size / 10
    assert not {document.name for document in train} & {document.name for document in [*val, *hidden]}
    # Hidden documents are others, from the same packages; they cost a seventh of the time to score.
    assert not {document.name for document in val} & {document.name for document in hidden}
    assert size / 10 < sum(document.size() for document in hidden) < 0.15 * size
    assert len(hidden) >= 10 and {document.name.partition("/")[0] for document in hidden} <= set(sources.VALIDATED)
    val += hidden

    # Validation is from each validated package and from no other; training has other documents of theirs.
    validated = set(sources.VALIDATED)
    assert {document.name.partition("/")[0] for document in val} == validated
    assert {document.name.partition("/")[0] for document in train} == validated | {
        "python",
        *sources.TRAINING_ONLY,
    }
    # What a mounted package documents, in training or not, is not in validation. Windows of validation are
    # taken at every offset, so that every seventh of the other text finds all runs of 206 characters.
    said = [document for name, its in documents.items() if name not in validated for document in its]
    assert len(said) > len(train)
    texts = [overlap.normalise(" ".join(document.paragraphs)) for document in val]
    windows = {text[at : at + 200] for text in texts for at in range(len(text) - 199)}
    whole = {overlap.normalise(paragraph) for document in val for paragraph in document.paragraphs}
    kept = [document for document in train if document.name.partition("/")[0] in validated]
    for document in [*said, *kept]:
        paragraphs = [overlap.normalise(paragraph) for paragraph in document.paragraphs]
        assert whole.isdisjoint(paragraphs), document.name
        text = " ".join(filter(None, paragraphs))
        assert windows.isdisjoint(text[at : at + 200] for at in range(0, len(text) - 199, 7)), document.name


@pytest.mark.slow
def test_the_folder_is_what_the_manifest_says_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "TRAINING_ONLY", ("networkx",))
    monkeypatch.setattr(sources, "VALIDATED", ("optuna",))
    monkeypatch.setattr(docs, "VALIDATED", ("optuna",))
    folder = tmp_path / "docs"
    said: list[str] = []
    made = prepare("docs", folder, say=said.append)
    assert made.versions.keys() == {"python", "networkx", "optuna"} and len(said) == 3
    texts = [json.loads(line)["text"] for line in (folder / "train/docs.jsonl").read_bytes().splitlines()]
    assert (made.train.docs, made.train.bytes) == (len(texts), sum(len(text.encode()) for text in texts))
    assert made.train.sha256 == hashlib.sha256((folder / "train/docs.jsonl").read_bytes()).hexdigest()
    val = validation_documents(folder)
    assert (made.val.docs, made.val.bytes) == (len(val), sum(map(len, val)))
    assert all(text.decode().isprintable() for document in val for text in document.split(b"\n\n"))
    inode = (folder / "val/docs.jsonl").stat().st_ino
    monkeypatch.setattr(docs, "build", None)
    assert prepare("docs", folder, say=lambda line: None) == made == load(folder)
    assert (folder / "val/docs.jsonl").stat().st_ino == inode
    assert json.loads((folder / "manifest.json").read_text())["versions"]["optuna"] == metadata.version("optuna")

    told = json.loads((folder / "manifest.json").read_text())
    told["versions"]["optuna"] = "0.1"
    (folder / "manifest.json").write_text(json.dumps(told))
    said.clear()
    assert prepare("docs", folder, say=said.append).data_sha == made.data_sha
    assert len(said) == 1 and f"optuna 0.1 (now {metadata.version('optuna')})" in said[0]


def test_what_is_no_file_that_can_be_read_is_skipped(tmp_path: Path) -> None:
    """An editor leaves a dangling link beside what it has open, and a distribution may pack any."""
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "linked.py").symlink_to("good.py")
    (tmp_path / ".#good.py").symlink_to("nobody@nowhere.1")
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    assert [one.path for one in sources.find_modules(sources.Package("p", "1", tmp_path))] == ["good.py", "linked.py"]

"""The synth corpus: one parse for each text, an exact floor; and how any corpus folder is made and kept."""

import functools
import hashlib
import json
import lzma
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import MissingError, UserError
from trainer.data import Manifest, lexicon, load, manifest, prepare, synth, validation_documents
from trainer.data.choices import NoStory, Reader, Teller, Weights

SMALL = 60_000


def quiet(line: str) -> None:
    pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synth, "TRAINING_BYTES", 2 * SMALL)
    monkeypatch.setattr(synth, "VALIDATION_BYTES", SMALL)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**128))
def test_the_text_gives_back_its_choices_and_bits(seed: int):
    teller = Teller(seed)
    synth.story(teller)
    bits = teller.bits
    text = teller.finish()
    reader = Reader(text)
    synth.story(reader)
    reader.finish()
    assert reader.choices == teller.choices
    assert reader.bits == bits
    assert text.isascii() and "\0" not in text


def test_the_floor_of_a_corpus_is_read_off_its_text():
    stories = synth.tell(5, 300_000)
    size = sum(map(len, stories.texts))
    assert 300_000 <= size < 303_000
    assert synth.information(stories.texts) == pytest.approx(stories.bits, abs=1e-6)
    assert 0.4 < stories.bits / size < 0.6
    assert len(set(stories.texts)) == len(stories.texts)


def test_a_seed_gives_these_bytes_on_every_python():
    text = "\f".join(synth.tell(1, 200_000).texts)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


GOLDEN = "ca116c16af4f712d31a8fa49e189be4ef4f33e5858fc670490bdfeea75f3cef9"


def test_no_text_has_two_parses_and_their_probabilities_sum_to_one():
    """All sentences that a small grammar tells in a given world, counted one by one."""
    texts: Counter[str] = Counter()
    total = 0.0
    for source in every_telling(small_sentence):
        texts[source.told] += 1
        total += 2.0**-source.bits
    assert len(texts) > 3_000
    assert max(texts.values()) == 1
    assert total == pytest.approx(1, abs=1e-9)


def small_sentence(source: "Scripted") -> None:
    """One sentence, and another where things change hands."""
    world = synth.World(
        topic=0, cast=["Aa", "Bb", "Cc", "Dd"], places=["reef", "cove", "quay", "den"],
        holder={"net": "Aa", "oar": "Bb", "rope": "Aa"},
        where={"Aa": "reef", "Bb": "reef", "Cc": "cove", "Dd": "den"},
        refrain="x y z", recent=["Bb", "Dd", "Aa", "Cc"],
    )  # fmt: skip
    kind = synth._sentence(source, world, "stay")
    if kind in ("take", "give"):
        source.text(" ")
        synth._sentence(source, world, kind)


class Scripted:
    """A source that follows a script of choices, then takes the first ones, and counts the options.

    It narrows the widest choices, for there are millions of sentences: one verb of each kind, with the
    probability of the kind, and two of the 64 adjectives and adverbs.
    """

    def __init__(self, script: Sequence[int]) -> None:
        self.script, self.taken, self.options, self.told, self.bits = script, [], [], "", 0.0

    def text(self, literal: str) -> None:
        self.told += literal

    def word(self, words: Sequence[str], weights: Weights) -> int:
        assert len(words) == len(weights.bits) == len(set(words))
        shares = narrowed(weights, words is synth.VERBS)
        possible = [at for at, share in enumerate(shares) if share]
        number = self.script[len(self.taken)] if len(self.taken) < len(self.script) else 0
        at = possible[number]
        self.bits -= math.log2(shares[at] / sum(shares))
        self.taken.append(number)
        self.options.append(len(possible))
        self.told += words[at]
        return at

    letter = word


@functools.cache
def narrowed(weights: Weights, verbs: bool) -> list[int]:
    """The weights that `Scripted` goes by."""
    own = [upto - before for before, upto in zip([0, *weights.upto], weights.upto, strict=False)]
    if verbs:
        of_kind: Counter[str] = Counter()
        for kind, weight in zip(synth.KIND_OF, own, strict=True):
            of_kind[kind] += weight
        return [of_kind.pop(kind, 0) for kind in synth.KIND_OF]
    return own[:2] if len(own) == 64 else own


def every_telling(grammar) -> Iterator[Scripted]:
    """Walks the tree of choices, leaf by leaf."""
    script: list[int] = []
    while True:
        source = Scripted(script)
        grammar(source)
        yield source
        script = source.taken
        while script and script[-1] == source.options[len(script) - 1] - 1:
            script = script[:-1]
        if not script:
            return
        script = [*script[:-1], script[-1] + 1]


def test_other_texts_are_no_stories():
    (text,) = synth.tell(3, 1).texts
    assert synth.information([text]) > 100
    for other in (
        text[:-1],
        text + " ",
        text.replace("A tale", "The tale"),
        text.replace(" lived in the ", " lived near the ", 1),
        text.replace(".\n\n", ". ", 1),
        text.rpartition(" ")[0],
        text.replace(".", "!"),
        "",
    ):
        with pytest.raises(NoStory):
            synth.information([other])


def test_a_reader_does_not_guess():
    even = Weights([1, 1])
    with pytest.raises(NoStory, match="2 ways"):
        Reader("same").word(["same", "same"], even)
    with pytest.raises(NoStory, match="0 ways"):
        Reader("sameness").word(["same", "other"], even)
    with pytest.raises(NoStory):
        Reader("same").word(["same", "other", "third"], even)
    with pytest.raises(NoStory):
        Reader("never").word(["never", "always"], Weights([0, 1]))


def test_draws_follow_their_weights():
    weights, words = Weights([2, 0, 6, 3, 1]), ["a", "b", "c", "d", "e"]
    teller, count = Teller(11), 60_000
    for _ in range(count):
        teller.word(words, weights)
    counts = Counter(teller.choices)
    assert counts[1] == 0
    for at, weight in enumerate((2, 0, 6, 3, 1)):
        p = weight / 12
        assert abs(counts[at] - p * count) <= 5 * math.sqrt(count * p * (1 - p))
    assert teller.bits == pytest.approx(
        sum(-count * math.log2((2, 0, 6, 3, 1)[at] / 12) for at, count in counts.items())
    )


def test_words_can_be_told_apart():
    lists = [lexicon.TOPICS, *synth.PLACES, *synth.THINGS, *synth.SIGHTS, *synth.ADJECTIVES, *synth.ADVERBS]
    for words in [*lists, synth.TRADES, synth.REFRAIN, synth.VERBS]:
        assert len(set(words)) == len(words)
        assert all(word.isascii() and word.isalpha() for word in words)
    assert {len(words) for words in (*synth.ADJECTIVES, *synth.ADVERBS)} == {64}
    for kinds in synth.FOLLOWS.values():
        assert len(kinds) == len(synth.KINDS) and min(kinds) > 0


def test_a_compressor_stays_above_the_floor_and_context_pays(small: None, tmp_path: Path):
    told = prepare("synth", tmp_path / "synth", say=quiet)
    assert told.floor_bits is not None
    val = b"".join(validation_documents(tmp_path / "synth"))
    train = "".join(synth.tell(1, 1_000_000).texts).encode()
    with_training = len(lzma.compress(train + val)) - len(lzma.compress(train))
    assert told.floor_bits / 8 < with_training < 0.9 * len(lzma.compress(val))


def test_the_validation_seed_is_drawn_and_kept_out_of_sight(small: None, tmp_path: Path):
    made = [prepare("synth", tmp_path / name, say=quiet) for name in ("a", "b")]
    assert made[0].train == made[1].train
    assert made[0].data_sha != made[1].data_sha and made[0].val.sha256 != made[1].val.sha256
    for name, told in zip(("a", "b"), made, strict=True):
        folder = tmp_path / name
        seed = json.loads((folder / "val/seed.json").read_bytes())["seed"]
        assert seed >= 2**32
        documents = validation_documents(folder)
        stories = synth.tell(seed, SMALL)
        assert documents == [text.encode() for text in stories.texts]
        assert told.floor_bits is not None
        assert 0 <= stories.bits - told.floor_bits < 1e-5
        assert (told.val.docs, told.val.bytes) == (len(documents), sum(map(len, documents)))
        assert sorted(path.name for path in (folder / "train").iterdir()) == ["docs.jsonl"]
        assert str(seed).encode() not in (folder / "manifest.json").read_bytes()
    given = prepare("synth", tmp_path / "c", say=quiet, seed=7)
    assert given.data_sha == prepare("synth", tmp_path / "d", say=quiet, seed=7).data_sha


# How a folder is made and kept: the same for docs.


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


def test_the_command_prints_where_and_what(tmp_path: Path):
    argv = [sys.executable, "-m", "trainer.data"]
    done = subprocess.run(
        [*argv, "synth", "--out", str(tmp_path / "s")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = load(tmp_path / "s")
    assert done.stdout.count("\n") == 1 and told.data_sha in done.stdout and "floor 0.4" in done.stdout
    assert "telling" in done.stderr
    assert 12_000_000 <= told.train.bytes < 12_010_000 and 300_000 <= told.val.bytes < 303_000
    assert subprocess.run([*argv, "nothing"], capture_output=True, timeout=60).returncode == 2
    (tmp_path / "x").write_text("")
    done = subprocess.run(
        [*argv, "synth", "--out", str(tmp_path / "x")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr

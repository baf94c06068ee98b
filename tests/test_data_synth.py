"""The synth corpus: one parse for each text, and an exact floor."""

import functools
import hashlib
import json
import lzma
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import lexicon, load, prepare, synth, validation_documents
from trainer.data.choices import NoStory, Reader, Teller, Weights
from trainer.data.manifest import read_documents

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
        assert 0 <= synth.information(stories.texts) - told.floor_bits < 1e-5
        assert (told.val.docs, told.val.bytes) == (len(documents), sum(map(len, documents)))
        assert sorted(path.name for path in (folder / "train").iterdir()) == ["docs.jsonl"]
        assert str(seed).encode() not in (folder / "manifest.json").read_bytes()
        hidden = told.hidden
        assert hidden is not None and hidden.bytes >= synth.HIDDEN_BYTES
        more = read_documents(folder / "val/hidden.jsonl", hidden.sha256, hidden.docs, hidden.bytes)
        assert not set(more) & set(documents)
    given = prepare("synth", tmp_path / "c", say=quiet, seed=7)
    assert given.data_sha == prepare("synth", tmp_path / "d", say=quiet, seed=7).data_sha


def test_the_command_prints_where_and_what(tmp_path: Path):
    argv = [sys.executable, "-m", "trainer.data"]
    done = subprocess.run([*argv, "synth", "--out", str(tmp_path / "s")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = load(tmp_path / "s")
    assert done.stdout.count("\n") == 1 and told.data_sha in done.stdout and "floor 0.4" in done.stdout
    assert "telling" in done.stderr
    assert 12_000_000 <= told.train.bytes < 12_010_000 and 300_000 <= told.val.bytes < 303_000
    assert subprocess.run([*argv, "nothing"], capture_output=True, timeout=60).returncode == 2
    (tmp_path / "x").write_text("")
    done = subprocess.run([*argv, "synth", "--out", str(tmp_path / "x")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr

"""The trainer's artifact: what is kept, how small it is, and what a damaged one does."""

import subprocess
import sys
import zlib
from pathlib import Path

import brotli
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import track as tracks
from benchmarks import trainer_reference as reference
from tests.training import config, random_model, small_tokenizer, weights_of
from trainer import train_gpt as t
from trainer.data import prepare
from trainer.pack import pack


@pytest.fixture(scope="module")
def tokenizer() -> t.Tokenizer:
    return small_tokenizer()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_codes_survive_every_layout(bits: int, how: int, rows: int, columns: int, seed: int) -> None:
    top = 2 ** (bits - 1) - 1
    draw = np.random.default_rng(seed)
    codes = [(draw.integers(-top, top + 1, (rows, columns)).astype(np.int8), bits) for _ in range(2)]
    data = t.lay_out(codes, how)
    shapes = [((rows, columns), bits)] * 2
    back = t.take_apart(data, shapes, how)
    assert all(np.array_equal(a, b) for a, (b, _) in zip(back, codes, strict=True))
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(ValueError, match=r"too (few|many)"):
            t.take_apart(wrong, shapes, how)


@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_quantising_is_off_by_half_a_step_or_better_in_the_mean(bits: int) -> None:
    weights = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    weights[3] = 0
    codes, scale = t.quantise(weights, bits)
    assert codes.dtype == np.int8 and scale.dtype == np.float16 and scale.shape == (40, 1)
    assert abs(codes).max() <= 2 ** (bits - 1) - 1
    error = np.square(codes * scale.astype(np.float32) - weights).mean()
    plain = np.abs(weights).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    rounded = np.square(np.rint(weights / np.maximum(plain, 1e-9)) * plain - weights).mean()
    assert error <= rounded * 1.01
    assert not codes[3].any()


@pytest.mark.parametrize("compressor", t.COMPRESSORS)
def test_decompressing_never_gives_more_than_was_declared(compressor: str) -> None:
    data = bytes(1 << 22)
    small = t.compress(data, compressor)
    assert len(small) < 8192
    assert t.decompress(small, compressor, len(data)) == data
    for wrong in (len(data) - 1, len(data) + 1, 0):
        with pytest.raises(ValueError, match="size"):
            t.decompress(small, compressor, wrong)


@pytest.mark.parametrize("compressor", t.COMPRESSORS)
@pytest.mark.parametrize(("bits", "embed_bits", "tied"), [(8, 8, 1), (6, 5, 1), (4, 8, 0)])
def test_an_artifact_holds_all_that_scoring_needs(
    tokenizer: t.Tokenizer, compressor: str, bits: int, embed_bits: int, tied: int
) -> None:
    c = config(compressor=compressor, weight_bits=bits, embed_bits=embed_bits, tie_embeddings=tied)
    weights = weights_of(random_model(c))
    data = t.to_artifact(weights, tokenizer, c)
    assert data == t.to_artifact(weights, tokenizer, c)
    model, found, shape = t.from_artifact(data)
    assert found.pieces == tokenizer.pieces
    assert vars(shape) == {key: getattr(c, key) for key in t.SHAPE}
    for name, value in weights.items():
        kept = model.state_dict()[name].numpy()
        if t.is_matrix(value.shape):
            codes, scale = t.quantise(value, t.bits_of(name, c))
            assert np.array_equal(kept, codes * scale.astype(np.float32))
        else:
            assert np.array_equal(kept, value.astype(np.float16))


SCORES = """
import sys
sys.argv[1:2] = ["score"]
from trainer import train_gpt as t
model, _, c = t.from_artifact(open(sys.argv[2], "rb").read())
assert len(t.Scorer(model, c).score(t.np.arange(9), [0])) == 9
print("torch._dynamo" in sys.modules)
"""


def test_scoring_does_without_torch_s_compiler(tokenizer: t.Tokenizer, tmp_path: Path) -> None:
    """It takes as long to load as the rest of torch, in every process that scores."""
    path = tmp_path / "model"
    path.write_bytes(t.to_artifact(weights_of(random_model(config())), tokenizer, config()))
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", SCORES, "", str(path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "False\n", done.stdout + done.stderr


def test_fewer_bits_make_a_smaller_artifact(tokenizer: t.Tokenizer) -> None:
    weights = weights_of(random_model(config()))
    sizes = [len(t.to_artifact(weights, tokenizer, config(weight_bits=bits, embed_bits=bits))) for bits in (8, 6, 5, 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] < 0.62 * sizes[0]


def test_a_diverged_run_has_no_artifact(tokenizer: t.Tokenizer) -> None:
    weights = weights_of(random_model(config()))
    weights["embedding"] = weights["embedding"] * np.nan
    with pytest.raises(SystemExit, match="diverged"):
        t.to_artifact(weights, tokenizer, config())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_artifact_is_refused_without_harm(tokenizer: t.Tokenizer, data: st.DataObject) -> None:
    good = t.to_artifact(weights_of(random_model(config())), tokenizer, config())
    at = data.draw(st.integers(0, t.HEAD.size + 200))
    cut = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(flipped), good[:cut], good + b"x"):
        try:
            t.from_artifact(bad)
        except (ValueError, SystemExit, zlib.error, zstandard.ZstdError, brotli.error):
            continue
        assert bad == bytes(flipped)  # a flip may hit a byte that nothing depends on, such as a checksum's slack


@pytest.mark.long
def test_the_limit_of_the_tiny_track_binds(tmp_path: Path) -> None:
    """The baseline fits, and a vocabulary of 2,048 at int6 and brotli, but not at int8.

    After 100 steps of 300: weights get easier to compress later on.
    """

    prepare("docs", tmp_path / "docs", say=lambda _: None)
    limit = tracks.load("tiny", Path.cwd())[0].limits.artifact_bytes
    assert limit is not None
    code = len(pack(reference.SCRIPT.read_text("utf-8")))
    env = reference.track_env("tiny", "decide") | {"DATA_PATH": str(tmp_path / "docs" / "train")}

    def sizes(vocab: int, *forms: tuple[int, str]) -> list[int]:
        c = t.settings(env | {"VOCAB_SIZE": str(vocab)})
        corpus = t.Corpus(c)
        run = t.Run(c, t.Processes(), corpus, 100)
        run.train()
        weights = {name: value.detach().numpy() for name, value in run.model.state_dict().items()}
        found = []
        for bits, compressor in forms:
            c.weight_bits = c.embed_bits = bits
            c.compressor = compressor
            found.append(code + len(t.to_artifact(weights, corpus.tokenizer, c)))
        return found

    assert sizes(1024, (8, "zlib"))[0] <= limit
    small, large = sizes(2048, (6, "brotli"), (8, "brotli"))
    assert small <= limit < large - 30000

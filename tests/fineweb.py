"""A small corpus in the contest's layout: a SentencePiece model of its kind, shards of tokens, the manifest."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from tests.shards import write_shard
from trainer.data import manifest as manifests
from trainer.data.manifest import File, Manifest, Part, data_sha, sha_of, sha_over

BOS = 1
VARIANT = "sp400"
TEXT = "the model returns an array of values where each row holds one sample for users and tests naïve café"


def stories(count: int, seed: int, words: int = 200) -> list[str]:
    """Raw text as it is found: line ends, doubled spaces, ligatures, characters that no model of this size knows."""
    draw = np.random.default_rng(seed)
    return [
        f"Story {seed}.{n}:\n" + " ".join(draw.choice(TEXT.split(), draw.integers(5, words))) + "  ﬁnd ４２ 漢字 🐈 \n"
        for n in range(count)
    ]


def train_model(texts: Iterable[str], vocab: int = 400, **more: object) -> bytes:
    """As the contest's are made, but for its size."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nmt_nfkc",
        add_dummy_prefix=False,
        character_coverage=0.999,
        hard_vocab_limit=False,
        num_threads=1,
        pad_id=0,
        bos_id=BOS,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
        **more,
    )
    return model.getvalue()


MODEL = train_model(stories(60, 1))


def processor(model: bytes = MODEL) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_proto=model)


def tokens_of(texts: Iterable[str], model: bytes = MODEL) -> list[int]:
    one = processor(model)
    return [token for text in texts for token in (BOS, *one.encode(text))]


def make_corpus(
    folder: Path,
    val: Sequence[int],
    *,
    train: Sequence[Sequence[int]] = ((BOS, 5, 6),),
    val_shards: int = 1,
    model: bytes = MODEL,
    kept_back: Sequence[int] = (),
) -> Manifest:
    """As a download leaves it. The validation tokens are shared out over shards without regard to documents."""
    dataset = folder / "datasets" / f"fineweb10B_{VARIANT}"
    dataset.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizers").mkdir(exist_ok=True)
    (folder / "tokenizers/fineweb_400_bpe.model").write_bytes(model)
    for number, tokens in enumerate(train):
        write_shard(dataset / f"fineweb_train_{number:06d}.bin", tokens)
    for number, part in enumerate(np.array_split(np.asarray(val), val_shards)):
        write_shard(dataset / f"fineweb_val_{number:06d}.bin", part)

    def part_of(name: str, tokens: int) -> Part:
        files = entries(sorted(dataset.glob(f"fineweb_{name}_*.bin")))
        return Part(files, None, sum(file.bytes for file in files), sha_over(files), tokens)

    def entries(paths: list[Path]) -> tuple[File, ...]:
        return tuple(File(str(path.relative_to(folder)), path.stat().st_size, sha_of(path)) for path in paths)

    parts = part_of("train", sum(map(len, train))), part_of("val", len(val))
    extra = entries(sorted((folder / "tokenizers").iterdir()))
    hidden = None
    if kept_back:
        path = folder / "datasets/kept_back/fineweb_train_000099.bin"
        path.parent.mkdir(exist_ok=True)
        write_shard(path, kept_back)
        files = entries([path])
        hidden = Part(files, None, files[0].bytes, files[0].sha256, len(kept_back))
    named = data_sha("fineweb", *parts, None, extra)
    manifest = Manifest("fineweb", {"commit": "0" * 40}, *parts, named, variant=VARIANT, extra=extra, hidden=hidden)
    manifests.write(manifest, folder)
    return manifest

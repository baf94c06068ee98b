"""Train, compress and score a small language model for Parameter Golf, in one file.

Takes training text or token shards; gives `final_model.bin`, which holds everything that scoring needs.

    python train_gpt.py                       the contest's way: train, compress, evaluate on validation data
    torchrun --nproc_per_node=8 train_gpt.py  the same on several GPUs (WORLD_SIZE must divide 8)
    python train_gpt.py train                 train and compress only; never looks at validation data
    python train_gpt.py score|encode|decode   answer a judge over the socket SCORE_FD, with the file ARTIFACT

PRESET=tiny is for one core of a laptop, PRESET=golf (the default) has the contest's own settings. Every
setting can be given in the environment under its name in capitals, such as MODEL_DIM=96.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROLES = ("train", "score", "encode", "decode")
ROLE = sys.argv[1] if sys.argv[1:] and sys.argv[1] in ROLES else "contest"
if ROLE in ("encode", "decode"):  # the tokenizer needs no torch, and loading it takes longer than the work
    nn = SimpleNamespace(Module=object)
else:
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from torch import Tensor, nn

# ----------------------------------------------------------------------------------------------------------
# Settings. Names are those of the contest's environment variables, in lower case.

TINY = {
    # data
    "data_path": ".caddie/data/docs",
    "tokenizer_path": "",  # empty: a tokenizer of our own, trained on a sample of the training text
    "tokenizer_sample": 1000000,  # bytes
    "vocab_size": 1024,
    "holdout": 40000,  # bytes of training documents (tokens of shards) that are kept out of training
    # shape
    "num_layers": 3,
    "model_dim": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "mlp_mult": 2,
    "activation": "relu2",  # relu2, leaky_relu2, gelu, silu
    "tie_embeddings": 1,
    "rope_base": 10000.0,
    "qk_gain_init": 1.5,
    "logit_softcap": 30.0,  # 0: none
    # length of training
    "iterations": 300,
    "warmdown_iters": 0,  # 0: warmdown_frac counts
    "warmdown_frac": 0.5,
    "warmup_steps": 0,
    "max_wallclock_seconds": 0.0,
    "train_batch_tokens": 2048,
    "train_seq_len": 256,
    "doc_piece": 2000,  # characters after which a document is cut at a line's end; 0: never
    "shuffle_rows": 1024,  # rows that are mixed before they are dealt out to batches; 0: in order
    # optimiser
    "matrix_lr": 0.02,
    "tied_embed_lr": 0.06,
    "tied_embed_init_std": 0.005,
    "embed_lr": 0.06,
    "head_lr": 0.008,
    "scalar_lr": 0.02,
    "muon_momentum": 0.95,
    "muon_momentum_warmup_start": 0.95,
    "muon_momentum_warmup_steps": 0,
    "muon_backend_steps": 5,
    "muon_weight_decay": 0.0,
    "beta1": 0.9,
    "beta2": 0.95,
    "adam_eps": 1e-8,
    "grad_clip_norm": 0.0,
    "grad_accum_steps": 1,  # 0: 8 / WORLD_SIZE
    # artifact
    "weight_bits": 8,  # 8, 6, 5 or 4
    "embed_bits": 8,
    "compressor": "zlib",  # zlib, zstd, brotli or lzma
    # evaluation
    "eval_stride": 256,  # how far a window moves on; train_seq_len or more: windows do not overlap
    "eval_stream": 0,  # 1: windows run across documents, as in the contest; 0: a document sees itself only
    "separators": 0,  # 1: the BOS between documents is scored too, as in the contest
    "val_batch_size": 8192,
    "val_loss_every": 0,
    "train_log_every": 0,  # 0: every fiftieth part of the run
    "run_id": "",
    "seed": 1337,
}

GOLF = {
    "data_path": "./data/datasets/fineweb10B_sp1024",
    "tokenizer_path": "./data/tokenizers/fineweb_1024_bpe.model",
    "tokenizer_sample": 0,
    "vocab_size": 1024,
    "holdout": 1048576,
    "num_layers": 9,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
    "mlp_mult": 2,
    "activation": "relu2",
    "tie_embeddings": 1,
    "rope_base": 10000.0,
    "qk_gain_init": 1.5,
    "logit_softcap": 30.0,
    "iterations": 20000,
    "warmdown_iters": 1200,
    "warmdown_frac": 0.0,
    "warmup_steps": 20,
    "max_wallclock_seconds": 600.0,
    "train_batch_tokens": 524288,
    "train_seq_len": 1024,
    "doc_piece": 0,
    "shuffle_rows": 0,
    "matrix_lr": 0.04,
    "tied_embed_lr": 0.05,
    "tied_embed_init_std": 0.005,
    "embed_lr": 0.6,
    "head_lr": 0.008,
    "scalar_lr": 0.04,
    "muon_momentum": 0.95,
    "muon_momentum_warmup_start": 0.85,
    "muon_momentum_warmup_steps": 500,
    "muon_backend_steps": 5,
    "muon_weight_decay": 0.0,
    "beta1": 0.9,
    "beta2": 0.95,
    "adam_eps": 1e-8,
    "grad_clip_norm": 0.0,
    "grad_accum_steps": 0,
    "weight_bits": 8,
    "embed_bits": 8,
    "compressor": "zlib",
    "eval_stride": 1024,
    "eval_stream": 1,
    "separators": 1,
    "val_batch_size": 524288,
    "val_loss_every": 1000,
    "train_log_every": 200,
    "run_id": "",
    "seed": 1337,
}

# What scoring has to know of the settings. These travel in the artifact; loading enforces the bounds.
SHAPE = {
    "vocab_size": (260, 65536),
    "num_layers": (1, 256),
    "model_dim": (2, 16384),
    "num_heads": (1, 256),
    "num_kv_heads": (1, 256),
    "mlp_mult": (1, 32),
    "tie_embeddings": (0, 1),
    "train_seq_len": (1, 1 << 20),
    "eval_stride": (1, 1 << 20),
    "eval_stream": (0, 1),
    "separators": (0, 1),
    "weight_bits": (2, 8),
    "embed_bits": (2, 8),
    "rope_base": (1.0, 1e9),
    "logit_softcap": (0.0, 1e6),
    "activation": ("relu2", "leaky_relu2", "gelu", "silu"),
}


def settings(environ: dict[str, str]) -> SimpleNamespace:
    """The preset's values, each replaced by its environment variable if that is set."""
    presets = {"tiny": TINY, "golf": GOLF}
    name = environ.get("PRESET", "golf")
    if name not in presets:
        raise SystemExit(f"PRESET={name}: there are {', '.join(presets)}")
    values = {}
    for key, default in presets[name].items():
        text = environ.get(key.upper())
        try:
            values[key] = default if text is None else type(default)(text)
        except ValueError:
            raise SystemExit(f"{key.upper()}={text!r} is no {type(default).__name__}") from None
    return check(SimpleNamespace(preset=name, **values), {**SHAPE, "compressor": COMPRESSORS})


def check(c: SimpleNamespace, allowed: dict[str, tuple] = SHAPE) -> SimpleNamespace:
    """Refuse a setting that can't be used, in words."""
    for key, bounds in allowed.items():
        value = getattr(c, key)
        if isinstance(bounds[0], str):
            fine = value in bounds
        else:
            fine = type(value) in (int, type(bounds[0])) and bounds[0] <= value <= bounds[1]  # True is no number
        if not fine:
            raise SystemExit(f"{key}={value!r}: must be in {bounds}")
    if c.model_dim % c.num_heads or (c.model_dim // c.num_heads) % 2 or c.num_heads % c.num_kv_heads:
        raise SystemExit("model_dim must be an even multiple of num_heads, and that a multiple of num_kv_heads")
    return c


# ----------------------------------------------------------------------------------------------------------
# Compute budget: how many steps a shape may take, by the track's table of costs.


def step_features(c: SimpleNamespace) -> dict[str, float]:
    """What a training step's time is made of. A track's [compute.cost] has a coefficient for each, in ms."""
    tokens, dim, layers, vocab = c.train_batch_tokens, c.model_dim, c.num_layers, c.vocab_size
    kv, hidden = dim * c.num_kv_heads // c.num_heads, dim * c.mlp_mult
    shapes = [(dim, dim)] * 2 + [(kv, dim)] * 2 + [(hidden, dim)] * 2
    newton = sum(2 * a * a * b + a**3 for a, b in ((min(s), max(s)) for s in shapes))
    return {
        "step": 1.0,
        "layer": float(layers),
        "matrix": 1e-9 * tokens * layers * sum(a * b for a, b in shapes),
        "heads": 1e-6 * tokens * layers * c.num_heads,
        "attention": 1e-9 * tokens * layers * c.train_seq_len * max(dim, 16 * c.num_heads),  # vectors of 16
        "width": 1e-6 * tokens * layers * (4 * dim + hidden),
        "logits": 1e-9 * tokens * vocab * dim,
        "softmax": 1e-6 * tokens * vocab,
        "embedding": 1e-6 * vocab * dim,
        "newton": 1e-9 * layers * c.muon_backend_steps * newton,
    }


def step_cost_ms(c: SimpleNamespace, cost: dict[str, float]) -> float:
    features = step_features(c)
    unknown = set(cost) - set(features)
    if unknown:
        raise SystemExit(f"COST_MODEL: unknown {sorted(unknown)}; there are {sorted(features)}")
    return sum(float(cost[name]) * features[name] for name in cost)


def budgeted_steps(c: SimpleNamespace, environ: dict[str, str]) -> int:
    """ITERATIONS, or what COMPUTE_BUDGET_MS pays for at the prices of COST_MODEL."""
    budget = environ.get("COMPUTE_BUDGET_MS")
    if not budget:
        return c.iterations
    cost = step_cost_ms(c, json.loads(environ["COST_MODEL"]))
    steps = int(float(budget) / cost * (1 + 1e-9))
    if steps < 1:
        raise SystemExit(f"COMPUTE_BUDGET_MS={budget} does not pay for one step of {cost:.1f} ms")
    return steps


# ----------------------------------------------------------------------------------------------------------
# Tokenizer: SentencePiece BPE with byte fallback, kept as its list of pieces; the rest is always the same.

PAD, BOS, EOS, UNK, FIRST_BYTE = 0, 1, 2, 3, 4
IDS = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS, "unk_id": UNK}
FIXED = ["<pad>", "<s>", "</s>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "\u2581"  # how SentencePiece writes a space


class Tokenizer:
    def __init__(self, pieces: list[str]):
        self.pieces = pieces
        self.vocab = len(FIXED) + len(pieces)
        self.bytes_of = [b""] * FIRST_BYTE + [bytes([byte]) for byte in range(256)]
        self.bytes_of += [piece.replace(SPACE, " ").encode() for piece in pieces]
        self.processor = None

    @classmethod
    def train(cls, texts: list[str], vocab: int) -> Tokenizer:
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            character_coverage=0.999,
            max_sentence_length=1 << 20,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
            **IDS,
        )
        return cls.from_proto(model.getvalue())

    @classmethod
    def from_proto(cls, proto: bytes) -> Tokenizer:
        """The pieces of a SentencePiece model file. Its normalisation is dropped: ours must be lossless."""
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
        scores = [processor.get_score(i) for i in range(len(FIXED), len(pieces))]
        if pieces[: len(FIXED)] != FIXED or any(a <= b for a, b in pairwise(scores)):
            raise SystemExit("this SentencePiece model is no BPE with byte fallback in the usual order")
        return cls(pieces[len(FIXED) :])

    def to_proto(self) -> bytes:
        """A SentencePiece model file, by hand: pieces, BPE with byte fallback, identity normaliser."""

        def field(number: int, value: bytes | int) -> bytes:
            if isinstance(value, int):
                return varint(number << 3) + varint(value)
            return varint(number << 3 | 2) + varint(len(value)) + value

        def varint(value: int) -> bytes:
            out = bytearray()
            while value > 127:
                out.append(value & 127 | 128)
                value >>= 7
            return bytes([*out, value])

        normal, unknown, control, byte = 1, 2, 3, 6
        kinds = [control] * 3 + [unknown] + [byte] * 256 + [normal] * len(self.pieces)
        out = bytearray()
        for rank, (piece, kind) in enumerate(zip(FIXED + self.pieces, kinds, strict=True)):
            score = b"\x15" + struct.pack("<f", -max(0, rank - len(FIXED)))  # the order of merges
            out += field(1, field(1, piece.encode()) + score + field(3, kind))
        special = field(40, UNK) + field(41, BOS) + field(42, EOS) + field(43, PAD)
        out += field(2, field(3, 2) + field(4, self.vocab) + field(35, 1) + special)
        out += field(3, field(1, b"identity") + field(3, 0) + field(4, 0) + field(5, 1))
        return bytes(out)

    def load(self):
        if self.processor is None:
            import sentencepiece

            self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.to_proto())
        return self.processor

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Tokens of many documents at once. A space mark in the text itself would be read back as a space."""
        if any(SPACE in text for text in texts):
            return [self.encode(text.encode()) for text in texts]
        return self.load().encode(texts, num_threads=1)

    def encode(self, document: bytes) -> list[int]:
        """Tokens that `decode` turns into exactly these bytes, whatever they are."""
        mark = SPACE.encode()
        try:
            parts = document.decode().split(SPACE)
        except UnicodeDecodeError:
            return [FIRST_BYTE + byte for byte in document]
        ids = self.load().encode(parts, num_threads=1)
        return list(chain(ids[0], *([FIRST_BYTE + byte for byte in mark] + part for part in ids[1:])))

    def decode(self, tokens: list[int]) -> bytes:
        return b"".join(self.bytes_of[token] for token in tokens)


# ----------------------------------------------------------------------------------------------------------
# Data. A corpus is either documents (docs.jsonl) or the contest's shards of tokens. Either way it becomes one
# endless stream with a BOS before every document; the seed draws where it starts and in what order.

SHARD_MAGIC, SHARD_VERSION = 20240520, 1


def find_docs(c: SimpleNamespace, part: str) -> Path | None:
    folder = Path(c.data_path)
    for path in (folder / part / "docs.jsonl", folder / "docs.jsonl"):
        if path.is_file() and (part == "train" or path.parent.name == part):
            return path
    return None


def read_docs(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def read_shard(path: Path) -> np.ndarray:
    header = np.fromfile(path, dtype="<i4", count=256)
    if header.size != 256 or header[0] != SHARD_MAGIC or header[1] != SHARD_VERSION:
        raise SystemExit(f"{path} is no token shard of version {SHARD_VERSION}")
    if path.stat().st_size != 1024 + 2 * int(header[2]):
        raise SystemExit(f"{path}: size does not match its header; download it again")
    return np.memmap(path, dtype="<u2", mode="r", offset=1024, shape=(int(header[2]),))


def find_shards(c: SimpleNamespace, part: str) -> list[Path]:
    return sorted(Path(c.data_path).glob(f"fineweb_{part}_*.bin"))


def shard_stream(shards: list[np.ndarray], seed: int) -> Iterator[np.ndarray]:
    """Shards in an order and from a start that the seed draws; the first is finished at the end."""
    draw = random.Random(seed)
    order = draw.sample(range(len(shards)), len(shards))
    start = draw.randrange(len(shards[order[0]]))
    while True:
        yield shards[order[0]][start:]
        for index in order[1:]:
            yield shards[index]
        yield shards[order[0]][:start]


def doc_stream(pieces: list[str], tokenizer: Tokenizer, seed: int) -> Iterator[np.ndarray]:
    """Pieces of documents in a new order every round, encoded only as they are needed."""
    draw = random.Random(seed)
    while True:
        order = draw.sample(pieces, len(pieces))
        for at in range(0, len(order), 256):
            ids = tokenizer.encode_all(order[at : at + 256])
            yield np.fromiter(chain.from_iterable([BOS, *doc] for doc in ids), dtype=np.uint16)


def cut(doc: str, size: int) -> Iterator[str]:
    """Pieces of a document that end with a line, once they have `size` characters. 0: one piece."""
    begin = 0
    while size and len(doc) - begin > 2 * size and (end := doc.find("\n", begin + size) + 1):
        yield doc[begin:end]
        begin = end
    yield doc[begin:]


class Batches:
    """Cuts a stream into batches. Rows are shared out over micro-steps and ranks."""

    def __init__(self, stream: Iterator[np.ndarray], c: SimpleNamespace, accum: int, rank: int, world: int):
        self.stream, self.length = stream, c.train_seq_len
        self.rows, self.accum, self.rank, self.world = c.train_batch_tokens // c.train_seq_len, accum, rank, world
        if self.rows < 1 or self.rows % (accum * world):
            raise SystemExit(
                f"train_batch_tokens={c.train_batch_tokens} is no multiple of "
                f"train_seq_len={c.train_seq_len} x {accum} micro-steps x {world} processes"
            )
        self.kept = np.zeros(0, dtype=np.uint16)
        self.pool = max(self.rows, c.shuffle_rows // self.rows * self.rows)
        self.draw = np.random.default_rng(c.seed) if c.shuffle_rows else None
        self.ready = np.zeros((0, self.length + 1), dtype=np.uint16)

    def next(self) -> list[np.ndarray]:
        """This rank's micro-batches of the next step, each with one token more than a row for the targets."""
        if not len(self.ready):
            self.ready = self.fill()
        rows, self.ready = self.ready[: self.rows], self.ready[self.rows :]
        each = self.rows // (self.accum * self.world)
        return [rows[(m * self.world + self.rank) * each :][:each] for m in range(self.accum)]

    def fill(self) -> np.ndarray:
        """The next rows of the stream, shuffled: rows of one document shall not meet in one batch."""
        need = self.pool * self.length + 1
        parts, have = [self.kept], len(self.kept)
        while have < need:
            parts.append(next(self.stream))
            have += len(parts[-1])
        tokens = np.concatenate(parts)
        self.kept = tokens[need - 1 :]
        rows = np.lib.stride_tricks.sliding_window_view(tokens[:need], self.length + 1)[:: self.length]
        return rows if self.draw is None else self.draw.permutation(rows)


# ----------------------------------------------------------------------------------------------------------
# Model


class Attention(nn.Module):
    def __init__(self, c: SimpleNamespace):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.num_heads, c.num_kv_heads, c.model_dim // c.num_heads
        self.q = matrix(c.model_dim, c.model_dim)
        self.k = matrix(self.kv_heads * self.head_dim, c.model_dim)
        self.v = matrix(self.kv_heads * self.head_dim, c.model_dim)
        self.out = matrix(c.model_dim, c.model_dim, zero=True)
        self.gain = nn.Parameter(torch.full((c.num_heads,), float(getattr(c, "qk_gain_init", 1.0))))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, dim = x.shape
        q = linear(x, self.q).view(rows, length, self.heads, self.head_dim)
        k = linear(x, self.k).view(rows, length, self.kv_heads, self.head_dim)
        v = linear(x, self.v).view(rows, length, self.kv_heads, self.head_dim)
        q = rotate(norm(q), cos, sin) * self.gain.to(x.dtype)[:, None]
        k = rotate(norm(k), cos, sin)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        shared = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        return linear(y.transpose(1, 2).reshape(rows, length, dim), self.out)


class MLP(nn.Module):
    def __init__(self, c: SimpleNamespace):
        super().__init__()
        self.activation = c.activation
        self.up = matrix(c.mlp_mult * c.model_dim, c.model_dim)
        self.down = matrix(c.model_dim, c.mlp_mult * c.model_dim, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        h = linear(x, self.up)
        if self.activation == "relu2":
            h = F.relu(h).square()
        elif self.activation == "leaky_relu2":
            h = F.leaky_relu(h, 0.5).square()
        elif self.activation == "gelu":
            h = F.gelu(h)
        else:
            h = F.silu(h)
        return linear(h, self.down)


class Block(nn.Module):
    """Attention and MLP, each with a scale per channel; its input is mixed with the embeddings."""

    def __init__(self, c: SimpleNamespace):
        super().__init__()
        self.attention, self.mlp = Attention(c), MLP(c)
        self.attention_scale = nn.Parameter(torch.ones(c.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(c.model_dim))
        self.mix = nn.Parameter(torch.stack([torch.ones(c.model_dim), torch.zeros(c.model_dim)]))

    def forward(self, x: Tensor, x0: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        mix = self.mix.to(x.dtype)
        x = mix[0] * x + mix[1] * x0
        x = x + self.attention_scale.to(x.dtype) * self.attention(norm(x), cos, sin)
        return x + self.mlp_scale.to(x.dtype) * self.mlp(norm(x))


class GPT(nn.Module):
    """U-Net of blocks: the second half gets the first half's outputs back, in reverse order."""

    def __init__(self, c: SimpleNamespace):
        super().__init__()
        self.softcap, self.dtype = c.logit_softcap, torch.float32
        self.embedding = nn.Parameter(torch.randn(c.vocab_size, c.model_dim) * getattr(c, "tied_embed_init_std", 0))
        self.down = c.num_layers // 2
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.num_layers))
        self.skip = nn.Parameter(torch.ones(self.down, c.model_dim))
        self.head = None if c.tie_embeddings else nn.Parameter(torch.zeros(c.vocab_size, c.model_dim))
        angles = torch.arange(0, c.model_dim // c.num_heads, 2) * -(math.log(c.rope_base) * c.num_heads / c.model_dim)
        angles = torch.outer(torch.arange(c.train_seq_len), angles.exp())
        self.register_buffer("cos", angles.cos()[:, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None], persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        x = norm(F.embedding(tokens, self.embedding).to(self.dtype))
        length = tokens.shape[1]
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        x0, skips = x, []
        for i, block in enumerate(self.blocks):
            if i >= len(self.blocks) - self.down:
                x = x + self.skip[len(skips) - 1].to(x.dtype) * skips.pop()
            x = block(x, x0, cos, sin)
            if i < self.down:
                skips.append(x)
        return norm(x)

    def output(self) -> Tensor:
        return self.embedding if self.head is None else self.head

    def logits(self, hidden: Tensor) -> Tensor:
        logits = linear(hidden, self.output()).float()
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        hidden = self.hidden(tokens).flatten(0, 1)
        if hidden.is_cuda:  # compiled there
            return F.cross_entropy(self.logits(hidden), targets.flatten())
        return TiledLoss.apply(hidden.float(), self.output(), targets.flatten(), self.softcap)


class TiledLoss(torch.autograd.Function if ROLE in ("train", "contest", "score") else object):
    """Mean cross-entropy of soft-capped logits on a CPU: a few rows at a time, gradients at once."""

    TILE = 1 << 18  # logits, 1 MB

    @staticmethod
    def forward(ctx, hidden, weight, targets, softcap):
        rows = max(1, TiledLoss.TILE // weight.shape[0])
        weight, hidden = weight.detach(), hidden.detach()
        grad_hidden, grad_weight, loss = torch.empty_like(hidden), torch.zeros_like(weight), 0.0
        for at in range(0, len(hidden), rows):
            h, target = hidden[at : at + rows], targets[at : at + rows, None]
            z = h @ weight.t()
            slope = None
            if softcap:
                t = z.div_(softcap).tanh_()
                slope = torch.addcmul(torch.ones(()), t, t, value=-1)
                z = t.mul_(softcap)
            top = z.amax(1, keepdim=True)
            loss += float((top - z.gather(1, target)).sum())
            p = z.sub_(top).exp_()
            total = p.sum(1, keepdim=True)
            loss += float(total.log().sum())
            p.div_(total).scatter_add_(1, target, torch.full_like(total, -1.0))
            if slope is not None:
                p.mul_(slope)
            torch.mm(p, weight, out=grad_hidden[at : at + rows])
            grad_weight.addmm_(p.t(), h)
        n = len(hidden)
        ctx.save_for_backward(grad_hidden.div_(n), grad_weight.div_(n))
        return hidden.new_tensor(loss / n)

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad, grad_weight * grad, None, None


def matrix(rows: int, columns: int, zero: bool = False):
    bound = 0.0 if zero else columns**-0.5
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Weights are kept in fp32 and used in the precision of the activations."""
    return F.linear(x, weight.to(x.dtype))


def norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


# ----------------------------------------------------------------------------------------------------------
# Optimisers: Muon for the matrices of the blocks, Adam for the rest.


def newton_schulz(g: Tensor, steps: int) -> Tensor:
    """Roughly the nearest orthogonal matrix, for each of a stack, by a quintic iteration."""
    x = g.bfloat16() if g.is_cuda else g.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


class Muon:
    """Momentum, orthogonalised. Matrices of one shape are a stack; each rank works on its own part of it."""

    def __init__(self, matrices: list[Tensor], c: SimpleNamespace, rank: int, world: int, orthogonal=newton_schulz):
        self.steps, self.decay, self.rank, self.world = c.muon_backend_steps, c.muon_weight_decay, rank, world
        self.orthogonal, self.stacks = orthogonal, []
        for shape in dict.fromkeys(m.shape for m in matrices):
            same = [m for m in matrices if m.shape == shape]
            share = -(-len(same) // world)
            self.stacks.append((same, share, same[0].new_zeros(share, *shape)))

    def step(self, lr: float, momentum: float) -> None:
        for same, share, velocity in self.stacks:
            grads = torch.stack([m.grad for m in same])
            if self.world > 1:
                padding = share * self.world - len(same)
                grads = own_share(F.pad(grads, (0, 0, 0, 0, 0, padding)), share, self.rank, self.world)
            velocity.mul_(momentum).add_(grads)
            update = self.orthogonal(grads.add(velocity, alpha=momentum), self.steps).to(velocity.dtype)
            if self.world > 1:
                whole = update.new_empty(share * self.world, *update.shape[1:])
                dist.all_gather_into_tensor(whole, update.contiguous())
                update = whole[: len(same)]
            rows, columns = same[0].shape
            if self.decay:
                torch._foreach_mul_(same, 1 - lr * self.decay)
            torch._foreach_add_(same, list(update.unbind()), alpha=-lr * max(1, rows / columns) ** 0.5)

    def reset(self) -> None:
        for _, _, velocity in self.stacks:
            velocity.zero_()


def own_share(stack: Tensor, share: int, rank: int, world: int) -> Tensor:
    """This rank's part of the mean over ranks."""
    if stack.is_cuda:
        part = stack.new_empty(share, *stack.shape[1:])
        dist.reduce_scatter_tensor(part, stack, op=dist.ReduceOp.AVG)
        return part
    dist.all_reduce(stack)  # gloo can't scatter
    return stack[rank * share :][:share] / world


class Adam:
    """torch's own step without what it wraps around it: for that it loads its compiler, which takes seconds."""

    def __init__(self, params: list[Tensor], c: SimpleNamespace):
        self.params, self.options = params, {"beta1": c.beta1, "beta2": c.beta2, "eps": c.adam_eps, "weight_decay": 0.0}
        self.reset()

    def reset(self) -> None:
        zeros, count = torch.zeros_like, {"size": (), "dtype": torch.float}
        self.state = [(zeros(p), zeros(p), p.new_zeros(**count)) for p in self.params]

    def step(self, lr: float) -> None:
        due = [(p, p.grad, *state) for p, state in zip(self.params, self.state, strict=True) if p.grad is not None]
        if due:
            params, grads, means, squares, steps = map(list, zip(*due, strict=True))
            torch._foreach_add_(steps, 1)
            fixed = {**self.options, "lr": lr, "amsgrad": False, "maximize": False}
            torch._fused_adam_(params, grads, means, squares, [], steps, **fixed)


class Optimiser:
    """Both optimisers, their schedules, and the reduction of gradients over ranks."""

    def __init__(self, model: GPT, c: SimpleNamespace, rank: int, world: int, orthogonal=newton_schulz):
        self.c, self.world = c, world
        inner = list(model.blocks.parameters())
        self.muon = Muon([p for p in inner if p.ndim == 2 and min(p.shape) > 2], c, rank, world, orthogonal)
        embed_lr = c.tied_embed_lr if c.tie_embeddings else c.embed_lr
        groups = [{"params": [model.embedding], "lr": embed_lr}]
        groups += [] if model.head is None else [{"params": [model.head], "lr": c.head_lr}]
        vectors = [p for p in inner if p.ndim < 2 or min(p.shape) <= 2]
        groups.append({"params": [*vectors, model.skip], "lr": c.scalar_lr})
        self.adams = [(Adam(group["params"], c), group["lr"]) for group in groups]
        self.others = [p for group in groups for p in group["params"]]
        self.every = [p for same, _, _ in self.muon.stacks for p in same] + self.others

    def step(self, step: int, scale: float) -> None:
        c = self.c
        if self.world > 1:
            for p in self.every if c.grad_clip_norm > 0 else self.others:  # Muon reduces its own
                dist.all_reduce(p.grad)
                p.grad.div_(self.world)
        if c.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.every, c.grad_clip_norm)
        warm = min(1.0, step / c.muon_momentum_warmup_steps) if c.muon_momentum_warmup_steps else 1.0
        with torch.no_grad():
            self.muon.step(c.matrix_lr * scale, (1 - warm) * c.muon_momentum_warmup_start + warm * c.muon_momentum)
            for adam, rate in self.adams:
                adam.step(rate * scale)
        for p in self.every:
            p.grad = None

    def reset(self) -> None:
        self.muon.reset()
        for adam, _ in self.adams:
            adam.reset()


def warmdown(c: SimpleNamespace, step: int, steps: int, elapsed_s: float) -> float:
    """Learning rates fall linearly to zero at the end of the run, whichever limit ends it."""
    if c.max_wallclock_seconds > 0 and step:
        each = elapsed_s / step
        left, whole = max(0.0, c.max_wallclock_seconds - elapsed_s) / each, c.max_wallclock_seconds / each
        left, whole = min(left, steps - step), min(whole, steps)
    else:
        left, whole = steps - step, steps
    last = c.warmdown_iters or c.warmdown_frac * whole
    return min(1.0, left / last) if last > 0 else 1.0


# ----------------------------------------------------------------------------------------------------------
# Artifact: a fixed head, then four compressed sections: settings (JSON), tokenizer, weights as small
# integers, everything else as fp16. Nothing in it is code, and loading bounds every size before it allocates.

MAGIC = b"CADDIE1"
HEAD = struct.Struct("<7sB8I")  # magic, compressor, then packed and plain size of each section
COMPRESSORS = ("zlib", "zstd", "brotli", "lzma")
LARGEST = 1 << 30
LZMA = {"preset": 9 | 1 << 31, "lc": 0, "lp": 0, "pb": 0}


def lzma_filters() -> list[dict[str, int]]:
    import lzma

    return [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 24, **LZMA}]


def compress(data: bytes, compressor: str) -> bytes:
    if compressor == "zlib":
        import zlib

        return zlib.compress(data, 9)
    if compressor == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=22, write_content_size=False).compress(data)
    if compressor == "brotli":
        import brotli

        return brotli.compress(data, quality=11, lgwin=24)
    import lzma

    return lzma.compress(data, lzma.FORMAT_RAW, filters=lzma_filters())


def decompress(data: bytes, compressor: str, size: int) -> bytes:
    """Exactly `size` bytes, or an error: a small file can't fill the memory."""
    if compressor == "zlib":
        import zlib

        out = zlib.decompressobj().decompress(data, size + 1)
    elif compressor == "zstd":
        import zstandard

        out = zstandard.ZstdDecompressor().stream_reader(data).read(size + 1)
    elif compressor == "brotli":
        import brotli

        out, stream = b"", brotli.Decompressor()
        out = stream.process(data, output_buffer_limit=size + 1)
        while len(out) <= size and not stream.is_finished():
            more = stream.process(b"", output_buffer_limit=size + 1 - len(out))
            if not more:
                break
            out += more
    else:
        import lzma

        out = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters()).decompress(data, size + 1)
    if len(out) != size:
        raise ValueError("artifact: a section does not have the size it declares")
    return out


def quantise(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers and one fp16 scale a row. Few bits: the scale with the least squared error of several."""
    top = 2 ** (bits - 1) - 1
    peak = np.abs(weights).max(axis=1, keepdims=True)
    best = best_error = None
    for clip in (1.0,) if bits >= 8 else (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6):
        scale = np.maximum((clip * peak / top).astype(np.float16), np.float16(6e-8))
        codes = np.clip(np.rint(weights / scale.astype(np.float32)), -top, top)
        error = np.square(codes * scale.astype(np.float32) - weights).sum(axis=1, keepdims=True)
        if best is None:
            best, best_error = (codes, scale), error
            continue
        better = error < best_error
        best = np.where(better, codes, best[0]), np.where(better, scale, best[1])
        best_error = np.where(better, error, best_error)
    return best[0].astype(np.int8), best[1]


def pack_bits(codes: np.ndarray, bits: int) -> bytes:
    wide = (codes.astype(np.uint8)[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(wide.reshape(-1)).tobytes()


def unpack_bits(data: bytes, count: int, bits: int) -> np.ndarray:
    wide = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[: count * bits].reshape(count, bits)
    return wide @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint8)).astype(np.uint8)


def lay_out(tensors: list[tuple[np.ndarray, int]], how: int) -> bytes:
    """Codes of all matrices. how & 1: bits really packed, else a byte each; how & 2: column by column."""
    out = []
    for codes, bits in tensors:
        flat = (codes.T if how & 2 else codes).reshape(-1).astype(np.int16) + 2 ** (bits - 1)
        out.append(pack_bits(flat, bits) if how & 1 else flat.astype(np.uint8).tobytes())
    return b"".join(out)


def take_apart(data: bytes, shapes: list[tuple[tuple[int, int], int]], how: int) -> list[np.ndarray]:
    at, out = 0, []
    for (rows, columns), bits in shapes:
        count = rows * columns
        size = -(-count * bits // 8) if how & 1 else count
        part = data[at : at + size]
        if len(part) != size:
            raise ValueError("artifact: too few weights")
        at += size
        flat = unpack_bits(part, count, bits) if how & 1 else np.frombuffer(part, dtype=np.uint8)
        codes = flat.astype(np.int16) - 2 ** (bits - 1)
        out.append(codes.reshape(columns, rows).T if how & 2 else codes.reshape(rows, columns))
    if at != len(data):
        raise ValueError("artifact: too many weights")
    return out


def is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and min(shape) > 2


def bits_of(name: str, c: SimpleNamespace) -> int:
    return c.embed_bits if name in ("embedding", "head") else c.weight_bits


def to_artifact(weights: dict[str, np.ndarray], tokenizer: Tokenizer, c: SimpleNamespace) -> bytes:
    """The artifact's bytes. Weights are laid out in the way that compresses best, where trying is cheap."""
    codes, floats = [], []
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise SystemExit(f"training diverged: {name} is not finite, so there is no artifact")
        if is_matrix(value.shape):
            whole, scale = quantise(value, bits_of(name, c))
            codes.append((whole, bits_of(name, c)))
            floats.append(scale)
        else:
            floats.append(value.astype(np.float16))
    layouts = range(4) if sum(w.size for w, _ in codes) < 1 << 21 else range(1)
    packed = {how: compress(lay_out(codes, how), c.compressor) for how in layouts}
    how = min(packed, key=lambda h: (len(packed[h]), h))
    text = json.dumps([how, {key: getattr(c, key) for key in SHAPE}], separators=(",", ":"))
    pieces, rest = "\0".join(tokenizer.pieces).encode(), b"".join(f.tobytes() for f in floats)
    plain = [text.encode(), pieces, lay_out(codes, how), rest]
    small = [packed[how] if i == 2 else compress(part, c.compressor) for i, part in enumerate(plain)]
    sizes = [len(part) for pair in zip(small, plain, strict=True) for part in pair]
    return HEAD.pack(MAGIC, COMPRESSORS.index(c.compressor), *sizes) + b"".join(small)


def sections(data: bytes) -> tuple[int, SimpleNamespace, Tokenizer, bytes, bytes]:
    """Take an artifact apart, strictly: layout, settings, tokenizer, weights, floats."""
    if len(data) < HEAD.size:
        raise ValueError("artifact: too short")
    magic, compressor, *sizes = HEAD.unpack_from(data)
    if magic != MAGIC or compressor >= len(COMPRESSORS) or max(sizes) > LARGEST:
        raise ValueError("artifact: not one of this script's")
    if HEAD.size + sum(sizes[::2]) != len(data):
        raise ValueError("artifact: its length is not what its head says")
    at, parts = HEAD.size, []
    for packed, plain in zip(sizes[::2], sizes[1::2], strict=True):
        parts.append(decompress(data[at : at + packed], COMPRESSORS[compressor], plain))
        at += packed
    header = json.loads(parts[0])
    if (
        not isinstance(header, list)
        or len(header) != 2
        or header[0] not in (0, 1, 2, 3)
        or set(header[1]) != set(SHAPE)
    ):
        raise ValueError("artifact: its settings are not the ones this script knows")
    c = check(SimpleNamespace(**header[1]))
    tokenizer = Tokenizer(parts[1].decode().split("\0"))
    if tokenizer.vocab != c.vocab_size:
        raise ValueError("artifact: its tokenizer has another vocabulary than its model")
    return header[0], c, tokenizer, parts[2], parts[3]


def from_artifact(data: bytes) -> tuple[GPT, Tokenizer, SimpleNamespace]:
    how, c, tokenizer, weights, floats = sections(data)
    model = GPT(c)  # on no "meta" device: for that torch loads its compiler, which takes longer than most of the rest
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    matrices = [(shape, bits_of(name, c)) for name, shape in shapes.items() if is_matrix(shape)]
    codes = iter(take_apart(weights, matrices, how))
    numbers, at, state = np.frombuffer(floats, dtype="<f2").astype(np.float32), 0, {}
    for name, shape in shapes.items():
        count = shape[0] if is_matrix(shape) else math.prod(shape)
        part = numbers[at : at + count]
        at += count
        value = next(codes) * part[:, None] if is_matrix(shape) else part.reshape(shape)
        state[name] = torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    if at != len(numbers):
        raise ValueError("artifact: too many numbers")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False), tokenizer, c


# ----------------------------------------------------------------------------------------------------------
# Scoring. Windows lie on the grid of a document's own positions, and a document sees itself only; of a stream, on the
# grid of all positions. So a token's distribution depends on the tokens before it there alone, wherever chunks and
# batches end.


class Scorer:
    """Nats of tokens, chunk after chunk; and the distribution anywhere, by the same computation."""

    def __init__(self, model: GPT, c: SimpleNamespace, batch_tokens: int = 8192):
        self.model, self.length, self.batch_tokens = model, c.train_seq_len, batch_tokens
        self.stride = min(c.eval_stride, c.train_seq_len)
        self.stream, self.separators = bool(c.eval_stream), bool(c.separators)
        self.device, self.tile = model.embedding.device, max(1, batch_tokens // 4)
        self.reset()

    def reset(self) -> None:
        self.position = self.doc_start = 0
        self.tail = np.zeros(0, dtype=np.int64)  # the last tokens of the document that goes on

    def window(self, offset: int) -> int:
        """Where the window that scores this offset of a document begins; -1 is the BOS before it."""
        return max(-1, (offset // self.stride + 1) * self.stride - 1 - self.length)

    def score(self, tokens: np.ndarray, starts: list[int]) -> np.ndarray:
        """Nats of the next chunk's tokens. `starts`: where in the chunk a document begins."""
        starts, rows, at = [] if self.stream else starts, [], 0
        for end in [*[s for s in starts if s > 0], len(tokens)]:
            if at in starts:
                self.doc_start, self.tail = self.position + at, self.tail[:0]
            rows += self.rows(tokens[at:end], self.position + at - self.doc_start, at)
            self.tail = np.concatenate([self.tail, tokens[at:end]])[-self.length :]
            at = end
        self.position += len(tokens)
        with torch.no_grad():
            return self.nats(rows, len(tokens))

    def rows(self, tokens: np.ndarray, offset: int, at: int) -> list[tuple[np.ndarray, int, int]]:
        """Windows over a stretch of a document: text, how many of its last tokens count, where these go."""
        start = [[BOS]] if len(self.tail) == offset else []
        known = np.concatenate([*start, self.tail, tokens])
        base = offset + len(tokens) - len(known)  # the offset of known[0]; -1 if that is BOS
        out, done = [], offset
        while done < offset + len(tokens):
            begin = self.window(done)
            end = (done // self.stride + 1) * self.stride
            while self.window(end) == begin:  # the first windows of a document begin at the same place
                end += self.stride
            end = min(end, offset + len(tokens))
            out.append((known[begin - base : end - base], end - done, at + done - offset))
            done = end
        return out

    def nats(self, rows: list[tuple[np.ndarray, int, int]], n: int) -> np.ndarray:
        nats = np.zeros(n, dtype=np.float32)
        for batch in self.batches(sorted(rows, key=lambda row: -len(row[0]))):
            width = len(batch[0][0]) - 1
            inputs, targets, index, where = np.zeros((len(batch), width), dtype=np.int64), [], [], []
            for i, (text, count, to) in enumerate(batch):
                size = len(text) - 1
                inputs[i, :size] = text[:-1]
                targets.append(text[-count:])
                index.append(np.arange(i * width + size - count, i * width + size))
                where.append(np.arange(to, to + count))
            hidden = self.hidden(inputs, np.concatenate(index))
            answer = torch.from_numpy(np.concatenate(targets)).to(self.device)
            tiles = zip(hidden.split(self.tile), answer.split(self.tile), strict=True)
            part = torch.cat([F.cross_entropy(self.model.logits(h), a, reduction="none") for h, a in tiles])
            nats[np.concatenate(where)] = part.cpu().numpy()
        return nats

    def peek(self, items: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
        """Log-probabilities of the next token for each (position, its document's start, tokens before it)."""
        rows = []
        for i, (position, start, context) in enumerate(items):
            offset = position if self.stream else position - start
            begin = self.window(offset)
            need = offset - max(begin, 0)
            text = context[len(context) - need :]
            rows.append((np.concatenate([[BOS] if begin < 0 else [], text, [0]]).astype(np.int64), 1, i))
        with torch.no_grad():
            return self.distributions(rows)

    def distributions(self, rows: list[tuple[np.ndarray, int, int]]) -> np.ndarray:
        out = np.zeros((len(rows), self.model.embedding.shape[0]), dtype=np.float32)
        for batch in self.batches(sorted(rows, key=lambda row: -len(row[0]))):
            inputs = np.zeros((len(batch), len(batch[0][0]) - 1), dtype=np.int64)
            for i, (text, _, _) in enumerate(batch):
                inputs[i, : len(text) - 1] = text[:-1]
            index = np.array([i * inputs.shape[1] + len(text) - 2 for i, (text, _, _) in enumerate(batch)])
            logits = self.model.logits(self.hidden(inputs, index))
            out[[to for _, _, to in batch]] = logits.log_softmax(-1).cpu().numpy()
        return out

    def hidden(self, inputs: np.ndarray, index: np.ndarray) -> Tensor:
        hidden = self.model.hidden(torch.from_numpy(inputs).to(self.device)).flatten(0, 1)
        return hidden[torch.from_numpy(index).to(self.device)]

    def batches(self, rows: list[tuple[np.ndarray, int, int]]) -> Iterator[list[tuple[np.ndarray, int, int]]]:
        """Rows of similar length together, longest first."""
        at = 0
        while at < len(rows):
            size = max(1, self.batch_tokens // len(rows[at][0]))
            yield rows[at : at + size]
            at += size


# ----------------------------------------------------------------------------------------------------------
# Answering the judge: one request, one answer, in frames of length, type and payload.

FRAME = struct.Struct("<IB")
LARGEST_FRAME = 64 << 20
RESET, SCORE, PEEK, ENCODE, DECODE = 1, 2, 3, 4, 5
MANIFEST, NATS, LOGPROBS, TOKENS, BYTES, ERROR = 129, 130, 131, 132, 133, 255


def receive(stream: io.BufferedIOBase) -> tuple[int, bytes] | None:
    head = stream.read(FRAME.size)
    if not head:
        return None
    size, kind = FRAME.unpack(head)
    if size > LARGEST_FRAME:
        raise ValueError("frame too large")
    payload = stream.read(size)
    if len(payload) != size:
        raise ValueError("frame cut short")
    return kind, payload


def serve(role: str, environ: dict[str, str]) -> None:
    data = Path(environ["ARTIFACT"]).read_bytes()
    answer = scoring(data) if role == "score" else tokenizing(data, role)
    with socket.socket(fileno=int(environ["SCORE_FD"])) as channel, channel.makefile("rb") as stream:
        while (frame := receive(stream)) is not None:
            try:
                kind, payload = answer(*frame)
                if len(payload) > LARGEST_FRAME:
                    raise ValueError("the answer does not fit into a frame; ask for less")
            except (ValueError, struct.error, IndexError) as error:
                kind, payload = ERROR, f"{type(error).__name__}: {error}".encode()
            channel.sendall(FRAME.pack(len(payload), kind) + payload)
            if kind == ERROR:
                raise SystemExit(payload.decode())


def scoring(data: bytes):
    model, tokenizer, c = from_artifact(data)
    model = to_device(model)
    scorer = Scorer(model, c, batch_tokens=8192 if model.dtype == torch.float32 else 131072)
    numerics = "fp32" if model.dtype == torch.float32 else "bf16"
    manifest = {"vocab": tokenizer.vocab, "context": c.train_seq_len, "state": "none", "numerics": numerics}
    manifest |= {"separator": BOS if c.separators else None}

    def numbers(payload: bytes, at: int, count: int, below: int) -> np.ndarray:
        found = np.frombuffer(payload, dtype="<u4", count=count, offset=at).astype(np.int64)
        if count and found.max() >= below:
            raise ValueError("a number is out of range")
        return found

    def answer(kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == RESET:
            struct.unpack("<Q", payload)  # nothing here is drawn
            scorer.reset()
            return MANIFEST, json.dumps(manifest).encode()
        if kind == SCORE:
            n, n_starts = struct.unpack_from("<II", payload)
            if len(payload) != 8 + 4 * (n + n_starts):
                raise ValueError("score: wrong length")
            tokens = numbers(payload, 8, n, tokenizer.vocab)
            starts = numbers(payload, 8 + 4 * n, n_starts, max(n, 1)).tolist()
            return NATS, scorer.score(tokens, starts).astype("<f4").tobytes()
        if kind == PEEK:
            (n,) = struct.unpack_from("<I", payload)
            at, items = 4, []
            for _ in range(n):
                position, start, size = struct.unpack_from("<QQI", payload, at)
                if start > position:
                    raise ValueError("peek: a document that starts after the position")
                items.append((position, start, numbers(payload, at + 20, size, tokenizer.vocab)))
                at += 20 + 4 * size
            return LOGPROBS, scorer.peek(items).astype("<f4").tobytes()
        raise ValueError(f"unknown request {kind}")

    return answer


def tokenizing(data: bytes, role: str):
    tokenizer = sections(data)[2]

    def answer(kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == ENCODE and role == "encode":
            return TOKENS, np.array(tokenizer.encode(payload), dtype="<u4").tobytes()
        if kind == DECODE and role == "decode":
            return BYTES, tokenizer.decode(np.frombuffer(payload, dtype="<u4").tolist())
        raise ValueError(f"unknown request {kind}")

    return answer


# ----------------------------------------------------------------------------------------------------------
# Training


def to_device(model: GPT) -> GPT:
    """One GPU if there is one, in bf16; else the CPU, in fp32."""
    if torch.cuda.is_available():
        model = model.to("cuda")
        model.dtype = torch.bfloat16
    return model


class Processes:
    """This process among those that torchrun started."""

    def __init__(self):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.cuda = torch.cuda.is_available()
        if 8 % self.world:
            raise SystemExit(f"WORLD_SIZE={self.world} must divide 8")
        if self.cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            torch.set_float32_matmul_precision("high")
        if self.world > 1:
            dist.init_process_group("nccl" if self.cuda else "gloo")

    def log(self, text: str, end: str = "\n") -> None:
        if self.rank == 0:
            print(text, end=end, flush=True)

    def sum(self, *values: float) -> list[float]:
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device="cuda" if self.cuda else "cpu")
        dist.all_reduce(total)
        return total.tolist()

    def synchronise(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


class Corpus:
    """Training stream, holdout and tokenizer of one run."""

    def __init__(self, c: SimpleNamespace):
        path = find_docs(c, "train")
        self.holdout_docs: list[str] = []
        self.holdout_tokens = np.zeros(0, dtype=np.uint16)
        if path:
            self.from_docs(read_docs(path), c)
        elif find_shards(c, "train"):
            self.from_shards([read_shard(path) for path in find_shards(c, "train")], c)
        else:
            raise SystemExit(f"no docs.jsonl and no fineweb_train_*.bin in DATA_PATH={c.data_path}")
        if self.tokenizer.vocab != c.vocab_size:
            raise SystemExit(f"the tokenizer has {self.tokenizer.vocab} tokens, VOCAB_SIZE={c.vocab_size}")

    def from_docs(self, docs: list[str], c: SimpleNamespace) -> None:
        """Holdout and tokenizer are the same for all seeds; only the stream is not."""
        docs = random.Random(0).sample([doc for doc in docs if doc], len(docs) - docs.count(""))
        held, size = 0, 0
        while held < len(docs) // 2 and size < c.holdout:
            size += len(docs[held].encode())
            held += 1
        self.holdout_docs, docs = docs[:held], docs[held:]
        sample, size = [], 0
        for doc in docs:
            if size > c.tokenizer_sample:
                break
            sample.append(doc)
            size += len(doc.encode())
        self.tokenizer = Tokenizer.train(sample, c.vocab_size)
        pieces = [piece for doc in docs for piece in cut(doc, c.doc_piece)]
        self.stream = doc_stream(pieces, self.tokenizer, c.seed)
        self.size = f"docs:{len(docs)}"

    def from_shards(self, shards: list[np.ndarray], c: SimpleNamespace) -> None:
        self.tokenizer = Tokenizer.from_proto(Path(c.tokenizer_path).read_bytes())
        cut = len(shards[-1]) - min(c.holdout, len(shards[-1]) // 2)
        self.holdout_tokens, shards = shards[-1][cut:], [*shards[:-1], shards[-1][:cut]]
        self.stream = shard_stream(shards, c.seed)
        self.size = f"shards:{len(shards)} tokens:{sum(map(len, shards))}"


class Watch:
    """Training time without validation, equal on every rank: measured at times, reckoned in between."""

    EVERY = 10

    def __init__(self, procs: Processes, before: float):
        self.procs, self.before, self.measured, self.at, self.each = procs, before, before, 0, 0.0
        self.resume()

    def resume(self) -> None:
        self.procs.synchronise()
        self.began = time.perf_counter()

    def measure(self, step: int) -> float:
        self.procs.synchronise()
        now = self.before + time.perf_counter() - self.began
        self.measured, self.at = self.procs.sum(now)[0] / self.procs.world, step
        self.each = self.measured / max(1, step)
        return self.measured

    def seconds(self, step: int) -> float:
        alone = self.procs.world == 1 and not self.procs.cuda
        if alone or step - self.at >= self.EVERY or step < self.EVERY:
            self.measure(step)
        return self.measured + (step - self.at) * self.each


class Run:
    """One training run: model, optimisers, data, and the number of steps it may take."""

    def __init__(self, c: SimpleNamespace, procs: Processes, corpus: Corpus, steps: int):
        torch.manual_seed(c.seed)
        self.c, self.procs, self.corpus, self.steps = c, procs, corpus, steps
        self.accum = c.grad_accum_steps or 8 // procs.world
        self.batches = Batches(self.corpus.stream, c, self.accum, procs.rank, procs.world)
        self.model = to_device(GPT(c))
        self.forward, orthogonal = self.model, newton_schulz
        if procs.cuda:
            self.forward = torch.compile(self.model, dynamic=False, fullgraph=True)
            orthogonal = torch.compile(newton_schulz)
        self.optimiser = Optimiser(self.model, c, procs.rank, procs.world, orthogonal)

    def step(self, step: int, micro: list[np.ndarray], scale: float) -> Tensor:
        total = torch.zeros((), device="cuda" if self.procs.cuda else "cpu")
        for rows in micro:
            tokens = torch.from_numpy(rows.astype(np.int64))
            if self.procs.cuda:
                tokens = tokens.pin_memory().to("cuda", non_blocking=True)
            loss = self.forward(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()) / self.accum
            loss.backward()
            total += loss.detach()
        self.optimiser.step(step, scale)
        return total

    def warm_up(self) -> None:
        """Compile everything on made-up tokens, then forget what was learnt. No clock runs yet."""
        saved = {name: value.clone() for name, value in self.model.state_dict().items()}
        rows = self.batches.rows // (self.accum * self.procs.world)
        made_up = [np.full((rows, self.batches.length + 1), BOS, dtype=np.uint16)] * self.accum
        for step in range(self.c.warmup_steps):
            self.step(step, made_up, 1.0)
            if step + 1 == self.c.warmup_steps or (step + 1) % 10 == 0:
                self.procs.log(f"warmup_step:{step + 1}/{self.c.warmup_steps}")
        self.model.load_state_dict(saved)
        self.optimiser.reset()

    def train(self, validate=None) -> None:
        c, steps, limit = self.c, self.steps, self.c.max_wallclock_seconds
        if c.warmup_steps:
            self.warm_up()
        every = c.train_log_every or max(1, steps // 50)
        step, before = self.load()
        watch, shown = Watch(self.procs, before), before
        while True:
            seconds = watch.seconds(step)
            last = step >= steps or 0 < limit <= seconds
            self.leave(step, seconds)
            if validate and c.val_loss_every and (last or step % c.val_loss_every == 0):
                watch.before = watch.measure(step)
                self.procs.log(f"step:{step}/{steps} {validate(self.model)} {progress(watch.measured, step)}")
                watch.resume()
            if last:
                break
            loss = self.step(step, self.batches.next(), warmdown(c, step, steps, seconds))
            step += 1
            if step <= 10 or step % every == 0 or 0 < 0.02 * limit <= seconds - shown:
                loss, shown = self.procs.sum(float(loss))[0] / self.procs.world, seconds
                self.procs.log(f"step:{step}/{steps} train_loss:{loss:.4f} {progress(watch.seconds(step), step)}")
        if step < steps:
            self.procs.log(f"stopping_early: wallclock_cap train_time:{1e3 * seconds:.0f}ms step:{step}/{steps}")

    def load(self) -> tuple[int, float]:
        """The step to go on from, where another machine was taken away, and the seconds before it. Batches are drawn
        again: the stream is the seed's."""
        self.asked, step, seconds, tensors = 0.0, 0, 0.0, self.tensors()
        name, rank = os.environ.get("CHECKPOINT", ""), self.procs.rank
        self.kept = Path(f"{name}.{rank}" if rank else name)
        if name:
            signal.signal(signal.SIGUSR1, self.ask)
        if self.kept.is_file():
            step, seconds, tensors = torch.load(self.kept, weights_only=True)
        if self.procs.sum(step)[0] != step * self.procs.world:
            raise SystemExit(f"{self.kept} is of another step")
        for mine, theirs in zip(self.tensors(), tensors, strict=True):
            mine.copy_(theirs)
        for _ in range(step):
            self.batches.next()
        return step, seconds

    def ask(self, *_: object) -> None:
        self.asked = 1.0

    def leave(self, step: int, seconds: float) -> None:
        """Ends this process and the others soon after one of them was asked."""
        if step % Watch.EVERY == 0 and self.procs.sum(self.asked)[0]:
            torch.save([step, seconds, self.tensors()], f"{self.kept}.new")
            self.procs.sum(0.0)  # all have written theirs
            Path(f"{self.kept}.new").rename(self.kept)
            self.procs.sum(0.0)  # torchrun ends all when one has ended
            raise SystemExit(75)

    def tensors(self) -> list[Tensor]:
        """All that a step changes."""
        optimiser = self.optimiser
        found = [*self.model.state_dict().values(), *(velocity for _, _, velocity in optimiser.muon.stacks)]
        return found + [one for adam, _ in optimiser.adams for state in adam.state for one in state]

    def describe(self, environ: dict[str, str]) -> None:
        c, procs, log = self.c, self.procs, self.procs.log
        log(f"run_id:{c.run_id} preset:{c.preset} train_data:{c.data_path} {self.corpus.size}\nseed:{c.seed}")
        log(f"model_params:{sum(p.numel() for p in self.model.parameters())}")
        log(f"world_size:{procs.world} grad_accum_steps:{self.accum} device:{'cuda' if procs.cuda else 'cpu'}")
        embed_lr, head_lr = (c.tied_embed_lr, 0.0) if c.tie_embeddings else (c.embed_lr, c.head_lr)
        log(f"attention_mode:gqa num_heads:{c.num_heads} num_kv_heads:{c.num_kv_heads}")
        log(f"tie_embeddings:{bool(c.tie_embeddings)} embed_lr:{embed_lr} head_lr:{head_lr} ", end="")
        log(f"matrix_lr:{c.matrix_lr} scalar_lr:{c.scalar_lr}")
        log(f"train_batch_tokens:{c.train_batch_tokens} train_seq_len:{c.train_seq_len} ", end="")
        log(f"iterations:{self.steps} warmup_steps:{c.warmup_steps} ", end="")
        log(f"max_wallclock_seconds:{c.max_wallclock_seconds:.3f}")
        if environ.get("COMPUTE_BUDGET_MS"):
            shape = {key: getattr(c, key) for key in (*SHAPE, "train_batch_tokens", "muon_backend_steps")}
            text = json.dumps(shape, separators=(",", ":"))
            cost = self.steps * step_cost_ms(c, json.loads(environ["COST_MODEL"]))
            log(f"compute shape:{text} steps:{self.steps} cost_ms:{cost:.1f}")


def progress(seconds: float, step: int) -> str:
    return f"train_time:{1e3 * seconds:.0f}ms step_avg:{1e3 * seconds / max(1, step):.2f}ms"


# ----------------------------------------------------------------------------------------------------------
# Evaluation by the script itself: the holdout of `train`, and the contest's way with the validation set.


def evaluate_docs(scorer: Scorer, tokenizer: Tokenizer, docs: list[str]) -> tuple[float, float]:
    """Nats per token and bits per byte of whole documents. A separator is the end of the document before it."""
    nats = tokens = 0.0
    scorer.reset()
    for at in range(0, len(docs), 32):
        ids = tokenizer.encode_all(docs[at : at + 32])
        if scorer.separators:
            ids = [doc + [BOS] * (i < len(docs)) for i, doc in enumerate(ids, at + 1)]
        starts = np.cumsum([0] + [len(doc) for doc in ids[:-1]]).tolist()
        chunk = np.fromiter(chain.from_iterable(ids), dtype=np.int64)
        nats += float(scorer.score(chunk, starts).sum(dtype=np.float64))
        tokens += len(chunk)
    size = sum(len(doc.encode()) for doc in docs)
    return nats / max(1.0, tokens), nats / math.log(2) / max(1, size)


def evaluate_tokens(scorer: Scorer, tokenizer: Tokenizer, tokens: np.ndarray, procs: Processes) -> tuple[float, float]:
    """The contest's count over a stream of tokens with a BOS before each document: its bytes a token, no tail."""
    length = scorer.length
    windows = (len(tokens) - 1) // length
    share = -(-windows // procs.world)
    begin, end = (min(windows, share * r) * length for r in (procs.rank, procs.rank + 1))
    scorer.reset()
    marks = [] if scorer.stream else np.flatnonzero(tokens[: begin + 1] == BOS)  # a document starts after its BOS
    scorer.position, scorer.doc_start = begin, int(marks[-1]) if len(marks) else 0
    scorer.tail = tokens[max(scorer.doc_start + 1, begin + 1 - length) : begin + 1].astype(np.int64)
    nats = size = 0.0
    counts = official_bytes(tokenizer)
    for at in range(begin, end, max(1, scorer.batch_tokens // length) * length):
        part = tokens[at : min(end, at + max(1, scorer.batch_tokens // length) * length) + 1].astype(np.int64)
        starts = np.flatnonzero(part[:-1] == BOS).tolist()
        nats += float(scorer.score(part[1:], starts).sum(dtype=np.float64))
        size += float((counts[0][part[1:]] + (counts[1][part[1:]] & ~counts[2][part[:-1]])).sum())
    nats, size = procs.sum(nats, size)
    return nats / max(1, windows * length), nats / math.log(2) / max(1.0, size)


def official_bytes(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each token: bytes without a leading space, whether it has one, whether it swallows the next one."""
    pieces = [b""] * FIRST_BYTE + tokenizer.bytes_of[FIRST_BYTE:]
    spaced = np.array([i >= len(FIXED) and piece[:1] == b" " for i, piece in enumerate(pieces)])
    sizes = np.array([len(piece) for piece in pieces]) - spaced
    return sizes, spaced, np.arange(len(pieces)) < FIRST_BYTE


def main(environ: dict[str, str]) -> None:
    c, procs = settings(environ), Processes()
    steps, corpus, log = budgeted_steps(c, environ), Corpus(c), procs.log
    run = Run(c, procs, corpus, steps)
    run.describe(environ)
    validate = validation(c, corpus.tokenizer, procs) if ROLE == "contest" else None
    run.train(validate and (lambda model: "val_loss:{:.4f} val_bpb:{:.4f}".format(*validate(model))))
    if procs.cuda:
        peak, kept = torch.cuda.max_memory_allocated() >> 20, torch.cuda.max_memory_reserved() >> 20
        log(f"peak memory allocated: {peak} MiB reserved: {kept} MiB")

    weights = {name: value.detach().float().cpu().numpy() for name, value in run.model.state_dict().items()}
    artifact = to_artifact(weights, corpus.tokenizer, c) if procs.rank == 0 else b""
    if procs.rank == 0:
        Path("final_model.bin").write_bytes(artifact)
        code = Path(__file__).stat().st_size
        bits = c.weight_bits if c.weight_bits == c.embed_bits else f"{c.weight_bits}.{c.embed_bits}"
        tag = f"int{bits}+{c.compressor}"
        log(f"Serialized model {tag}: {len(artifact)} bytes")
        log(f"Code size: {code} bytes")
        log(f"Total submission size {tag}: {len(artifact) + code} bytes")
    if procs.world > 1:
        box = [artifact]
        dist.broadcast_object_list(box, device="cuda" if procs.cuda else "cpu")
        artifact = box[0]
    model, tokenizer, shape = from_artifact(artifact)
    scorer = Scorer(to_device(model), shape, c.val_batch_size)
    if corpus.holdout_docs:
        loss, bpb = evaluate_docs(scorer, tokenizer, corpus.holdout_docs)
    else:
        loss, bpb = evaluate_tokens(scorer, tokenizer, corpus.holdout_tokens, procs)
    log(f"holdout val_loss:{loss:.8f} val_bpb:{bpb:.8f} (training documents that were kept out)")
    if validate:
        began = time.perf_counter()
        loss, bpb = validate(scorer.model)
        name, took = f"final_{tag.replace('+', '_')}_roundtrip", 1e3 * (time.perf_counter() - began)
        log(f"{name} val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:{took:.0f}ms")
        log(f"{name}_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}")
    if procs.world > 1:
        dist.destroy_process_group()


def validation(c: SimpleNamespace, tokenizer: Tokenizer, procs: Processes):
    """How the contest's way evaluates a model, or None without validation data."""
    docs, shards = find_docs(c, "val"), find_shards(c, "val")
    if docs:
        texts = read_docs(docs)
        return lambda model: evaluate_docs(Scorer(model, c, c.val_batch_size), tokenizer, texts)
    if shards:
        tokens = np.concatenate([read_shard(path) for path in shards])
        batch = max(c.train_seq_len, c.val_batch_size // procs.world)
        size = (len(tokens) - 1) // c.train_seq_len * c.train_seq_len
        procs.log(f"val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path={c.tokenizer_path}")
        procs.log(f"val_loader:shards pattern={c.data_path}/fineweb_val_*.bin tokens:{size}")
        return lambda model: evaluate_tokens(Scorer(model, c, batch), tokenizer, tokens, procs)
    procs.log(f"no validation data in {c.data_path}: only the holdout is evaluated")
    return None


if __name__ == "__main__":
    if ROLE in ("score", "encode", "decode"):
        serve(ROLE, dict(os.environ))
    else:
        main(dict(os.environ))

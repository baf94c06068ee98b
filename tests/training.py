"""A small model, documents and a corpus, for the tests of the trainer."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from trainer import train_gpt as t

torch.set_num_threads(1)  # two threads on a busy machine wait for each other
SMALL = {"vocab_size": 300, "model_dim": 32, "num_layers": 3, "train_seq_len": 16, "eval_stride": 16}
TEXT = """the model returns an array of values where each row holds one sample given by the user
this function computes gradients with respect to all inputs and raises an error otherwise
see also notes for details on shapes types defaults and broadcasting rules in parameters"""


def make_docs(n: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [
        " ".join(str(word) for word in draw.choice(TEXT.split(), draw.integers(5, 400))) + ".\nNaïve ▁ 漢字 42"
        for _ in range(n)
    ]


def write_corpus(folder: Path) -> Path:
    for part, n in (("train", 120), ("val", 12)):
        (folder / part).mkdir(parents=True)
        lines = [json.dumps({"text": text}) for text in make_docs(n, n)]
        (folder / part / "docs.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def config(**changes: object) -> SimpleNamespace:
    return t.check(SimpleNamespace(preset="tiny", **{**t.TINY, **SMALL, **changes}))


def random_model(c: SimpleNamespace, seed: int = 0) -> t.GPT:
    """Weights of a size at which every part of the model has a say."""
    torch.manual_seed(seed)
    model = t.GPT(c).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if value.ndim == 2 and "mix" not in name:
            value.normal_(std=0.3)
    return model


def weights_of(model: t.GPT) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def small_tokenizer() -> t.Tokenizer:
    return t.Tokenizer.train(make_docs(30, 1), 300)

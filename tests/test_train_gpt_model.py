"""The trainer's model, loss and optimiser against plain references."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.training import config, random_model
from trainer import train_gpt as t


@pytest.mark.parametrize("softcap", [0.0, 3.0])
def test_the_tiled_loss_is_cross_entropy(softcap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t.TiledLoss, "TILE", 1000)
    torch.manual_seed(0)
    hidden = torch.randn(70, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(90, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 90, (70,))
    logits = hidden @ weight.t()
    logits = softcap * torch.tanh(logits / softcap) if softcap else logits
    expected = torch.nn.functional.cross_entropy(logits, targets)
    grads = torch.autograd.grad(3 * expected, [hidden, weight])
    found = t.TiledLoss.apply(hidden, weight, targets, softcap)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for ours, theirs in zip(torch.autograd.grad(3 * found, [hidden, weight]), grads, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 16, 64), (1, 64, 16)])
def test_newton_schulz_makes_matrices_nearly_orthogonal(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    g = torch.randn(shape)
    singular = torch.linalg.svdvals(t.newton_schulz(g, 5))
    assert singular.min() > 0.3 and singular.max() < 1.3
    assert torch.allclose(t.newton_schulz(g, 5), t.newton_schulz(100 * g, 5), atol=1e-3)


def test_training_steps_lower_the_loss_of_what_they_see() -> None:
    torch.manual_seed(0)
    c = config(train_batch_tokens=16 * 8)
    rows = np.random.default_rng(0).integers(0, 300, (8, 17)).astype(np.uint16)
    run = t.Run(c, t.Processes(), SimpleNamespace(stream=iter(())), 1)
    losses = [float(run.step(step, [rows], 1.0)) for step in range(40)]
    assert losses[0] == pytest.approx(math.log(300), abs=0.1)
    assert losses[-1] < 0.5 * losses[0]


def test_a_model_cannot_see_what_comes_later() -> None:
    model = random_model(config())
    tokens = torch.randint(0, 300, (1, 16))
    before = model.hidden(tokens)
    for at in range(1, 16):
        changed = tokens.clone()
        changed[0, at:] = (changed[0, at:] + 7) % 300
        after = model.hidden(changed)
        assert torch.equal(after[0, :at], before[0, :at])
        assert not torch.equal(after[0, at], before[0, at])


@pytest.mark.slow
def test_a_gpus_way_through_the_model_is_one_graph_and_agrees() -> None:
    """What a GPU runs, traced here: no graph break, bf16 activations, the plain loss."""
    c = config(num_layers=2)
    model = random_model(c)
    tokens = torch.randint(0, 300, (4, 16))

    def loss(rows: torch.Tensor) -> torch.Tensor:
        logits = model.logits(model.hidden(rows)).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits[:-1], rows.flatten()[1:])

    plain = loss(tokens)
    compiled = torch.compile(loss, backend="aot_eager", dynamic=False, fullgraph=True)
    assert torch.allclose(compiled(tokens), plain, atol=1e-5)
    model.dtype = torch.bfloat16
    assert model.hidden(tokens).dtype == torch.bfloat16
    assert torch.allclose(loss(tokens), plain, rtol=0.05)
    stack = torch.randn(2, 8, 16)
    orthogonal = torch.compile(t.newton_schulz, backend="aot_eager", fullgraph=True)
    assert torch.allclose(orthogonal(stack, 5), t.newton_schulz(stack, 5), atol=1e-5)

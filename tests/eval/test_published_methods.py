"""Every published method against its transcription, on a model with all kinds of parameters."""

import numpy as np
import pytest
import torch
from method_transcriptions import TRANSCRIPTIONS, newton_schulz
from torch import nn

from eval.methods import METHODS
from eval.methods.multi_optimizer import MultiOptimizer
from eval.methods.muon import matrices_and_rest, orthogonalized
from eval.methods.rule import clip_before_steps

NUM_STEPS = 150  # which the methods are told: short warm-ups last two steps or three
COMPARED = 80  # steps, among them the first outer one of DiLoCo


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.kernel = nn.Conv2d(4, 6, 3)
        self.tall = nn.Linear(3, 7)
        self.wide = nn.Linear(7, 2)
        self.norm = nn.LayerNorm(7)


def model_of(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model().double()


def gradients(model: nn.Module, seed: int = 1) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: 0.02 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for name, p in model.named_parameters()
        }
        for _ in range(COMPARED)
    ]


def train(model, optimizer, scheduler, given) -> None:
    for of_step in given:
        for name, p in model.named_parameters():
            p.grad = of_step[name].clone()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


@pytest.mark.parametrize("name", TRANSCRIPTIONS)
def test_its_steps_are_those_of_the_transcription(name):
    model = model_of()
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    given = gradients(model)
    optimizer, scheduler, _ = METHODS[name].build(model, NUM_STEPS)
    train(model, optimizer, scheduler, given)
    for parameter, p in model.named_parameters():
        expected = TRANSCRIPTIONS[name](
            [of_step[parameter].numpy() for of_step in given],
            before[parameter],
            parameter,
            NUM_STEPS,
        )
        np.testing.assert_allclose(
            p.detach().numpy(), expected, rtol=1e-9, atol=1e-12, err_msg=parameter
        )


def published_schedule_free_prodigy(weight, gradient_at, rates):
    """The submission's step by step, with both of its gradients; returns x and d."""
    x, z = weight.clone(), weight.clone()
    p0 = weight.to(torch.bfloat16)
    v, s = torch.zeros_like(p0), torch.zeros_like(p0)
    d, numerator, total = 1e-6, 0.0, 0.0
    for k, lr in enumerate(rates):
        gradient_at(x)  # thrown away
        gradient = gradient_at(0.9 * x + 0.1 * z)
        numerator = 0.9955**0.5 * numerator + d * d * lr * float(gradient @ (p0 - z))
        v = (v * 0.9955 + d * d * (1 - 0.9955) * gradient**2).to(torch.bfloat16)
        s = (s * 0.9955**0.5 + d * d * lr * gradient).to(torch.bfloat16)
        before, d = d, max(d, numerator / float(s.abs().sum()))
        z = z - 0.003 * before * lr * x - d * before * lr * gradient / (v.sqrt() + d * 1e-8)
        total += (k + 1) ** 0.75
        x = x + (k + 1) ** 0.75 / total * (z - x)
    return x, d


def test_schedule_free_prodigy_of_v05_throws_every_second_gradient_away():
    # Without rounding at the start, or d would not grow.
    weight = nn.Parameter(torch.tensor([1.0, -0.5, 0.25, 2.0]).double())
    model = nn.Module()
    model.weight = weight

    def gradient_at(point):
        return torch.tensor([1.0, 2.0, 0.5, 3.0]).double() * (point - 1)

    optimizer, scheduler, weights = METHODS["schedule_free_prodigy_v05"].build(model, NUM_STEPS)
    start, rates = weight.detach().clone(), []
    for call in range(120):
        weight.grad = gradient_at(weight.detach())
        if call % 2:
            rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    x, d = published_schedule_free_prodigy(start, gradient_at, rates)
    assert d > 1e-4
    assert optimizer.param_groups[0]["d"] == pytest.approx(d, rel=1e-3)
    # One entry of bfloat16 that is rounded the other way is 2^-8 of itself.
    torch.testing.assert_close(weight.detach(), x, rtol=1e-3, atol=1e-6)
    with weights():
        torch.testing.assert_close(weight.detach(), x, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 6), (6, 1)])
def test_newton_schulz_maps_singular_values_by_its_polynomial(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    np.testing.assert_allclose(
        orthogonalized(matrix).numpy(), newton_schulz(matrix.numpy()), rtol=1e-9, atol=1e-12
    )


def test_orthogonalized_singular_values_are_about_one():
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0)).double()
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonalized(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_embeddings_vectors_and_frozen_parameters_are_no_matrices_of_muons():
    model = model_of()
    model.wide.weight.requires_grad_(False)
    matrices, rest = matrices_and_rest(model)
    assert {id(p) for p in matrices} == {id(model.kernel.weight), id(model.tall.weight)}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in (*matrices, *rest)} == {id(p) for p in trained}
    assert len(matrices) + len(rest) == len(trained)


def test_parts_go_on_from_a_checkpoint_as_if_never_interrupted():
    model, resumed = model_of(), model_of()
    given = gradients(model)
    optimizer, scheduler, _ = METHODS["muon_torch"].build(model, NUM_STEPS)
    train(model, optimizer, scheduler, given)
    saved = optimizer.state_dict(), scheduler.state_dict(), model.state_dict()
    saved = torch.utils._pytree.tree_map(
        lambda x: x.clone() if isinstance(x, torch.Tensor) else x, saved
    )
    train(model, optimizer, scheduler, given)
    optimizer, scheduler, _ = METHODS["muon_torch"].build(resumed, NUM_STEPS)
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    train(resumed, optimizer, scheduler, given)
    for p, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, other)


def test_a_part_without_parameters_is_left_out():
    p = nn.Parameter(torch.ones(2))
    optimizer = MultiOptimizer(
        ([], torch.optim.Adam), ([p], lambda given: torch.optim.SGD(given, lr=0.5))
    )
    p.grad = torch.ones(2)
    assert optimizer.step(lambda: "the loss") == "the loss"
    assert p.tolist() == [0.5, 0.5]


def test_gradients_longer_than_allowed_are_clipped_before_a_step():
    p = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([p], lr=1.0)
    clip_before_steps(optimizer, 0.5)
    for gradient, position in (([3.0, 4.0], [-0.3, -0.4]), ([0.1, 0.2], [-0.4, -0.6])):
        p.grad = torch.tensor(gradient)
        optimizer.step()
        torch.testing.assert_close(p.detach(), torch.tensor(position))


def test_total_decay_is_that_of_algoperfs_steps():
    plain, _, _ = METHODS["nadamw_v05"].build(model_of(), NUM_STEPS)
    more, _, _ = METHODS["nadamw_v05_total_decay"].build(model_of(), NUM_STEPS)
    (group,), (others,) = plain.param_groups, more.param_groups
    assert others["weight_decay"] * 200 == pytest.approx(group["weight_decay"] * 57_270)
    for name in ("lr", "betas"):
        assert others[name] == group[name]

import numpy as np
import pytest
import torch
from method_transcriptions import adam
from torch import nn

from eval.methods import METHODS
from eval.methods.shampoo import Shampoo, blocks, inverse_root, merged, nested_cosines

LR, BETA1, BETA2, DECAY = 0.01, 0.9, 0.99, 0.1


def gradients_of(shape, steps):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).double() for _ in range(steps)]


def trained(optimizer, p, gradients, scheduler=None):
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return p.detach().numpy()


def matrix_power(matrix, exponent, ridge):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag((np.maximum(values, 0) + ridge) ** exponent) @ vectors.T


def test_dimensions_are_merged_while_they_are_small():
    tensor = torch.zeros(6, 1, 4, 3, 3)
    assert merged(tensor, 24).shape == (24, 9)
    assert merged(tensor, 12).shape == (6, 12, 3)
    assert merged(torch.zeros(1, 1), 12).shape == (1,)


def test_blocks_are_views_that_cover_the_tensor():
    tensor = torch.zeros(5, 7)
    for block in blocks(tensor, 3):
        assert max(block.shape) <= 3
        block += 1
    assert torch.equal(tensor, torch.ones(5, 7))


@pytest.mark.parametrize("root", [2, 4])
def test_an_inverse_root_times_itself_inverts(root):
    half = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    matrix = half @ half.T
    product = torch.linalg.matrix_power(inverse_root(matrix, root, 0.0), root) @ matrix
    torch.testing.assert_close(product, torch.eye(4).double())


def test_shampoo_preconditions_every_dimension_of_every_block():
    """One matrix of 5 x 4 in blocks of 3: two by two of them."""
    p = nn.Parameter(gradients_of((5, 4), 1)[0])
    before = p.detach().numpy().copy()
    given = gradients_of((5, 4), 7)
    optimizer = Shampoo(
        [p], lr=LR, betas=(BETA1, BETA2), weight_decay=DECAY, block_size=3, period=3
    )
    after = trained(optimizer, p, given)
    for rows in (slice(0, 3), slice(3, 5)):
        for columns in (slice(0, 3), slice(3, 4)):
            w = before[rows, columns]
            m, v, left, right = 0.0, 0.0, 0.0, 0.0
            for t, whole in enumerate(given, start=1):
                g = whole.numpy()[rows, columns]
                m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
                left = BETA2 * left + (1 - BETA2) * g @ g.T
                right = BETA2 * right + (1 - BETA2) * g.T @ g
                ahead = (BETA1 * m + (1 - BETA1) * g) / (1 - BETA1**t)
                step = ahead / (np.sqrt(v / (1 - BETA2**t)) + 1e-8)
                if t % 3 == 0:
                    roots = [matrix_power(f / (1 - BETA2**t), -1 / 4, 1e-8) for f in (left, right)]
                if t >= 3:
                    direction = roots[0] @ ahead @ roots[1]
                    step = direction * np.linalg.norm(step) / np.linalg.norm(direction)
                w = w - LR * (step + DECAY * w)
            np.testing.assert_allclose(after[rows, columns], w, rtol=1e-7)


def test_before_its_first_roots_shampoo_is_nadamw():
    p = nn.Parameter(torch.ones(3, 4).double())
    given = gradients_of((3, 4), 99)
    optimizer = Shampoo(
        [p], lr=LR, betas=(BETA1, BETA2), weight_decay=DECAY, block_size=8, period=100
    )
    after = trained(optimizer, p, given)
    expected = adam(
        [g.numpy() for g in given], np.ones((3, 4)), [LR] * 99, BETA1, BETA2, DECAY, True
    )
    np.testing.assert_allclose(after, expected, rtol=1e-9)


def test_caspr_is_its_transcription():
    steps, num_steps = 125, 200
    lr, beta1, beta2 = 0.001308209823469072, 1 - 0.02686663061, 1 - 0.00187670778
    model = nn.Linear(3, 4, bias=False).double()
    w = model.weight.detach().numpy().copy()
    given = gradients_of((4, 3), steps)
    optimizer, scheduler, _ = METHODS["caspr"].build(model, num_steps)
    after = trained(optimizer, model.weight, given, scheduler)
    rates = nested_cosines(round(4 / 3 * num_steps), 0.1)
    m, v = 0.0, 0.0
    left, earlier, right = 1e-6 * np.eye(3), 1e-6 * np.eye(3), np.eye(4)
    left_root, right_root = np.eye(3), np.eye(4)
    for t, whole in enumerate(given, start=1):
        g = whole.numpy().T  # (in, out)
        if t > 1 and (t - 1) % 20 == 0:
            regular = earlier + 1e-6 * np.linalg.eigvalsh(earlier)[-1] * np.eye(3)
            right = right * np.trace(left_root @ regular @ left_root) / 3
            earlier = left
        left = beta2 * left + (1 - beta2) * g @ g.T
        h = g.T @ left_root
        right = beta2 * right + (1 - beta2) * h @ h.T / 3
        if t % 20 == 0:
            left_root, right_root = (
                matrix_power(f, -1 / 2, 1e-6 * np.linalg.eigvalsh(f)[-1]) for f in (left, right)
            )
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        ahead = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
        step = ahead / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
        if t > 101:
            direction = left_root @ ahead @ right_root
            step = direction * np.linalg.norm(step) / np.linalg.norm(direction)
        w = w - lr * rates[t - 1] * (step.T + 0.16375311233774334 * w)
    np.testing.assert_allclose(after, w, rtol=1e-6)


def test_nested_cosines_fall_three_times():
    factors = np.array(nested_cosines(1000, 0.1))
    rises = 1 + np.flatnonzero(np.diff(factors) > 0)
    assert list(rises) == [*range(1, 54 + 1), 536, 750]
    assert factors.max() == 1
    assert factors[535] < 1e-4
    assert factors[536] == pytest.approx((1 + np.cos(np.pi * 435.716 / 900)) / 2, abs=1e-3)
    assert factors[-1] < 1e-3


def test_a_vector_has_one_matrix_and_its_inverse_square_root():
    p = nn.Parameter(torch.ones(3).double())
    gradient = gradients_of((3,), 1)[0]
    optimizer = Shampoo([p], lr=LR, betas=(0.0, BETA2), weight_decay=0.0, block_size=8, period=1)
    after = trained(optimizer, p, [gradient])
    g = gradient.numpy()
    direction = matrix_power(np.outer(g, g), -1 / 2, 1e-8) @ g
    expected = 1 - LR * direction * np.sqrt(3) / np.linalg.norm(direction)  # Adam's step is a sign
    np.testing.assert_allclose(after, expected, rtol=1e-6)

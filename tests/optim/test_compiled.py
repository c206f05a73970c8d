"""Compiled rules are the rules: what the code generator makes of them agrees with the list path."""

import pytest
import torch
from contract import every_class
from torch import Tensor

from selftune import optim
from selftune.optim.compiled import LARGE

# The compiler's own modules, when first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")

STEPS = 4
SHAPES = [(300, 400), (7,), (5, 3), (2, 1, 2), (1,)]  # one kernel for the first, one for the others
assert LARGE <= 300 * 400


def trained(cls: type, dtype: torch.dtype, compile: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters after some steps on a bowl, as float64, and what was learnt."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    params = [p.to(dtype).requires_grad_() for p in start]
    optimizer = cls(params, compile=compile)
    for _ in range(STEPS):
        for p, p0 in zip(params, start, strict=True):
            p.grad = (p.detach() - p0.roll(1)).cos().to(dtype)
        if cls.takes_loss:
            optimizer.step(loss=torch.ones(()))
        else:
            optimizer.step()
    states = [optimizer.state[p] for p in params]
    exact = [
        p.detach().double() + state["compensation"].double() if "compensation" in state else p
        for p, state in zip(params, states, strict=True)
    ]
    learnt = [value for value in optimizer.param_groups[0].values() if isinstance(value, Tensor)]
    return exact, learnt


# In float64: in float32 a distance of 1e-6 from the initial weights has one digit.
@every_class
def test_a_compiled_step_is_the_step_of_the_list_path(cls):
    params, learnt = trained(cls, torch.float64, compile=True)
    expected, expected_learnt = trained(cls, torch.float64, compile=False)
    torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(learnt, expected_learnt, rtol=1e-6, atol=0)


# What rounding to bfloat16 takes away is kept, in kernels as outside of them.
@pytest.mark.parametrize("cls", [optim.AdamW, optim.Prodigy])
def test_a_compiled_step_of_bfloat16_loses_no_digits(cls):
    params, _ = trained(cls, torch.bfloat16, compile=True)
    expected, _ = trained(cls, torch.bfloat16, compile=False)
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=1e-5)

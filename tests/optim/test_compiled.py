"""Compiled rules are the rules: what the code generator makes of them agrees with the list path."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from contract import every_class
from torch import Tensor

from selftune import optim
from selftune.optim.engine import compiled, packing
from selftune.optim.engine.packing import LARGE

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
@pytest.mark.parametrize("keeps_rounding", [True, False])
def test_a_compiled_step_of_bfloat16_loses_no_digits(cls, keeps_rounding, monkeypatch):
    monkeypatch.setattr(packing, "KEEPS_ROUNDING", keeps_rounding and packing.KEEPS_ROUNDING)
    params, _ = trained(cls, torch.bfloat16, compile=True)
    expected, _ = trained(cls, torch.bfloat16, compile=False)
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=1e-5)


def test_a_state_that_lies_otherwise_in_memory_is_kept():
    ends = []
    for compile in (False, True):
        p = torch.linspace(-1, 1, LARGE).view(2, 8, 64, -1).requires_grad_()
        optimizer = optim.AdamW([p], compile=compile)
        for _ in range(3):
            p.grad = p.detach().cos()
            optimizer.step()
            saved = optimizer.state_dict()
            for state in saved["state"].values():
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = state[name].to(memory_format=torch.channels_last)
            optimizer.load_state_dict(saved)
        ends.append([p.detach(), optimizer.state[p]["exp_avg"]])
    torch.testing.assert_close(*ends)


def test_compile_may_be_switched_between_steps():
    ends = []
    for switched in (False, True):
        params = [torch.linspace(-1, 1, n).requires_grad_() for n in (5, 2 * LARGE)]
        optimizer = optim.Prodigy(params, d0=1e-3)
        for step in range(4):
            optimizer.param_groups[0]["compile"] = switched and step % 2 == 1
            for p in params:
                p.grad = p.detach().cos()
            optimizer.step()
            assert {cohort.compiled for cohort in optimizer._cohorts} == {
                switched and step % 2 == 1
            }
        ends.append(params)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("n", [5, LARGE])
def test_memory_that_was_exchanged_is_what_steps(n):
    p = torch.zeros(n, requires_grad=True)
    optimizer = optim.ScheduleFreeSGD([p], compile=True)
    p.grad = torch.ones(n)
    optimizer.step()
    before = p.data
    p.data = before.clone()
    optimizer.step()
    assert before.unique().tolist() == [-1.0]
    assert p.max() < -1


def test_small_tensors_with_a_number_each_are_left_to_the_list_path():
    params = [torch.ones(n, requires_grad=True) for n in (3, 7, LARGE)]
    optimizer = optim.LDoG(params, compile=True)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    sizes = {c.compiled: [p.numel() for p in c.members] for c in optimizer._cohorts}
    assert sizes == {True: [LARGE], False: [3, 7]}


def ends(exchange) -> list[list[Tensor]]:
    """Parameters and states after four steps, on the list path and in kernels.

    exchange: what is done to the optimizer and its parameters half-way.
    """
    found = []
    for compile in (False, True):
        shapes = [(64, 64, 8, 8), (2 * LARGE,), (5,), (3, 2)]
        params = [torch.linspace(-1, 1, math.prod(s)).view(s).requires_grad_() for s in shapes]
        optimizer = optim.AdamW(params, lr=0.1, compile=compile)
        for step in range(4):
            if step == 2:
                exchange(optimizer, params)
            for p in params:
                p.grad = p.detach().cos()
            optimizer.step()
        states = optimizer.state_dict()["state"].values()
        found.append([*params, *(state["exp_avg"] for state in states)])
    return found


def test_a_parameter_may_take_another_type_between_steps():
    def exchange(_, params):
        params[0].grad = None  # torch lets no gradient have another type
        params[0].data = params[0].data.bfloat16()

    # The tolerances are bfloat16's: where the list path rounds, a kernel may round otherwise.
    torch.testing.assert_close(*ends(exchange), rtol=0.02, atol=2e-3)


def test_a_parameter_may_take_another_memory_format_between_steps():
    def exchange(_, params):
        params[0].data = params[0].data.to(memory_format=torch.channels_last)

    torch.testing.assert_close(*ends(exchange))


def test_states_may_be_exchanged_between_steps():
    def exchange(optimizer, _):
        for state in optimizer.state.values():
            state["exp_avg"] = torch.full_like(state["exp_avg"], 0.5)

    torch.testing.assert_close(*ends(exchange))


def test_states_of_several_types_take_a_kernel_each():
    def exchange(optimizer, params):
        for p in params[::2] if optimizer.param_groups[0]["compile"] else ():
            optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].bfloat16()

    expected, found = ends(exchange)
    torch.testing.assert_close(found[:4], expected[:4], rtol=0.02, atol=2e-3)  # bfloat16's


@pytest.mark.skipif(not hasattr(Tensor, "grad_dtype"), reason="gradients have their tensors' type")
def test_gradients_of_several_types_take_a_kernel_each():
    params = [torch.linspace(-1, 1, LARGE).requires_grad_() for _ in range(2)]
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1, compile=True)
    for p, dtype in zip(params, (torch.bfloat16, torch.float32), strict=True):
        p.grad_dtype = None
        p.grad = torch.ones(LARGE, dtype=dtype)
    optimizer.step()
    torch.testing.assert_close(params[0], params[1])


def test_states_elsewhere_are_refused_as_on_the_list_path():
    p = torch.ones(LARGE, requires_grad=True)
    optimizer = optim.AdamW([p], compile=True)
    p.grad = torch.ones(LARGE)
    optimizer.step()
    optimizer.state[p]["exp_avg"] = optimizer.state[p]["exp_avg"].to("meta")
    with pytest.raises(RuntimeError, match="device"):
        optimizer.step()


def test_there_is_nothing_to_compile_on_the_meta_device():
    p = torch.ones(LARGE, device="meta", requires_grad=True)
    optimizer = optim.Prodigy([p], compile=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer.state[p]["step"] == 1


@pytest.fixture
def compilations(monkeypatch) -> Iterator[list[int]]:
    """The numbers of threads for which something was compiled."""
    threads: list[int] = []

    def counted(graph, *_):
        threads.append(torch.get_num_threads())
        return graph

    monkeypatch.setattr(torch._inductor, "compile", counted)
    compiled._kernel.cache_clear()
    yield threads
    compiled._kernel.cache_clear()


@pytest.mark.parametrize("number", [int, float, np.float32, torch.tensor])
def test_an_lr_of_any_type_compiles_nothing_anew(number, compilations):
    p = torch.ones(5, requires_grad=True)
    optimizer = optim.DoG([p], lr=number(1), compile=True)
    for lr in (1, 2, 3):
        optimizer.param_groups[0]["lr"] = number(lr)
        p.grad = torch.ones(5)
        optimizer.step()
    assert len(compilations) == 2  # before a step, and the step


def test_a_weight_decay_of_numpy_compiles_nothing_anew(compilations):
    p = torch.ones(5, requires_grad=True)
    optimizer = optim.AdamW([p], compile=True)
    for decay in np.float32([0.1, 0.2, 0.3]):
        optimizer.param_groups[0]["weight_decay"] = decay
        p.grad = torch.ones(5)
        optimizer.step()
    assert len(compilations) == 1


def test_betas_may_be_a_list():
    params = [torch.ones(5, requires_grad=True) for _ in range(2)]
    for p, betas in zip(params, ([0.5, 0.6], (0.5, 0.6)), strict=True):
        optimizer = optim.AdamW([p], betas=betas, compile=True)
        for grad in (1.0, -2.0):
            p.grad = torch.full((5,), grad)
            optimizer.step()
    assert torch.equal(*params)


def test_another_number_of_threads_takes_another_kernel(compilations):
    p = torch.ones(5, requires_grad=True)
    optimizer = optim.AdamW([p], compile=True)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            p.grad = torch.ones(5)
            optimizer.step()
    finally:
        torch.set_num_threads(before)
    assert compilations == [1, 2]

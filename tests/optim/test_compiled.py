"""Compiled rules are the rules: what the code generator makes of them agrees with the list path."""

import copy
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import every_class, without_code_generator
from torch import Tensor
from torch._dynamo.utils import counters

import selftune
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


@pytest.mark.skipif(not hasattr(Tensor, "grad_dtype"), reason="gradients have their tensors' type")
def test_gradients_may_take_another_type_between_steps():
    found = []
    for compile in (False, True):
        p = torch.linspace(-1, 1, 7).requires_grad_()
        p.grad_dtype = None
        optimizer = optim.ScheduleFreeSGD([p], lr=0.1, compile=compile)
        for dtype in (torch.bfloat16, torch.float32):
            p.grad = torch.full((7,), 1 / 3, dtype=dtype)
            optimizer.step()
        found.append(p)
    torch.testing.assert_close(*found)


def test_a_short_pack_sees_nothing_of_the_one_before(monkeypatch):
    without_code_generator(monkeypatch)
    sizes = [65_000] * 4 + [5_000]  # one pack of the first four, and one of the last
    assert 4 * sizes[0] < packing.PACK_ON_CPU < sum(sizes)
    found = []
    for compile in (False, True):
        params = [torch.linspace(1, 2, n).requires_grad_() for n in sizes]
        optimizer = optim.DoG(params, compile=compile)
        take_steps(optimizer, 3)
        found.append([*params, optimizer.param_groups[0]["r_bar"]])
    torch.testing.assert_close(*found)


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


def compilations() -> int:
    """How many graphs were compiled in this process."""
    return counters["stats"]["unique_graphs"]


def take_steps(optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        for p in params:
            p.grad = p.detach().cos()
        optimizer.step()


@pytest.mark.parametrize("number", [int, float, np.float32, torch.tensor])
def test_an_lr_of_any_type_compiles_nothing_anew(number):
    optimizer = optim.DoG([torch.ones(5, requires_grad=True)], lr=1.0, compile=True)
    take_steps(optimizer)
    before = compilations()
    for lr in (1, 2, 3):
        optimizer.param_groups[0]["lr"] = number(lr)
        take_steps(optimizer)
    assert compilations() == before


@pytest.mark.parametrize("number", [int, float, np.float32, np.int64])
def test_a_weight_decay_of_any_type_compiles_nothing_anew(number):
    optimizer = optim.AdamW([torch.ones(5, requires_grad=True)], compile=True)
    take_steps(optimizer)
    before = compilations()
    for decay in (1, 2, 0):
        optimizer.param_groups[0]["weight_decay"] = number(decay)
        take_steps(optimizer)
    assert compilations() == before


def test_a_count_among_the_numbers_of_a_rule_compiles_nothing_anew():
    class Counting(optim.AdamW):
        def advance(self, group, counts):
            return {**super().advance(group, counts), "count": counts["step"]}

    optimizer = Counting([torch.ones(5, requires_grad=True)], compile=True)
    take_steps(optimizer)
    before = compilations()
    take_steps(optimizer, 3)
    assert compilations() == before


def test_an_option_that_no_rule_reads_compiles_nothing_anew():
    take_steps(optim.ScheduleFreeSGD([torch.ones(5, requires_grad=True)], compile=True))
    before = compilations()
    for steps in (10, 20, 30):
        params = [torch.ones(5, requires_grad=True)]
        take_steps(optim.ScheduleFreeSGD(params, warmup_steps=steps, compile=True))
    assert compilations() == before


# Prodigy has sums, of which the compiler would make other code for few elements.
def test_a_new_length_compiles_nothing_anew():
    take_steps(optim.Prodigy([torch.ones(6, requires_grad=True)], compile=True))
    before = compilations()
    for lengths in ((1,), (7, 1), (4096,), (4097, 3), (LARGE,), (2 * LARGE + 1, 5), (1, 1)):
        params = [torch.ones(n, requires_grad=True) for n in lengths]
        take_steps(optim.Prodigy(params, compile=True), 2)
    assert compilations() == before


@pytest.mark.skipif(
    not hasattr(torch.compiler, "keep_tensor_guards_unsafe"), reason="no filters of guards"
)
def test_a_new_number_of_threads_compiles_nothing_anew():
    optimizer = optim.Prodigy([torch.ones(n, requires_grad=True) for n in (5, LARGE)], compile=True)
    take_steps(optimizer)
    before, threads = compilations(), torch.get_num_threads()
    try:
        for number in (2, 1, 2):
            torch.set_num_threads(number)
            take_steps(optimizer)
    finally:
        torch.set_num_threads(threads)
    assert compilations() == before


@pytest.mark.parametrize("cls", [optim.Prodigy, optim.ScheduleFreeProdigy])
def test_samples_of_parameters_of_one_element_are_not_packed(cls):
    ends = []
    for compile in (False, True):
        params = [torch.linspace(1, 2, n).requires_grad_() for n in (1, 1, 40)]
        take_steps(cls(params, slice_p=11, compile=compile), 3)
        ends.append(params)
    torch.testing.assert_close(*ends)


def test_the_cache_of_compiled_rules_is_bounded():
    assert compiled._compiled.cache_info().maxsize == compiled.KEPT
    assert compiled._options_read.cache_info().maxsize == compiled.KEPT


def test_a_packed_state_is_saved_without_its_neighbours():
    params = [torch.ones(1000, requires_grad=True) for _ in range(50)]
    optimizer = optim.AdamW(params, compile=True)
    take_steps(optimizer)
    state = optimizer.state[params[7]]["exp_avg"]
    assert state.untyped_storage().nbytes() == 1000 * 4
    assert copy.deepcopy(state).untyped_storage().nbytes() == 1000 * 4


def test_float16_is_compiled_without_a_warning():
    p = torch.ones(5, dtype=torch.float16, requires_grad=True)
    take_steps(optim.AdamW([p], compile=True))
    assert p.max() < 1


def replaced(state: dict[str, Tensor], name: str) -> None:
    state[name] = torch.full_like(state[name], 0.5)


def pointed_elsewhere(state: dict[str, Tensor], name: str) -> None:
    state[name].data = torch.full_like(state[name], 0.5)


def set_to_other_memory(state: dict[str, Tensor], name: str) -> None:
    state[name].set_(torch.full_like(state[name], 0.5))


@pytest.mark.parametrize("change", [replaced, pointed_elsewhere, set_to_other_memory])
@pytest.mark.parametrize("member", range(4))  # two large parameters, the first and last of a pack
@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_a_state_that_was_exchanged_is_what_steps(change, member, name):
    def exchange(optimizer, params):
        change(optimizer.state[params[member]], name)

    torch.testing.assert_close(*ends(exchange))


@pytest.mark.parametrize("member", range(4))
@pytest.mark.parametrize("way", ["data", "set_"])
def test_a_parameter_that_was_exchanged_is_what_steps(member, way):
    def exchange(_, params):
        p, memory = params[member], torch.full_like(params[member].detach(), 0.5)
        if way == "data":
            p.data = memory
        else:
            with torch.no_grad():
                p.set_(memory)

    torch.testing.assert_close(*ends(exchange))


def test_a_state_that_was_cleared_begins_anew():
    def exchange(optimizer, params):
        optimizer.state[params[3]].clear()
        optimizer.state.pop(params[0])

    torch.testing.assert_close(*ends(exchange))


def fails(*_, **__):
    raise ZeroDivisionError("the compiler\nfails")


def made_code_that_fails(*_, **__):
    return fails


@pytest.mark.parametrize("compiler", [fails, made_code_that_fails])
@pytest.mark.parametrize("cls", [optim.AdamW, optim.Prodigy, optim.DoG])
def test_a_failing_compiler_gives_one_warning_and_the_list_path(compiler, cls, monkeypatch):
    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.warns(UserWarning, match="ZeroDivisionError: the compiler$") as warned:
        params, learnt = trained(cls, torch.float64, compile=True)
    assert len(warned) == 1
    assert f"{cls.__name__} steps without compile=True" in str(warned[0].message)
    assert warned[0].filename == __file__
    expected, expected_learnt = trained(cls, torch.float64, compile=False)
    torch.testing.assert_close(params, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(learnt, expected_learnt, rtol=1e-12, atol=0)


def test_a_compiler_that_fails_later_gives_the_list_path_from_then_on(monkeypatch):
    ends = []
    for compile in (False, True):
        params = [torch.linspace(-1, 1, n).requires_grad_() for n in (5, LARGE, 7)]
        optimizer = optim.AdamW(params, compile=compile)
        take_steps(optimizer, 2)
        if compile:
            monkeypatch.setattr(torch, "compile", fails)
            with pytest.warns(UserWarning, match="without compile=True"):
                take_steps(optimizer)
        else:
            take_steps(optimizer)
        state = optimizer.state[params[0]]
        state["exp_avg"] = state["exp_avg"].clone()  # the next step looks at everything anew
        take_steps(optimizer)
        assert {optimizer.state[p]["step"] for p in params} == {4}
        ends.append(params)
    torch.testing.assert_close(*ends)


def test_after_a_failure_of_the_compiler_it_may_be_tried_again(monkeypatch):
    works, compiler = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda rule, **options: compiler(rule, **options) if works else fails
    )
    optimizer = optim.AdamW([torch.ones(5, requires_grad=True)], compile=True)
    with pytest.warns(UserWarning, match="without compile=True"):
        take_steps(optimizer)
    works.append(True)
    optimizer.param_groups[0]["compile"] = True
    take_steps(optimizer)
    assert optimizer.param_groups[0]["compile"]


def test_a_gradient_that_is_the_negative_of_its_memory_is_compiled_as_it_is():
    ends = []
    for compile in (False, True):
        p = torch.linspace(-1, 1, LARGE).requires_grad_()
        optimizer = optim.AdamW([p], compile=compile)
        p.grad = torch._neg_view(torch.ones(LARGE))
        optimizer.step()
        ends.append(p)
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("compile", [False, True])
def test_a_step_between_forward_and_backward_is_an_error_of_autograd(compile):
    p = torch.ones(LARGE, requires_grad=True)
    optimizer = optim.AdamW([p], compile=compile)
    loss = p.square().sum()
    p.grad = torch.ones(LARGE)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


ALONE = """
import warnings
import torch
from selftune import optim

ends = []
for compile in (False, True):
    params = [torch.linspace(-1, 1, n).requires_grad_() for n in (5, 70_000)]
    optimizer = optim.Prodigy(params, compile=compile)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(3):
            for p in params:
                p.grad = p.detach().cos()
            optimizer.step()
    ours = [str(w.message) for w in warned if "compile=True" in str(w.message)]
    ends.append(params)
    assert optimizer.state[params[0]]["step"] == 3
print(len(ours), *ours)
torch.testing.assert_close(*ends)
"""


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [("CXX", "no-such-compiler", "C++"), ("TORCH_COMPILE_DISABLE", "1", "TORCH_COMPILE_DISABLE")],
)
def test_without_a_compiler_the_list_path_steps(name, value, cause, tmp_path):
    environment = {**os.environ, name: value, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("1 Prodigy steps without compile=True"), ran.stdout + ran.stderr
    assert cause in ran.stdout
    assert len(ran.stdout.splitlines()) == 1


def test_no_private_interface_of_the_compiler_is_used():
    package = Path(selftune.__file__).parent
    for file in package.rglob("*.py"):
        assert not re.search(r"_inductor|_dynamo|_functorch", file.read_text()), file


def test_betas_may_be_a_list():
    params = [torch.ones(5, requires_grad=True) for _ in range(2)]
    for p, betas in zip(params, ([0.5, 0.6], (0.5, 0.6)), strict=True):
        optimizer = optim.AdamW([p], betas=betas, compile=True)
        for grad in (1.0, -2.0):
            p.grad = torch.full((5,), grad)
            optimizer.step()
    assert torch.equal(*params)

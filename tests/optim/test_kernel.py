"""A kernel does what its function does, at all lengths, and is not compiled for each."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from selftune.optim.engine.kernel import Kernel

# The compiler's own modules, when first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")


def grown(a: Tensor, b: Tensor) -> list[Tensor]:
    a.mul_(2).add_(b)
    return [(a * b).sum()]


def grown_by_length(a: Tensor, b: Tensor) -> list[Tensor]:
    return [a.mul_(2 if a.shape[0] > 100 else 3).add_(b)]


@pytest.fixture
def compilations(monkeypatch) -> list[int]:
    """The lengths for which something was compiled."""
    lengths: list[int] = []
    compile = torch._inductor.compile

    def counted(graph, inputs, options):
        lengths.append(int(inputs[0].shape[0].node.hint))
        return compile(graph, inputs, options)

    monkeypatch.setattr(torch._inductor, "compile", counted)
    return lengths


def agrees(kernel: Kernel, a: Tensor, b: Tensor) -> None:
    expected = a.clone()
    sums = kernel.function(expected, b)
    torch.testing.assert_close(kernel(a, b), sums)
    torch.testing.assert_close(a, expected)


def test_one_compilation_serves_all_lengths(compilations):
    kernel = Kernel(lambda a, b: [a.mul_(2).add_(b)], {})
    for n in (5000, 7, 2, 100_000, 7):
        agrees(kernel, torch.rand(n), torch.rand(n))
    assert compilations == [5000]


def test_what_was_assumed_of_a_length_is_looked_at(compilations):
    kernel = Kernel(grown_by_length, {})
    for n in (5000, 7, 6000, 100, 101):
        agrees(kernel, torch.rand(n), torch.rand(n))
    assert compilations == [5000, 7]


@pytest.mark.parametrize("n", [0, 1])
def test_lengths_that_the_compiler_takes_for_constants_are_told_apart(n):
    kernel = Kernel(grown, {})
    for length in (n, 3, n):
        agrees(kernel, torch.rand(length), torch.rand(length))


def test_a_number_for_all_is_not_a_number_for_each():
    kernel = Kernel(grown, {})
    for a, b in ((5, 5), (5, 1), (9, 9), (9, 1)):
        agrees(kernel, torch.rand(a), torch.rand(b))


def test_how_inputs_lie_in_memory_does_not_matter(compilations):
    kernel, memory = Kernel(grown, {}), torch.rand(100)
    agrees(kernel, memory[3:50], memory[53:])
    agrees(kernel, memory[53:], memory[3:50])
    agrees(kernel, memory[1:48], torch.rand(47))
    agrees(kernel, memory[2:51], torch.rand(49))
    assert compilations == [47]


def test_threads_may_compile_at_the_same_time():
    begin = threading.Barrier(3)

    def compiled(factor: int) -> float:
        kernel = Kernel(lambda a: [a.mul(factor).sum()], {})
        begin.wait()
        return float(kernel(torch.ones(50))[0])

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(compiled, (1, 2, 3))) == [50, 100, 150]

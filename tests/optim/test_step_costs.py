"""The costs of a step, counted as the benchmark counts them."""

import argparse

import pytest
import torch

from benchmarks import optimizer_step
from benchmarks.traffic import words_moved
from selftune import optim
from selftune.optim.engine.cohorts import chunks

# The compiler's own modules, when first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
SIZE = 2**17


def weights() -> list[torch.Tensor]:
    p = torch.randn(SIZE, requires_grad=True)
    p.grad = torch.randn(SIZE)
    return [p]


def test_a_bucket_holds_no_more_elements_than_it_may_unless_one_tensor_has_them():
    sizes = [3, 3, 3, 7, 1, 5, 6]
    assert [sizes[part] for part in chunks(sizes, 6)] == [[3, 3], [3], [7], [1, 5], [6]]


def test_fused_adamw_moves_seven_words():
    step = torch.optim.AdamW(weights(), fused=True).step
    step()
    assert words_moved(step) == pytest.approx(7 * SIZE, rel=1e-3)


def test_what_is_given_twice_is_read_once():
    x, y = torch.ones(100), torch.ones(100)
    assert words_moved(lambda: x.addcmul_(y, y)) == 300


def test_what_is_only_overwritten_is_not_read():
    x, y = torch.ones(100), torch.ones(100)
    assert words_moved(lambda: x.copy_(y)) == 200
    assert words_moved(lambda: torch.zeros_like(x)) == 100


def test_a_compiled_loop_reads_and_writes_each_tensor_once():
    x, y = torch.ones(1000), torch.ones(1000)
    call = torch.compile(lambda: x.mul_(y).add_(y))
    call()
    assert words_moved(call) == 3000


# The sequences read and written once, and the gradient read once more, to see that it is finite;
# what is learnt from is read once more by a sum that the compiler gives a loop of its own.
@pytest.mark.parametrize(
    ("name", "words"),
    [("ScheduleFreeAdamW", 8), ("Prodigy", 13), ("DAdaptAdam", 13), ("ScheduleFreeProdigy", 13)],
)
def test_a_compiled_step_moves_no_more_words(name, words):
    optimizer = getattr(optim, name)(weights(), compile=True)
    optimizer.step()
    optimizer.step()
    assert words_moved(optimizer.step) == pytest.approx(words * SIZE, rel=1e-3)


def test_the_table_has_a_row_for_every_optimizer_that_is_asked_for(monkeypatch, capsys):
    monkeypatch.setitem(optimizer_step.PROBLEMS, "tiny", lambda: [(20, 30), (7,)])
    options = argparse.Namespace(only="dowg", device="cpu", threads=1, rounds=1)
    optimizer_step.measure("tiny", options)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    names = [row[0].strip("| ") for row in rows]
    assert names[1:] == ["torch AdamW(fused)", "torch AdamW(foreach)", "DoWG", "DoWG(compile)"]
    assert len({len(row) for row in rows}) == 1

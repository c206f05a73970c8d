import math

import pytest
import torch
from torch import Tensor

from selftune.tensor_list import TensorList

SHAPES = [(3, 4), (), (5,), (0, 2), (2, 1, 3)]
NUMBERS = {
    "float": 0.3,
    "tensor": torch.tensor(0.3, dtype=torch.float64),
    "float32 tensor": torch.tensor(0.3),  # a number that lives in another type than the tensors
}
ELEMENTWISE = ["mul", "mul_", "div", "div_", "add", "add_"]

number = pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS.keys())


def positive(seed: int, dtype=torch.float64, device="cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [(tensor + 0.5).to(device=device, dtype=dtype) for tensor in tensors]


def call(method: str, *operands: list[Tensor] | object, **options: object) -> list[Tensor]:
    """The method of one TensorList; a list stands for a TensorList of it."""
    lists = [TensorList(x) if isinstance(x, list) else x for x in operands]
    return getattr(lists[0], method)(*lists[1:], **options).tensors


def call_each(method: str, *operands: list[Tensor] | object, **options: object) -> list[Tensor]:
    """torch's own method on each tensor alone."""
    columns = [x if isinstance(x, list) else [x] * len(SHAPES) for x in operands]
    return [getattr(row[0], method)(*row[1:], **options) for row in zip(*columns, strict=True)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    # A product may be formed in another order: a few roundings of float64.
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("method", ELEMENTWISE)
def test_arithmetic_with_a_list_is_torchs_on_each_tensor(method):
    expected = call_each(method, positive(0), positive(1))
    assert_same(call(method, positive(0), positive(1)), expected)


@number
@pytest.mark.parametrize("method", ELEMENTWISE)
def test_arithmetic_with_a_number_is_torchs_on_each_tensor(method, number):
    expected = call_each(method, positive(0), float(number))
    assert_same(call(method, positive(0), number), expected)


@number
@pytest.mark.parametrize("method", ["add", "add_"])
def test_alpha_multiplies_an_added_list(method, number):
    expected = call_each(method, positive(0), positive(1), alpha=float(number))
    assert_same(call(method, positive(0), positive(1), alpha=number), expected)


@number
@pytest.mark.parametrize("added", [2.0, NUMBERS["tensor"].new_tensor(2.0)])
@pytest.mark.parametrize("method", ["add", "add_"])
def test_alpha_multiplies_an_added_number(method, added, number):
    expected = call_each(method, positive(0), 2.0, alpha=float(number))
    assert_same(call(method, positive(0), added, alpha=number), expected)


def test_sub_is_torchs_on_each_tensor():
    expected = call_each("sub", positive(0), positive(1))
    assert_same(call("sub", positive(0), positive(1)), expected)


@number
@pytest.mark.parametrize("method", ["lerp", "lerp_"])
def test_lerp_is_torchs_on_each_tensor(method, number):
    expected = call_each(method, positive(0), positive(1), float(number))
    assert_same(call(method, positive(0), positive(1), number), expected)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_lerp_toward_another_type_is_done_in_the_lists_own(weight):
    start, end = positive(0, torch.float32), positive(1, torch.bfloat16)
    expected = call_each("lerp_", start, [x.float() for x in end], weight)
    start = positive(0, torch.float32)
    result = call("lerp_", start, end, weight)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert {x.dtype for x in end} == {torch.bfloat16}


@number
@pytest.mark.parametrize("method", ["addcmul_", "addcdiv_"])
def test_products_and_quotients_are_added_as_torch_does(method, number):
    three = positive(0), positive(1), positive(2)
    expected = call_each(method, *three, value=float(number))
    three = positive(0), positive(1), positive(2)
    assert_same(call(method, *three, value=number), expected)


@pytest.mark.parametrize("method", ["addcmul_", "addcdiv_"])
def test_products_and_quotients_are_added_once_by_default(method):
    expected = call_each(method, positive(0), positive(1), positive(2))
    assert_same(call(method, positive(0), positive(1), positive(2)), expected)


@pytest.mark.parametrize("method", ["sqrt", "sqrt_", "clone"])
def test_functions_of_one_list_are_torchs_on_each_tensor(method):
    assert_same(call(method, positive(0)), call_each(method, positive(0)))


@pytest.mark.parametrize("non_blocking", [False, True])
def test_copy_takes_the_values_of_another_list(non_blocking):
    copied = call("copy_", positive(0), positive(1), non_blocking=non_blocking)
    assert_same(copied, positive(1))


def test_dot_is_the_inner_product_of_all_elements():
    a, b = positive(0), positive(1)
    expected = sum((x * y).sum() for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(TensorList(a).dot(TensorList(b)), expected)


def test_to_changes_the_type_of_every_tensor():
    assert_same(call("to", positive(0), torch.float32), positive(0, torch.float32))


def test_sum_is_that_of_all_elements():
    expected = torch.stack([tensor.sum() for tensor in positive(0)]).sum()
    torch.testing.assert_close(TensorList(positive(0)).sum(), expected)


@pytest.mark.parametrize("condition", [True, False])
def test_where_takes_all_of_one_list_or_of_the_other(condition):
    chosen = call("where", positive(0), torch.tensor(condition), positive(1))
    assert_same(chosen, positive(0) if condition else positive(1))


@pytest.mark.parametrize("ord", [1, 2])
def test_norm_is_the_vector_norm_of_all_elements(ord):
    tensors = [-tensor for tensor in positive(0)]
    elements = torch.cat([tensor.flatten() for tensor in tensors])
    torch.testing.assert_close(
        TensorList(tensors).norm(ord), torch.linalg.vector_norm(elements, ord)
    )


def test_norm_is_the_euclidean_one_by_default():
    tensors = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    assert TensorList(tensors).norm() == 5


def test_norm_of_infinite_order_is_the_largest_magnitude():
    tensors = [torch.tensor([3.0, -7.0]), torch.tensor(4.0)]
    assert TensorList(tensors).norm(math.inf) == 7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (4,), ()]])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_sum_of_squares_is_that_and_finite_if_all_is(dtype, shapes, transposed):
    tensors = [torch.full(shape, 4.0, dtype=dtype) for shape in shapes]
    tensors[0][0, 0] = 6e4  # its square does not fit into float16
    if transposed:
        tensors[0] = tensors[0].t()
    elements = torch.cat([tensor.double().flatten() for tensor in tensors])
    torch.testing.assert_close(
        TensorList(tensors).rough_sum_of_squares().double(),
        elements.dot(elements),
        rtol=1e-6,
        atol=0,
    )
    for value in (math.nan, math.inf, -math.inf):
        tensors[-1].fill_(value)
        assert not TensorList(tensors).rough_sum_of_squares().isfinite()


@pytest.mark.parametrize("number", [1, 2])
def test_the_sum_of_squares_overflows_where_a_square_does(number):
    tensors = [torch.full((3,), 1e20)] * number
    assert not TensorList(tensors).rough_sum_of_squares().isfinite()


def test_norms_are_the_euclidean_ones_of_each_tensor():
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor(-2.0), torch.zeros(0)]
    assert TensorList(tensors).norms().tolist() == [5, 2, 0]


def test_maximum_is_torchs_on_each_tensor():
    expected = list(map(torch.maximum, positive(0), positive(1)))
    assert_same(call("maximum_", positive(0), positive(1)), expected)


@pytest.mark.parametrize("step", [2, 3, 100])
def test_every_takes_each_tensors_elements_at_that_distance(step):
    expected = [tensor.flatten()[::step] for tensor in positive(0)]
    assert_same(call("every", positive(0), step), expected)


def test_every_1_is_the_list():
    tensors = TensorList(positive(0))
    assert tensors.every(1) is tensors


LIST, NUMBER = "a list", "a 0-d tensor"
every_call = pytest.mark.parametrize(
    ("method", "operands", "options"),
    [
        *(
            (name, [], {})
            for name in ("clone", "sqrt", "sqrt_", "norm", "norms", "rough_sum_of_squares", "sum")
        ),
        *((name, [LIST], {}) for name in ("copy_", "sub", "dot", "maximum_", *ELEMENTWISE)),
        *((name, [NUMBER], {}) for name in ELEMENTWISE),
        *((name, [2.0], {}) for name in ELEMENTWISE),
        *((name, [LIST], {"alpha": NUMBER}) for name in ("add", "add_")),
        *((name, [NUMBER], {"alpha": NUMBER}) for name in ("add", "add_")),
        *((name, [2.0], {"alpha": NUMBER}) for name in ("add", "add_")),
        *((name, [LIST, 0.3], {}) for name in ("lerp", "lerp_")),
        *((name, [LIST, NUMBER], {}) for name in ("lerp", "lerp_")),
        *((name, [LIST, LIST], {}) for name in ("addcmul_", "addcdiv_")),
        *((name, [LIST, LIST], {"value": NUMBER}) for name in ("addcmul_", "addcdiv_")),
    ],
)


def operand(kind: object, device: str = "cpu") -> object:
    if kind == NUMBER:
        return torch.full((), 0.3, dtype=torch.float64, device=device)
    return TensorList(positive(1, device=device)) if kind == LIST else kind


def values(operand: object) -> list[object]:
    return [x.clone() for x in operand] if isinstance(operand, TensorList) else [operand]


@every_call
def test_a_trailing_underscore_means_in_place(method, operands, options):
    self = TensorList(positive(0))
    tensors = list(self)
    options = {name: operand(kind) for name, kind in options.items()}
    result = getattr(self, method)(*map(operand, operands), **options)
    if method.endswith("_"):
        assert result is self
        assert [x.data_ptr() for x in result] == [x.data_ptr() for x in tensors]
    else:
        assert all(map(torch.equal, tensors, positive(0)))
        results = [result] if isinstance(result, Tensor) else result
        assert not {x.data_ptr() for x in results if x.numel()} & {x.data_ptr() for x in tensors}


@every_call
def test_operands_are_not_written(method, operands, options):
    arguments = [operand(kind) for kind in operands]
    options = {name: operand(kind) for name, kind in options.items()}
    before = [values(x) for x in (*arguments, *options.values())]
    getattr(TensorList(positive(0)), method)(*arguments, **options)
    after = [values(x) for x in (*arguments, *options.values())]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@every_call
def test_nothing_is_read_back_to_the_host(method, operands, options):
    # Tensors on the meta device hold no numbers: `.item()` raises.
    self = TensorList(positive(0, device="meta"))
    options = {name: operand(kind, "meta") for name, kind in options.items()}
    result = getattr(self, method)(*(operand(kind, "meta") for kind in operands), **options)
    assert all(x.is_meta for x in ([result] if isinstance(result, Tensor) else result))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("method", ELEMENTWISE)
def test_a_0d_tensor_does_not_change_the_type_of_the_list(method, dtype):
    for number in (torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64)):
        assert {x.dtype for x in call(method, positive(0, dtype), number)} == {dtype}


def test_a_list_has_a_length_and_is_iterated_in_order():
    tensors = positive(0)
    assert len(TensorList(tensors)) == len(tensors)
    assert all(a is b for a, b in zip(TensorList(tensors), tensors, strict=True))


@pytest.mark.parametrize("value", [1.0, float("inf"), float("nan"), 1e20])
def test_none_or_nan_is_zero_if_every_square_is_finite_and_passes_over_empty_tensors(value):
    tensors = TensorList([torch.tensor([1.0, value]), torch.empty(0)])
    expected = 0.0 if value == 1 else float("nan")
    torch.testing.assert_close(tensors.none_or_nan(), torch.tensor(expected), equal_nan=True)
    assert TensorList([torch.empty(0), torch.empty(0, 3)]).none_or_nan() == 0


@pytest.mark.parametrize("eps", [0.0, 1e-30, torch.tensor(1e-8)])
def test_zeros_are_replaced_where_eps_does_not_rule_them_out(eps):
    tensors = TensorList([torch.tensor([0.0, 2.0])])
    assert tensors.without_zeros_(eps).tensors[0].tolist() == [float("inf"), 2.0]

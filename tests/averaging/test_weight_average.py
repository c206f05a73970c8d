import pytest
import torch
from iterates import Weights, follow, noise
from runs import batches, every_profile, network, same, train, trained, values
from torch import nn

from selftune.averaging import EMA, LAWA, Polyak, WeightAverage
from selftune.optim import AdamW

# -- types and kinds of tensors ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_profile
def test_low_precision_weights_have_a_float32_average_and_come_back_to_the_bit(dtype, profile):
    x = noise(30, dtype=dtype)
    average = follow(profile, x)
    exact = follow(profile, x.double()).weights()["x"]
    mean = average.weights()["x"]
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), exact, rtol=1e-6, atol=1e-6)
    model = Weights(x[-1])
    with average.swap(model):
        assert torch.equal(model.x, mean.to(dtype))
    assert torch.equal(model.x, x[-1])
    assert torch.equal(average.weights()["x"], mean)


def test_a_snapshot_has_the_type_of_its_weights():
    x = noise(4, dtype=torch.bfloat16)
    kept = follow(LAWA(3, every=1), x).state_dict()["tensors"]["x"]
    assert {name: t.dtype for name, t in kept.items()} == {
        "mean": torch.float32,
        **dict.fromkeys(["snapshot0", "snapshot1", "snapshot2"], torch.bfloat16),
    }


@every_profile
def test_complex_weights_are_averaged_as_complex_numbers(profile):
    x = noise(8, 4).view(8, 2, 2)
    real = follow(profile, x)
    average = follow(profile, torch.view_as_complex(x))
    mean = average.weights()["x"]
    assert torch.equal(torch.view_as_real(mean), real.weights()["x"])
    model = Weights(torch.view_as_complex(x)[-1])
    with average.swap(model):
        assert torch.equal(model.x, mean)


def test_a_parameter_of_another_type_is_averaged_beside_the_rest():
    model = network()
    model[3].to(torch.bfloat16)
    model.register_parameter("index", nn.Parameter(torch.arange(3), requires_grad=False))
    average = WeightAverage(model, EMA(half_life=2))
    average.update()
    assert average.weights().keys() == {name for name, _ in model.named_parameters()} - {"index"}


@pytest.mark.parametrize("profile", [EMA(half_life=4), LAWA(3, every=1)], ids=str)
def test_how_many_tensors_are_folded_in_at_a_time_does_not_matter(profile, monkeypatch):
    _, average = trained(profile)
    monkeypatch.setattr("selftune.averaging.average_tensors.CHUNK", 5)
    _, chunked = trained(profile)
    assert same(average.weights(), chunked.weights())


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="ReLU has no floating-point tensor to average"):
        WeightAverage(nn.ReLU(), Polyak())


def test_parameters_or_an_optimizer_in_the_place_of_the_model_are_refused():
    model = network()
    for given in (model.parameters(), torch.optim.SGD(model.parameters())):
        with pytest.raises(
            ValueError, match=f"takes the model itself, got a {type(given).__name__}"
        ):
            WeightAverage(given, Polyak())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("profile", [0.999, LAWA])
def test_what_is_no_profile_is_refused(profile):
    with pytest.raises(ValueError, match="profile must be one such as EMA"):
        WeightAverage(network(), profile)


def test_include_leaves_parameters_alone():
    model = network()
    average = WeightAverage(model, Polyak(), include=lambda name, p: p.ndim > 1)
    average.update()
    assert average.weights().keys() == {"0.weight", "3.weight"}
    with torch.no_grad():
        model[0].bias.fill_(7)
    with average.swap(model):
        assert torch.equal(model[0].bias, torch.full((4,), 7.0))


def test_tied_parameters_are_averaged_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    average = WeightAverage(model, Polyak())
    average.update()
    assert average.weights().keys() == {"0.weight", "0.bias", "1.bias"}
    before = values(model)
    with average.swap(model):
        assert model[1].weight is model[0].weight
    assert same(values(model), before)


def test_a_parameter_that_is_replaced_is_followed():
    model = nn.Linear(2, 1)
    average = WeightAverage(model, LAWA(1, every=1))
    average.update()
    model.weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    average.update()
    assert torch.equal(average.weights()["weight"], model.weight)


# -- buffers ----------------------------------------------------------------------------------


def test_the_models_present_buffers_serve_the_average():
    model, average = trained(Polyak())
    before = values(model)
    with average.swap(model):
        assert torch.equal(model[1].running_mean, before["1.running_mean"])


def test_buffers_are_averaged_when_asked():
    model = network()
    average = WeightAverage(model, Polyak(), average_buffers=True)
    optimizer = AdamW(model.parameters(), lr=0.1)
    seen = []
    for step in range(4):
        train(model, optimizer, [step])
        average.update()
        seen.append(model[1].running_var.clone())
    before = values(model)
    with average.swap(model):
        torch.testing.assert_close(model[1].running_var, torch.stack(seen).mean(0))
        model(next(iter(batches([9]))))  # in training mode: the buffer is written
    assert same(values(model), before)
    torch.testing.assert_close(average.weights()["1.running_var"], torch.stack(seen).mean(0))


def test_statistics_are_estimated_at_the_averaged_weights():
    model, average = trained(EMA(half_life=3))
    before = values(model)
    samples = list(batches(range(20, 23)))
    with torch.no_grad(), average.swap(model, samples):
        expected = torch.stack([model[0](x).mean(0) for x in samples]).mean(0)
        torch.testing.assert_close(model[1].running_mean, expected)
    assert same(values(model), before)


def test_a_forward_function_is_given_the_batches():
    model, average = trained(EMA(half_life=3))
    seen = []
    with average.swap(model, [{"x": 1}], forward=lambda model, batch: seen.append(batch)):
        assert seen == [{"x": 1}]


def test_batches_that_fail_leave_the_model_as_it_was():
    model, average = trained(EMA(half_life=3))
    before = values(model)
    with pytest.raises(ValueError, match="at least one batch"), average.swap(model, []):
        raise AssertionError("not reached")
    assert same(values(model), before)

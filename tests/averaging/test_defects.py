"""Defects of other tools, named after them, that are not here."""

import copy
import re
import threading
from collections.abc import Iterator

import pytest
import torch
from iterates import Weights, average_of, follow, noise, weights_of
from runs import batches, network, same, train, trained, values
from torch import nn

from selftune.averaging import (
    EMA,
    LAWA,
    FromSchedule,
    Polyak,
    PowerEMA,
    SnapshotStore,
    Tail,
    WeightAverage,
)
from selftune.optim import AdamW
from selftune.schedules import cosine


@pytest.mark.parametrize("half_life", [693, 6931])  # decays 0.999 and 0.9999
def test_torch_averaged_model_in_bfloat16_never_moves(half_life):
    # It stays at 1 through 20,000 updates toward 1.25.
    x = torch.full((20_000, 1), 1.25, dtype=torch.bfloat16)
    x[0] = 1.0
    b = 0.5 ** (1 / half_life)
    first = b**19_999 * (1 - b) / (1 - b**20_000)
    average = average_of(EMA(half_life=half_life), x)
    # In float32 it stops where a step is half of the last digit.
    last_digit = 2**-23 * 1.25
    assert average.item() == pytest.approx(1.25 - 0.25 * first, abs=last_digit / 2 / (1 - b))


def test_torch_averaged_models_own_example_does_not_run():
    assert WeightAverage.__doc__
    lines = re.findall(r"^ {8}(.*)$", WeightAverage.__doc__, re.MULTILINE)
    code = "\n".join(lines[:5]).replace("...", "train()")
    model = network()
    optimizer = AdamW(model.parameters(), lr=0.1)
    evaluated = []
    names = {
        "WeightAverage": WeightAverage,
        "LAWA": LAWA,
        "model": model,
        "optimizer": optimizer,
        "num_steps": 20,
        "train": lambda: train(model, optimizer, range(20)),
        "evaluate": lambda model: evaluated.append(model[0].weight.clone()),
    }
    exec(code, names)
    assert torch.equal(evaluated[0], names["average"].weights()["0.weight"])


def test_torch_averaged_model_truncates_num_batches_tracked():
    model = network()
    average = WeightAverage(model, Polyak(), average_buffers=True)
    optimizer = AdamW(model.parameters(), lr=0.1)
    average.attach(optimizer)
    train(model, optimizer, range(50))
    with average.swap(model):
        assert model[1].num_batches_tracked == 50
    assert model[1].num_batches_tracked == 50


def test_torch_averaged_model_and_timm_copy_the_model():
    model = network()
    model.lock = threading.Lock()  # cannot be copied
    average = WeightAverage(model, EMA(half_life=3))
    average.update()
    with average.swap(model):
        pass


def test_torch_averaged_model_does_not_save_how_it_averages():
    saved = trained(EMA(half_life=3))[1].state_dict()
    assert saved["profile"] == {
        "kind": "EMA", "every": 1, "start": 0, "half_life": 3, "horizon": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="resume with the same profile"):
        trained(EMA(half_life=30))[1].load_state_dict(saved)


def test_torch_update_bn_fails_on_batches_that_are_dicts_and_turns_dropout_on():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.norm = nn.Dropout(0.9), nn.BatchNorm1d(3)

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.norm(self.dropout(batch["x"]))

    model = Named()
    average = WeightAverage(model, Polyak())
    average.update()
    samples = list(batches(range(4)))
    with average.swap(model, [{"x": x} for x in samples]):
        expected = torch.stack([x.mean(0) for x in samples]).mean(0)
        torch.testing.assert_close(model.norm.running_mean, expected)


def test_torch_update_bn_leaves_the_statistics_of_instance_norms():
    model = nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True))
    average = WeightAverage(model.append(nn.Linear(6, 2)), Polyak())
    average.update()
    x = torch.randn(4, 3, 6)
    with average.swap(model, [x]):
        torch.testing.assert_close(model[0].running_mean, x.mean((0, 2)))
    assert torch.equal(model[0].running_mean, torch.zeros(3))


def test_torch_averaged_model_goes_by_positions_which_parametrizations_change():
    def parametrized(first: int, second: int) -> nn.Sequential:
        model = network()
        nn.utils.parametrizations.weight_norm(model[first])
        nn.utils.parametrizations.weight_norm(model[second])
        return model

    average = WeightAverage(parametrized(0, 3), Polyak())
    average.update()
    other = parametrized(3, 0)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    average.copy_to(other)
    assert same({k: v.detach() for k, v in other.named_parameters()}, average.weights())


def test_torch_ema_loses_float32_when_it_is_loaded():
    x = noise(5, dtype=torch.bfloat16)
    average = follow(EMA(half_life=3), x)
    resumed = WeightAverage(Weights(x[0]), EMA(half_life=3))
    resumed.load_state_dict(average.state_dict())
    assert resumed.weights()["x"].dtype == torch.float32
    assert same(resumed.weights(), average.weights())


def test_torch_ema_and_diffusers_go_by_position():
    class Two(nn.Module):
        def __init__(self, *names: str) -> None:
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(torch.full((2,), float(name == "a"))))

    average = WeightAverage(Two("a", "b"), Polyak())
    average.update()
    other = Two("b", "a")
    resumed = WeightAverage(other, Polyak())
    resumed.load_state_dict(average.state_dict())
    with resumed.swap(other):
        assert torch.equal(other.a, torch.ones(2))
        assert torch.equal(other.b, torch.zeros(2))


@pytest.mark.parametrize("every", [1, 100])
def test_ema_pytorchs_karras_ema_applies_its_decay_per_step_once_in_a_hundred(every):
    # Its mean averaged time is 0.073 T instead of 0.888 T at every=100.
    weights = weights_of(PowerEMA(0.1, every=every), 10_000 if every > 1 else 1000)
    time = torch.arange(1, len(weights) + 1, dtype=torch.float64) / len(weights)
    assert (weights @ time).item() == pytest.approx(0.888, abs=0.01)


def test_ema_pytorchs_synthesis_uses_snapshots_from_after_the_step(tmp_path):
    x, store = noise(40, dtype=torch.float32), SnapshotStore(tmp_path)
    model = Weights(x[0])
    averages = [WeightAverage(model, PowerEMA(s)) for s in (0.05, 0.1)]
    made = []
    for step, weights in enumerate(x, start=1):
        model.set(weights)
        for average in averages:
            average.update()
            if step % 4 == 0:
                store.add(average)
        if step == 20:
            made.append(store.synthesize(0.08))
    made.append(store.synthesize(0.08, step=20))
    assert same(*made)


def test_ema_pytorchs_snapshots_are_float16(tmp_path):
    store = SnapshotStore(tmp_path)
    average = WeightAverage(Weights(torch.tensor([1e-6, 1e6])), PowerEMA(0.1))
    average.update()
    store.add(average)
    assert torch.equal(store.synthesize(0.1)["x"], torch.tensor([1e-6, 1e6]))


def test_ema_pytorchs_state_holds_the_model_too():
    model, average = trained(EMA(half_life=3))
    tensors = average.state_dict()["tensors"]
    held = sum(value.numel() for kept in tensors.values() for value in kept.values())
    assert held == sum(p.numel() for p in model.parameters())


def test_ema_pytorchs_lerp_refuses_a_float32_average_of_bfloat16_weights():
    model = network()
    model[0].to(torch.bfloat16)
    average = WeightAverage(model, EMA(half_life=3))
    average.update()
    average.update()
    assert torch.equal(average.weights()["0.weight"], model[0].weight.float())


def test_timms_ema_is_mostly_the_initial_weights_for_long():
    average = average_of(EMA(half_life=6931), torch.full((10, 1), 5.0))
    assert torch.equal(average, torch.tensor([5.0]))  # the model began at 77


def test_lightning_swaps_in_an_average_that_has_seen_nothing():
    model = network()
    average = WeightAverage(model, Tail(start=3))
    average.update()
    before = values(model)
    with (
        pytest.warns(UserWarning, match="nothing is averaged after 1 steps by Tail") as caught,
        average.swap(model),
    ):
        assert same(values(model), before)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_lightning_saves_the_average_as_the_model():
    model, average = trained(EMA(half_life=3))
    before = values(model)
    average.state_dict()
    assert same(values(model), before)
    with average.swap(model):
        assert torch.equal(model.state_dict()["0.weight"], average.weights()["0.weight"])


def test_lightnings_swa_leaves_momentum_0_behind():
    model, average = trained(EMA(half_life=3))
    with pytest.raises(KeyboardInterrupt), average.swap(model, interrupted()):
        raise AssertionError("not reached")
    assert model[1].momentum == 0.1


def interrupted() -> Iterator[torch.Tensor]:
    yield torch.randn(8, 3)
    raise KeyboardInterrupt


def test_diffusers_cannot_restore_weights_after_keeping_the_average_on_the_cpu():
    model, average = trained(EMA(half_life=3), offload=True)
    before = values(model)
    with average.swap(model):
        assert not same(values(model), before)
    assert same(values(model), before)


def test_kaddours_class_cannot_be_defined_since_python_3_11_for_a_mutable_default():
    assert hash(LAWA()) == hash(LAWA())  # defaults that nobody can change
    model = network()
    first, second = (WeightAverage(model, LAWA(), total_steps=10) for _ in range(2))
    first.update()
    assert (first.folds, second.folds) == (1, 0)


def test_kaddours_snapshots_are_the_live_weights():
    x = noise(6)
    torch.testing.assert_close(average_of(LAWA(3, every=1), x), x[-3:].mean(0))
    for offload in (False, True):
        model = Weights(x[0])
        average = WeightAverage(model, LAWA(3, every=1), offload=offload)
        average.update()
        model.set(x[1])
        assert torch.equal(average.weights()["x"], x[0])


def test_kaddours_average_divides_integer_buffers():
    model = network()
    model.register_buffer("positions", torch.arange(5))
    average = WeightAverage(model, LAWA(2, every=1), average_buffers=True)
    average.update()
    average.update()
    with average.swap(model):
        assert torch.equal(model.positions, torch.arange(5))


def test_algoperfs_lawa_ema_rounds_its_decay_to_zero_and_keeps_one_old_snapshot():
    weights = weights_of(EMA(half_life=1, every=2), 12)
    assert 0.4 < weights.max() < 0.8


def test_the_prefix_of_torch_compile_makes_all_tensors_be_skipped():
    model = network()
    average = WeightAverage(torch.compile(model, backend="eager"), Polyak())
    average.update()
    saved = copy.deepcopy(average.state_dict())
    bare = WeightAverage(network(), Polyak())
    bare.load_state_dict(saved)
    assert same(bare.weights(), {k: v.detach() for k, v in model.named_parameters()})


def test_a_compiled_model_does_not_see_what_is_swapped_in():
    model = nn.Linear(3, 2)
    fast = torch.compile(model, backend="aot_eager")
    average = WeightAverage(fast, Polyak())
    average.update()
    x = torch.randn(4, 3)
    averaged = model(x)
    with torch.no_grad():
        model.weight.add_(1)
    fast(x)
    with average.swap(fast):
        torch.testing.assert_close(fast(x), averaged)


def test_a_fraction_of_the_run_is_not_the_same_on_a_longer_run_after_resuming():
    saved = WeightAverage(network(), Tail(), total_steps=100).state_dict()
    with pytest.raises(ValueError, match=r"has start=50, this one start=100.*total_steps"):
        WeightAverage(network(), Tail(), total_steps=200).load_state_dict(saved)


def test_a_schedule_with_other_steps_is_not_resumed_silently():
    # As torch's LambdaLR does with a schedule.
    saved = WeightAverage(network(), FromSchedule(cosine(20))).state_dict()
    with pytest.raises(ValueError, match=r"total_steps=20, this one .*total_steps=10: resume"):
        WeightAverage(network(), FromSchedule(cosine(10))).load_state_dict(saved)

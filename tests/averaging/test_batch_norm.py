import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from selftune.averaging import recalibrate_batch_norm
from selftune.optim import ScheduleFreeAdamW


def batches(count: int = 4, shape: tuple[int, ...] = (8, 3)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [k + torch.randn(shape, generator=generator) for k in range(count)]


def model() -> nn.Sequential:
    """One that has been trained a little, in training mode."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)
    )
    model(torch.randn(8, 3))
    return model


def statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    return norm.running_mean.clone(), norm.running_var.clone()


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def mean_statistics(activations: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of the batches' means and of their unbiased variances."""
    flat = [a.detach().movedim(1, -1).flatten(0, -2) for a in activations]
    means, variances = zip(*((a.mean(0), a.var(0)) for a in flat), strict=True)
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


def test_statistics_become_the_mean_over_the_batches():
    net = model()
    recalibrate_batch_norm(net, batches())
    expected = mean_statistics([net[0](batch) for batch in batches()])
    torch.testing.assert_close(statistics(net[1]), expected)


def test_statistics_of_convolutions_run_over_space_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    images = batches(3, (2, 3, 6, 6))
    recalibrate_batch_norm(net, images)
    expected = mean_statistics([net[0](image) for image in images])
    torch.testing.assert_close(statistics(net[1]), expected)


def test_a_later_norm_sees_what_it_sees_in_training():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4))
    recalibrate_batch_norm(net, batches())
    normalized = [(x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() for x in batches()]
    expected = mean_statistics([net[1](x) for x in normalized])
    torch.testing.assert_close(statistics(net[2]), expected)


def test_dropout_stays_off():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3))
    recalibrate_batch_norm(net, batches())
    torch.testing.assert_close(statistics(net[1]), mean_statistics(batches()))


def test_nothing_but_the_statistics_changes():
    net = model()
    before = copy.deepcopy(net.state_dict())
    recalibrate_batch_norm(net, batches())
    changed = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_a_forward_function_is_given_the_model_and_each_batch():
    net = model()
    calls = []

    def forward(model: nn.Module, batch: tuple[Tensor, int]) -> None:
        assert not torch.is_grad_enabled()
        calls.append((model, batch[1]))
        model(batch[0])

    recalibrate_batch_norm(net, zip(batches(), range(4), strict=True), forward)
    assert calls == [(net, k) for k in range(4)]
    expected = mean_statistics([net[0](batch) for batch in batches()])
    torch.testing.assert_close(statistics(net[1]), expected)


def test_instance_norms_that_track_statistics_are_recalibrated_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True), nn.Dropout(0.5))
    samples = batches(3, (2, 3, 6))
    recalibrate_batch_norm(net, samples)
    means = torch.stack([x.mean((0, 2)) for x in samples]).mean(0)
    variances = torch.stack([x.var(2).mean(0) for x in samples]).mean(0)
    torch.testing.assert_close(statistics(net[0]), (means, variances))
    assert net[0].momentum == 0.1


def test_statistics_are_those_of_schedule_frees_evaluation_weights():
    # In training they are gathered at y: at x, where the model is evaluated, they are wrong.
    net = model()
    optimizer = ScheduleFreeAdamW(net.parameters(), lr=0.1)
    for batch in batches(20):
        optimizer.zero_grad()
        net(batch).square().sum().backward()
        optimizer.step()
    gathered = statistics(net[1])
    with optimizer.evaluation_weights():
        recalibrate_batch_norm(net, batches())
        expected = mean_statistics([net[0](batch) for batch in batches()])
    torch.testing.assert_close(statistics(net[1]), expected)
    assert not torch.allclose(gathered[0], expected[0])
    at_training = mean_statistics([net[0](batch) for batch in batches()])
    assert not torch.allclose(at_training[0], expected[0])


class Interruption(Exception):
    pass


def interrupted() -> Iterator[Tensor]:
    yield batches()[0]
    raise Interruption


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_momenta_are_restored(fails):
    net = model()
    net[1].momentum = 0.3
    net[3].eval()
    before = [module.training for module in net.modules()]
    assert len(set(before)) == 2
    if fails:
        with pytest.raises(Interruption):
            recalibrate_batch_norm(net, interrupted())
    else:
        recalibrate_batch_norm(net, batches())
    assert [module.training for module in net.modules()] == before
    assert net[1].momentum == 0.3


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_model_does_not_matter(training):
    net, other = model(), model()
    recalibrate_batch_norm(net.train(training), batches())
    recalibrate_batch_norm(other, batches())
    torch.testing.assert_close(buffers(net), buffers(other), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [list, tuple])
def test_of_inputs_with_labels_the_inputs_are_passed_to_the_model(kind):
    net, other = model(), model()
    recalibrate_batch_norm(net, [kind((inputs, torch.ones(8))) for inputs in batches()])
    recalibrate_batch_norm(other, batches())
    torch.testing.assert_close(buffers(net), buffers(other), rtol=0, atol=0)


def test_no_batches_are_refused_and_the_statistics_kept():
    net = model()
    before = buffers(net)
    with pytest.raises(ValueError, match="at least one batch, got none"):
        recalibrate_batch_norm(net, [])
    torch.testing.assert_close(buffers(net), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.InstanceNorm1d(3),
    ],
    ids=["LayerNorm", "BatchNorm without statistics", "InstanceNorm"],
)
def test_nothing_runs_without_statistics_to_estimate(net):
    before = buffers(net)
    unread = iter(batches())
    recalibrate_batch_norm(net, unread)
    assert len(list(unread)) == 4
    torch.testing.assert_close(buffers(net), before, rtol=0, atol=0)
    assert all(module.training for module in net.modules())

"""Lightning: automatic and manual optimization, several optimizers, averages, precision."""

import pytest
import torch

pytest.importorskip("lightning")

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from ours import OURS, SCHEDULE_FREE
from torch import nn

from benchmarks.frameworks import in_lightning as script
from benchmarks.frameworks.problem import (
    TRAINING,
    alike,
    loss_of,
    near,
    net,
    training_batches,
    validation_batches,
    validation_loss,
)
from benchmarks.frameworks.subjects import Subject
from selftune import Prodigy, ScheduleFreeAdamW, ScheduleFreePlus


@pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.name)
def test_lightning_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_validation_in_another_precision_is_that_of_the_evaluation_weights(precision, tmp_path):
    module = script.Module(SCHEDULE_FREE)
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, precision=precision)
    trainer.fit(module, training_batches(), validation_batches())
    weights = [{name: p.float() for name, p in each.items()} for each in module.recorder.weights]
    for step, loss in module.validated.items():
        assert loss == pytest.approx(validation_loss(weights[step - 1]), rel=0.02)
    assert alike(dict(module.net.state_dict()), module.recorder.weights[-1])


class Handed(Callback):
    def __init__(self, optimizer=0):
        self.losses, self.optimizer = [], optimizer

    def on_fit_start(self, trainer, pl_module):
        inner = trainer.optimizers[self.optimizer]
        original = inner._step
        inner._step = lambda loss: original(self.keep(inner._now.loss if loss is None else loss))

    def keep(self, loss):
        self.losses.append(float(loss))
        return loss


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_method_that_needs_the_loss_is_given_that_of_all_micro_batches(accumulated, tmp_path):
    plus = Subject("selftune", "ScheduleFreePlus", {})
    module, handed = script.Module(plus), Handed()
    trainer = script.trainer(
        plus,
        tmp_path,
        callbacks=[handed],
        accumulate_grad_batches=accumulated,
        max_epochs=1,
        limit_val_batches=0,
        val_check_interval=None,
    )
    trainer.fit(module, training_batches())
    assert len(handed.losses) == 6 // accumulated
    examples = 8 * accumulated
    first = loss_of(net(), (TRAINING[0][:examples], TRAINING[1][:examples])).item()
    assert near(handed.losses[0], first)


class Two(script.Module):
    """Two optimizers of two methods, stepped by hand on losses of their own."""

    def __init__(self):
        super().__init__(SCHEDULE_FREE)
        self.automatic_optimization = False
        self.other = net()

    def configure_optimizers(self):
        return [
            ScheduleFreeAdamW(self.net.parameters(), lr=0.05),
            ScheduleFreePlus(self.other.parameters()),
        ]

    def training_step(self, batch, index):
        for optimizer, model in zip(self.optimizers(), (self.net, self.other), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss_of(model, batch))
            optimizer.step()


def test_manual_optimization_attaches_every_optimizer_and_hands_over_its_own_loss(tmp_path):
    module, handed = Two(), Handed(optimizer=1)
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, callbacks=[handed], max_epochs=1)
    trainer.fit(module, training_batches(), validation_batches())

    nets = net(), net()
    optimizers = (
        ScheduleFreeAdamW(nets[0].parameters(), lr=0.05),
        ScheduleFreePlus(nets[1].parameters()),
    )
    losses = []
    for batch in training_batches():
        for each, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(each, batch)
            loss.backward()
            optimizer.step(loss=loss)
        losses.append(loss.item())
    for optimizer in optimizers:
        optimizer.eval()
    assert all(map(near, handed.losses, losses))
    assert alike(dict(module.net.state_dict()), dict(nets[0].state_dict()))
    assert alike(dict(module.other.state_dict()), dict(nets[1].state_dict()))
    step = 2 * len(losses)
    assert near(module.validated[step], validation_loss(dict(nets[0].named_parameters())))


def test_the_average_of_lightning_is_one_of_evaluation_weights_and_leaves_the_run_alone(tmp_path):
    plain = script.Module(SCHEDULE_FREE)
    script.trainer(SCHEDULE_FREE, tmp_path).fit(plain, training_batches(), validation_batches())

    module = script.Module(SCHEDULE_FREE)
    keep = ModelCheckpoint(tmp_path, "last", every_n_train_steps=24)
    averages = EMAWeightAveraging(decay=0.8)
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, callbacks=[averages, keep])
    trainer.fit(module, training_batches(), validation_batches())
    weights = module.recorder.weights
    assert all(map(alike, weights, plain.recorder.weights))

    average = {name: p.clone() for name, p in weights[0].items()}
    expected = []
    for i, each in enumerate(weights):
        if i:
            average = {name: p.lerp(each[name], 0.2) for name, p in average.items()}
        expected.append(average)
    for step, loss in module.validated.items():
        assert near(loss, validation_loss(expected[step - 1]))
    assert alike(script.weights_in(tmp_path / "last.ckpt"), expected[-1])
    assert alike(dict(module.net.state_dict()), expected[-1])


def test_an_optimizer_of_another_package_is_left_alone(tmp_path):
    class Mixed(Two):
        def configure_optimizers(self):
            other = torch.optim.SGD(self.other.parameters(), lr=0.1)
            return [Prodigy(self.net.parameters()), other]

    module = Mixed()
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, max_epochs=1)
    trainer.fit(module, training_batches(), validation_batches())
    assert len(module.validated) == 3


def test_a_module_is_fitted_again_after_an_interruption(tmp_path):
    class Interrupted(script.Module):
        def on_train_batch_end(self, *args):
            if self.trainer.global_step == 2 and not self.again:
                raise RuntimeError("interrupted")

    module = Interrupted(SCHEDULE_FREE)
    module.again = False
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, max_epochs=1)
    with pytest.raises(RuntimeError, match="interrupted"):
        trainer.fit(module, training_batches(), validation_batches())
    module.again = True
    module.configure_optimizers()
    trainer.fit(module, training_batches(), validation_batches())
    assert alike(dict(module.net.state_dict()), module.recorder.weights[-1])


def test_after_the_fit_a_module_is_a_plain_one_at_its_evaluation_weights(tmp_path):
    module = script.Module(SCHEDULE_FREE)
    script.trainer(SCHEDULE_FREE, tmp_path).fit(module, training_batches(), validation_batches())
    before = nn.utils.parameters_to_vector(module.parameters()).clone()
    module.train()
    module.net(TRAINING[0])
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), before)
    assert alike(dict(module.net.state_dict()), module.recorder.weights[-1])


def test_what_a_module_calls_of_its_optimizer_reaches_it(tmp_path):
    class ByHand(script.Module):
        def __init__(self, subject):
            super().__init__(subject)
            self.automatic_optimization = False
            self.seen = []

        def training_step(self, batch, index):
            optimizer = self.optimizers()
            with optimizer.evaluation_weights():  # nothing moves them, not even a forward pass
                self.net(TRAINING[0])
                self.seen.append({name: p.clone() for name, p in self.net.named_parameters()})
            optimizer.eval()
            self.net(TRAINING[0])  # moves to the training weights
            optimizer.eval()
            again = {name: p.clone() for name, p in self.net.named_parameters()}
            assert alike(again, self.seen[-1])
            optimizer.zero_grad()
            self.manual_backward(loss_of(self.net, batch))
            optimizer.step()

    module = ByHand(SCHEDULE_FREE)
    script.trainer(SCHEDULE_FREE, tmp_path).fit(module, training_batches(), validation_batches())
    weights = module.recorder.weights
    assert all(map(alike, module.seen[1:], weights))
    assert not alike(weights[-1], weights[-2])


def test_a_loss_that_a_module_hands_over_itself_reaches_the_optimizer(tmp_path):
    plus = Subject("selftune", "ScheduleFreePlus", {})

    class ByHand(script.Module):
        def training_step(self, batch, index):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = loss_of(self.net, batch)
            optimizer.add_loss(loss)
            loss.backward()
            optimizer.step()

    module, handed = ByHand(plus), Handed()
    module.automatic_optimization = False
    trainer = script.trainer(plus, tmp_path, callbacks=[handed], max_epochs=1)
    trainer.fit(module, training_batches())
    batch = TRAINING[0][:8], TRAINING[1][:8]
    assert near(handed.losses[0], loss_of(net(), batch).item())

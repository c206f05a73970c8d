"""fastai's Learner."""

import pytest
import torch

pytest.importorskip("fastai.callback.schedule")  # adds the Learner's fit_one_cycle

from fastai.callback.training import GradientAccumulation
from fastai.learner import load_learner
from ours import OURS, SCHEDULE_FREE
from torch.utils.data import TensorDataset

from benchmarks.frameworks import in_fastai as script
from benchmarks.frameworks.problem import alike, validation_loss
from benchmarks.frameworks.subjects import Subject
from selftune import Prodigy, SelfTune
from selftune.integrations.fastai import SelfTuneCallback, opt_func


@pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.name)
def test_a_learner_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


@pytest.mark.parametrize("name", ["DoG", "DoWG", "LDoG", "Prodigy", "DAdaptSGD", "SelfTune"])
def test_one_cycle_fits_with_and_without_a_momentum_to_schedule(name, tmp_path):
    recording = script.Recording()
    learn = script.learner(Subject("selftune", name, {}), tmp_path, [recording])
    if name == "SelfTune":
        with pytest.warns(match="decaying schedule"):
            learn.fit_one_cycle(2)
    else:
        learn.fit_one_cycle(2)
    assert len(learn.recorder.hps["mom"]) == 12
    assert alike(dict(learn.model.state_dict()), recording.watched.weights[-1])


def test_lr_is_the_optimizers_own_unless_it_is_given():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    assert opt_func(Prodigy).keywords["lr"] == 1.0
    assert opt_func(SelfTune, lr=0.1)([parameters]).hypers[0]["lr"] == 0.1


def test_a_learner_with_another_optimizer_is_refused(tmp_path):
    learn = script.learner(Subject("prodigyopt", "Prodigy", {}), tmp_path, [SelfTuneCallback()])
    with pytest.raises(ValueError, match="optimizers of selftune"):
        learn.fit(1)


def test_the_loss_of_accumulated_gradients_is_handed_over(tmp_path):
    plus = Subject("selftune", "ScheduleFreePlus", {})
    losses = []

    class Handed(script.Callback):
        order = 100

        def before_step(self):
            losses.append(self.learn.opt.opt._now.loss.item())

    learn = script.learner(plus, tmp_path, [GradientAccumulation(24), Handed()])
    start = {name: p.clone() for name, p in learn.model.named_parameters()}
    learn.fit(1)
    inputs, targets = (each[:24] for each in script.TRAINING)
    outputs = torch.func.functional_call(learn.model, start, (inputs,))
    assert losses[0] == pytest.approx(torch.nn.functional.mse_loss(outputs, targets).item())
    assert len(losses) == 2


class Rows(TensorDataset):
    def new_empty(self):
        return Rows(*(tensor[:0] for tensor in self.tensors))


def test_a_learner_is_exported_and_fitted_again(tmp_path):
    learn = script.learner(SCHEDULE_FREE, tmp_path, [])
    for loader in learn.dls.loaders:
        loader.dataset = Rows(*loader.dataset.tensors)
    learn.fit(1)
    validated = learn.validate()[0]
    learn.export("learner.pkl")
    loaded = load_learner(tmp_path / "learner.pkl")
    assert validation_loss(loaded.model.state_dict()) == pytest.approx(validated)
    learn.fit(1)
    assert not learn.opt.opt.param_groups[0]["train_mode"]

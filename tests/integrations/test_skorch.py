"""Nets of skorch."""

import copy
import pickle

import pytest
import torch

pytest.importorskip("skorch")

from ours import OURS, SCHEDULE_FREE
from skorch.callbacks import Callback

from benchmarks.frameworks import in_skorch as script
from benchmarks.frameworks.problem import TRAINING, VALIDATION, Recorder, alike


@pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.name)
def test_a_net_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


def test_a_net_that_is_fitted_in_parts_or_anew_stays_right(tmp_path):
    net = script.regressor(SCHEDULE_FREE, tmp_path, [])
    for fit in (net.partial_fit, net.partial_fit, net.fit):
        net.set_params(max_epochs=1)
        if fit == net.fit:
            fit(*TRAINING)  # a new module and a new optimizer
        else:
            recorder = Recorder(net.module_, net.optimizer_)
            fit(*TRAINING)
            assert alike(dict(net.module_.state_dict()), recorder.weights[-1])
        assert not net.optimizer_.param_groups[0]["train_mode"]
        assert not net.optimizer_.attachments


def test_a_net_is_copied_pickled_and_goes_on(tmp_path):
    net = script.regressor(SCHEDULE_FREE, tmp_path, [])
    net.partial_fit(*TRAINING, epochs=1)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    net.partial_fit(*TRAINING, epochs=1)
    for each in copies:
        each.partial_fit(*TRAINING, epochs=1)
        assert torch.equal(*(torch.tensor(n.predict(VALIDATION[0])) for n in (each, net)))


def test_a_net_is_fitted_after_an_interruption(tmp_path):
    class Interrupting(Callback):
        def on_batch_end(self, net, **kwargs):
            raise ValueError("interrupted")

    net = script.regressor(SCHEDULE_FREE, tmp_path, [("interrupting", Interrupting())])
    with pytest.raises(ValueError, match="interrupted"):
        net.partial_fit(*TRAINING)
    net.set_params(callbacks__interrupting=None, max_epochs=2)
    net.fit(*TRAINING)
    assert len(net.history) == 2

"""The EMAModel of diffusers beside an attached Schedule-Free model."""

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers.training_utils import EMAModel
from ours import OURS

from benchmarks.frameworks.problem import (
    VALIDATION,
    Recorder,
    alike,
    loss_of,
    near,
    net,
    training_batches,
    validation_loss,
)
from selftune import attach


def trained(subject, averaged):
    """The weights of every step, those of the average after every epoch, and what it is judged at.

    The loop is that of diffusers' examples, but for the context around `ema.step`.
    """
    model = net()
    optimizer = subject.make(model.parameters())
    attach(model, optimizer)
    recorder, ema = Recorder(model, optimizer), None
    if averaged:
        ema = EMAModel(model.parameters(), decay=0.8, min_decay=0.8)
    judged = []
    for _ in range(3):
        model.train()
        for batch in training_batches():
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if ema is not None:
                with optimizer.evaluation_weights():
                    ema.step(model.parameters())
        if ema is not None:
            ema.store(model.parameters())
            ema.copy_to(model.parameters())
            model.eval()
            with torch.no_grad():
                judged.append(loss_of(model, VALIDATION).item())
            ema.restore(model.parameters())
    return recorder.weights, judged


@pytest.mark.parametrize("subject", OURS[:3], ids=lambda subject: subject.name)
def test_the_average_is_one_of_evaluation_weights_and_leaves_the_run_alone(subject):
    plain, _ = trained(subject, averaged=False)
    weights, judged = trained(subject, averaged=True)
    assert all(map(alike, weights, plain))
    average = weights[0]  # the first step's decay is 0
    for i, each in enumerate(weights, start=1):
        average = {name: p.lerp(each[name], 0.2) for name, p in average.items()}
        if i % 6 == 0:
            assert near(judged[i // 6 - 1], validation_loss(average))

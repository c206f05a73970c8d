"""Loops of one's own under Accelerate."""

import pytest
import torch

pytest.importorskip("accelerate")

from accelerate import Accelerator
from ours import OURS

from benchmarks.frameworks import in_accelerate as script
from benchmarks.frameworks.problem import loss_of, net, training_batches
from selftune import ScheduleFreePlus, attach


@pytest.mark.parametrize("subject", OURS[:3], ids=lambda subject: subject.name)
def test_a_loop_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


def test_the_loss_of_accumulated_gradients_is_handed_over_beside_backward():
    model, accelerator = net(), Accelerator(cpu=True, gradient_accumulation_steps=3)
    prepared = accelerator.prepare(model, ScheduleFreePlus(model.parameters()), training_batches())
    model, optimizer, batches = prepared
    attach(model, optimizer)
    for batch in batches:
        with accelerator.accumulate(model):
            loss = loss_of(model, batch)
            optimizer.optimizer.add_loss(loss / 3)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

    plain = net()
    reference = ScheduleFreePlus(plain.parameters())
    whole = list(training_batches())
    for batches in (whole[:3], whole[3:]):
        reference.zero_grad()
        loss = sum(loss_of(plain, batch) for batch in batches) / 3
        loss.backward()
        reference.step(loss=loss)
    reference.eval()
    model.eval()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)

import pytest
import torch
from short_runs import losses
from torch import nn
from torch.nn import functional as F

from eval.workloads.bandit_policy import WORKLOAD
from eval.workloads.bandit_policy.data import NUM_ARMS, NUM_INPUTS


@pytest.fixture(scope="module")
def splits():
    return WORKLOAD.load()


class Constant(nn.Module):
    """A policy that does not look at its contexts."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, contexts):
        return self.logits.expand(len(contexts), NUM_ARMS)


def gumbels(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return -torch.empty(shape).exponential_(generator=generator).log()


def first_batches(train, seed, number):
    stream = WORKLOAD.training_batches(train, 64, torch.Generator().manual_seed(seed))
    return [next(stream) for _ in range(number)]


def test_contexts_are_the_averages_of_four_pixels(splits):
    assert splits.train["contexts"].shape == (12000, NUM_INPUTS)
    assert splits.train["contexts"].double().mean().item() == pytest.approx(0, abs=1e-6)


def test_no_context_of_training_is_evaluated_on(splits):
    train, validation, test = (
        {context.numpy().tobytes() for context in split["contexts"]}
        for split in (splits.train, splits.validation, splits.test)
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_every_arm_is_as_often_the_best(splits):
    assert splits.validation["best"].bincount().tolist() == [250] * NUM_ARMS


def test_actions_are_drawn_from_the_policy():
    """One context, many draws: an arm is pulled as often as the policy says."""
    logits = torch.linspace(-1, 1, NUM_ARMS)
    draws = 100_000
    pulled = (logits + gumbels((draws, NUM_ARMS))).argmax(-1).bincount(minlength=NUM_ARMS) / draws
    torch.testing.assert_close(pulled, logits.softmax(0), atol=0.006, rtol=0)  # 4 deviations


def test_the_gradient_is_that_of_the_expected_reward():
    """REINFORCE is unbiased: over many draws, minus the gradient of the mean reward."""
    policy = Constant(torch.linspace(-1, 1, NUM_ARMS))
    draws, best = 200_000, 3
    batch = torch.zeros(draws, 1), torch.full((draws,), best), gumbels((draws, NUM_ARMS))
    (found,) = torch.autograd.grad(WORKLOAD.loss(policy, batch), policy.logits)
    reward = policy.logits.softmax(0)[best]
    (expected,) = torch.autograd.grad(-reward, policy.logits)
    torch.testing.assert_close(found, expected, atol=0.003, rtol=0)


def test_the_baseline_of_a_context_is_the_mean_reward_of_the_others():
    """Three contexts, of which the first alone pulls its best arm."""
    policy = Constant(torch.zeros(NUM_ARMS))
    pulls = 100 * F.one_hot(torch.tensor([0, 1, 2]), NUM_ARMS).float()
    loss = WORKLOAD.loss(policy, (torch.zeros(3, 1), torch.tensor([0, 0, 0]), pulls))
    advantages = torch.tensor([1 - 0.0, 0 - 0.5, 0 - 0.5])
    log_probability = -torch.tensor(float(NUM_ARMS)).log()
    torch.testing.assert_close(loss, -(advantages * log_probability).mean())


def test_the_metric_is_the_mean_probability_of_the_best_arm(splits):
    probabilities = torch.linspace(1, 2, NUM_ARMS)
    probabilities /= probabilities.sum()
    found = WORKLOAD.evaluate(Constant(probabilities.log()), splits.validation)
    assert found == pytest.approx(0.1)  # all arms are equally often the best
    only = {key: value[splits.validation["best"] == 9] for key, value in splits.validation.items()}
    found = WORKLOAD.evaluate(Constant(probabilities.log()), only)
    assert found == pytest.approx(probabilities[9].item())


def test_training_raises_the_reward(splits):
    torch.manual_seed(0)
    model = WORKLOAD.build_model()
    before = WORKLOAD.evaluate(model, splits.validation)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in first_batches(splits.train, 0, 150):
        optimizer.zero_grad()
        WORKLOAD.loss(model, batch).backward()
        optimizer.step()
    assert before < 0.15
    assert WORKLOAD.evaluate(model, splits.validation) > 0.3


@pytest.mark.usefixtures("one_thread")
def test_one_seed_gives_one_run_bit_for_bit(splits):
    one, same, other = (losses(WORKLOAD, splits.train, s, 3, 128, 1e-3) for s in (0, 0, 1))
    assert one == same != other
    # The draws of the actions come with the batch: torch's own generator has no say.
    (batch,) = first_batches(splits.train, 0, 1)
    model = WORKLOAD.build_model()
    assert WORKLOAD.loss(model, batch) == WORKLOAD.loss(model, batch)

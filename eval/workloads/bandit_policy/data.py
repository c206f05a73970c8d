"""A contextual bandit made of Fashion-MNIST: images are the contexts, classes are the arms.

The arm of the image's class has reward 1, all others 0. The learner sees only the reward of the
arm that it pulled, not the class.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ...workload import Arrays, Batch, Splits
from .. import images

POOLED = 2  # pixels: side of the blocks that are averaged into one input
NUM_INPUTS = (images.SIZE // POOLED) ** 2
NUM_ARMS = images.NUM_CLASSES


def load() -> Splits:
    """contexts (contexts, NUM_INPUTS); best (contexts,): the arm with reward 1."""
    splits = images.load()

    def split(arrays: Arrays) -> Arrays:
        contexts = F.avg_pool2d(arrays["images"], POOLED).flatten(1)
        return {"contexts": contexts, "best": arrays["labels"]}

    return Splits(split(splits.train), split(splits.validation), split(splits.test))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(contexts, best, gumbels); gumbels (batch, NUM_ARMS) is the noise that samples actions."""
    contexts, best = train["contexts"], train["best"]
    while True:
        order = torch.randperm(len(best), generator=generator)
        for members in order.split(batch_size)[: len(best) // batch_size]:
            exponential = torch.empty(batch_size, NUM_ARMS).exponential_(generator=generator)
            members = members.to(best.device)
            yield contexts[members], best[members], -exponential.log().to(best.device)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """A surrogate loss; its gradient is minus REINFORCE's estimate of the reward's gradient.

    Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning, 1992. The baseline of each context is the mean reward of the others in the batch.
    The argmax of logits plus Gumbel noise is a sample from their softmax.
    """
    contexts, best, gumbels = batch
    logits = model(contexts)  # (batch, arms)
    actions = (logits.detach() + gumbels).argmax(-1)
    rewards = (actions == best).float()
    baselines = (rewards.sum() - rewards) / (len(rewards) - 1)
    log_probability = -F.cross_entropy(logits, actions, reduction="none")
    return -((rewards - baselines) * log_probability).mean()


def evaluate(model: nn.Module, split: Arrays) -> float:
    """The policy's expected reward: its mean probability of the best arm."""
    probabilities = model(split["contexts"]).softmax(-1)
    return probabilities.gather(1, split["best"][:, None]).mean().item()

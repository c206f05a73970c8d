"""A policy trained with REINFORCE on a contextual bandit: it learns from its own actions."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import policy

WORKLOAD = Workload(
    name="bandit_policy",
    dataset="fashion",
    metric=Metric("mean reward", higher_is_better=True),
    batch_size=128,
    step_hint=1600,
    load=load,
    build_model=policy,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)

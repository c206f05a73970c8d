"""Next-byte prediction on the Bible with a decoder-only transformer."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import GPT

WORKLOAD = Workload(
    name="text_gpt",
    dataset="verses",
    metric=Metric("nats per byte", higher_is_better=False),
    batch_size=8,
    step_hint=700,
    load=load,
    build_model=GPT,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)

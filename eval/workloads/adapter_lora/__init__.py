"""Fine-tuning with LoRA: a language model pretrained on the Bible, on user-interface texts."""

from ...workload import Metric, Workload
from ..text_gpt.data import evaluate, loss, training_batches
from .data import load
from .model import adapted_gpt

WORKLOAD = Workload(
    name="adapter_lora",
    dataset=("pretrained_gpt", "sentences"),
    metric=Metric("nats per byte", higher_is_better=False),
    batch_size=8,
    step_hint=500,
    load=load,
    build_model=adapted_gpt,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)

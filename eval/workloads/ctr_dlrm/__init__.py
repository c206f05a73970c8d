"""AlgoPerf's criteo1tb at pocket scale: binary classification from numbers and long-tailed ids."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import DLRM

WORKLOAD = Workload(
    name="ctr_dlrm",
    algoperf="criteo1tb",
    dataset="flights",
    metric=Metric("log loss", higher_is_better=False),
    batch_size=128,
    step_hint=4000,
    load=load,
    build_model=DLRM,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)

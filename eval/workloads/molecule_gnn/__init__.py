"""AlgoPerf's ogbg at pocket scale: properties of molecules, predicted by message passing."""

from ...workload import Metric, Workload
from .data import evaluate, load, loss, training_batches
from .model import GraphNetwork

WORKLOAD = Workload(
    name="molecule_gnn",
    algoperf="ogbg",
    dataset="molecules",
    metric=Metric("mean average precision", higher_is_better=True),
    batch_size=32,
    step_hint=2200,
    load=load,
    build_model=GraphNetwork,
    training_batches=training_batches,
    loss=loss,
    evaluate=evaluate,
)

"""An adapter from any method of eval/methods to AlgoPerf's submission functions, v0.5 and v0.6.

It ensures for every method that

- the gradient is exactly that of the mean loss over the batches of all GPUs;
- evaluations use the evaluation weights, and the next update starts from the training weights;
- BatchNorm statistics are those of the evaluated weights;
- the runner's checkpoints contain the optimizer's state.

From the workload it uses step_hint, model_fn, loss_fn and, in v0.5, eval_period_time_sec, which do
not reveal which workload it is. Batch sizes depend on the workload's name, as the rules allow.
algoperf is imported only when the runner calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .all_gpus import average, mean_loss, synchronizes
from .batch_sizes import BATCH_SIZES
from .method_state import MethodState

if TYPE_CHECKING:
    from ...methods import Build

RECALIBRATION_BATCHES = 16
STATE = "selftune"  # the one key of the runner's optimizer_state

Batch = dict[str, Any]
State = dict[str, MethodState]
Update = tuple[State, nn.Module, Any]  # optimizer_state, params, model_state


class Submission:
    """AlgoPerf's five submission functions, as methods.

    build: (model, num_steps) -> optimizer, scheduler, evaluation weights.
    dropout_rate: of every layer that has dropout; None leaves the workload's own. v0.6 only.
    label_smoothing: of every loss that has it.
    """

    def __init__(
        self, build: Build, dropout_rate: float | None = None, label_smoothing: float = 0.0
    ) -> None:
        self._build = build
        self._dropout_rate = dropout_rate
        self._label_smoothing = label_smoothing
        self._queue: Iterator[Batch] = iter(())

    def get_batch_size(self, workload_name: str) -> int:
        """The batch size. ValueError for a held-out workload; the runner then asks for its base."""
        if workload_name not in BATCH_SIZES:
            raise ValueError(f"no batch size for {workload_name!r}; add one to BATCH_SIZES")
        return BATCH_SIZES[workload_name]

    def init_optimizer_state(
        self,
        workload: Any,
        model_params: nn.Module,
        model_state: Any,
        hyperparameters: Any,
        rng: Any,
    ) -> State:
        if self._dropout_rate is not None and not _takes_dropout_rate(workload):
            raise ValueError(
                f"dropout_rate {self._dropout_rate} needs AlgoPerf v0.6; v0.5 builds its models "
                "before it asks the submission"
            )
        return {STATE: MethodState(self._build, model_params, workload.step_hint)}

    def data_selection(
        self,
        workload: Any,
        input_queue: Iterator[Batch],
        optimizer_state: State,
        current_param_container: nn.Module,
        model_state: Any,
        hyperparameters: Any,
        global_step: int,
        rng: Any,
    ) -> Batch:
        self._queue = input_queue  # BatchNorm statistics take further batches from it
        optimizer_state[STATE].expected.begin()
        return next(input_queue)

    def update_params(
        self,
        workload: Any,
        current_param_container: nn.Module,
        current_params_types: Any,
        model_state: Any,
        hyperparameters: Any,
        batch: Batch,
        loss_type: Any,
        optimizer_state: State,
        eval_results: list[tuple[int, dict[str, Any]]],
        global_step: int,
        rng: Any,
        train_state: Any = None,  # v0.6 passes it, since it is named here
    ) -> Update:
        method_state, model = optimizer_state[STATE], current_param_container
        method_state.leave_evaluation()
        model.train()  # mnist's model_fn does not
        method_state.optimizer.zero_grad()
        logits = self._forward(workload, model, batch, rng, self._dropout_rate)
        loss = workload.loss_fn(
            label_batch=batch["targets"],
            logits_batch=logits,
            mask_batch=batch.get("weights"),
            label_smoothing=self._label_smoothing,
        )
        share, mean = mean_loss(loss["summed"], loss["n_valid_examples"])
        share.backward()
        if not synchronizes(model):
            average(p.grad for p in model.parameters() if p.grad is not None)
        method_state.step(mean)
        # v0.5 has no prepare_for_eval and does not announce evaluations.
        if train_state is None and method_state.expected.evaluation(
            workload.eval_period_time_sec, eval_results
        ):
            self._enter_evaluation(method_state, workload, rng)
        return optimizer_state, current_param_container, model_state

    def prepare_for_eval(
        self,
        workload: Any,
        current_param_container: nn.Module,
        current_params_types: Any,
        model_state: Any,
        hyperparameters: Any,
        loss_type: Any,
        optimizer_state: State,
        eval_results: list[tuple[int, dict[str, Any]]],
        global_step: int,
        rng: Any,
    ) -> Update:
        self._enter_evaluation(optimizer_state[STATE], workload, rng)
        return optimizer_state, current_param_container, model_state

    def _enter_evaluation(self, method_state: MethodState, workload: Any, rng: Any) -> None:
        method_state.enter_evaluation(lambda model: self._recalibrate(workload, model, rng))

    def _forward(
        self, workload: Any, model: nn.Module, batch: Batch, rng: Any, dropout_rate: float | None
    ) -> Any:
        dropout = {} if dropout_rate is None else {"dropout_rate": dropout_rate}
        logits, _ = workload.model_fn(
            params=model,
            augmented_and_preprocessed_input_batch=batch,
            model_state=None,
            mode=_spec().ForwardPassMode.TRAIN,
            rng=rng,
            update_batch_norm=True,
            **dropout,
        )
        return logits

    @torch.no_grad()
    def _recalibrate(self, workload: Any, model: nn.Module, rng: Any) -> None:
        """Set every BatchNorm to the mean of its statistics over batches, at the current weights.

        `recalibrate_batch_norm` supports torch's own layers on one GPU. Here the workloads have
        their own BatchNorm classes and forward passes, and statistics are averaged over GPUs.
        """
        norms: list[Any] = [module for module in model.modules() if _has_statistics(module)]
        tensors = _statistics(norms)
        means = [torch.zeros_like(statistic) for statistic in tensors]
        momenta = [norm.momentum for norm in norms]
        # v0.5's models take no rate: there, dropout stays what it is in training.
        dropout_rate = 0.0 if _takes_dropout_rate(workload) else None
        for batch in islice(self._queue, RECALIBRATION_BATCHES if norms else 0):
            for statistic in _statistics(norms):
                statistic.zero_()
            for norm in norms:
                # The speech models of v0.5 weigh the old statistic by it, all others the new
                # one. Half is both, and from 0 leads to half the batch's statistic.
                norm.momentum = 0.5
            self._forward(workload, model, batch, rng, dropout_rate)
            for mean, half in zip(means, _statistics(norms), strict=True):
                mean.add_(half, alpha=2 / RECALIBRATION_BATCHES)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        average(means)
        # Copy into the existing tensors, because the runner saves those that it holds.
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean)
        for norm, mean, var in zip(norms, tensors[::2], tensors[1::2], strict=True):
            norm.running_mean, norm.running_var = mean, var


def _has_statistics(module: nn.Module) -> bool:
    """Whether the module is a BatchNorm: torch's, or one of the speech models' own."""
    return isinstance(getattr(module, "running_mean", None), Tensor) and hasattr(module, "momentum")


def _statistics(norms: list[Any]) -> list[Tensor]:
    """The statistics of a BatchNorm, looked up each time, as some models replace these tensors."""
    return [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]


def _takes_dropout_rate(workload: Any) -> bool:
    return "dropout_rate" in inspect.signature(workload.model_fn).parameters


@cache
def _spec() -> Any:
    """The runner's module of enumerations; in v0.5 its package has another name."""
    try:
        return import_module("algoperf.spec")
    except ModuleNotFoundError as error:
        if error.name not in ("algoperf", "algoperf.spec"):
            raise
        return import_module("algorithmic_efficiency.spec")

"""explain(optimizer): a report in plain words of its state and of what looks wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import whole
from selftune.monitoring import measurements
from selftune.monitoring.monitor import rows_of, steps_seen
from selftune.optim.engine.step_guard import steps_without_gradients
from selftune.step_hooks import innermost_optimizer, skipped_steps

# A d that has not changed in so many steps is reported.
PATIENCE = 100
# A learning rate of at most this fraction of its peak counts as decayed to zero.
DECAYED = 1e-3
# Update-to-weight ratios above and below these are reported.
LARGE_UPDATE, SMALL_UPDATE = 0.1, 1e-7


@torch.no_grad()
def explain(optimizer: Any) -> str:
    """A report of about a dozen lines: what the optimizer is doing, and what looks wrong.

        print(explain(optimizer))

    optimizer: any torch optimizer; of ours more is known. If it has a `Monitor`, the numbers of
        earlier steps are considered too.
    It changes nothing, reads all parameters and gradients once, and waits for the device. Raises
    ValueError for anything but an optimizer.
    """
    optimizer = innermost_optimizer(optimizer)
    if hasattr(optimizer, "settle"):
        optimizer.settle()
    problems = list(_problems(optimizer))
    lines = list(_facts(optimizer))
    if not problems:
        return "\n".join([*lines, "Nothing looks wrong."])
    return "\n".join([*lines, "What looks wrong:", *(f"- {problem}" for problem in problems)])


def _facts(optimizer: Any) -> Iterator[str]:
    params, groups = measurements.parameters(optimizer), optimizer.param_groups
    weights = sum(p.numel() for p in params)
    held = f"{_counted(len(params), 'tensor')} ({_counted(weights, 'weight')})"
    yield f"{_name(optimizer)} with {held} in {_counted(len(groups), 'group')}."
    yield f"Steps made: {_steps(optimizer)}; skipped: {skipped_steps(optimizer)}."
    sizes = ", ".join(f"{size:.3g}" for size in measurements.step_sizes(optimizer))
    lrs = ", ".join(f"{float(group['lr']):.3g}" for group in groups)
    yield f"Effective step size: {sizes}; lr: {lrs}."
    if (d := measurements.learnt_distance(optimizer)) is not None:
        start = groups[0].get("d0")
        yield f"Learnt distance d: {d:.3g}" + (f", from d0 = {start:.3g}." if start else ".")
    if _averages(optimizer):
        where = "training" if measurements.at_training_weights(optimizer) else "evaluation"
        yield f"The parameters hold the {where} weights; evaluate the model at its average."
        far = measurements.distance_from_average(optimizer)
        if far is not None:
            yield f"The two are {float(far):.3g} of the weights' norm apart."
        if _has_batch_norm(optimizer):
            yield (
                "The model's BatchNorm statistics are those of the training weights: call "
                "recalibrate_batch_norm(model, batches) before evaluating."
            )
    now = measurements.gradient_norm(optimizer)
    yield f"Gradient norm at present: {'no gradients' if now is None else f'{float(now):.3g}'}."
    if rows := rows_of(optimizer):
        last = rows[-1]
        ratio = last["update_ratio"]
        yield f"Step {last['step']:.0f} changed the weights by {ratio:.2g} of their norm."


def _problems(optimizer: Any) -> Iterator[str]:
    yield from _of_numbers(optimizer)
    yield from _of_steps(optimizer)
    yield from _of_models(optimizer)
    yield from _of_learning_rates(optimizer)
    yield from _of_distance(optimizer)
    yield from _of_place(optimizer)
    yield from _of_updates(optimizer)


def _of_numbers(optimizer: Any) -> Iterator[str]:
    params = measurements.parameters(optimizer)
    if bad := [p for p in params if not _is_finite(p.detach())]:
        yield (
            f"{len(bad)} of {len(params)} parameters have values that are not finite: go back to a "
            "checkpoint, as no step mends them"
        )
    grads = [p.grad for p in params if p.grad is not None]
    if bad := [grad for grad in grads if not _is_finite(grad)]:
        yield (
            f"{len(bad)} of {len(grads)} gradients are not finite: look for a division by zero or "
            "an overflow in the loss (float16 needs a GradScaler)"
        )
    elif grads and float(measurements.gradient_norm(optimizer) or 0.0) == 0:
        yield "all gradients are zero: the loss does not depend on the parameters at this point"


def _of_steps(optimizer: Any) -> Iterator[str]:
    params = measurements.parameters(optimizer)
    skipped, made = skipped_steps(optimizer), steps_seen(optimizer) or 0
    if skipped:
        yield (
            f"{skipped} of {made + skipped} steps were skipped, as a gradient, its square or a "
            "needed loss was not finite"
        )
    wanting = [p for p in params if p.requires_grad]
    if not wanting:
        yield "no parameter requires a gradient, so that nothing can be trained"
    elif (rows := rows_of(optimizer)) and math.isnan(rows[-1]["gradient_norm"]) and not skipped:
        yield (
            f"no parameter had a gradient at step {rows[-1]['step']:.0f}: call loss.backward() "
            "before step(), and make the optimizer from the parameters of the model that is trained"
        )
    elif optimizer.state:
        never = [p for p in wanting if not optimizer.state.get(p)]
        if never:
            yield (
                f"{len(never)} of {len(wanting)} parameters never stepped, as they never had a "
                f"gradient: {_which(optimizer, never)}. Are they part of the loss?"
            )
    elif not made and (idle := steps_without_gradients(optimizer)):
        yield (
            f"step() was called {_counted(idle, 'time')}, and no parameter had a gradient: call "
            "loss.backward() before step(), and make the optimizer from the parameters of the "
            "model that is trained"
        )


def _of_models(optimizer: Any) -> Iterator[str]:
    names = [name for each in _attachments(optimizer) for name in each.not_held()]
    if names:
        yield (
            f"no attached optimizer holds {_counted(len(names), 'parameter')} of the model with "
            f"gradients: {_first(names)}. Unless another optimizer trains them, make this one from "
            "model.parameters()"
        )


def _of_learning_rates(optimizer: Any) -> Iterator[str]:
    for i, group in enumerate(optimizer.param_groups):
        lr, peak = float(group["lr"]), group.get("initial_lr")
        where = f"group {i}: " if len(optimizer.param_groups) > 1 else ""
        if peak and lr <= DECAYED * float(peak):
            fate = "is zero" if lr == 0 else f"has decayed to {lr:.2g} of {float(peak):.2g}"
            yield f"{where}the schedule's lr {fate}, so that the weights stand still"
        elif lr == 0:
            yield f"{where}lr is 0, which freezes its weights"
        elif peak and _averages(optimizer) and lr < float(peak) / 2:
            yield (
                f"{where}a schedule has lowered lr from {float(peak):.2g} to {lr:.2g}; the average "
                "takes the place of a decay, so leave it constant"
            )
        if getattr(optimizer, "finds_step_size", False) and 0 < lr < 0.1 and not (peak or 0) >= 0.1:
            yield f"{where}lr is {lr:.2g}, but it multiplies the step size that is found: use 1"


def _of_distance(optimizer: Any) -> Iterator[str]:
    d, start = measurements.learnt_distance(optimizer), optimizer.param_groups[0].get("d0")
    if d is None or start is None:
        return
    made = steps_seen(optimizer) or 0
    remedy = (
        "the gradients may be zero or clipped to nearly nothing, or lr is far below 1; a d0 of the "
        "order of 1e-4 begins nearer to most solutions"
    )
    if made >= PATIENCE and d <= float(start) * (1 + 1e-6):
        yield f"d has not moved from d0 = {start:.2g} in {made} steps: {remedy}"
        return
    rows = [row for row in rows_of(optimizer) if "d" in row]
    same = next((row for row in rows if row["d"] == d), None)
    if same and d <= 10 * float(start) and rows[-1]["step"] - same["step"] >= PATIENCE:
        yield f"d has stayed at {d:.2g}, near d0, since step {same['step']:.0f}: {remedy}"


def _of_place(optimizer: Any) -> Iterator[str]:
    if not _averages(optimizer):
        return
    if not measurements.at_training_weights(optimizer):
        if not _attached(optimizer):
            yield "at the evaluation weights: call optimizer.train() before the next step"
    elif not _attached(optimizer) and steps_seen(optimizer):
        yield (
            "at the training weights and not attached: evaluate and save inside "
            "optimizer.evaluation_weights(), or call attach(model, optimizer) once"
        )


def _of_updates(optimizer: Any) -> Iterator[str]:
    rows = rows_of(optimizer)
    if not rows:
        return
    ratio = rows[-1]["update_ratio"]
    if math.isfinite(ratio) and ratio > LARGE_UPDATE:
        yield f"the last measured step changed the weights by {ratio:.2g} of their norm, too much"
    elif 0 < ratio < SMALL_UPDATE:
        yield f"the last measured step changed the weights by {ratio:.2g} of their norm, no more"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _name(optimizer: Any) -> str:
    base = getattr(optimizer, "base", None)
    name = type(optimizer).__name__
    return f"{name}({_name(base)})" if isinstance(base, torch.optim.Optimizer) else name


def _steps(optimizer: Any) -> str:
    made = steps_seen(optimizer)
    if made is None and optimizer.state:
        return "not counted by this optimizer"
    return f"{made:,}" if made else "none"


def _averages(optimizer: Any) -> bool:
    return getattr(optimizer, "averages", "train_mode" in optimizer.param_groups[0])


def _attached(optimizer: Any) -> bool:
    return bool(_attachments(optimizer))


def _attachments(optimizer: Any) -> list[Any]:
    return getattr(optimizer, "attachments", [])


def _has_batch_norm(optimizer: Any) -> bool:
    """Whether an attached model has running statistics, which a BatchNorm updates in training."""
    models = (model for each in _attachments(optimizer) for model in each.models())
    parts = (part for model in models for part in model.modules())
    return any(isinstance(getattr(part, "running_mean", None), Tensor) for part in parts)


def _is_finite(tensor: Tensor) -> bool:
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    return bool(whole(values.isfinite().all()))


def _which(optimizer: Any, params: list[Tensor]) -> str:
    """The first three parameters by name, or by shape if the optimizer was not given names."""
    names = {
        id(p): name
        for group in optimizer.param_groups
        for p, name in zip(group["params"], group.get("param_names", ()), strict=False)
    }
    return _first([names.get(id(p), f"shape {tuple(p.shape)}") for p in params])


def _first(names: list[str]) -> str:
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)

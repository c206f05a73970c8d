"""attach(model, optimizer): the right weights at every moment, without train() and eval()."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from selftune.optim.engine.precision import uncompiled


def attach(model: nn.Module | Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> Attachment:
    """Have the optimizer follow the model, and both save the evaluation weights.

        attach(model, optimizer)
        for inputs, targets in batches:
            loss = criterion(model(inputs), targets)  # at the training weights
            ...
        model.eval()
        with torch.no_grad():
            model(inputs)  # at the evaluation weights
        torch.save((model.state_dict(), optimizer.state_dict()), file)  # both at these, too

    - Before a forward pass the weights are made those of evaluation if the model is in eval mode
      and gradients are disabled, those of training otherwise: gradients are always taken at the
      training weights, whatever the mode. Of several models all have to be in eval mode.
    - `state_dict()` of the model, of any part of it, or of the optimizer moves to the evaluation
      weights. As ever it holds the tensors themselves: copy it to keep it.
    - `optimizer.step()` moves back to the training weights first.

    model: what is called, wrapped: by DistributedDataParallel, `fully_shard` or torch.compile,
        before it is attached. Its children may be called by themselves (LightningModule's
        `training_step` calls them so): the mode is the model's. Several, if they share the
        optimizer. For several optimizers, attach each.
    optimizer: one with `train()` and `eval()`.
    """
    models = (model,) if isinstance(model, nn.Module) else tuple(model)
    if not (hasattr(optimizer, "train") and hasattr(optimizer, "eval")):
        name = type(optimizer).__name__
        raise ValueError(
            f"attach() needs an optimizer with train() and eval(), got {name}; "
            "one that trains where it is judged needs no attach()"
        )
    return Attachment(models, optimizer)


class Attachment:
    """The hooks of `attach`; `remove()` ends them and leaves the weights where they are."""

    def __init__(self, models: tuple[nn.Module, ...], optimizer: Any) -> None:
        self._models = models
        self._optimizer = optimizer
        self._gathering: list[Any] = [
            part for model in models for part in model.modules() if hasattr(type(part), "reshard")
        ]
        self._running = 0  # forward passes of the models: what they call is not looked at
        self._hooks: list[Any] = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_state_dict_pre_hook(self._before_state_dict),
        ]
        for model in models:
            # First of all hooks: fully_shard's gathers the parameters for the forward pass.
            self._hooks.append(model.register_forward_pre_hook(self._enter, prepend=True))
            self._hooks.append(model.register_forward_hook(self._leave, always_call=True))
            # What torch.compile has wrapped it would trace, hooks and all.
            called: Iterable[nn.Module] = () if hasattr(model, "_orig_mod") else model.children()
            self._hooks += [
                part.register_forward_pre_hook(self._touch, prepend=True) for part in called
            ]
            self._hooks += [
                part.register_state_dict_pre_hook(self._before_state_dict)  # pyright: ignore[reportUnknownMemberType]
                for part in model.modules()
            ]

    def remove(self) -> None:
        """Follow the models no more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @uncompiled
    def _enter(self, module: nn.Module, args: Any) -> None:
        self._running += 1  # first: `_leave` is called even if this fails
        if self._running == 1:
            self._follow()

    @uncompiled
    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running -= 1

    @uncompiled
    def _touch(self, module: nn.Module, args: Any) -> None:
        if not self._running:
            self._follow()

    def _follow(self) -> None:
        training = any(model.training for model in self._models)
        self._move(to_training=training or torch.is_grad_enabled())

    def _before_step(self, *_: Any) -> None:
        self._move(to_training=True)

    def _before_state_dict(self, *_: Any) -> None:
        self._move(to_training=False)

    def _move(self, to_training: bool) -> None:
        if self._optimizer.param_groups[0].get("train_mode") == to_training:
            return
        # After a forward pass without a backward pass fully_shard keeps whole parameters, and
        # would use them once more; the optimizer writes to their parts.
        for part in self._gathering:
            part.reshard()
        with torch.inference_mode(False):
            self._optimizer.train() if to_training else self._optimizer.eval()

"""Checks of an optimizer's constructor arguments, in one place for all classes."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Iterable
from typing import Any

from torch import nn

from selftune.optim.engine.options import own_options

# Methods and attributes with which update rules are written. Users do not call them, and tab
# completion leaves them out.
PARTS_OF_A_RULE = {
    *("check", "init_state", "advance", "measure", "prepare", "update", "rest", "estimate"),
    *("to_training", "to_evaluation", "weight", "verdict", "partition"),
    *("effective_lr", "most_steps", "restart", "forget", "restart_from", "learns", "recomputes"),
    *("attachments", "begin_following", "other_weights", "has_unmoved", "is_held"),
    *("is_wrapped", "is_as_left", "warn_of_kept"),
    *("takes_loss", "takes_sparse", "finds_step_size", "always", "averages"),
    *("check_group", "fitting_state"),
    *("profile_hook_step", "OptimizerPreHook", "OptimizerPostHook"),  # torch's own
}


class OptimizerType(ABCMeta):
    """The metaclass of the optimizers.

    A constructor accepts other packages' arguments if they change nothing. Its errors name the
    class if an argument is missing or unknown, or if the parameters are something else. `dir`
    lists only what users call.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)
        _, *parameters = signature.parameters.values()  # without self
        return signature.replace(parameters=parameters, return_annotation=signature.empty)

    def __call__(cls, *args: Any, **options: Any) -> Any:
        own = own_options(cls, options)
        try:
            given = inspect.signature(cls).bind(*args, **own).arguments
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        if "params" in given:
            check_parameters(cls.__name__, given["params"])
        return super().__call__(*args, **own)

    def __dir__(cls) -> Iterable[str]:
        return for_users(super().__dir__())


def for_users(names: Iterable[str]) -> list[str]:
    """The names that users call, for tab completion."""
    return [name for name in names if name not in PARTS_OF_A_RULE]


def check_views(params: Iterable[Any]) -> None:
    """Raise ValueError for a conjugate or negative view, which cannot be written in place."""
    if any(p.is_conj() or p.is_neg() for p in params):
        raise ValueError(
            "a parameter is a conjugate or a negative view, which cannot be written in place: "
            "give p.resolve_conj().resolve_neg() to the model, and that to the optimizer"
        )


def check_parameters(name: str, params: Any) -> None:
    """Raise ValueError if a model, or a method such as `model.parameters`, was given instead."""
    among: list[Any] = list(params) if isinstance(params, list | tuple) else [params]  # pyright: ignore[reportUnknownArgumentType]
    for each in among:
        if isinstance(each, nn.Module):
            raise ValueError(
                f"{name} takes parameters, got the model {type(each).__name__}: "
                f"write {name}(model.parameters())"
            )
        if inspect.ismethod(each):
            called = each.__name__
            raise ValueError(
                f"{name} takes parameters, got the method {called!r}: call it, {called}()"
            )

"""Integration with timm: `register()`, and then `create_optimizer_v2(model, "selftune")`."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import inspect

from selftune import optim
from selftune.integrations.framework import needed

with needed("timm"):
    from timm.optim._optim_factory import OptimInfo, default_registry, list_optimizers


def register() -> list[str]:
    """Register selftune's optimizers in timm, under the names of their classes in lower case.

    Returns these names. Names that timm already has, such as `adamw`, keep their meaning.
    """
    taken = set(list_optimizers()) - set(_registered)
    for cls in vars(optim).values():
        if not (isinstance(cls, type) and issubclass(cls, optim.Optimizer)):
            continue
        options = inspect.signature(cls).parameters
        name = cls.__name__.lower()
        if cls is optim.Optimizer or "weight_decay" not in options or name in taken:
            continue
        info = OptimInfo(
            name=name,
            opt_class=cls,
            description=(cls.__doc__ or "").partition("\n")[0],
            has_eps="eps" in options,
            has_betas="betas" in options,
        )
        if name not in _registered:
            default_registry.register(info)
            _registered.append(name)
    return list(_registered)


_registered: list[str] = []

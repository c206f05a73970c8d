"""Conversion of state dicts of schedulefree, prodigyopt and dadaptation to ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.checkpoints import METHOD
from selftune.optim.engine.cohorts import Group, State

# Options of these packages that our classes do not have, with the value that these stand for.
FIXED = {"weight_lr_power": 2, "layer_scale": 1, "silent_sgd_phase": True, "decay_at_z": False}
# Options of our classes that these packages do not have or do not save in the groups.
OURS = {"compile", "decay_at", "inner_momentum", "averaging_constant", "d0"}
NAMES = {  # their name of a number or state: our name
    "numerator_weighted": "d_numerator",
    "x0": "p0",
    "sk": "s",
    "alphak": "alpha",
    "skl1": "s_l1",
}
# State that these packages may lack; it is then created as zeros. With betas[0] = 0 they have no
# `exp_avg`.
STARTS_AT_ZERO = ("exp_avg", "compensation")


def in_our_form(
    state_dict: dict[str, Any], group: Group, fresh: State, options: set[str], of_others: set[str]
) -> dict[str, Any]:
    """Convert a state dict of one of these packages; return any other one unchanged.

    group, fresh: a parameter group and a new state of the optimizer that is about to load it.
    options, of_others: the names of its options, and of those that only other methods have.
    Raises ValueError for values of options that our class does not support, and for the state of
    another method.
    """
    groups = state_dict["param_groups"]
    # Their groups count steps in "k"; our groups have no "k" but "skipped_steps".
    if not any("k" in group and "skipped_steps" not in group for group in groups):
        return state_dict
    own_groups = [_group(theirs, group) for theirs in groups]
    for theirs, own in zip(groups, own_groups, strict=True):
        missing = options - OURS - own.keys()
        if wrong := sorted(missing | (of_others & theirs.keys())):
            verb = "lacks" if missing else "has"
            raise ValueError(f"the loaded state is another method's: it {verb} the options {wrong}")
    needed = {name for name, value in fresh.items() if isinstance(value, Tensor)}
    needed.difference_update(STARTS_AT_ZERO)
    states: dict[int, State] = {}
    for theirs in groups:
        for i in theirs["params"]:
            if state_dict["state"].get(i):
                states[i] = _state(theirs, state_dict["state"][i])
                if not needed <= states[i].keys():
                    missing = sorted(needed - states[i].keys())
                    raise ValueError(f"the loaded state is another method's: it lacks {missing}")
                if "exp_avg" in fresh and "exp_avg" not in states[i]:
                    states[i]["exp_avg"] = torch.zeros_like(states[i]["exp_avg_sq"])
    return {"state": states, "param_groups": own_groups}


def _group(group: Group, own: Group) -> Group:
    for name, fixed in FIXED.items():
        if group.get(name, fixed) != fixed:
            raise ValueError(f"{name} of a loaded state must be {fixed}, got {group[name]}")
    if group["weight_decay"] and not group.get("decouple", True):
        raise ValueError("weight_decay of a loaded state must be decoupled, or 0")
    renamed = {NAMES.get(name, name): value for name, value in group.items()}
    if "sksq_weighted" in group:  # D-Adaptation of AdaGrad
        renamed["d_numerator"] = group["sksq_weighted"] - group["gsq_weighted"]
    kept = {name: value for name, value in renamed.items() if name in {*own, "initial_lr"}}
    return {**kept, METHOD: own[METHOD]}


def _state(group: Group, state: State) -> State:
    state = {NAMES.get(name, name): value for name, value in state.items()}
    if "weight_sum" in group:  # Schedule-Free: our averaging weights are in each parameter's state
        state |= {name: group[name] for name in ("lr_max", "weight_sum")}
        state["step"] = group["k"]
        state["beta"] = group["momentum"] if "momentum" in group else group["betas"][0]
    elif "d_coef" in group:  # Prodigy: their s and p0 are flat; a p0 of zeros is one 0-d tensor
        s: Tensor = state["s"]
        p0: Tensor = state["p0"]
        if group.get("slice_p", 1) == 1:
            s = s.view(state["exp_avg_sq"].shape)
        state["s"] = s
        state["p0"] = p0.view(s.shape) if p0.numel() == s.numel() else torch.zeros_like(s)
    return state

"""ScheduleFree(base): Schedule-Free averaging around any torch optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from selftune.optim.engine.checkpoints import (
    METHOD,
    copied,
    like,
    require_shape,
    require_state_dict,
)
from selftune.optim.engine.cohorts import Bucket, Cohort, cohorts
from selftune.optim.engine.collectives import plain, total
from selftune.optim.engine.evaluation_weights import EvaluationWeights
from selftune.optim.engine.foreign_writes import Write, put
from selftune.optim.engine.loss import require_closure
from selftune.optim.engine.options import require
from selftune.optim.engine.precision import LOW_PRECISION, uncompiled
from selftune.optim.engine.skipped_steps import count_skip, known_at_once
from selftune.optim.engine.step_guard import guarded
from selftune.optim.optimizer import Group, Optimizer, State, lr_of
from selftune.optim.sequences import own_share
from selftune.optim.wrapping import OWN, BothStates, without_global_hooks, without_gradients
from selftune.step_hooks import skipped_steps

BETA, R = OWN + "beta", OWN + "r"
# Options that torch's optimizers gained in newer versions, and our own: checkpoints may lack them.
OPTIONS_ADDED = {
    *("amsgrad", "nesterov", "maximize", "foreach", "capturable", "differentiable", "fused"),
    *("centered", "decoupled_weight_decay", BETA, R),
}
# Options that are left out when a base is constructed to learn the names of its state: they do not
# affect these names, or its constructor does not accept them.
NOT_PROBED = {"foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}


class ScheduleFree(EvaluationWeights, torch.optim.Optimizer):
    """Schedule-Free averaging of the steps of any torch optimizer.

        optimizer = ScheduleFree(torch.optim.RMSprop(model.parameters(), lr=1e-3))
        attach(model, optimizer)

    `ScheduleFreeAdamW` says what x, y and z are, and when the parameters have to hold which.

    Defazio et al., The Road Less Scheduled, 2024, equations 2 to 4. https://arxiv.org/abs/2405.15682

    The base optimizer takes its steps at z, with gradients that were taken at y. It should have
    no momentum of its own, as beta takes its place. Its weight decay acts at z. The parameter
    groups are those of the base, so that schedulers and clipping act on both: give them this
    object, and do not use the base itself. `train` and `eval` are as in `Optimizer`.

    A step with a gradient that is not finite is skipped, and not averaged, if the base is one of
    ours; around an optimizer of torch only on a CPU, where this does not wait. With any base, a
    parameter group whose lr is 0 is frozen.

    beta: the interpolation between z (at 0) and x (at 1).
    r: the averaging weight of a step is (its number)^r * (largest lr so far)^2.
    The groups contain them as `schedule_free_beta` and `schedule_free_r`: a checkpoint restores
        them, and added groups may have their own.
    Defaults are those of the schedulefree package's wrapper. State beside the base's: x and z,
    2 words per parameter; x is float32 for bfloat16 and float16 parameters.

    Raises ValueError for a base that evaluates a closure more than once per step (LBFGS), or that
    is a Schedule-Free method itself.
    """

    # The counts before the last step, while it is unknown whether it was skipped: see `Verdict`.
    _counted: Sequence[tuple[Cohort, State]] = ()
    _is_made = False

    def __init__(self, base: torch.optim.Optimizer, beta: float = 0.9, r: float = 0.0) -> None:
        if not isinstance(base, torch.optim.Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"the class {base.__name__}" if isinstance(base, type) else type(base).__name__
            raise ValueError(
                f"ScheduleFree takes an optimizer, got {what}: "
                "write ScheduleFree(torch.optim.AdamW(model.parameters(), lr=1e-3))"
            )
        ours = isinstance(base, Optimizer)
        averages = ours and type(base).to_evaluation is not Optimizer.to_evaluation
        if averages or isinstance(base, ScheduleFree | torch.optim.LBFGS):
            raise ValueError(f"ScheduleFree cannot wrap {type(base).__name__}; use it by itself")
        averaging = {BETA: beta, R: r}
        _check(averaging)
        for group in base.param_groups:
            group.update(averaging)
        self.base = base
        self.own: dict[Tensor, State] = {}
        self.begin_following()
        super().__init__(base.param_groups, {**base.defaults, **averaging})
        self._is_made = True

    @property
    def state(self) -> MutableMapping[Tensor, State]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's state, and the wrapper's under names that begin with `schedule_free_`."""
        return BothStates(self.base.state, self.own)

    @state.setter
    def state(self, state: Mapping[Tensor, State]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._is_made:  # torch's constructor writes an empty one
            both = self.state
            both.clear()
            both.update(state)

    def add_param_group(self, param_group: Group) -> None:
        for name in (BETA, R):
            param_group.setdefault(name, self.defaults[name])
        _check(param_group)
        if not any(param_group is group for group in self.base.param_groups):
            self.base.add_param_group(param_group)
        self.param_groups = self.base.param_groups
        for group in self.param_groups:
            group.setdefault("train_mode", True)
            group.setdefault("skipped_steps", 0)

    @property
    def averages(self) -> bool:
        """Whether the evaluation weights are an average, so that lr should not decay: always."""
        return True

    def check_group(self, group: Group) -> None:
        """Raise ValueError for an option out of its range."""
        lr = lr_of(group)
        require(0 <= lr < float("inf"), "lr", lr, "[0, inf)")
        _check(group)

    def fitting_state(self, p: Tensor, group: Group) -> tuple[State, State]:
        """A new state of the parameter, on the meta device, and its present one."""
        like = torch.empty(p.shape, dtype=p.dtype, device="meta")
        return _new_state(like), self.own.get(p, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of the base at z, then the update of x and y, for parameters with a gradient.

        loss: not needed; accepted and returned as in `Optimizer.step`.
        Raises RuntimeError if the parameters are at the evaluation weights.
        """
        self.settle()
        if closure is not None:
            require_closure(closure)
            self._require_training_weights()
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    def add_loss(self, loss: Any) -> None:
        """Does nothing; accepted as in `Optimizer.add_loss`."""

    def step_size(self) -> list[float]:
        """The effective step size of each group of the base: see `Optimizer.step_size`."""
        if isinstance(self.base, Optimizer):
            return self.base.step_size()
        return [lr_of(group) for group in self.param_groups]

    @uncompiled
    @guarded
    def _step(self) -> None:
        moving = self._moving()
        if moving:
            self._adapt_to_writes()
        stepping = self._cohorts(moving)
        if isinstance(self.base, Optimizer):
            self.base.is_wrapped = True  # it must not take our writes for a user's
        elif stepping and _is_spoilt(stepping):
            count_skip(type(self).__name__, self.param_groups)
            return
        for b in _buckets(stepping):
            b.param.copy_(b.z)
        skipped_before = skipped_steps(self.base)
        with self._frozen(), without_global_hooks():
            self.base.step()
        if skipped_steps(self.base) == skipped_before:
            self._average(stepping)
        self._to_y(stepping)
        self._marks.record(self._followed(), after_step=True)

    def _moving(self) -> list[Tensor]:
        """The parameters that step now. State from before a parameter's first step is dropped."""
        groups = [group for group in self.param_groups if lr_of(group) != 0]
        moving = [p for group in groups for p in group["params"] if p.grad is not None]
        if moving:
            self._require_training_weights()
        for p in moving:
            if p in self.own and not self.own[p]["step"] and self.own.pop(p)["base_at_lr_0"]:
                self.base.state.pop(p, None)
        return moving

    @contextmanager
    def _frozen(self) -> Generator[None]:
        """Inside, hide the gradients of parameters whose lr is 0; afterwards restore their values.

        A parameter without state keeps its gradient the first time, as some tools take a step with
        lr 0 to have the state created. With lr 0 the base may create a wrong one (Rprop's step
        sizes would stay 0), so it is created again in the first step with another lr.
        """
        groups = [group for group in self.param_groups if lr_of(group) == 0]
        frozen = [p for group in groups for p in group["params"] if p.grad is not None]
        before: dict[Tensor, Tensor] = {}
        for p in frozen:
            if p not in self.own:
                self.own[p] = {**_new_state(p), "base_at_lr_0": not self.base.state.get(p)}
                if self.own[p]["base_at_lr_0"]:
                    before[p] = p.detach().clone()
        with without_gradients([p for p in frozen if p not in before]):
            yield
        for p, value in before.items():
            p.copy_(value)

    def _average(self, stepping: list[Cohort]) -> None:
        """Average the new z into x; on an accelerator this is masked by the base's verdict."""
        verdict = self.base.verdict if isinstance(self.base, Optimizer) else None
        ok = None if verdict is None else verdict.ok
        if ok is not None:
            self._counted = [(cohort, cohort.counts) for cohort in stepping]
        for cohort in stepping:
            c = cohort.advance(self._share)["c"]
            for b in _buckets([cohort]):
                b.z.copy_(b.param)
                if ok is None:
                    b.x.lerp_(b.z, c)
                else:
                    b.x.copy_(b.x.clone().lerp_(b.z, c).where(ok, b.x))

    def settle(self) -> None:
        """Wait for the base's verdict on the last step, and restore counts if it was skipped."""
        counted, self._counted = self._counted, []
        skipped_before = skipped_steps(self.base)
        if isinstance(self.base, Optimizer):
            self.base.settle()
        if skipped_steps(self.base) > skipped_before:
            for cohort, counts in counted:
                cohort.set_counts(counts)

    def state_dict(self) -> dict[str, Any]:
        """The base's state dict, with x, z and the averaging weights of every parameter."""
        self._now.average.is_used = True
        self.settle()
        saved = super().state_dict()
        saved["state"] = {i: dict(state) for i, state in saved["state"].items()}
        # After a write from outside, save the state from which the next step would go on.
        writes = self._written(wait=True)
        for group, as_saved in zip(self.param_groups, saved["param_groups"], strict=True):
            for p, i in zip(group["params"], as_saved["params"], strict=True):
                if p in writes:
                    state = saved["state"][i]
                    for name in (OWN + "x", OWN + "z"):
                        state[name] = state[name].clone()
                        put(plain(state[name]), plain(p).detach(), writes[p].where)
        return saved

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        require_state_dict(state_dict)
        self.settle()
        # torch calls these hooks in its own load_state_dict, which is not called here.
        state_dict = state_dict.copy()
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            changed = change(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._load(state_dict)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _load(self, state_dict: dict[str, Any]) -> None:
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        of_base = {
            i: {name: copied(value) for name, value in state.items() if not name.startswith(OWN)}
            for i, state in state_dict["state"].items()
        }
        state = {i: base for i, base in of_base.items() if base}
        before = self.param_groups
        _require_same_base(self.base, state_dict["param_groups"])
        params = [p for group in before for p in group["params"]]
        _require_same_state(self.base, params, state_dict["param_groups"], of_base)
        _require_same_shapes(params, saved, state_dict)
        self.base.load_state_dict({**state_dict, "state": state})
        self.param_groups = self.base.param_groups
        for group, old in zip(self.param_groups, before, strict=True):
            for name in ("train_mode", BETA, R):  # missing in a checkpoint of the base alone
                group.setdefault(name, old[name])
        self.own.clear()
        attachments = self.attachments
        self.begin_following()
        self.attachments = attachments
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved, params, strict=True):
            own = {
                name.removeprefix(OWN): value
                for name, value in state_dict["state"].get(i, {}).items()
                if name.startswith(OWN)
            }
            if own:
                self.own[p] = like(_new_state(p), own)

    def __getstate__(self) -> dict[str, Any]:
        if self.attachments and not self.is_held:
            self.eval()  # attached models are copied at the evaluation weights too
        self.settle()
        names = ("base", "own", "param_groups", "defaults")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._is_made = True
        self.begin_following()

    @property
    def _has_two_places(self) -> bool:
        return True

    def other_weights(self, p: Tensor, group: Group) -> Tensor:
        if not self.own.get(p):
            return p.detach().clone()
        x, z = self.own[p]["x"], self.own[p]["z"]
        there = x if group["train_mode"] else x.lerp(z.to(x.dtype), 1 - group[BETA])
        return there.to(p.dtype, copy=True)

    def _followed(self) -> list[Tensor]:
        params = (p for group in self.param_groups for p in group["params"])
        return [p for p in params if p in self.own and self.own[p]["step"]]

    def _kept(self, p: Tensor) -> State:
        return self.own[p]

    def _move(self, params: list[Tensor], train_mode: bool) -> None:
        if train_mode:
            self._to_y(self._cohorts(params))
        else:
            for b in _buckets(self._cohorts(params)):
                b.param.copy_(b.x)

    def _restart(self, writes: dict[Tensor, Write]) -> None:
        for p, (where, _) in writes.items():
            for name in ("x", "z"):
                put(plain(self.own[p][name]), plain(p).detach(), where)
        if isinstance(self.base, Optimizer):
            self.base.restart_from(
                {p: write for p, write in writes.items() if self.base.state.get(p)}
            )

    def _to_y(self, members: list[Cohort]) -> None:
        for b in _buckets(members):
            wide = b.x.tensors[0].dtype
            b.param.copy_(b.x.lerp(b.z.to(wide), 1 - b.group[BETA]))

    def _cohorts(self, members: list[Tensor]) -> list[Cohort]:
        among = set(members)
        found: list[Cohort] = []
        for group in self.param_groups:
            params = [p for p in group["params"] if p in among]
            for p in params:
                if p not in self.own:
                    self.own[p] = _new_state(p)
            found += cohorts(group, params, self.own)
        return found

    def _share(self, group: Group, counts: State) -> State:
        counts["step"] += 1
        return {"c": own_share({"r": group[R]}, lr_of(group), counts)}


def _require_same_base(base: torch.optim.Optimizer, loaded: list[Group]) -> None:
    """Raise ValueError for options of another base, which torch's optimizers would load."""
    if isinstance(base, Optimizer):
        return  # it checks its own state dict
    name = type(base).__name__
    for group in loaded:
        missing = sorted(base.defaults.keys() - group.keys() - OPTIONS_ADDED)
        if METHOD in group or missing:
            what = f"that of {group[METHOD]}" if METHOD in group else f"without {missing}"
            raise ValueError(
                f"the loaded state is {what}, not of ScheduleFree around torch's {name}: a run "
                "goes on with the base that it began with; to change it, load the model alone"
            )


def _require_same_state(
    base: torch.optim.Optimizer, params: list[Tensor], groups: list[Group], loaded: dict[int, State]
) -> None:
    """Raise ValueError if a state does not have the names that a step of torch's base creates."""
    saved = [(i, n) for n, group in enumerate(groups) for i in group["params"]]
    names: dict[tuple[int, int], set[str]] = {}  # one probe for each group and number of dimensions
    for (i, n), p in zip(saved, params, strict=False):
        state, kind = loaded.get(i), (n, p.dim())
        if state and kind not in names:
            names[kind] = _names_after_a_step(base, groups[n], p.dim())
        if state and (wanted := names[kind]):
            tensors = {name for name, value in state.items() if isinstance(value, Tensor)}
            missing, others = sorted(wanted - state.keys()), sorted(tensors - wanted)
            if missing or others:
                what = f"lacks {missing}" if missing else f"has {others}"
                raise ValueError(
                    f"the loaded state is another method's, not of ScheduleFree around torch's "
                    f"{type(base).__name__}: it {what}; to change the base, load the model alone"
                )


def _names_after_a_step(base: torch.optim.Optimizer, group: Group, dim: int) -> set[str]:
    """The names in a parameter's state after a step of the base; empty if it cannot be tried.

    dim: the parameter's number of dimensions, which decides what some optimizers keep.
    """
    if not type(base).__module__.startswith("torch.optim."):
        return set()
    p = torch.zeros([1] * dim, requires_grad=True)
    p.grad = torch.zeros_like(p)
    options = {n: group[n] for n in base.defaults.keys() - NOT_PROBED if n in group}
    try:
        probe = type(base)([p], **options)
        inspect.unwrap(type(base).step)(probe)  # without torch's global step hooks
    except (TypeError, ValueError) as error:  # invalid options, such as three betas
        raise ValueError(
            f"the loaded options are not those of torch's {type(base).__name__}: {error}"
        ) from None
    except RuntimeError:  # it takes only other kinds of gradients, such as sparse ones
        return set()
    return {name for name, value in probe.state[p].items() if value is not None}


def _require_same_shapes(params: list[Tensor], saved: list[int], loaded: State) -> None:
    for i, p in zip(saved, params, strict=False):  # torch raises if their numbers differ
        for name in ("x", "z"):
            value = loaded["state"].get(i, {}).get(OWN + name)
            if value is not None:
                require_shape(value, p, name, f"parameter {i}")


def _check(group: Group) -> None:
    require(0 <= group[BETA] <= 1, "beta", group[BETA], "[0, 1]")
    require(0 <= group[R] < float("inf"), "r", group[R], "[0, inf)")


def _new_state(p: Tensor) -> State:
    wide = torch.float32 if p.dtype in LOW_PRECISION else p.dtype
    x, z = p.detach().to(wide, copy=True), p.detach().clone()
    numbers = {"step": 0, "lr_max": 0.0, "weight_sum": 0.0, "base_at_lr_0": False}
    return {**numbers, "x": x, "z": z}


def _is_spoilt(stepping: list[Cohort]) -> bool:
    """Whether the host knows, without waiting, that a gradient is not finite."""
    terms = [
        (cohort.shards, [b.grad.none_or_nan()])
        for cohort in stepping
        for b in cohort.buckets(grads=True)
    ]
    (finite,) = total(terms)
    return known_at_once(finite) and not finite.isfinite()


def _buckets(members: list[Cohort]) -> Iterator[Bucket]:
    return (b for cohort in members for b in cohort.buckets(grads=False))

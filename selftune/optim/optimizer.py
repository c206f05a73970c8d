"""Optimizer, the base class of all update rules: steps, state, train and eval, checkpoints."""

from __future__ import annotations

import copy
import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from selftune.optim.engine import packing, skipped_steps
from selftune.optim.engine.checkpoints import METHOD, method_of, require_state_dict, restoring
from selftune.optim.engine.cohorts import Bucket, Cohort, Group, State, Watch, cohorts
from selftune.optim.engine.collectives import (
    Shards,
    all_reduced_together,
    hidden_partition,
    model_parts,
    plain,
    require_whole,
    several_ranks,
    total,
)
from selftune.optim.engine.collectives import is_flattened as is_flattened
from selftune.optim.engine.compiled import Call, NotCompiled, Way
from selftune.optim.engine.construction import (
    OptimizerType,
    check_parameters,
    check_views,
    for_users,
)
from selftune.optim.engine.evaluation_weights import EvaluationWeights
from selftune.optim.engine.foreign_checkpoints import in_our_form
from selftune.optim.engine.foreign_writes import Write as Write
from selftune.optim.engine.foreign_writes import put as put
from selftune.optim.engine.learnt_numbers import ByHand, add, check
from selftune.optim.engine.learnt_numbers import clear as clear
from selftune.optim.engine.learnt_numbers import write as write
from selftune.optim.engine.loss import needed, require_closure, with_mean
from selftune.optim.engine.options import (
    check_names,
    check_types,
    is_about_1,
    misspelt,
    options_of,
    options_of_all,
)
from selftune.optim.engine.orthogonal import orthogonalized_parts as orthogonalized_parts
from selftune.optim.engine.precision import LOW_PRECISION, Rule, in_float32, look, run, uncompiled
from selftune.optim.engine.remarks import remark
from selftune.optim.engine.skipped_steps import Verdict, count_skip, finiteness
from selftune.optim.engine.sparse_rows import is_sparse
from selftune.optim.engine.step_guard import guarded
from selftune.tensor_list import TensorList

Part = tuple[Cohort, list[Bucket]]
Sums = tuple[Shards, list[Tensor]]  # how a bucket's parameters are sharded, and a rule's sums


class Optimizer(EvaluationWeights, torch.optim.Optimizer, metaclass=OptimizerType):
    """A torch optimizer whose update rule is written once, on lists of tensors.

    A subclass defines `check`, `init_state`, `advance` and `update`. A rule that learns numbers
    from all gradients also defines `measure` and `prepare`, which run before the step, or returns
    sums from `update` and defines `estimate`, which runs after it.

    All optimizers here never write gradients and never read numbers back from an accelerator.
    The state of bfloat16 and float16 parameters is float32. A step with a gradient that is not
    finite is skipped for all parameters and counted in the groups' `skipped_steps`; the first one
    warns. A learnt number that would become infinite or NaN keeps its value.
    """

    takes_loss: ClassVar[bool] = False  # `step` needs the loss; `prepare` gets it as its last sum
    takes_sparse: ClassVar[bool] = False  # accepts sparse gradients
    wants_whole_tensors: ClassVar[bool] = False  # needs the norm of each tensor: `require_whole`
    finds_step_size: ClassVar[bool] = False  # learns its step size, which lr multiplies: leave at 1
    always: ClassVar[dict[str, Any]] = {}  # other packages' options, with the value they have here
    learns: ClassVar[tuple[str, ...]] = ()  # keys of the parameter groups with learnt numbers
    # Learnt numbers that every step recomputes before it uses them, and what to set in their place.
    recomputes: ClassVar[dict[str, str]] = {}
    partition: Shards = ()  # the process group given to `partitioned`
    _cohorts: list[Cohort]  # parameters that step
    _resting: list[Cohort]  # parameters that stepped before and have no gradient now
    _watch: Watch | None = None  # tells when the cohorts have to be rebuilt
    _by_hand: ByHand  # learnt numbers that callers wrote into the groups
    _has_state = False  # whether there was state: clearing it also resets the learnt numbers
    is_wrapped = False  # whether another optimizer (`ScheduleFree`) writes the parameters too

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self._by_hand = ByHand(self.learns, self.recomputes)
        self.begin_following()
        self._shapes: list[list[torch.Size]] = []  # of the parameters at construction
        super().__init__(params, defaults)

    # -- what a rule defines ------------------------------------------------------------------

    @abstractmethod
    def check(self, group: Group) -> None:
        """Raise ValueError for an option out of its range."""

    @abstractmethod
    def init_state(self, p: Tensor, group: Group) -> State:
        """A parameter's first state: tensors, usually shaped like `p`, and counts (numbers).

        group: its options may decide which tensors the rule needs.
        """

    @abstractmethod
    def advance(self, group: Group, counts: State) -> State:
        """The numbers that are known before the step; updates the parameters' `counts` in place."""

    @staticmethod
    def measure(b: Bucket) -> Sequence[Tensor]:
        """This bucket's terms, 0-d tensors, of the sums that `prepare` receives."""
        return ()

    def prepare(self, *sums: Tensor) -> None:
        """Learn from sums over all parameters before the step."""

    @staticmethod
    @abstractmethod
    def update(b: Bucket) -> Sequence[Tensor]:
        """The update rule, arithmetic only. Returns the bucket's terms of `estimate`'s sums."""

    @staticmethod
    def rest(b: Bucket) -> Sequence[Tensor]:
        """What `update` returns, for parameters without a gradient in this step.

        `estimate` counts a missing gradient as a gradient of zero.
        """
        return ()

    def estimate(self, *sums: Tensor) -> None:
        """Learn from sums over all parameters after the step."""

    def effective_lr(self, group: Group) -> float | Tensor:
        """The factor by which the group's steps are multiplied now; on the device if learnt."""
        return lr_of(group)

    def most_steps(self, group: Group) -> int:
        """The largest number of steps that a parameter of the group has made; at least 1."""
        return max([self.state[p].get("step", 0) for p in group["params"] if p in self.state] + [1])

    @staticmethod
    def to_training(b: Bucket) -> Sequence[Tensor]:
        """Move `b.param` from the evaluation weights to the training weights."""
        return ()

    @staticmethod
    def to_evaluation(b: Bucket) -> Sequence[Tensor]:
        """Move `b.param` from the training weights to the evaluation weights."""
        return ()

    @staticmethod
    def restart(p: Tensor, state: State, group: Group, write: Write) -> None:
        """Adapt the state to values that were written into `p` from outside the optimizer.

        A rule defines this if its state holds weights; otherwise such writes are not looked for.
        p, state: local tensors, complex ones as real numbers.
        write: which elements were written, see `Write`.
        """

    def forget(self) -> None:
        """Reset the sums behind the estimates, as all parameters were replaced. d stays."""

    # -- a step -------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step from the gradients in `p.grad`; parameters without one are left alone.

        A parameter group whose lr is 0 is frozen: its parameters and counts stay as they are.
        loss: the loss whose gradients these are, a tensor or a number, if no closure returns it.
            Only some methods use it, but all accept it, so that all fit the same loop. A loop that
            cannot pass it calls `add_loss` before `step`. Losses given to `add_loss` replace the
            one that a closure returns, which, where gradients accumulate, is that of the last
            micro-batch only.
        Raises RuntimeError if the parameters are at the evaluation weights, and ValueError if the
        method needs the loss and was not given it.
        """
        if closure is not None:
            require_closure(closure)
            self._require_training_weights()
            with torch.enable_grad():
                loss = closure()
        self._step(loss if closure is None or self._now.loss is None else None)
        return loss

    def add_loss(self, loss: Any) -> None:
        """Pass the loss of the coming step outside `step`, next to `loss.backward()`.

        Losses add up as the gradients of micro-batches do, until the step or `zero_grad()` clears
        them. Methods that need no loss ignore it.
        """
        if self.takes_loss:
            # A copy, as some loops scale their loss in place to log it.
            loss = loss.detach().clone() if isinstance(loss, Tensor) else loss
            self._now.loss = loss if self._now.loss is None else self._now.loss + loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._now.loss = None
        super().zero_grad(set_to_none)

    def step_size(self) -> list[float]:
        """The effective step size of each parameter group, for logs.

        It is lr times the method's own factor: a warm-up, Prodigy's and D-Adaptation's d, DoG's
        distance over gradients (in LDoG its mean over the group's tensors), or the learnt step
        size of SelfTune and ScheduleFree+. The host waits for the device.
        """
        return [float(self.effective_lr(group)) for group in self.param_groups]

    @uncompiled
    @guarded
    def _step(self, loss: Any) -> None:
        self.settle()
        loss, self._now.loss = self._now.loss if loss is None else loss, None
        self._forget_with_the_state()
        self._by_hand.adopt(self.param_groups, type(self).__name__)
        stepping = self._stepping()
        if not stepping:
            self._mark_new()
            return
        self._require_training_weights()
        self._adapt_to_writes()
        parts = [(cohort, self._buckets(cohort)) for cohort in stepping]
        finite, *measured = self._look_at_gradients(parts, loss)
        if skipped_steps.known_at_once(finite) and not finite.isfinite():
            finite = self._looked_at_again(stepping, measured)
        verdict = self._decide(finite, stepping)
        if verdict.skipped:
            self._mark_new()
            return
        self.prepare(*measured)
        numbers = [cohort.advance(self.advance) for cohort in stepping]
        sums = self._update(parts, numbers, verdict.ok)
        self._estimate(sums, verdict.ok)
        verdict.restore_learnt_numbers()
        self._by_hand.record(self.param_groups)
        self._marks.record(self._followed(), after_step=True)

    def _buckets(self, cohort: Cohort) -> list[Bucket]:
        return packing.buckets(cohort) if cohort.compiled else list(cohort.buckets(grads=True))

    def _look_at_gradients(self, parts: list[Part], loss: Any) -> list[Tensor]:
        """A number that is finite if all gradients are, followed by the sums for `prepare`."""
        terms = [
            (cohort.shards, sums)
            for cohort, buckets in parts
            for sums in self._looked_at(cohort, buckets)
        ]
        if self.takes_loss:
            terms = with_mean(terms, needed(loss, type(self).__name__), self.partition)
        finite, *measured = total(terms, self.partition)
        # The step is also skipped if the loss or another sum is not finite.
        return [sum((0 * number for number in measured), start=finite), *measured]

    def _looked_at(self, cohort: Cohort, buckets: list[Bucket]) -> Iterable[list[Tensor]]:
        if self.measure is Optimizer.measure:  # this sum alone is faster than a compiled rule
            return ([finiteness(b.grad)] for b in buckets)
        return self._run(look, self.measure, cohort, buckets, {}, None)

    def _decide(self, finite: Tensor, stepping: list[Cohort]) -> Verdict:
        """Decide whether the step is skipped, and count the skip if the host knows it already."""
        verdict = Verdict(finite, stepping, self.param_groups)
        if verdict.skipped:
            count_skip(type(self).__name__, self.param_groups)
        else:
            self._now.verdict = verdict
        return verdict

    def _update(self, parts: list[Part], numbers: list[State], ok: Tensor | None) -> list[Sums]:
        """Run the update rule and return its sums, bucket by bucket."""
        found: list[Sums] = []
        for (cohort, buckets), known in zip(parts, numbers, strict=True):
            ran = self._run(run, self.update, cohort, buckets, known, ok)
            for b, sums in zip(buckets, ran, strict=True):
                b.write_back()
                found.append((cohort.shards, sums))
        return found

    def _run(
        self,
        how: Way,
        rule: Rule,
        cohort: Cohort,
        buckets: list[Bucket],
        numbers: State,
        ok: Tensor | None,
    ) -> Iterator[list[Tensor]]:
        """Run a rule on one bucket after the other, compiled if possible; yields each one's sums.

        how: runs the rule and returns its sums: `run` or `look` in precision.py.
        """
        call = None
        for b in buckets:
            b.read_parameters()
            sums = None
            if cohort.compiled:
                try:
                    call = call or Call(how, rule, b, self._options(cohort.group), numbers, ok)
                    sums = call(b)
                except NotCompiled as error:
                    self._take_the_list_path(error)
            yield how(rule, b.given(numbers), ok) if sums is None else sums

    def _take_the_list_path(self, error: NotCompiled) -> None:
        remark(f"{type(self).__name__} steps without compile=True from here on: {error}")
        for group in self.param_groups:
            group["compile"] = False
        for cohort in self._cohorts:
            cohort.compiled = False
        self._watch = None  # so that setting compile=True again, even before the next step, works

    def _estimate(self, sums: list[Sums], ok: Tensor | None) -> None:
        if not sums[0][1]:
            return
        for cohort in self._resting:
            numbers = self.advance(cohort.group, dict(cohort.counts))
            sums += [
                (cohort.shards, run(self.rest, b.given(numbers), ok))
                for b in cohort.buckets(grads=False)
            ]
        self.estimate(*total(sums, self.partition))

    def _looked_at_again(self, stepping: list[Cohort], measured: list[Tensor]) -> Tensor:
        """A number that is finite if the square of every gradient and the rule's sums are.

        The sum of squares that the first look took may overflow where no square does.
        """
        terms = [
            (cohort.shards, [b.grad.none_or_nan()])
            for cohort in stepping
            for b in cohort.buckets(grads=True)
        ]
        (finite,) = total(terms, self.partition)
        return sum((0 * number for number in measured), start=finite)

    def _forget_with_the_state(self) -> None:
        """Reset the learnt numbers if a caller has cleared the state that they belong to."""
        has_state = any(self.state.get(p) for group in self.param_groups for p in group["params"])
        if self._has_state and not has_state:
            clear(self.param_groups, self.learns)
            self._by_hand.forget()
        self._has_state = has_state

    def squared_norms(
        self, of: Callable[[Bucket], Sequence[TensorList]]
    ) -> Iterator[tuple[Bucket, Tensor]]:
        """For each bucket, the squared norms of its tensors over all ranks.

        of: the lists of a bucket whose norms are wanted. Tensors of 16 bits are float32 there.
        Yields each bucket with a tensor of shape (lists, tensors).
        """
        found = [
            (cohort, b)
            for cohort in self._cohorts
            for b in map(in_float32, cohort.buckets(grads=True))
        ]
        parts = [
            (cohort.shards, torch.stack([each.norms() for each in of(b)]) ** 2)
            for cohort, b in found
        ]
        return zip([b for _, b in found], all_reduced_together(parts), strict=True)

    def measured(self, numbers: TensorList, new: TensorList) -> None:
        """Write what `prepare` computed, a number per tensor, unless the step is to be skipped."""
        ok = None if self.verdict is None else self.verdict.ok
        numbers.copy_(new if ok is None else new.where(ok, numbers))

    @property
    def verdict(self) -> Verdict | None:
        """Whether the last step is skipped, while the host does not know it yet; else None."""
        return self._now.verdict

    def settle(self) -> None:
        """Wait for the verdict on the last step, and restore its counts if it was skipped."""
        verdict, self._now.verdict = self._now.verdict, None
        if verdict is not None and not verdict.restore_counts():
            count_skip(type(self).__name__, self.param_groups)

    def _stepping(self) -> list[Cohort]:
        """The cohorts that step now: parameters with a gradient in groups whose lr is not 0."""
        if self._watch is None or not self._watch.sees_no_change(self.param_groups, self.state):
            self._refuse_flat_parts()
            self._cohorts, self._resting = [], []
            for group in self.param_groups:
                for p in group["params"]:
                    self._require_dense(p)
                    if p.grad is not None and not self.state.get(p):
                        self.state[p] = self._new_state(p, group)
                        self._has_state = True
                if lr_of(group) != 0:
                    self._cohorts += self._divided(group)
                    resting = [p for p in group["params"] if p.grad is None and self.state.get(p)]
                    self._resting += cohorts(group, resting, self.state)
            if self.partition and not self._cohorts:
                moving = [group for group in self.param_groups if lr_of(group) != 0]
                self._cohorts = [self._empty_cohort(group) for group in moving[:1]]
            self._watch = Watch(self.param_groups, self.state, self._cohorts)
        return self._cohorts

    def _divided(self, group: Group) -> list[Cohort]:
        """The group's parameters with a gradient; with `compile`, divided by how they can run."""
        found = cohorts(group, [p for p in group["params"] if p.grad is not None], self.state)
        if not group["compile"]:
            return found
        fresh = self._new_state(torch.empty(2), group).values()
        elementwise = all(v.shape == (2,) for v in fresh if isinstance(v, Tensor))
        return [part for cohort in found for part in packing.divided(cohort, elementwise)]

    def _require_dense(self, p: Tensor) -> None:
        if is_sparse(p) and not self.takes_sparse:
            raise RuntimeError(
                f"{type(self).__name__} takes dense gradients only, "
                f"got a sparse one for a parameter of shape {tuple(p.shape)}"
            )

    def _new_state(self, p: Tensor, group: Group) -> State:
        if p.dtype in LOW_PRECISION:
            wide = self.init_state(p.detach().float(), group)
            lost = torch.zeros_like(p, dtype=torch.bfloat16)  # has float32's range
            return {**wide, "compensation": lost}
        return self.init_state(torch.view_as_real(p) if p.is_complex() else p, group)

    def _empty_cohort(self, group: Group) -> Cohort:
        """A cohort of no elements for a rank without gradients, which still joins all-reduces."""
        like = next((p for g in self.param_groups for p in g["params"]), None)
        p = torch.empty(0) if like is None else torch.empty(0, dtype=like.dtype, device=like.device)
        p.grad = torch.empty_like(p)
        return Cohort(group, [p], [self._new_state(p, group)])

    def _require_training_weights(self) -> None:
        self._correct_groups()
        super()._require_training_weights()

    def _options(self, group: Group) -> Group:
        """What a rule may read from its group: the constructor's arguments and learnt numbers."""
        learnt = {name: value for name, value in group.items() if isinstance(value, Tensor)}
        own = {name: group[name] for name in self.defaults}
        # Only floats are inputs of a compiled rule; any other type would be a constant in it.
        floats = {
            name: float(own[name]) for name in _floats(type(self)) if own.get(name) is not None
        }
        return {**own, **learnt, **floats}

    # -- training and evaluation weights ------------------------------------------------------

    @property
    def _has_two_places(self) -> bool:
        return type(self).to_evaluation is not Optimizer.to_evaluation

    def _switch(self, train_mode: bool) -> None:
        super()._switch(train_mode)
        self._now.at_evaluation = not train_mode

    def _move(self, params: list[Tensor], train_mode: bool) -> None:
        among = set(params)
        rule = self.to_training if train_mode else self.to_evaluation
        for group in self.param_groups:
            members = [p for p in group["params"] if p in among]
            for cohort in cohorts(group, members, self.state):
                for b in cohort.buckets(grads=False):
                    run(rule, b.given(cohort.counts), None)

    @torch.no_grad()
    def other_weights(self, p: Tensor, group: Group) -> Tensor:
        twin, state = p.detach().clone(), self.state.get(p)
        if state and self._has_two_places:
            copied = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
            rule = self.to_evaluation if group["train_mode"] else self.to_training
            for cohort in cohorts(group, [twin], {twin: copied}):
                for b in cohort.buckets(grads=False):
                    run(rule, b.given(cohort.counts), None)
        return twin

    def _followed(self) -> list[Tensor]:
        if type(self).restart is Optimizer.restart or self.is_wrapped:
            return []
        return [p for group in self.param_groups for p in group["params"] if self.state.get(p)]

    def _kept(self, p: Tensor) -> State:
        return self.state[p]

    def _restart(self, writes: dict[Tensor, Write]) -> None:
        self.restart_from(writes)

    def restart_from(self, writes: dict[Tensor, Write]) -> None:
        group_of = {p: group for group in self.param_groups for p in group["params"]}
        for p, each in writes.items():
            self._restart_state(p, self.state[p], group_of[p], each)
        exchanged = [each.where is None and not each.again for each in writes.values()]
        if all(exchanged) and len(exchanged) == sum(map(bool, self.state.values())):
            self.forget()

    def _restart_state(self, p: Tensor, state: State, group: Group, write: Write) -> None:
        tensors = {k: plain(value) for k, value in state.items() if isinstance(value, Tensor)}
        self.restart(plain(p).detach(), tensors, group, write)
        lost = tensors.get("compensation")
        if lost is not None:
            put(lost, torch.zeros_like(lost), write.where)

    def _mark_new(self) -> None:
        if new := [p for p in self._followed() if p not in self._marks]:
            self._marks.record(new)

    def _correct_groups(self) -> None:
        """Repair `train_mode`, which ZeroRedundancyOptimizer overwrites with its own groups'."""
        for group in self.param_groups:
            group["train_mode"] = group["train_mode"] and not self._now.at_evaluation

    # -- groups and checkpoints ---------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        check_parameters(type(self).__name__, param_group["params"])
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("train_mode", self.param_groups[0].get("train_mode", True))
        group.setdefault("skipped_steps", 0)
        group[METHOD] = method_of(type(self))
        try:
            check_views(group["params"])
            self.check_group(group)
            self._require_known_partition(group)
        except ValueError:
            self.param_groups.pop()
            raise
        add(self.param_groups, self.learns)
        self._shapes.append([p.shape for p in group["params"]])
        self._by_hand.forget()
        self._watch = None
        self._remark_on_lr()
        self._remark_on_misspelt(group)

    def check_group(self, group: Group) -> None:
        """Raise ValueError for an option that the method does not have, or out of its range."""
        check_names(type(self), Optimizer, group)
        check_types(type(self), group)
        self.check(group)
        if self.wants_whole_tensors:
            require_whole(type(self).__name__, group["params"])

    @property
    def averages(self) -> bool:
        """Whether the evaluation weights are an average, as in the Schedule-Free methods."""
        return type(self).to_evaluation is not Optimizer.to_evaluation

    def fitting_state(self, p: Tensor, group: Group) -> tuple[State, State]:
        """A new state of the parameter, on the meta device, and its present one."""
        return self._new_state(torch.empty(p.shape, dtype=p.dtype, device="meta"), group), (
            self.state.get(p) or {}
        )

    def _remark_on_misspelt(self, group: Group) -> None:
        """Warn of a new group's keys that nearly are options, as any other key is a label."""
        for key, option in misspelt(type(self), group).items():
            if not any(key in before for before in self.param_groups[:-1]):
                remark(
                    f"{type(self).__name__} does not read {key!r} of "
                    f"param_groups[{len(self.param_groups) - 1}]: write {option!r} if you mean "
                    "that option"
                )

    def _remark_on_lr(self) -> None:
        """Warn if a new group's lr looks like a learning rate where lr should be about 1."""
        *before, newest = (
            is_about_1(group.get("initial_lr", lr_of(group))) or lr_of(group) == 0
            for group in self.param_groups
        )
        if self.finds_step_size and all(before) and not newest:
            name, i = type(self).__name__, len(self.param_groups) - 1
            remark(
                f"{name} finds its own step size, which lr multiplies: leave lr at 1, or let a "
                f"schedule multiply it; param_groups[{i}] has lr={lr_of(self.param_groups[i])}"
            )

    def _require_known_partition(self, group: Group) -> None:
        parts = model_parts() if self.learns else 0
        if parts > 1:
            name = type(self).__name__
            raise ValueError(
                f"torchtitan makes one {name} for each of {parts} model parts, and each would "
                "learn from its own part alone: make one of all their parameters, of the class "
                f"selftune.optim.partitioned({name}, group) where a pipeline divides them among "
                "the ranks of the group"
            )
        divider = None if self.partition else hidden_partition(group["params"])
        if divider:
            name = type(self).__name__
            raise ValueError(
                f"{divider} gives {name} only this rank's part of the parameters, in plain "
                f"tensors; use selftune.optim.partitioned({name}), or fully_shard"
            )

    def _refuse_flat_parts(self) -> None:
        """Raise ValueError for flat shards, which DeepSpeed's ZeRO puts in place of parameters."""
        name = type(self).__name__
        by_tensor = self.wants_whole_tensors
        sums_parts = self.learns and not self.partition and several_ranks()
        if not by_tensor and not sums_parts:
            return
        for group, shapes in zip(self.param_groups, self._shapes, strict=True):
            are_flat = group["params"] and all(p.dim() == 1 for p in group["params"])
            if are_flat and any(len(shape) > 1 for shape in shapes):
                would = (
                    "treat each as one tensor; use fully_shard, or a method that learns from sums, "
                    "such as selftune.optim.partitioned(Prodigy)"
                    if by_tensor
                    else f"learn from them alone; use selftune.optim.partitioned({name}), or "
                    "fully_shard"
                )
                raise ValueError(
                    f"the parameters of {name} were replaced by flat ones, which are only this "
                    f"rank's part if DeepSpeed's ZeRO did it: {name} would {would}"
                )

    def state_dict(self) -> dict[str, Any]:
        self._now.average.is_used = True
        self.settle()
        self._forget_with_the_state()
        saved = super().state_dict()
        # After a write from outside, save the state from which the next step would go on.
        writes = self._written(wait=True)
        for group, as_saved in zip(self.param_groups, saved["param_groups"], strict=True):
            for p, i in zip(group["params"], as_saved["params"], strict=True):
                if p in writes and i in saved["state"]:
                    state = copy.deepcopy(saved["state"][i])
                    self._restart_state(p, state, group, writes[p])
                    saved["state"] = {**saved["state"], i: state}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict; options that it lacks keep their values. `compile` is not loaded.

        State dicts of the same methods in schedulefree, prodigyopt and dadaptation can be loaded
        too, to continue their runs, and those of torch's AdamW into `AdamW`.
        Raises ValueError, and changes nothing, for the state of another method or of parameters
        of another shape, for options out of range, and for what is no optimizer's state dict.
        """
        require_state_dict(state_dict)
        self.settle()
        group = self.param_groups[0]
        fresh = self._new_state(torch.empty(0), group)
        options = options_of(type(self))
        own = in_our_form(
            state_dict, group, fresh, options & group.keys(), options_of_all(Optimizer) - options
        )
        before = self.state, self.param_groups
        try:
            with restoring(self, self._new_state):
                super().load_state_dict(own)
            for group in self.param_groups:
                check_types(type(self), group)
                self.check(group)
            check(self.param_groups, self.learns)
        except Exception:
            self.state, self.param_groups = before
            self._watch = None
            raise

    def __repr__(self) -> str:
        """The class and the state of the run in one line; `param_groups` has all options."""
        steps = [state["step"] for state in self.state.values() if "step" in state]
        parts = [f"step={max(steps)}"] if steps else []
        sizes = list(dict.fromkeys(_shown(self.effective_lr(g)) for g in self.param_groups))
        parts.append(f"step_size={sizes[0] if len(sizes) == 1 else '(' + ', '.join(sizes) + ')'}")
        first = self.param_groups[0]
        parts.append(f"weights={'training' if first['train_mode'] else 'evaluation'}")
        parts.append(f"skipped_steps={first['skipped_steps']}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __dir__(self) -> list[str]:
        return for_users(super().__dir__())

    def __getstate__(self) -> dict[str, Any]:
        if self.attachments and not self.is_held:
            self.eval()  # attached models are copied at the evaluation weights too
        self.settle()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # added by torch's __setstate__
        self._watch = None
        vars(self).pop("_guard", None)
        self._by_hand = ByHand(self.learns, self.recomputes)
        if "_shapes" not in vars(self):
            self._shapes = [[p.shape for p in group["params"]] for group in self.param_groups]
        attachments = vars(self).get("attachments", [])
        self.begin_following()
        self._now.at_evaluation = False  # `train_mode` of the groups was restored instead
        self.attachments = attachments
        self._has_state = any(self.state.values())


@functools.cache
def _floats(cls: type) -> tuple[str, ...]:
    """The options of a class whose defaults are floats."""
    parameters = inspect.signature(cls).parameters.values()
    return tuple(p.name for p in parameters if isinstance(p.default, float))


def _shown(step_size: float | Tensor) -> str:
    if isinstance(step_size, Tensor) and step_size.is_meta:
        return "?"
    return f"{float(step_size):.4g}"


def lr_of(group: Group) -> float:
    """The group's learning rate as a float; a tensor's has to be on the CPU."""
    return float(group["lr"])

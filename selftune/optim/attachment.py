"""attach(model, optimizer): the right weights at any time, without calls of train() and eval()."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from selftune.optim.engine.collectives import plain
from selftune.optim.engine.remarks import remark


def attach(model: nn.Module | Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> Attachment:
    """Move the weights with the model's train and eval modes, and save the evaluation weights.

        attach(model, optimizer)
        for inputs, targets in batches:
            loss = criterion(model(inputs), targets)  # at the training weights
            ...
        model.eval()
        with torch.no_grad():
            model(inputs)  # at the evaluation weights
        torch.save((model.state_dict(), optimizer.state_dict()), file)  # both at these, too

    - `model.train()` and `model.eval()` move the weights. So does a forward pass of the model or
      of any submodule: to the training weights if the model is in training mode or gradients are
      enabled and required, as they are always taken there, else to the evaluation weights. With
      several models, all have to be in eval mode. Inside `optimizer.evaluation_weights()` nothing
      moves the weights.
    - `state_dict()` of the model, of a submodule, or of the optimizer moves to the evaluation
      weights, and so does copying or pickling the model. As always in PyTorch, a state dict holds
      the parameters themselves: copy it to keep it. A copy of the model is attached to nothing,
      unless the optimizer is copied together with it, after it.
    - `optimizer.step()` moves back to the training weights first.
    - Values that are written into the model from outside are evaluated as they are: loaded weights,
      or an average that is swapped in and out again. For constraints see `Optimizer.project`.

    model: the module that you call, after it was wrapped by DistributedDataParallel, `fully_shard`
        or torch.compile. If it is compiled later, only `train()` and `eval()` move the weights, and
        not its forward passes. Give several models if they share the optimizer; attach several
        optimizers one by one. `torch.jit.script` takes a copy, which is not attached.
    optimizer: one with `train()` and `eval()`, or a framework's wrapper around one.

    Attaching the same pair again returns the first attachment. Raises ValueError for an optimizer
    that holds none of the model's parameters, and if some of them belong to another attached
    optimizer.
    """
    models = (model,) if isinstance(model, nn.Module) else model
    if isinstance(models, torch.optim.Optimizer) or isinstance(optimizer, nn.Module):
        raise ValueError("attach(model, optimizer) takes the model first, got the optimizer first")
    models = tuple(models)
    for each in models:
        if not isinstance(each, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"attach(model, optimizer) takes the model itself, got a {type(each).__name__}"
            )
    if isinstance(optimizer, type):
        name = optimizer.__name__
        raise ValueError(f"attach() takes an optimizer, got a class: {name}(model.parameters())")
    optimizer = _innermost(optimizer)
    if not (hasattr(optimizer, "train") and hasattr(optimizer, "eval")):
        name = type(optimizer).__name__
        raise ValueError(
            f"attach() needs an optimizer with train() and eval(), got {name}; "
            "an optimizer without evaluation weights needs no attach()"
        )
    own = set(map(id, _params(optimizer)))
    shared = {id(p) for m in models for p in m.parameters()} & own
    if not shared:
        raise ValueError(
            f"this {type(optimizer).__name__} holds none of the model's parameters: attach the "
            "model that it was made for, and not copies or parts of its parameters (DeepSpeed)"
        )
    for attachment in {id(a): a for m in models for a in _attachments_of.get(m, ())}.values():
        other = attachment.optimizer
        if other is optimizer:
            return attachment
        if not shared.isdisjoint(map(id, _params(other))):
            raise ValueError(
                f"the model follows another {type(other).__name__} with the same parameters; "
                "build the model anew, or call remove() on what its attach() returned"
            )
    return Attachment(models, optimizer)


class Attachment:
    """The hooks of `attach`; `remove()` takes them away and leaves the weights as they are.

    Models and optimizer refer to it, and it refers to the optimizer, which so lives as long as the
    model: a model that is kept after training is still evaluated at the right weights.
    """

    def __init__(self, models: tuple[nn.Module, ...], optimizer: Any) -> None:
        self._models = tuple(map(ref, models))
        self.optimizer = optimizer
        self._running = 0  # depth of nested forward passes, of which only the outermost moves
        # Whether the model ran in eval mode with gradients enabled since the last step.
        self._has_run_with_gradients = False
        self._has_remarked = False
        self._hooks: list[Any] = [
            optimizer.register_step_pre_hook(_Hook(self._before_step)),
            optimizer.register_state_dict_pre_hook(_Hook(self._to_evaluation)),
        ]
        self._watched: list[ref[nn.Module]] = []
        own = set(map(id, _params(optimizer)))
        for model in models:
            for part in _with_wrapped(model):
                self._watch(part, _Train)
            for part in model.modules():
                self._watch(part, _Reduce)
                self._watch(part, _Script)
                direct = part.named_parameters(recurse=False)
                names = {name for name, p in direct if id(p) in own}
                self._hooks += [
                    part.register_state_dict_pre_hook(_Hook(self._to_evaluation)),  # pyright: ignore
                    part.register_load_state_dict_pre_hook(_BeforeLoading(self, names)),  # pyright: ignore
                    part.register_load_state_dict_post_hook(_AfterLoading(self, names)),  # pyright: ignore
                ]
            # torch.compile would trace hooks on the modules inside the one that it has wrapped.
            called = (model,) if hasattr(model, "_orig_mod") else model.modules()
            for part in called:
                # Before all other hooks, as that of fully_shard gathers the parameters.
                enter, leave = _Hook(self._enter), _Hook(self._leave)
                self._hooks.append(part.register_forward_pre_hook(enter, prepend=True))
                self._hooks.append(part.register_forward_hook(leave, always_call=True))
        if (attachments := getattr(optimizer, "attachments", None)) is not None:
            attachments.append(self)

    def remove(self) -> None:
        """Remove all hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for part in filter(None, (watched() for watched in self._watched)):
            others = [each for each in _attachments_of.get(part, ()) if each is not self]
            _attachments_of[part] = others
            if not others:
                for kind in (_Train, _Reduce, _Script):
                    if isinstance(part.__dict__.get(kind.name), kind):
                        part.__dict__[kind.name].take_away(part)
        self._watched.clear()
        attachments = getattr(self.optimizer, "attachments", None)
        if attachments and self in attachments:
            attachments.remove(self)

    def copied(self, copies: Mapping[int, Any], optimizer: Any) -> None:
        """Attach a copy of the optimizer to the copies of the models, if it was copied with them.

        copies: the memo of `copy.deepcopy`.
        """
        models = [copies.get(id(model())) for model in self._models]
        if models and all(isinstance(model, nn.Module) for model in models):
            attach([model for model in models if model is not None], optimizer)

    def follow_mode(self) -> None:
        """Move the weights after a change of the models' modes."""
        training = any(model.training for model in self.models())
        if training and self._has_run_with_gradients:
            self._has_run_with_gradients = False
            self._remark_on_gradients()
        self._move(training)

    def to_evaluation(self) -> None:
        """Move to the evaluation weights, before they are saved or copied."""
        self._move(to_training=False)

    def not_held(self) -> list[str]:
        """The models' parameters with gradients that no optimizer attached to them holds."""
        names: list[str] = []
        for model in self.models():
            held = {id(p) for each in _attachments_of[model] for p in _params(each.optimizer)}
            names += [
                name
                for name, p in model.named_parameters()
                if (p.requires_grad or p.grad is not None) and id(p) not in held
            ]
        return names

    def models(self) -> list[nn.Module]:
        """The attached models that are still in use."""
        return [model for each in self._models if (model := each()) is not None]

    def _watch(self, part: nn.Module, kind: type[_Train | _Reduce | _Script]) -> None:
        attachments = _attachments_of.setdefault(part, [])
        if self not in attachments:
            attachments.append(self)
            self._watched.append(ref(part))
        if not isinstance(part.__dict__.get(kind.name), kind):
            part.__dict__[kind.name] = kind(part)

    def _enter(self, _: Any, inputs: tuple[Any, ...]) -> None:
        self._running += 1  # first: `_leave` is called even if this fails
        if self._running > 1:
            return
        if any(model.training for model in self.models()):
            self._move(to_training=True)
            return
        required = any(p.requires_grad for p in _params(self.optimizer))
        with_gradients = required and torch.is_grad_enabled()
        self._move(with_gradients or (required and _is_differentiated()))
        if with_gradients and self._is_at_training_weights():
            # An input that requires a gradient is one of an attack, or of a checkpointed part.
            wanted = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
            is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
            self._has_run_with_gradients |= not (wanted or is_traced)

    def _leave(self, *_: Any) -> None:
        self._running -= 1

    def _is_at_training_weights(self) -> bool:
        """Whether the weights are those of training, and a step has made others of evaluation."""
        return (
            bool(self.optimizer.state)
            and getattr(self.optimizer, "averages", True)
            and self.optimizer.param_groups[0].get("train_mode", False)
        )

    def _remark_on_gradients(self) -> None:
        if not self._has_remarked:
            self._has_remarked = True
            remark(
                "the model was evaluated in eval mode with gradients enabled, and so at the "
                f"training weights of {type(self.optimizer).__name__}, where gradients are taken: "
                "wrap validation in torch.no_grad()"
            )

    def _before_step(self, *_: Any) -> None:
        self._has_run_with_gradients = False
        self._move(to_training=True)

    def _to_evaluation(self, *_: Any) -> None:
        self.to_evaluation()

    def _move(self, to_training: bool) -> None:
        optimizer = self.optimizer
        if getattr(optimizer, "is_held", False):
            return
        if optimizer.param_groups[0].get("train_mode") == to_training and not getattr(
            optimizer, "has_unmoved", False
        ):
            return
        # After a forward pass without a backward pass fully_shard keeps full parameters and would
        # use them again, but the optimizer writes to the shards.
        for part in (part for model in self.models() for part in model.modules()):
            if hasattr(type(part), "reshard"):
                part.reshard()  # pyright: ignore[reportCallIssue]
        with _untraced(), torch.inference_mode(False):
            optimizer.train() if to_training else optimizer.eval()


# The attachments of each module.
_attachments_of: WeakKeyDictionary[nn.Module, list[Attachment]] = WeakKeyDictionary()


class _Hook:
    """A module hook that is not copied with its module, and that torch.compile does not trace."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        if not torch.compiler.is_compiling():
            self.function(*args)

    def __deepcopy__(self, memo: Any) -> Any:
        return _nothing

    def __reduce__(self) -> Any:
        return _nothing_to_do, ()


@contextmanager
def _untraced() -> Generator[None]:
    """Pause the recording of `torch.jit.trace` inside the block."""
    trace = torch._C._get_tracing_state()  # pyright: ignore
    torch._C._set_tracing_state(None)  # pyright: ignore
    try:
        yield
    finally:
        torch._C._set_tracing_state(trace)  # pyright: ignore


class _BeforeLoading(_Hook):
    """Warns if a loaded state dict holds the parameters themselves, so that nothing changes."""

    def __init__(self, attachment: Attachment, names: set[str]) -> None:
        super().__init__(self.look)
        self.attachment, self.names = attachment, names

    def look(self, part: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        optimizer = self.attachment.optimizer
        present = dict(part.named_parameters(recurse=False))
        for name in self.names & present.keys():
            p, given = present[name], state_dict.get(prefix + name)
            # Not if it was written into, as by torch.distributed.checkpoint: that loads the model.
            if _is_same_memory(p, given) and getattr(optimizer, "is_as_left", _never)(p):
                optimizer.warn_of_kept()
                return


class _AfterLoading(_Hook):
    """Raises ValueError if loading replaced parameters that the optimizer holds."""

    def __init__(self, attachment: Attachment, names: set[str]) -> None:
        super().__init__(self.look)
        self.attachment, self.names = attachment, names

    def look(self, part: nn.Module, *_: Any) -> None:
        optimizer = self.attachment.optimizer
        own = set(map(id, _params(optimizer)))
        present = dict(part.named_parameters(recurse=False))
        lost = [name for name in self.names if id(present.get(name)) not in own]
        if lost:
            raise ValueError(
                f"load_state_dict(assign=True) has made new parameters ({', '.join(lost)}), which "
                f"{type(optimizer).__name__} does not hold: load without assign, or load before "
                "the optimizer is made"
            )


class _Train:
    """A replacement of `train` on an attached module, which `eval` calls too."""

    name = "train"

    def __init__(self, module: nn.Module) -> None:
        self.module = ref(module)
        self.original = module.__dict__.get(self.name)

    def __call__(self, mode: bool = True) -> Any:
        module = self.module()
        assert module is not None
        train = self.original or type(module).train.__get__(module)
        result = train(mode)
        if not torch.compiler.is_compiling():
            for attachment in tuple(_attachments_of.get(module, ())):
                attachment.follow_mode()
        return result

    def take_away(self, module: nn.Module) -> None:
        del module.__dict__[self.name]
        if self.original is not None:
            module.__dict__[self.name] = self.original


class _Reduce:
    """A replacement of `__reduce_ex__`, so that an attached module is copied and pickled plain."""

    name = "__reduce_ex__"

    def __init__(self, module: nn.Module) -> None:
        self.module = ref(module)

    def __call__(self, protocol: Any) -> Any:
        module = self.module()
        assert module is not None
        for attachment in _attachments_of.get(module, ()):
            attachment.to_evaluation()
        made = cast("tuple[Any, ...]", type(module).__reduce_ex__(module, protocol))
        if len(made) < 3 or not hasattr(made[2], "items"):
            return made
        return (*made[:2], _plain(made[2]), *made[3:])

    def take_away(self, module: nn.Module) -> None:
        del module.__dict__[self.name]


class _Script:
    """A replacement of `__prepare_scriptable__`, so that `torch.jit.script` takes a plain copy."""

    name = "__prepare_scriptable__"

    def __init__(self, module: nn.Module) -> None:
        self.module = ref(module)

    def __call__(self) -> Any:
        module = self.module()
        caller = cast("FrameType", cast("FrameType", inspect.currentframe()).f_back)
        if caller.f_back and caller.f_back.f_code is caller.f_code:
            # torch would put the copy into the surrounding module itself, in place of this one.
            raise ValueError(
                f"torch.jit.script was given a module around an attached {type(module).__name__}: "
                "give it a copy.deepcopy of that module"
            )
        copied = copy.deepcopy(module)
        return getattr(copied, self.name, lambda: copied)()

    def take_away(self, module: nn.Module) -> None:
        del module.__dict__[self.name]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A module's `__dict__` without what `attach` has added."""
    plain: dict[str, Any] = {}
    value: Any
    for name, value in state.items():
        if isinstance(value, _Reduce | _Script):
            continue
        if isinstance(value, _Train) and value.original is None:
            continue
        if isinstance(value, _Train):
            value = value.original
        elif name.endswith("hooks") and hasattr(value, "items"):
            value = type(value)((k, hook) for k, hook in value.items() if not _is_ours(hook))
        plain[name] = value
    for name, owner in OPTIONS_OF_HOOKS.items():
        if name in plain and owner in plain:
            plain[name] = type(plain[name])(
                (k, value) for k, value in plain[name].items() if k in plain[owner]
            )
    return plain


# Attributes with options of nn.Module's hooks, and the attribute with the hooks themselves.
OPTIONS_OF_HOOKS = {
    "_forward_hooks_with_kwargs": "_forward_hooks",
    "_forward_hooks_always_called": "_forward_hooks",
    "_forward_pre_hooks_with_kwargs": "_forward_pre_hooks",
}


def _is_ours(hook: Any) -> bool:
    return isinstance(getattr(hook, "hook", hook), _Hook)  # torch wraps some hooks in an object


def _is_same_memory(p: Tensor, given: Any) -> bool:
    return isinstance(given, Tensor) and plain(given).data_ptr() == plain(p).data_ptr() != 0


def _never(_: Tensor) -> bool:
    return False


def _nothing(*_: Any) -> None:
    """The hook of a copied module, which does nothing."""


def _nothing_to_do() -> Callable[..., None]:
    return _nothing


def _innermost(optimizer: Any) -> Any:
    """The optimizer inside what accelerate, Lightning, fastai or DeepSpeed wrap around it."""
    while True:
        for name in ("optimizer", "opt"):
            inner = getattr(optimizer, name, None)
            if isinstance(inner, torch.optim.Optimizer) and inner is not optimizer:
                optimizer = inner
                break
        else:
            return optimizer


def _params(optimizer: Any) -> Iterator[Tensor]:
    return (p for group in optimizer.param_groups for p in group["params"])


def _with_wrapped(model: nn.Module) -> Iterator[nn.Module]:
    """The model and the modules that it wraps, as users may change the mode of either."""
    inner: Any = model
    while isinstance(inner, nn.Module):
        yield inner
        parts = dict(inner.named_children())
        inner = parts.get("module", parts.get("_orig_mod"))


def _is_differentiated() -> bool:
    """Whether this forward pass, now without gradients, will run again with gradients.

    Reentrant activation checkpointing runs the model inside the forward pass of an autograd
    function, which is looked for on the call stack.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "forward" and frame.f_code.co_argcount:
            first = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(first, FunctionCtx):
                return bool(getattr(first, "next_functions", ()))
        frame = frame.f_back
    return False

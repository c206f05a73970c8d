"""An attached optimizer is at the training weights and the evaluation weights at the right time."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from contract import CLASSES, WRAPPED, every_optimizer, take_step
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import checkpoint

from benchmarks.ranks import on_ranks
from selftune.optim import Optimizer, ScheduleFreeAdamW, ScheduleFreeSGD, attach

STEPS = 6
every_averaging = pytest.mark.parametrize(
    "cls",
    [cls for cls in CLASSES if cls.to_evaluation is not Optimizer.to_evaluation] + WRAPPED,
    ids=lambda cls: cls.__name__,
)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1)]
    return nn.Sequential(*layers).double()


def batch(step: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def backward(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(0)  # of the dropout
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    return loss


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterator[int] | range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss = backward(model, batch(step))
        take_step(optimizer, loss)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def pair(cls: type = ScheduleFreeAdamW, **options: Any) -> tuple[nn.Sequential, Any]:
    model = network()
    return model, cls(model.parameters(), **options)


def trained(cls: type = ScheduleFreeAdamW) -> tuple[nn.Sequential, Any, Tensor, Tensor]:
    """A model, its attached optimizer, and what the two kinds of weights are after some steps."""
    pairs = pair(cls), pair(cls)
    for model, optimizer in pairs:
        attach(model, optimizer)
        train(model, optimizer, range(STEPS))
    (model, optimizer), (twin, other) = pairs
    other.eval()
    return model, optimizer, weights(model), weights(twin)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    model.eval()
    with torch.no_grad():
        yield
    model.train()


# -- forward passes -----------------------------------------------------------------------------


@every_optimizer
def test_an_attached_run_is_the_run_with_train_and_eval_called_by_hand(cls):
    model, optimizer = pair(cls)
    by_hand, other = pair(cls)
    attach(model, optimizer)
    for step in range(STEPS):
        train(model, optimizer, range(step, step + 1))
        train(by_hand, other, range(step, step + 1))
        with evaluating(model):
            output = model(batch(0))
        other.eval()
        with evaluating(by_hand):
            assert torch.equal(output, by_hand(batch(0)))
        other.train()


def test_the_model_is_evaluated_at_the_evaluation_weights():
    model, _, _, at_evaluation = trained()
    with evaluating(model):
        model(batch(0))
        assert torch.equal(weights(model), at_evaluation)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_are_taken_at_the_training_weights_in_any_mode(mode):
    model, _, at_training, _ = trained()
    with evaluating(model):
        model(batch(0))
    getattr(model, mode)()
    model(batch(0))
    torch.testing.assert_close(weights(model), at_training, rtol=1e-12, atol=1e-14)


def test_a_training_model_is_at_the_training_weights_without_gradients_too():
    model, _, at_training, _ = trained()
    with torch.no_grad():
        model(batch(0))
    assert torch.equal(weights(model), at_training)


def test_a_model_is_evaluated_in_inference_mode_and_trains_on():
    model, optimizer, _, at_evaluation = trained()
    model.eval()
    with torch.inference_mode():
        model(batch(0))
    assert torch.equal(weights(model), at_evaluation)
    train(model.train(), optimizer, range(2))


class Composed(nn.Module):
    """Runs a part of itself without gradients, as one does with a frozen encoder."""

    def __init__(self, grad_enabled: bool) -> None:
        super().__init__()
        self.grad_enabled = grad_enabled
        self.encoder, self.head = nn.Linear(3, 4).double(), nn.Linear(4, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        before = weights(self)
        with torch.set_grad_enabled(self.grad_enabled):
            x = self.encoder(x)
        assert torch.equal(weights(self), before)
        return self.head(x)


@pytest.mark.parametrize("training", [True, False])
def test_what_a_forward_pass_calls_does_not_move_the_weights(training):
    # Inside, gradients are on where they are off around it, and the other way round.
    model = Composed(grad_enabled=not training)
    optimizer = ScheduleFreeAdamW(model.parameters())
    attach(model, optimizer)
    train(model, optimizer, range(STEPS))
    for mode in (not training, training):
        model.train(mode)
        with torch.set_grad_enabled(mode):
            model(batch(0))


def test_a_part_that_is_called_by_itself_follows_the_models_mode():
    # As LightningModule.training_step and validation_step do.
    model, _, at_training, at_evaluation = trained()
    model.eval()
    with torch.no_grad():
        model[0](batch(0))
    assert torch.equal(weights(model), at_evaluation)
    model.train()
    model[3].eval()
    with torch.no_grad():
        model[3](torch.zeros(1, 4, dtype=torch.float64))
    torch.testing.assert_close(weights(model), at_training, rtol=1e-12, atol=1e-14)


def test_a_forward_pass_that_fails_does_not_end_the_following():
    model, _, _, at_evaluation = trained()
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 99, dtype=torch.float64))
    with evaluating(model):
        model(batch(0))
        torch.testing.assert_close(weights(model), at_evaluation, rtol=1e-12, atol=1e-14)


# -- steps --------------------------------------------------------------------------------------


def test_an_evaluation_between_the_batches_of_a_step_changes_nothing():
    model, optimizer = pair(ScheduleFreeSGD)
    by_hand, other = pair(ScheduleFreeSGD)
    attach(model, optimizer)
    for step in range(STEPS):
        for net, each in ((model, optimizer), (by_hand, other)):
            each.zero_grad()
            for part in range(3):
                backward(net, batch(10 * step + part))
                if net is model:
                    with evaluating(model):
                        model(batch(0))
            each.step()
    optimizer.train()
    torch.testing.assert_close(weights(model), weights(by_hand), rtol=1e-11, atol=1e-13)


def test_a_step_right_after_an_evaluation_is_taken_at_the_training_weights():
    model, optimizer, _, _ = trained()
    twin, other = copy.deepcopy((model, optimizer))
    for net, each in ((model, optimizer), (twin, other)):
        each.zero_grad()
        backward(net, batch(0))
    with evaluating(model):
        model(batch(0))
    optimizer.step()
    other.step()
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-11, atol=1e-13)


def test_a_closure_finds_the_training_weights():
    model, optimizer, at_training, _ = trained()
    with evaluating(model):
        model(batch(0))

    def closure() -> None:
        torch.testing.assert_close(weights(model), at_training, rtol=1e-12, atol=1e-14)
        backward(model, batch(0))

    optimizer.step(closure)


# -- what is saved ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["model", "optimizer"])
def test_both_state_dicts_hold_the_evaluation_weights(first):
    model, optimizer, _, at_evaluation = trained()
    if first == "optimizer":
        optimizer.state_dict()
    saved = model.state_dict()
    assert torch.equal(torch.cat([value.flatten() for value in saved.values()]), at_evaluation)
    assert optimizer.state_dict()["param_groups"][0]["train_mode"] is False


def test_the_state_dict_of_a_part_holds_the_evaluation_weights():
    model, _, _, at_evaluation = trained()
    assert torch.equal(model[0].state_dict()["weight"].flatten(), at_evaluation[:12])


def test_a_run_resumes_from_what_was_saved_bit_for_bit():
    model, optimizer, _, _ = trained()
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    of_model, of_optimizer = torch.load(file, weights_only=True)
    resumed, other = network(seed=1), None
    other = ScheduleFreeAdamW(resumed.parameters())
    attach(resumed, other)
    resumed.load_state_dict(of_model)
    other.load_state_dict(of_optimizer)
    for net, each in ((model, optimizer), (resumed, other)):
        train(net, each, range(STEPS, 2 * STEPS))
    assert torch.equal(weights(model), weights(resumed))


def test_saving_in_mid_run_does_not_change_the_run():
    model, optimizer, _, _ = trained()
    twin, other = copy.deepcopy((model, optimizer))
    for step in range(STEPS, 2 * STEPS):
        model.state_dict()
        train(model, optimizer, range(step, step + 1))
        train(twin, other, range(step, step + 1))
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-11, atol=1e-13)


# -- several models and optimizers --------------------------------------------------------------


def test_two_models_under_one_optimizer_are_evaluated_when_both_are_in_eval_mode():
    models = network(), network(seed=1)
    optimizer = ScheduleFreeAdamW([p for model in models for p in model.parameters()])
    attach(models, optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        for model in models:
            backward(model, batch(step))
        optimizer.step()
    at_training = [weights(model) for model in models]
    with evaluating(models[0]):
        models[0](batch(0))  # a loss of the other one may be on its way
        assert all(map(torch.equal, map(weights, models), at_training))
        models[1].eval()
        models[0](batch(0))
        assert not any(map(torch.equal, map(weights, models), at_training))


def test_two_optimizers_of_one_model_move_together():
    model = network()
    optimizers = [ScheduleFreeAdamW(model[0].parameters()), ScheduleFreeSGD(model[3].parameters())]
    for optimizer in optimizers:
        attach(model, optimizer)
    for step in range(STEPS):
        model.zero_grad()
        backward(model, batch(step))
        for optimizer in optimizers:
            optimizer.step()
    with evaluating(model):
        model(batch(0))
        assert [optimizer.param_groups[0]["train_mode"] for optimizer in optimizers] == [False] * 2


# -- wrappers -----------------------------------------------------------------------------------


# The compiler looks at the gradient of what is none's parameter, and hides the warning otherwise.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("order", ["compile, attach", "attach, compile"])
def test_a_compiled_model_is_followed(order):
    model, optimizer = pair()
    by_hand, other = pair()
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    if order == "compile, attach":
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        attach(compiled, optimizer)
    else:
        attach(model, optimizer)
        compiled = torch.compile(model, backend=backend)
    for step in range(3):
        train(compiled, optimizer, range(step, step + 1))
        train(by_hand, other, range(step, step + 1))
        with evaluating(compiled):
            output = compiled(batch(0))
        other.eval()
        with evaluating(by_hand):
            torch.testing.assert_close(output, by_hand(batch(0)), rtol=1e-12, atol=1e-14)
        other.train()
    if order == "compile, attach":
        assert len(graphs) == 2  # training and evaluation
    torch._dynamo.reset()


def divided_outputs(kind: str) -> list[Tensor]:
    """A divided model's outputs at the evaluation weights, and at last its whole weights."""
    model = network()
    torch.manual_seed(0)
    model[2] = nn.Identity()
    called: nn.Module = model
    if kind == "DDP":
        called = nn.parallel.DistributedDataParallel(model)
    else:
        fully_shard(model[0])
        fully_shard(model)
    optimizer = ScheduleFreeAdamW(called.parameters())
    attach(called, optimizer)
    outputs = []
    for step in range(3):
        train(called, optimizer, range(step, step + 1))
        with evaluating(called):
            # The second one would find what fully_shard gathered for the first.
            outputs += [called(batch(0)), called(batch(1))]
    saved = model.state_dict().values()
    return [*outputs, *(v.full_tensor() if hasattr(v, "full_tensor") else v for v in saved)]


def all_divided_outputs() -> dict[str, list[Tensor]]:
    return {kind: divided_outputs(kind) for kind in ("DDP", "FSDP2")}


@pytest.fixture(scope="module")
def divided() -> list[dict[str, list[Tensor]]]:
    return on_ranks(2, all_divided_outputs)


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_a_divided_model_is_followed(divided, kind):
    model, optimizer = pair()
    model[2] = nn.Identity()
    expected = []
    for step in range(3):
        train(model, optimizer, range(step, step + 1))
        with optimizer.evaluation_weights(), evaluating(model):
            expected += [model(batch(0)), model(batch(1))]
    optimizer.eval()
    expected += list(model.state_dict().values())
    for actual in divided:
        torch.testing.assert_close(actual[kind], expected, rtol=1e-9, atol=1e-11)


# -- the door -----------------------------------------------------------------------------------


def test_a_peers_optimizer_is_followed():
    schedulefree = pytest.importorskip("schedulefree")
    model = network()
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01)
    attach(model, optimizer)
    train(model, optimizer, range(STEPS))  # raises without a call of train()
    at_training = weights(model)
    model.state_dict()
    assert not torch.equal(weights(model), at_training)


def test_an_optimizer_without_train_and_eval_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"train\(\) and eval\(\), got AdamW"):
        attach(model, torch.optim.AdamW(model.parameters()))


def test_after_remove_nothing_is_followed():
    model, optimizer = pair()
    attachment = attach(model, optimizer)
    train(model, optimizer, range(STEPS))
    attachment.remove()
    before = weights(model)
    model.state_dict()
    optimizer.state_dict()
    with evaluating(model):
        model(batch(0))
    assert torch.equal(weights(model), before)


def test_a_copied_model_follows_an_optimizer_that_is_copied_with_it():
    model, optimizer, _, at_evaluation = trained()
    copied, _ = copy.deepcopy((model, optimizer))
    before = weights(model)
    with evaluating(copied):
        copied(batch(0))
        assert torch.equal(weights(copied), at_evaluation)
    assert not torch.equal(weights(copied), at_evaluation)
    assert torch.equal(weights(model), before)


# -- copies -------------------------------------------------------------------------------------


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def averaged(model: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model).module


every_copy = pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved, averaged])


@every_optimizer
@every_copy
def test_a_copy_is_a_plain_model_at_the_evaluation_weights(cls, copied):
    model, optimizer, _, at_evaluation = trained(cls)
    twin = copied(model)
    assert torch.equal(weights(twin), at_evaluation)
    train(model.train(), optimizer, range(STEPS, STEPS + 3))
    twin.load_state_dict(model.state_dict())
    model.train()(batch(0))
    held, given = weights(model), weights(twin)
    for mode in (True, False):
        twin.train(mode)
        for grad_enabled in (True, False):
            with torch.set_grad_enabled(grad_enabled):
                twin(batch(0))
    twin.state_dict()
    assert torch.equal(weights(twin), given)
    assert torch.equal(weights(model), held)


def test_a_copied_part_is_plain_too():
    model, _, _, at_evaluation = trained()
    twin = copy.deepcopy(model[0])
    assert torch.equal(weights(twin), at_evaluation[: weights(twin).numel()])
    with torch.no_grad():
        twin.eval()(batch(0))
    assert torch.equal(weights(twin), at_evaluation[: weights(twin).numel()])


def test_a_pickled_model_is_as_small_as_one_that_is_not_attached():
    model, *_ = trained()
    assert len(pickle.dumps(model)) == len(pickle.dumps(network()))


def test_a_copy_trains_with_another_optimizer_and_may_be_attached_to_it():
    model, optimizer, _, _ = trained()
    fork = copy.deepcopy(model)
    plain = copy.deepcopy(model)
    model.train()(batch(0))
    held = weights(model)
    other = ScheduleFreeSGD(fork.parameters(), lr=0.1)
    attach(fork, other)
    train(fork.train(), other, range(3))
    train(plain.train(), torch.optim.SGD(plain.parameters(), lr=0.1), range(3))
    with evaluating(fork):
        fork(batch(0))
    assert torch.equal(weights(model), held)
    assert optimizer.param_groups[0]["train_mode"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: model])
def test_an_attached_model_and_its_copy_can_be_scripted(copied):
    model, optimizer, _, at_evaluation = trained()
    scripted = torch.jit.script(copied(model).eval())
    assert torch.equal(weights(scripted), at_evaluation)
    with evaluating(model):
        assert torch.equal(scripted(batch(0)), model(batch(0)))
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in scripted.modules())
    train(model.train(), optimizer, range(3))
    scripted(batch(0))
    assert optimizer.param_groups[0]["train_mode"]
    assert torch.equal(weights(scripted), at_evaluation)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripting_a_module_around_an_attached_one_is_refused_and_leaves_it_in_place():
    model, *_ = trained()
    around = nn.Sequential(model)
    with pytest.raises(ValueError, match=r"around an attached Sequential.*copy\.deepcopy"):
        torch.jit.script(around)
    assert around[0] is model
    torch.jit.script(copy.deepcopy(around))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_a_traced_model_is_at_the_evaluation_weights(grad_enabled):
    model, optimizer, _, _ = trained()
    with evaluating(model):
        at_evaluation = weights(model)
    model.eval()
    model(batch(0).requires_grad_())  # at the training weights
    assert optimizer.param_groups[0]["train_mode"]
    with torch.set_grad_enabled(grad_enabled):
        traced = torch.jit.trace(model, batch(0))
    torch.testing.assert_close(weights(traced), at_evaluation)
    with evaluating(model):
        torch.testing.assert_close(traced(batch(0)), model(batch(0)))


# -- what is held, and modes ----------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad_enabled", [True, False])
def test_inside_the_context_the_weights_stay_those_of_evaluation(cls, training, grad_enabled):
    model, optimizer, _, at_evaluation = trained(cls)
    model.train(training)
    with optimizer.evaluation_weights(), torch.set_grad_enabled(grad_enabled):
        model(batch(0))
        model[0](batch(0))
        model.train(training)
        model.state_dict()
        with optimizer.evaluation_weights():
            model(batch(0))
        model(batch(0))
        assert torch.equal(weights(model), at_evaluation)
        with torch.enable_grad(), pytest.raises(RuntimeError, match="at the evaluation weights"):
            train(model, optimizer, range(1))


def test_the_modes_alone_move_the_weights():
    # What is exported, merged or called functionally runs no forward pass of the model.
    model, _, at_training, at_evaluation = trained()
    model.eval()
    assert torch.equal(weights(model), at_evaluation)
    model.train()
    torch.testing.assert_close(weights(model), at_training, rtol=1e-12, atol=1e-14)


def test_a_frozen_model_is_evaluated_at_the_evaluation_weights_with_gradients_enabled_too():
    model, _, _, at_evaluation = trained()
    model.train().requires_grad_(False)
    model.eval()
    model(batch(0))
    assert torch.equal(weights(model), at_evaluation)


def test_an_evaluation_with_gradients_enabled_is_warned_of_once():
    model, *_ = trained()
    model.eval()
    model(batch(0))
    with pytest.warns(UserWarning, match=r"in eval mode with gradients.*torch\.no_grad") as told:
        model.train()
    assert [each.filename for each in told] == [__file__]
    model.eval()
    model(batch(0))
    model.train()


def reentrant(model: nn.Module) -> None:
    checkpoint(model, batch(0).requires_grad_(), use_reentrant=True).sum().backward()


def compiled(model: nn.Module) -> None:
    torch.compile(model, backend="eager")(batch(0))
    torch._dynamo.reset()


# Each is called in eval mode.
NO_EVALUATIONS = {
    "without gradients": torch.no_grad()(lambda model, _: model(batch(0))),
    "a training step": lambda model, optimizer: train(model, optimizer, range(1)),
    "an attack": lambda model, _: model(batch(0).requires_grad_()),
    "checkpointing": lambda model, _: reentrant(model),
    "tracing": lambda model, _: torch.jit.trace(model, batch(0)),
    "compiling": lambda model, _: compiled(model),
}


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("use", NO_EVALUATIONS.values(), ids=NO_EVALUATIONS.keys())
def test_what_is_no_evaluation_with_gradients_is_not_warned_of(use):
    model, optimizer, *_ = trained()
    model.eval()
    use(model, optimizer)
    model.train()  # warnings are errors


def test_a_part_of_a_part_that_is_called_by_itself_is_differentiated_at_the_training_weights():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))).double()
    optimizer = ScheduleFreeAdamW(model.parameters())
    attach(model, optimizer)
    train(model, optimizer, range(STEPS))
    at_training = weights(model)
    model.eval()
    model[0][0](batch(0))
    torch.testing.assert_close(weights(model), at_training, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("part", [False, True])
def test_reentrant_checkpointing_runs_forward_where_it_is_differentiated(part):
    ends = []
    for checkpointed in (True, False):
        model, optimizer = pair(lr=0.01)
        attach(model, optimizer)
        model.eval()
        for step in range(STEPS):
            optimizer.zero_grad()
            x = batch(step).requires_grad_()
            called = model[:2] if part else model
            out = checkpoint(called, x, use_reentrant=True) if checkpointed else called(x)
            (model[2:](out) if part else out).square().mean().backward()
            optimizer.step()
        ends.append(weights(model))
    torch.testing.assert_close(*ends, rtol=1e-11, atol=1e-13)


def test_a_checkpointed_model_is_evaluated_at_the_evaluation_weights():
    model, _, _, at_evaluation = trained()
    model.eval()
    with torch.no_grad():
        checkpoint(model, batch(0).requires_grad_(), use_reentrant=True)
    assert torch.equal(weights(model), at_evaluation)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_model_that_is_compiled_when_it_is_attached_already_is_one_graph_per_mode():
    model, optimizer = pair()
    attach(model, optimizer)
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    train(compiled, optimizer, range(3))
    with evaluating(compiled):
        compiled(batch(0))
    assert len(graphs) == 2
    torch._dynamo.reset()


def test_parameters_that_a_load_replaces_are_refused():
    model, *_ = trained()
    kept = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"assign=True.*ScheduleFreeAdamW does not hold"):
        model.load_state_dict(kept, assign=True)


# -- the door, once more --------------------------------------------------------------------------


class Accelerated(torch.optim.Optimizer):
    """A wrapper such as accelerate's, which is an optimizer without being made as one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_the_optimizer_inside_a_frameworks_wrapper_is_attached():
    model, optimizer = pair()
    assert attach(model, Accelerated(optimizer)).optimizer is optimizer


def test_attaching_twice_is_attaching_once():
    model, optimizer = pair()
    first = attach(model, optimizer)
    assert attach(model, optimizer) is first
    first.remove()
    assert attach(model, optimizer) is not first


def test_a_second_optimizer_of_the_same_parameters_is_refused():
    model, optimizer = pair()
    attachment = attach(model, optimizer)
    other = ScheduleFreeSGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"another ScheduleFreeAdamW.*build the model anew"):
        attach(model, other)
    attachment.remove()
    attach(model, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda model, o: (o, model), "takes the model first"),
        (lambda model, o: (model.parameters(), o), "takes the model itself, got a Parameter"),
        (lambda model, o: (model, ScheduleFreeAdamW), r"got a class: ScheduleFreeAdamW\(model"),
        (lambda model, o: (network(), o), "holds none of the model's parameters"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_the_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        attach(*arguments(*pair()))


# -- state dicts that are kept without a copy -----------------------------------------------------


@pytest.mark.parametrize("attached", [True, False])
@every_averaging
def test_a_state_dict_kept_uncopied_from_inside_the_context_is_warned_of(cls, attached):
    model, optimizer = pair(cls)
    if attached:
        attach(model, optimizer)
    train(model, optimizer, range(STEPS))

    def evaluated() -> Any:
        with optimizer.evaluation_weights():
            return model.state_dict()

    with pytest.warns(UserWarning, match=r"copy\.deepcopy\(model\.state_dict\(\)\)") as told:
        best = evaluated()
    assert told[0].filename == __file__
    assert torch.equal(best["0.weight"], model[0].weight)
    evaluated()  # it is said once


USES = {
    "copied": lambda model: copy.deepcopy(model.state_dict()),
    "saved": lambda model: torch.save(model.state_dict(), io.BytesIO()),
    "a graph": lambda model: model(batch(0)),
    "a copy": lambda model: copy.deepcopy(model),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_nothing_else_that_is_kept_from_inside_the_context_is_warned_of(use):
    model, optimizer = pair()
    train(model, optimizer, range(STEPS))
    with optimizer.evaluation_weights():
        kept = use(model)
    del kept


def test_loading_the_parameters_into_themselves_is_warned_of():
    model, optimizer, *_ = trained()
    best = model.state_dict()
    train(model, optimizer, range(2))
    with pytest.warns(UserWarning, match="holds the parameters themselves"):
        model.load_state_dict(best)


def test_a_state_dict_that_was_written_in_place_is_loaded_without_a_word():
    # As torch.distributed.checkpoint loads.
    model, *_ = trained()
    present = model.state_dict()
    for tensor in present.values():
        tensor.fill_(0.5)
    model.load_state_dict(present)
    with evaluating(model):
        model(batch(0))
        assert torch.equal(weights(model), torch.full_like(weights(model), 0.5))

import inspect
import io
import sys
from functools import partial
from itertools import islice

import fake_runner
import pytest
import torch
from fake_runner import OldWorkload, Runner, Workload, snapshot
from torch import nn

from eval import baselines
from eval.algoperf.benchmark import VERSIONS
from eval.algoperf.submission.adapter import RECALIBRATION_BATCHES, STATE, Submission
from eval.methods import METHODS
from selftune.averaging import EMA, WeightAverage

VERSION_WORKLOADS = {"v0.5": OldWorkload, "v0.6": Workload}
# Of the whole pool this would take minutes.
RECORDED = {name: METHODS[name] for name in sorted({r["method"] for r in baselines.read()})}
recorded_methods = pytest.mark.parametrize("method", RECORDED.values(), ids=RECORDED.keys())
both_versions = pytest.mark.parametrize("version", VERSION_WORKLOADS)
schedule_free = METHODS["schedule_free_adamw"].build

# What a runner gives out as a checkpoint are its own tensors, which go on changing.
as_the_runner_keeps_it = pytest.mark.filterwarnings(
    "ignore:a state dict that was kept without a copy"
)


@pytest.fixture(autouse=True)
def _package(monkeypatch, request):
    """The package of the version a test asks for, v0.6 unless it does."""
    parameters = getattr(request.node, "callspec", None)
    version = parameters.params.get("version", "v0.6") if parameters else "v0.6"
    spec = fake_runner.install(version)
    yield
    del sys.modules[spec.__name__]


def averaged_sgd(model: nn.Module, num_steps: int):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    average = WeightAverage(model, EMA(half_life=5))
    average.attach(optimizer)
    return optimizer, None, partial(average.swap, model)


def same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-9, atol=1e-12, msg=name)


def plain_loop(build, steps):
    """What the adapter must be equal to: the model after plain training, and its weights."""
    workload = Workload()
    model = workload.init_model_fn()
    optimizer, scheduler, weights = build(model, workload.step_hint)
    for batch in islice(workload.batches(), steps):
        optimizer.zero_grad()
        model.train()
        loss = workload.loss_fn(batch["targets"], model(batch["inputs"], 0.0), batch["weights"])
        mean = loss["summed"] / loss["n_valid_examples"]
        mean.backward()
        optimizer.step(lambda mean=mean: mean)
        if scheduler is not None:
            scheduler.step()
    return model, weights


@both_versions
@recorded_methods
def test_a_method_trains_as_in_a_plain_loop(method, version):
    runner = Runner(Submission(method.build), VERSION_WORKLOADS[version](), version)
    runner.train(1, evaluate_every=1)
    # Statistics are estimated from the queue, so only what comes before can be compared.
    first, _ = plain_loop(method.build, 1)
    runner.state[STATE].leave_evaluation()
    same(snapshot(runner.model), snapshot(first))

    runner = Runner(Submission(method.build), Workload(), "v0.6")
    runner.train(25, evaluate_every=100)
    model, _ = plain_loop(method.build, 25)
    same(snapshot(runner.model), snapshot(model))


@both_versions
@pytest.mark.parametrize("build", [schedule_free, averaged_sgd])
def test_evaluations_see_the_evaluation_weights(build, version):
    runner = Runner(Submission(build), VERSION_WORKLOADS[version](), version)
    runner.train(1, evaluate_every=1)
    model, weights = plain_loop(build, 1)
    with weights():
        expected = dict(model.named_parameters())
        found = runner.evaluations[0]
        same({name: found[name] for name in expected}, expected)


@pytest.mark.parametrize("build", [schedule_free, averaged_sgd])
def test_training_goes_on_from_the_training_weights_after_an_evaluation(build):
    plain, _ = plain_loop(build, 1)
    runner = Runner(Submission(build), Workload(), "v0.6")
    runner.train(1, evaluate_every=1)
    evaluated = snapshot(runner.model)
    with pytest.raises(AssertionError):
        same(evaluated, snapshot(plain))
    runner.state[STATE].leave_evaluation()
    same(snapshot(runner.model), snapshot(plain))


def test_without_evaluation_weights_an_evaluation_changes_nothing():
    runner = Runner(Submission(METHODS["nadamw"].build), Workload(), "v0.6")
    runner.train(6, evaluate_every=2)
    plain, _ = plain_loop(METHODS["nadamw"].build, 6)
    same(snapshot(runner.model), snapshot(plain))


def test_batch_norm_statistics_are_those_of_the_evaluation_weights():
    runner = Runner(Submission(schedule_free), Workload(), "v0.6")
    runner.train(5, evaluate_every=5)
    model = Workload().init_model_fn()
    model.load_state_dict(runner.evaluations[0])
    seen = {"norm": [], "old_norm": []}
    for name, inputs_seen in seen.items():
        getattr(model, name).register_forward_pre_hook(
            lambda _, inputs, kept=inputs_seen: kept.append(inputs[0])
        )
    model.train()
    with torch.no_grad():
        for batch in islice(Workload().batches(), 5, 5 + RECALIBRATION_BATCHES):
            model(batch["inputs"], 0.0)
    for name, inputs in seen.items():
        found = runner.evaluations[0]
        mean = torch.stack([batch.mean(0) for batch in inputs]).mean(0)
        variance = torch.stack([batch.var(0) for batch in inputs]).mean(0)
        torch.testing.assert_close(found[f"{name}.running_mean"], mean)
        torch.testing.assert_close(found[f"{name}.running_var"], variance)


def test_momenta_are_as_before_after_an_evaluation():
    runner = Runner(Submission(schedule_free), Workload(), "v0.6")
    runner.train(3, evaluate_every=1)
    assert (runner.model.norm.momentum, runner.model.old_norm.momentum) == (0.1, 0.9)


@as_the_runner_keeps_it
@pytest.mark.parametrize(
    "build",
    [*(method.build for method in RECORDED.values()), averaged_sgd],
    ids=[*RECORDED, "averaged_sgd"],
)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(build):
    whole = Runner(Submission(build), Workload(), "v0.6")
    checkpoint = whole.train(6, evaluate_every=3, save=True)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    again = Runner(Submission(build), Workload(), "v0.6")
    again.restore(torch.load(file, weights_only=True))
    again.queue = whole.workload.batches(seed=1)
    whole.queue = whole.workload.batches(seed=1)
    whole.train(6, evaluate_every=100)
    again.train(6, evaluate_every=100)
    for one in (whole, again):
        one.state[STATE].leave_evaluation()
    for name, value in snapshot(whole.model).items():
        assert torch.equal(value, snapshot(again.model)[name]), name


@as_the_runner_keeps_it
def test_a_checkpoint_holds_the_training_weights_in_the_runners_own_tensors():
    runner = Runner(Submission(schedule_free), Workload(), "v0.6")
    runner.train(3, evaluate_every=3)
    checkpoint = runner.checkpoint()
    plain, _ = plain_loop(schedule_free, 3)
    same(dict(checkpoint["model"]), snapshot(plain))


class Nosy(Exception):
    pass


def closed(workload_class, version):
    """A workload of which only what tells nothing about its identity may be looked at."""
    allowed = {"step_hint", "model_fn", "loss_fn", "eval_period_time_sec"}
    real = workload_class()

    class Closed:
        def __getattr__(self, name):
            if name not in allowed:
                raise Nosy(name)
            return getattr(real, name)

    return Closed()


@both_versions
@recorded_methods
def test_nothing_that_tells_a_workloads_identity_is_looked_at(method, version):
    workload = VERSION_WORKLOADS[version]()
    runner = Runner(Submission(method.build), workload, version)
    submission = runner.submission
    hidden = closed(VERSION_WORKLOADS[version], version)
    state = submission.init_optimizer_state(hidden, runner.model, None, None, None)
    batch = submission.data_selection(hidden, runner.queue, state, runner.model, None, None, 0, 0)
    arguments = {
        "workload": hidden,
        "current_param_container": runner.model,
        "current_params_types": None,
        "model_state": None,
        "hyperparameters": None,
        "loss_type": None,
        "optimizer_state": state,
        "eval_results": [],
        "global_step": 0,
        "rng": None,
    }
    submission.update_params(**arguments, batch=batch)
    submission.prepare_for_eval(**arguments)


@both_versions
@recorded_methods
def test_a_renamed_workload_gives_the_identical_run(method, version):
    base = VERSION_WORKLOADS[version]
    renamed = type("ImagenetResNetWorkload", (base,), {"__module__": "elsewhere", "name": "x"})
    runs = [Runner(Submission(method.build), kind(), version) for kind in (base, renamed)]
    for run in runs:
        run.train(7, evaluate_every=3)
    for name, value in snapshot(runs[0].model).items():
        assert torch.equal(value, snapshot(runs[1].model)[name]), name


@pytest.mark.parametrize("rate", [None, 0.0, 0.3])
def test_the_dropout_rate_is_one_for_all_workloads_and_off_for_statistics(rate):
    workload = Workload()
    runner = Runner(Submission(schedule_free, dropout_rate=rate), workload, "v0.6")
    runner.train(2, evaluate_every=2)
    assert workload.dropout_rates == [rate or 0.0] * 2 + [0.0] * RECALIBRATION_BATCHES


def test_a_dropout_rate_cannot_be_had_in_v05():
    submission = Submission(schedule_free, dropout_rate=0.1)
    with pytest.raises(ValueError, match=r"dropout_rate 0\.1 needs AlgoPerf v0\.6"):
        Runner(submission, OldWorkload(), "v0.5")


def test_label_smoothing_goes_to_every_loss():
    workload = Workload()
    Runner(Submission(schedule_free, label_smoothing=0.2), workload, "v0.6").train(2, 5)
    assert workload.label_smoothing == [0.2, 0.2]


def test_every_official_workload_has_a_batch_size_that_eight_gpus_share():
    for rules in VERSIONS.values():
        for workload in rules.workloads:
            assert Submission(schedule_free).get_batch_size(workload) % 8 == 0


def test_a_held_out_workload_is_refused_so_that_the_runner_asks_for_its_base():
    with pytest.raises(ValueError, match="'wmt_glu_tanh'; add one"):
        Submission(schedule_free).get_batch_size("wmt_glu_tanh")


def test_the_signatures_are_the_runners():
    submission = Submission(schedule_free)
    update = list(inspect.signature(submission.update_params).parameters)
    assert update[-1] == "train_state"  # v0.6 passes it to those who name it
    prepare = list(inspect.signature(submission.prepare_for_eval).parameters)
    assert prepare == [name for name in update[:-1] if name != "batch"]


def test_evaluation_weights_that_no_checkpoint_would_hold_are_refused():
    def build(model, num_steps):
        optimizer, _, weights = schedule_free(model, num_steps)
        return optimizer, None, lambda: weights()

    with pytest.raises(ValueError, match="must be a method"):
        Runner(Submission(build), Workload(), "v0.6")

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from benchmarks import self_tune_variants
from benchmarks.shrunk_distance import PRIOR, REACH, shrunk
from eval import baselines
from eval.methods import METHODS
from eval.targets.calibration import calibrated
from eval.workloads import POCKET, WORKLOADS
from selftune import optim
from selftune.schedules import ScheduleLR

NUM_STEPS = 200
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


def loss_of(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, generator=generator)
    return ((model(inputs).squeeze(1) - inputs.prod(1)) ** 2).mean()


class Training:
    def __init__(self, method, num_steps: int = NUM_STEPS) -> None:
        self.model = small_model()
        self.optimizer, self.scheduler, self.weights = method.build(self.model, num_steps)

    @property
    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.optimizer.zero_grad()
            loss_of(self.model).backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()


SCHEDULE_FREE = {name for name in METHODS if name.startswith("schedule_free")}
AVERAGING = SCHEDULE_FREE | {"diloco", "self_tune"}
RECORDED = {record["method"] for record in baselines.read()}


@every_method
def test_a_method_goes_by_its_name_and_describes_itself(method):
    assert METHODS[method.name] is method
    assert method.summary
    assert method.weight_decay


@every_method
def test_a_method_that_claims_no_weight_decay_has_none(method):
    if method.weight_decay.startswith("none"):
        groups = Training(method).optimizer.param_groups
        assert not any(group.get("weight_decay") for group in groups)


@every_method
def test_all_parameters_are_trained(method):
    training = Training(method)
    held = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in training.model.parameters()}
    before = [p.clone() for p in held]
    training.step(20)
    assert not any(map(torch.equal, held, before))


@every_method
def test_the_loss_decreases(method):
    training = Training(method)
    before = loss_of(training.model)
    training.step(NUM_STEPS)
    with training.weights() if training.weights else nullcontext():
        assert loss_of(training.model) < 0.9 * before


@every_method
def test_evaluation_weights_are_others_only_where_a_method_averages(method):
    training = Training(method)
    training.step(21)  # an odd number: after an even one, one of them is at the average
    assert (training.weights is not None) == (method.name in AVERAGING)
    if training.weights is None:
        return
    before = [p.clone() for p in training.model.parameters()]
    with training.weights():
        assert not any(map(torch.equal, training.model.parameters(), before))
    torch.testing.assert_close(list(training.model.parameters()), before)


@pytest.mark.parametrize("name", ["nadamw", "adamw", "prodigy", "dadapt_adam"])
def test_a_scheduled_method_stands_still_after_its_steps(name):
    training = Training(METHODS[name])
    training.step(NUM_STEPS)
    before = [p.clone() for p in training.model.parameters()]
    training.step(3)
    assert training.lr == 0
    assert all(map(torch.equal, training.model.parameters(), before))


@pytest.mark.parametrize("name", sorted(SCHEDULE_FREE))
def test_schedule_free_goes_on_after_the_steps_of_a_baseline(name):
    training = Training(METHODS[name])
    training.step(NUM_STEPS)
    before = [p.clone() for p in training.model.parameters()]
    training.step(3)
    assert not any(map(torch.equal, training.model.parameters(), before))


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
def test_every_step_has_the_lr_that_torchs_own_scheduler_gives_it(workload):
    # With that one the committed results were recorded.
    for method in RECORDED:
        training = Training(METHODS[method], workload.step_hint)
        if training.scheduler is None:
            continue
        assert isinstance(training.scheduler, ScheduleLR)
        other = torch.optim.SGD(
            small_model().parameters(), lr=training.optimizer.param_groups[0]["initial_lr"]
        )
        torchs = LambdaLR(other, training.scheduler.schedule)
        for optimizer in (training.optimizer, other):
            optimizer.step()  # without gradients
        for _ in range(3 * workload.step_hint // 2):
            assert training.lr == other.param_groups[0]["lr"]
            training.scheduler.step()
            torchs.step()


def test_nadamw_is_algoperfs_calibrated_point_with_2_percent_warm_up():
    training = Training(METHODS["nadamw"], num_steps=1000)
    group = training.optimizer.param_groups[0]
    assert isinstance(training.optimizer, optim.NAdamW)
    assert group["initial_lr"] == 0.0017486387539278373
    assert group["betas"] == (0.93266073836, 0.9955159689799007)
    assert group["weight_decay"] == 0.08121616522670176
    training.step(19)
    assert training.lr < group["initial_lr"]
    training.step(1)
    assert training.lr == group["initial_lr"]


def test_nadamw_pocket_is_the_best_configuration_of_all_pocket_searches():
    """Over 4/3 of its steps."""
    best, _ = calibrated(POCKET)
    ours = Training(METHODS["nadamw_pocket"], num_steps=750)
    theirs = Training(replace(METHODS["nadamw_pocket"], build=best), num_steps=1000)
    for steps in (1, 50):
        ours.step(steps)
        theirs.step(steps)
        torch.testing.assert_close(
            list(ours.model.parameters()), list(theirs.model.parameters()), rtol=1e-4, atol=1e-6
        )


def test_schedule_free_is_the_winners_point_with_1_5_percent_warm_up():
    training = Training(METHODS["schedule_free_adamw"], num_steps=1000)
    group = training.optimizer.param_groups[0]
    assert isinstance(training.optimizer, optim.ScheduleFreeAdamW)
    assert (group["lr"], group["betas"]) == (0.0025, (0.9, 0.9955159689799007))
    assert (group["weight_decay"], group["r"]) == (0.08121616522670176, 0.75)
    assert group["warmup_steps"] == 15


def test_schedule_free_prodigy_is_the_same_point_without_its_learning_rate():
    training = Training(METHODS["schedule_free_prodigy"], num_steps=1000)
    group = training.optimizer.param_groups[0]
    theirs = Training(METHODS["schedule_free_adamw"]).optimizer.param_groups[0]
    assert isinstance(training.optimizer, optim.ScheduleFreeProdigy)
    assert all(group[name] == theirs[name] for name in ("betas", "weight_decay", "r"))
    assert group["safeguard_warmup"]
    training.step(49)
    assert training.lr < 1
    training.step(1)
    assert training.lr == 1
    training.step(1000)
    assert training.lr == 1


@every_method
@pytest.mark.parametrize("num_steps", [1, 10])
def test_short_budgets_are_no_trouble(method, num_steps):
    training = Training(method, num_steps)
    training.step(3 * num_steps)
    assert loss_of(training.model).isfinite()


# Its lr is what makes a step of d, and goes down as d goes up.
@pytest.mark.filterwarnings("ignore:ScheduleFreeProdigy averages in the place of a decaying")
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("first_lr_tenth", {"lr": 0.0003}),
        ("first_lr_tenfold", {"lr": 0.03}),
        ("no_weight_decay", {"weight_decay": 0.0}),
        ("double_weight_decay", {"weight_decay": 0.1}),
    ],
)
def test_a_variant_of_self_tune_differs_from_it_in_one_option(name, option):
    optimizer, scheduler, _ = getattr(self_tune_variants, name)(small_model(), NUM_STEPS)
    assert optimizer.defaults == {**optim.SelfTune(small_model().parameters()).defaults, **option}
    assert scheduler is None


@pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying schedule")
def test_a_shrunk_step_lies_halfway_between_prodigys_and_the_prior():
    model = small_model()
    optimizer, scheduler, _ = shrunk(model, NUM_STEPS)
    sizes, distances = [], []
    for _ in range(NUM_STEPS):
        group = optimizer.param_groups[0]
        distances.append(float(group["d"]))
        sizes.append(distances[-1] * group["lr"])
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    halfway = (PRIOR * np.array(distances)) ** 0.5
    warmup = np.minimum(1, np.arange(1, NUM_STEPS + 1) / 10)
    np.testing.assert_allclose(sizes, warmup * halfway.clip(PRIOR / REACH, PRIOR * REACH))
    assert halfway[0] < PRIOR / REACH
    assert halfway[-1] > PRIOR * REACH

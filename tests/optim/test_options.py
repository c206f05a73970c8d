"""Options of constructors and groups, and the errors for those that they do not take."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from contract import CLASSES, every_class, same, train, weights
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from selftune import optim

FINDS_ITS_STEP = [cls for cls in CLASSES if cls.finds_step_size]
finds_its_step = pytest.mark.parametrize("cls", FINDS_ITS_STEP, ids=lambda cls: cls.__name__)

# -- arguments of other packages ----------------------------------------------------------------

ANYWAY = [
    {"foreach": True},
    {"foreach": None},
    {"fused": False},
    {"maximize": False},
    {"amsgrad": False},
    {"fsdp_in_use": True},
    {"log_every": 0},
]


@every_class
@pytest.mark.parametrize("option", ANYWAY, ids=str)
def test_a_packages_argument_that_changes_nothing_is_taken_and_not_kept(cls, option):
    assert cls(weights(), **option).param_groups[0].keys() == cls(weights()).param_groups[0].keys()
    cls([{"params": weights(), **option}])


@every_class
@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"fused": True}, "compile=True fuses the operations of a step where it can"),
        ({"maximize": True}, "negative of the objective"),
        ({"amsgrad": True}, "torch.optim.AdamW"),
        ({"capturable": True}, "CUDA graph"),
        ({"differentiable": True}, "differentiated"),
        ({"log_every": 10}, "nothing is printed"),
    ],
)
def test_a_packages_argument_that_would_change_the_run_is_refused_with_a_remedy(
    cls, option, instead
):
    with pytest.raises(
        ValueError, match=rf"always .* in {cls.__name__}, .*leave it out.*{instead}"
    ):
        cls(weights(), **option)
    with pytest.raises(
        ValueError, match=rf"always .* in {cls.__name__}, .*leave it out.*{instead}"
    ):
        cls([{"params": weights(), **option}])


@every_class
def test_decouple_says_how_the_weights_decay(cls):
    decoupled = cls.always["decouple"]
    cls(weights(), decouple=decoupled)
    with pytest.raises(ValueError, match=f"decouple is always {decoupled} in {cls.__name__}"):
        cls(weights(), decouple=not decoupled)


@pytest.mark.parametrize(
    ("cls", "option", "changed"),
    [
        (optim.ScheduleFreeAdamW, {"weight_lr_power": 2.0}, {"weight_lr_power": 1.0}),
        (optim.ScheduleFreeSGD, {"weight_lr_power": 2}, {"weight_lr_power": 0}),
        (optim.ScheduleFreeRAdam, {"silent_sgd_phase": True}, {"silent_sgd_phase": False}),
        (optim.Prodigy, {"layer_scale": 1.0}, {"layer_scale": 0.5}),
    ],
)
def test_an_option_with_one_value_here_is_taken_at_that_value(cls, option, changed):
    cls(weights(), **option)
    with pytest.raises(ValueError, match=f"is always .* in {cls.__name__}"):
        cls(weights(), **changed)


@every_class
def test_an_unknown_argument_is_named_with_the_class_and_what_it_takes(cls):
    with pytest.raises(TypeError, match=rf"^{cls.__name__} has no option 'wibble': .* takes lr, "):
        cls(weights(), wibble=1)


def test_a_misspelt_argument_is_given_the_right_spelling():
    with pytest.raises(TypeError, match="or write 'weight_decay'"):
        optim.AdamW(weights(), weight_deacy=0.1)


@every_class
def test_a_missing_or_superfluous_argument_names_the_users_class(cls):
    with pytest.raises(TypeError, match=f"^{cls.__name__}: missing a required argument: 'params'"):
        cls()
    with pytest.raises(TypeError, match=f"^{cls.__name__}: too many positional arguments"):
        cls(weights(), *range(30))


@every_class
def test_the_signature_is_that_of_the_constructor(cls):
    parameters = inspect.signature(cls).parameters
    assert list(parameters)[:2] == ["params", "lr"]
    assert "foreach" not in parameters


# -- options of groups --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "option"),
    [
        (optim.AdamW, {"d_coef": 2.0}),
        (optim.DoG, {"betas": (0.9, 0.99)}),
        (optim.Prodigy, {"warmup_steps": 10}),
        (optim.ScheduleFreeRAdam, {"warmup_steps": 10}),
    ],
)
def test_an_option_of_another_method_is_refused_in_a_group(cls, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{cls.__name__} has no option '{name}': leave it out"):
        cls([{"params": weights(), **option}])


@every_class
def test_a_users_own_labels_may_be_in_groups(cls):
    optimizer = cls([{"params": weights(), "name": "encoder", "lr_scale": 0.5}])
    assert optimizer.param_groups[0]["name"] == "encoder"


@every_class
@pytest.mark.parametrize("key", ["name", "lr_scale", "initial_lr", "max_lr", "lr_mult", "wd"])
def test_a_key_that_resembles_no_option_is_not_remarked_on(cls, key):
    cls([{"params": weights(), key: 1.0}])


def test_a_misspelt_option_of_a_group_is_remarked_on_once():
    first, second, third, _ = weights()
    misspelt = {"weight_deacy": 0.0}
    groups = [{"params": [first]}, {"params": [second], **misspelt}]
    message = r"AdamW does not read 'weight_deacy' of param_groups\[1\]: write 'weight_decay' if"
    with pytest.warns(UserWarning, match=message) as told:
        optimizer = optim.AdamW(groups)
    assert [w.filename for w in told] == [__file__]
    optimizer.add_param_group({"params": [third], **misspelt})


# -- values of a wrong type ---------------------------------------------------------------------


@every_class
@pytest.mark.parametrize("lr", ["auto", None, True, [1.0]])
def test_an_lr_that_is_no_number_is_refused_with_the_default(cls, lr):
    default = inspect.signature(cls).parameters["lr"].default
    with pytest.raises(
        ValueError, match=rf"lr must be a number, got .*; left out, it is {default}"
    ):
        cls(weights(), lr=lr)


@every_class
def test_every_number_of_a_constructor_may_not_be_a_text(cls):
    for name, parameter in inspect.signature(cls).parameters.items():
        if isinstance(parameter.default, float | int | None):
            with pytest.raises(ValueError, match=f"{name} must be"):
                cls(weights(), **{name: "auto"})


@pytest.mark.parametrize("betas", ["0.9,0.99", (0.9, None), ("a", "b")])
def test_betas_are_two_numbers(betas):
    with pytest.raises(ValueError, match="betas must be a pair of numbers, got"):
        optim.Prodigy(weights(), betas=betas)


# -- what is given in the place of parameters ---------------------------------------------------


@every_class
@pytest.mark.parametrize("model", [nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 1))])
def test_a_model_in_the_place_of_its_parameters_is_told_how(cls, model):
    remedy = rf"{cls.__name__}\(model\.parameters\(\)\)"
    for params in (model, [model], [{"params": model}]):
        with pytest.raises(ValueError, match=remedy):
            cls(params)


@every_class
def test_parameters_that_were_not_called_are_told_how(cls):
    model = nn.Linear(2, 1)
    for params in (model.parameters, [{"params": model.parameters}]):
        with pytest.raises(ValueError, match=r"got the method 'parameters': call it"):
            cls(params)
    with pytest.raises(ValueError, match=r"call it, named_parameters\(\)"):
        cls(model.named_parameters)


# -- an lr that is another method's -------------------------------------------------------------


@finds_its_step
@pytest.mark.parametrize("lr", [1e-4, 1e-3, 0.01, 16.0])
def test_an_lr_far_from_1_is_remarked_on_once_with_its_group(cls, lr):
    params = weights()
    with pytest.warns(
        UserWarning, match=rf"{cls.__name__} finds .* lr at 1.*\[1\] has lr={lr}"
    ) as w:
        cls([{"params": params[:1]}, *({"params": [p], "lr": lr} for p in params[1:])])
    assert len(w) == 1
    assert w[0].filename == __file__


@finds_its_step
def test_an_lr_near_1_or_of_a_warm_up_or_a_frozen_group_is_not_remarked_on(cls):
    first, second, third, _ = weights()
    groups = [
        {"params": [first], "lr": 0.5},
        {"params": [second], "lr": 0.0},
        {"params": [third], "lr": 1e-4, "initial_lr": 1.0},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cls(groups)


@finds_its_step
def test_the_peak_of_a_one_cycle_schedule_is_remarked_on_once_if_it_is_far_from_1(cls):
    optimizer, other = cls(weights()), cls(weights())
    OneCycleLR(optimizer, max_lr=1e-2, total_steps=10, cycle_momentum=False)
    message = rf"{cls.__name__} finds .* max_lr=1; param_groups\[0\] has max_lr=0.01"
    with pytest.warns(UserWarning, match=message) as told:
        train(optimizer, range(2))
    assert len(told) == 1
    OneCycleLR(other, max_lr=1.0, total_steps=10, cycle_momentum=False)
    train(other, range(2))


def test_a_method_that_needs_an_lr_takes_any():
    for cls in set(CLASSES) - set(FINDS_ITS_STEP):
        cls(weights(), lr=1e-4)


# -- what users see -----------------------------------------------------------------------------


@every_class
def test_the_parts_of_a_rule_are_not_listed_beside_what_users_call(cls):
    for names in (dir(cls), dir(cls(weights()))):
        assert {"step", "train", "eval", "evaluation_weights", "state_dict"} <= set(names)
        assert not {"advance", "measure", "rest", "update", "init_state", "check"} & set(names)


# -- peers' names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("AdamWScheduleFree", optim.ScheduleFreeAdamW),
        ("SGDScheduleFree", optim.ScheduleFreeSGD),
        ("RAdamScheduleFree", optim.ScheduleFreeRAdam),
        ("ProdigyScheduleFree", optim.ScheduleFreeProdigy),
    ],
)
def test_a_loader_that_knows_schedule_free_by_its_name_finds_ours(theirs, ours):
    assert getattr(optim, theirs) is ours


def test_a_name_that_nobody_has_is_no_attribute():
    with pytest.raises(AttributeError, match="'wibble'"):
        _ = optim.wibble


@every_class
def test_what_is_taken_and_not_kept_changes_no_bit(cls):
    params, others = weights(), weights()
    train(cls(params, foreach=True, fused=False, decouple=cls.always["decouple"]), range(3))
    train(cls(others), range(3))
    assert same(params, others)


def test_a_subclass_with_arguments_of_its_own_takes_those_of_packages_too():
    class Renamed(optim.Prodigy):
        def __init__(self, params, label="", **options):
            super().__init__(params, **options)
            self.label = label

    optimizer = Renamed(weights(), label="x", d0=1e-4, fsdp_in_use=True)
    assert optimizer.label == "x"
    assert optimizer.param_groups[0]["d0"] == 1e-4
    assert torch.equal(optimizer.param_groups[0]["d"], torch.tensor(1e-4))


@every_class
def test_the_text_of_an_optimizer_says_what_it_is_and_where_it_stands_in_one_line(cls):
    params = weights()
    optimizer = cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.5}])
    train(optimizer, range(3))
    text = repr(optimizer)
    assert text.startswith(f"{cls.__name__}(")
    assert "\n" not in text
    assert len(text) < 120
    assert ("step=3" in text) == all("step" in state for state in optimizer.state.values())
    sizes = list(dict.fromkeys(f"{size:.4g}" for size in optimizer.step_size()))
    assert f"step_size={sizes[0] if len(sizes) == 1 else '(' + ', '.join(sizes) + ')'}," in text
    assert "weights=training, skipped_steps=0)" in text
    optimizer.eval()
    assert "weights=evaluation" in repr(optimizer)


def test_the_text_of_prodigy_shows_the_step_size_that_it_has_found():
    optimizer = optim.Prodigy(weights())
    train(optimizer, range(20))
    assert f"step_size={float(optimizer.param_groups[0]['d']):.4g}," in repr(optimizer)

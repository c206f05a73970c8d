"""Every class against its slow transcription, and against the peers' packages, in float64."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Valley, shapes
from torch import Tensor

from selftune import optim

# Some runs have a schedule that decays, which averaging methods remark on.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying"),
    pytest.mark.filterwarnings("ignore:.* finds its own step size"),  # at any lr
]

STEPS = 100


def fractions(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers between 10^low and 10^high, evenly on a logarithmic scale."""
    return st.floats(low, high).map(lambda x: 10**x)


seeds = st.integers(0, 2**32 - 1)
betas = st.tuples(fractions(0, 0.99), fractions(0.8, 0.9999))
eps = powers(-12, -3)
weight_decay = st.one_of(st.just(0.0), powers(-4, 0))
group_shapes = st.lists(st.lists(shapes, min_size=1, max_size=3), min_size=1, max_size=3)

# What a group may set for itself, and what belongs to d and so to all groups.
ADAM = {"lr": powers(-4, 0), "betas": betas, "eps": eps, "weight_decay": weight_decay}
AVERAGING = {"lr": powers(-3, 0), "weight_decay": weight_decay, "r": fractions(0, 3)}
WARMUP = {"warmup_steps": st.integers(0, 150)}
MOMENTUM = {"momentum": fractions(0.3, 1)}
AVERAGED_ADAM = AVERAGING | {
    "betas": st.tuples(fractions(0.3, 0.99), fractions(0.8, 0.9999)),
    "eps": eps,
    "decay_at": st.sampled_from("xyz"),
    "inner_momentum": st.just(0.0) | fractions(0.1, 0.99),
    "averaging_constant": st.none() | powers(0, 2),
}
DISTANCE = {
    "lr": powers(-1, 0.5),
    "d0": powers(-5, -1),
    "growth_rate": st.just(math.inf) | fractions(1.01, 2),
}
BETAS = {"betas": betas, "use_bias_correction": st.booleans()}
# At the first steps p - p0 has lost as many digits as reps_rel has zeros.
OVER_GRADIENTS = {"lr": powers(-1, 0.5), "weight_decay": weight_decay}, {"reps_rel": powers(-5, -1)}
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AdamW": (ADAM, {}),
    "NAdamW": (ADAM, {}),
    "ScheduleFreeSGD": (AVERAGING | WARMUP | MOMENTUM, {}),
    "ScheduleFreeAdamW": (AVERAGED_ADAM | WARMUP, {}),
    "ScheduleFreeRAdam": (AVERAGED_ADAM, {}),
    "Prodigy": (
        {"eps": eps, "weight_decay": weight_decay},
        DISTANCE
        | BETAS
        | {
            "beta3": st.none() | fractions(0.5, 0.999),
            "d_coef": powers(-1, 0.5),
            "safeguard_warmup": st.booleans(),
            "slice_p": st.integers(1, 3),
        },
    ),
    "ScheduleFreeProdigy": (
        {"eps": eps, "weight_decay": weight_decay},
        DISTANCE
        | {
            "betas": st.tuples(fractions(0.3, 0.99), fractions(0.8, 0.9999)),
            "r": fractions(0, 3),
            "d_coef": powers(-1, 0.5),
            "safeguard_warmup": st.booleans(),
            "slice_p": st.integers(1, 3),
        },
    ),
    "ScheduleFreePlus": (
        {"eps": eps, "weight_decay": st.just(0.0) | powers(-1, 2)},
        {
            "lr": powers(-1, 0.5),
            "betas": betas,
            "beta": fractions(0.3, 0.99),
            "r": fractions(0, 3),
            "c_warmup": st.integers(0, 50),
            "beta_max": fractions(0.3, 0.99),
            "anneal_steps": st.just(0) | st.integers(1, 150),
            "polyak_beta": st.just(0.0) | fractions(0, 0.99),
            "max_step_size": st.just(math.inf) | powers(-3, 0),
        },
    ),
    "DAdaptSGD": ({"weight_decay": weight_decay, "momentum": fractions(0, 0.95)}, DISTANCE),
    "DAdaptAdaGrad": (
        {"eps": powers(-8, -3), "weight_decay": weight_decay, "momentum": fractions(0, 0.95)},
        DISTANCE,
    ),
    "DAdaptAdam": ({"eps": eps, "weight_decay": weight_decay}, DISTANCE | BETAS),
    "DoG": OVER_GRADIENTS,
    "DoWG": OVER_GRADIENTS,
    "LDoG": OVER_GRADIENTS,
}
PARAMETERS = {"shape_lists": group_shapes, "seed": seeds}


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def assert_agree(actual: list[Tensor], expected: list[Tensor]) -> None:
    # Both round at every step and tensors are of order 1.
    torch.testing.assert_close(flat(actual), flat(expected), rtol=1e-8, atol=1e-10)


def cosine(step: int) -> float:
    """A schedule that ends above zero."""
    return 0.55 + 0.45 * math.cos(math.pi * step / STEPS)


def grouped(items: list[Any], lists: list[list[Any]]) -> list[list[Any]]:
    """A flat list cut like a list of lists."""
    rest = iter(items)
    return [[next(rest) for _ in members] for members in lists]


def parameters(start: list[Tensor]) -> list[Tensor]:
    return [p.clone().requires_grad_() for p in start]


def set_gradients(params: list[Tensor], grads: list[Tensor | None]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else g.clone()


def set_lr(optimizer: torch.optim.Optimizer, lrs: list[float]) -> None:
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr


@pytest.mark.parametrize("name", [name for name, (_, of_all) in OPTIONS.items() if not of_all])
@given(data=st.data(), **PARAMETERS)
@settings(max_examples=8)
def test_rules_without_an_estimate_equal_their_transcription(name, data, shape_lists, seed):
    options = [data.draw(st.fixed_dictionaries(OPTIONS[name][0])) for _ in shape_lists]
    absent = data.draw(fractions(0, 0.5))  # share of gradients that a step does without
    problem = Valley.random([*chain(*shape_lists)], seed)
    per_parameter = [o for o, members in zip(options, shape_lists, strict=True) for _ in members]
    reference = getattr(references, name)(problem.start, per_parameter)
    params = parameters(problem.start)
    groups = [
        {"params": members, **o}
        for members, o in zip(grouped(params, shape_lists), options, strict=True)
    ]
    optimizer = getattr(optim, name)(groups)
    for step in range(STEPS):
        present = torch.rand(len(params), generator=problem.generator) >= absent
        grads = [
            g if there else None
            for g, there in zip(problem.gradients(reference.params), present, strict=True)
        ]
        set_lr(optimizer, [cosine(step) * o["lr"] for o in options])
        set_gradients(params, grads)
        optimizer.step()
        reference.step(grads, cosine(step))
        assert_agree(params, reference.params)
    optimizer.eval()
    assert_agree(params, reference.evaluation_weights())


# A group with a share r of the largest lr is the reference run in other units, x = u x'.
UNITS = {
    "Prodigy": lambda r: r,
    "ScheduleFreeProdigy": lambda r: r,
    "DAdaptAdam": lambda r: r,
    "DAdaptAdaGrad": lambda r: r,
    "DAdaptSGD": math.sqrt,
}
COUPLED = ("DAdaptSGD", "DAdaptAdaGrad")  # decay: an L2 term of x is one of u x'


@pytest.mark.parametrize("name", UNITS)
@given(data=st.data(), **PARAMETERS)
@settings(max_examples=15)
def test_rules_with_an_estimate_equal_their_transcription(name, data, shape_lists, seed):
    of_group, of_all = OPTIONS[name]
    options = [data.draw(st.fixed_dictionaries(of_group)) for _ in shape_lists]
    common = data.draw(st.fixed_dictionaries(of_all))
    shares = [1.0, *(data.draw(powers(-2, 0)) for _ in shape_lists[1:])]
    shares = data.draw(st.permutations(shares))
    # p0 - p has lost as many digits at the first steps as they are smaller than the weights.
    common["d0"] = max(common["d0"], 1e-5 / min(shares))
    problem = Valley.random([*chain(*shape_lists)], seed)
    share = [r for r, members in zip(shares, shape_lists, strict=True) for _ in members]
    first = [data.draw(st.integers(0, 20)) for _ in share]  # the step of the first gradient
    first[0] = 0

    units = [UNITS[name](r) for r in share]
    scales = [
        {"eps": r, "weight_decay": UNITS[name](r) ** 2 if name in COUPLED else r} for r in shares
    ]
    reference = getattr(references, name)(
        [p / u for p, u in zip(problem.start, units, strict=True)],
        [
            {k: scale.get(k, 1.0) * v for k, v in o.items()}
            for o, scale, members in zip(options, scales, shape_lists, strict=True)
            for _ in members
        ],
        common,
    )
    params = parameters(problem.start)
    groups = [
        {"params": members, **o}
        for members, o in zip(grouped(params, shape_lists), options, strict=True)
    ]
    optimizer = getattr(optim, name)(groups, **common)
    for step in range(STEPS):
        expected = [u * p for p, u in zip(reference.params, units, strict=True)]
        grads = [
            g if step >= k else None
            for g, k in zip(problem.gradients(expected), first, strict=True)
        ]
        set_lr(optimizer, [cosine(step) * common["lr"] * r for r in shares])
        set_gradients(params, grads)
        optimizer.step()
        in_units = [None if g is None else u * g for g, u in zip(grads, units, strict=True)]
        reference.step(in_units, cosine(step))
        expected = [u * p for p, u in zip(reference.params, units, strict=True)]
        if flat(expected).abs().max() > 1e3:
            return  # from here on such a run multiplies whatever is rounded
        assert_agree(params, expected)
        assert optimizer.param_groups[-1]["d"].item() == pytest.approx(reference.d, rel=1e-8)
    optimizer.eval()
    expected = reference.evaluation_weights()
    assert_agree(params, [u * p for p, u in zip(expected, units, strict=True)])


@pytest.mark.parametrize("name", ["DoG", "DoWG", "LDoG"])
@given(data=st.data(), **PARAMETERS)
@settings(max_examples=8)
def test_distances_over_gradients_equal_their_transcription(name, data, shape_lists, seed):
    of_group, of_all = OPTIONS[name]
    options = [data.draw(st.fixed_dictionaries(of_group)) for _ in shape_lists]
    common = data.draw(st.fixed_dictionaries(of_all))
    problem = Valley.random([*chain(*shape_lists)], seed)
    per_parameter = [o for o, members in zip(options, shape_lists, strict=True) for _ in members]
    first = [data.draw(st.integers(0, 20)) for _ in per_parameter]  # the first gradient's step
    first[0] = 0
    absent = data.draw(fractions(0, 0.5))  # share of gradients that a step does without after it
    reference = getattr(references, name)(problem.start, per_parameter, common)
    params = parameters(problem.start)
    groups = [
        {"params": members, **o}
        for members, o in zip(grouped(params, shape_lists), options, strict=True)
    ]
    optimizer = getattr(optim, name)(groups, **common)
    for step in range(STEPS):
        present = torch.rand(len(params), generator=problem.generator) >= absent
        present[0] |= step == 0
        grads = [
            g if there and step >= k else None
            for g, there, k in zip(problem.gradients(reference.params), present, first, strict=True)
        ]
        set_lr(optimizer, [cosine(step) * o["lr"] for o in options])
        set_gradients(params, grads)
        optimizer.step()
        reference.step(grads, cosine(step))
        assert_agree(params, reference.params)


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=8)
def test_schedule_free_plus_equals_its_transcription(data, shape_lists, seed):
    of_group, of_all = OPTIONS["ScheduleFreePlus"]
    options = [data.draw(st.fixed_dictionaries(of_group)) for _ in shape_lists]
    common = data.draw(st.fixed_dictionaries(of_all))
    problem = Valley.random([*chain(*shape_lists)], seed)
    per_parameter = [o for o, members in zip(options, shape_lists, strict=True) for _ in members]
    first = [data.draw(st.integers(0, 20)) for _ in per_parameter]  # the first gradient's step
    first[0] = 0
    offset = data.draw(fractions(-0.5, 2))
    reference = references.ScheduleFreePlus(problem.start, per_parameter, common)
    params = parameters(problem.start)
    groups = [
        {"params": members, **o}
        for members, o in zip(grouped(params, shape_lists), options, strict=True)
    ]
    optimizer = optim.ScheduleFreePlus(groups, **common)
    for step in range(STEPS):
        grads = [
            g if step >= k else None
            for g, k in zip(problem.gradients(reference.params), first, strict=True)
        ]
        loss = 0.1 * torch.rand((), generator=problem.generator).item() + 0.1 * offset
        set_lr(optimizer, [cosine(step) * common["lr"]] * len(options))
        set_gradients(params, grads)
        optimizer.step(loss=loss)
        reference.step(grads, cosine(step), loss)
        assert_agree(params, reference.params)
    optimizer.eval()
    assert_agree(params, reference.evaluation_weights())


# -- the peers' packages: each gets gradients of its own, as they write into them ---------------

PACKAGES = {
    "AdamW": ("torch.optim", "AdamW"),
    "ScheduleFreeSGD": ("schedulefree", "SGDScheduleFree"),
    "ScheduleFreeAdamW": ("schedulefree", "AdamWScheduleFree"),
    "ScheduleFreeRAdam": ("schedulefree", "RAdamScheduleFree"),
    "Prodigy": ("prodigyopt", "Prodigy"),
    "DAdaptAdam": ("dadaptation", "DAdaptAdam"),
    "DAdaptAdaGrad": ("dadaptation", "DAdaptAdaGrad"),
    "DAdaptSGD": ("dadaptation", "DAdaptSGD"),
    "DoG": ("dog", "DoG"),
    "LDoG": ("dog", "LDoG"),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_defaults_are_those_of_the_package(name):
    # pytorch_optimizer's D-Adapt SGD has momentum 0.9, where the authors' has none.
    module, cls = PACKAGES[name]
    package = pytest.importorskip(module)
    ours, theirs = (
        {name: option.default for name, option in inspect.signature(make).parameters.items()}
        for make in (getattr(optim, name), getattr(package, cls))
    )
    common = ours.keys() & theirs.keys() - {"params"}
    assert len(common) >= 3
    assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}


def compare_with_peer(
    ours: torch.optim.Optimizer,
    peer: torch.optim.Optimizer,
    problem: Valley,
    schedule=cosine,
) -> None:
    """Both take the same gradients, those at our parameters."""
    params, peer_params = (
        [p for group in o.param_groups for p in group["params"]] for o in (ours, peer)
    )
    lrs, peer_lrs = ([group["lr"] for group in o.param_groups] for o in (ours, peer))
    for step in range(STEPS):
        grads = problem.gradients(params)
        for optimizer, members, base in ((ours, params, lrs), (peer, peer_params, peer_lrs)):
            set_lr(optimizer, [schedule(step) * lr for lr in base])
            set_gradients(members, grads)
            optimizer.step()
        assert_agree(params, peer_params)


def groups_of(start: list[Tensor], shape_lists: list[list[Any]], options: list[dict[str, Any]]):
    """Parameter groups with parameters of their own."""
    members = grouped(parameters(start), shape_lists)
    return [{"params": p, **o} for p, o in zip(members, options, strict=True)]


@given(data=st.data(), foreach=st.booleans(), **PARAMETERS)
@settings(max_examples=8)
def test_adamw_equals_torchs(data, foreach, shape_lists, seed):
    options = [data.draw(st.fixed_dictionaries(ADAM)) for _ in shape_lists]
    problem = Valley.random([*chain(*shape_lists)], seed)
    ours = optim.AdamW(groups_of(problem.start, shape_lists, options))
    theirs = torch.optim.AdamW(groups_of(problem.start, shape_lists, options), foreach=foreach)
    compare_with_peer(ours, theirs, problem)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RAdam"])
@given(data=st.data(), foreach=st.booleans(), **PARAMETERS)
@settings(max_examples=8)
def test_schedule_free_equals_its_package(name, data, foreach, shape_lists, seed):
    schedulefree = pytest.importorskip("schedulefree")
    adam = {"betas": st.tuples(fractions(0.3, 0.99), fractions(0.8, 0.9999)), "eps": eps}
    own = {
        "SGD": WARMUP | {"momentum": fractions(0.3, 0.99)},
        "AdamW": WARMUP | adam,
        "RAdam": adam,
    }
    options = [data.draw(st.fixed_dictionaries(AVERAGING | own[name])) for _ in shape_lists]
    problem = Valley.random([*chain(*shape_lists)], seed)
    ours = getattr(optim, f"ScheduleFree{name}")(groups_of(problem.start, shape_lists, options))
    theirs = getattr(schedulefree, f"{name}ScheduleFree")(
        groups_of(problem.start, shape_lists, options), foreach=foreach
    )
    theirs.train()
    compare_with_peer(ours, theirs, problem)
    ours.eval()
    theirs.eval()
    for group, peer_group in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert_agree(group["params"], peer_group["params"])


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=8)
def test_the_averaging_constant_equals_pytorch_optimizers(data, shape_lists, seed):
    pytorch_optimizer = pytest.importorskip("pytorch_optimizer")
    own = {"betas": st.tuples(fractions(0.3, 0.99), fractions(0.8, 0.9999)), "eps": eps}
    options = [data.draw(st.fixed_dictionaries(AVERAGING | WARMUP | own)) for _ in shape_lists]
    constants = [data.draw(powers(0, 2)) for _ in shape_lists]
    problem = Valley.random([*chain(*shape_lists)], seed)
    ours, theirs = (
        groups_of(
            problem.start,
            shape_lists,
            [{**o, name: c} for o, c in zip(options, constants, strict=True)],
        )
        for name in ("averaging_constant", "decoupling_c")
    )
    theirs = pytorch_optimizer.ScheduleFreeAdamW(theirs)
    theirs.train()
    compare_with_peer(optim.ScheduleFreeAdamW(ours), theirs, problem)


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=15)
def test_prodigy_equals_its_package(data, shape_lists, seed):
    prodigyopt = pytest.importorskip("prodigyopt")
    # With betas[0] = 0 the package steps along the next d times the gradient, not the present.
    with_momentum = st.tuples(fractions(0.1, 0.99), fractions(0.8, 0.9999))
    of_all = data.draw(st.fixed_dictionaries(OPTIONS["Prodigy"][1] | {"betas": with_momentum}))
    options = [{"weight_decay": data.draw(weight_decay)} for _ in shape_lists]
    problem = Valley.random([*chain(*shape_lists)], seed)
    # The package adds d eps with the next step's d; both vanish beside sqrt(v) in float64.
    ours = optim.Prodigy(groups_of(problem.start, shape_lists, options), **of_all, eps=1e-30)
    theirs = prodigyopt.Prodigy(
        groups_of(problem.start, shape_lists, options), **of_all, eps=1e-30, decouple=True
    )
    compare_with_peer(ours, theirs, problem)
    assert ours.param_groups[0]["d"].item() == pytest.approx(theirs.param_groups[0]["d"], rel=1e-8)


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=15)
def test_d_adapt_adam_equals_its_package(data, shape_lists, seed):
    dadaptation = pytest.importorskip("dadaptation")
    of_all = data.draw(st.fixed_dictionaries(OPTIONS["DAdaptAdam"][1]))
    problem = Valley.random([*chain(*shape_lists)], seed)
    scales = [1.0, *(data.draw(powers(-2, 0)) for _ in shape_lists[1:])]
    # A share of the largest lr is the package's layer_scale, which leaves decay alone.
    decays = [data.draw(weight_decay) for _ in shape_lists]
    options = [
        {"lr": of_all["lr"] * r, "weight_decay": w / r} for r, w in zip(scales, decays, strict=True)
    ]
    peer_options = [
        {"layer_scale": r, "weight_decay": w} for r, w in zip(scales, decays, strict=True)
    ]
    ours = optim.DAdaptAdam(groups_of(problem.start, shape_lists, options), **of_all)
    theirs = dadaptation.DAdaptAdam(
        groups_of(problem.start, shape_lists, peer_options), **of_all, decouple=True
    )
    compare_with_peer(ours, theirs, problem)
    assert ours.param_groups[0]["d"].item() == pytest.approx(theirs.param_groups[0]["d"], rel=1e-8)


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=8)
def test_d_adapt_ada_grad_equals_its_package(data, shape_lists, seed):
    dadaptation = pytest.importorskip("dadaptation")
    # The package takes momentum from its first group, and starts alpha at 1e-6.
    of_group, of_all = OPTIONS["DAdaptAdaGrad"]
    of_all = data.draw(st.fixed_dictionaries(of_all))
    options = data.draw(st.fixed_dictionaries(of_group | {"weight_decay": st.just(0.0)}))
    problem = Valley.random([*chain(*shape_lists)], seed)
    problem = replace(problem, noise=1e6, curvature=[1e6 * a for a in problem.curvature])
    groups = [groups_of(problem.start, shape_lists, [options] * len(shape_lists)) for _ in "12"]
    ours = optim.DAdaptAdaGrad(groups[0], **of_all)
    theirs = dadaptation.DAdaptAdaGrad(groups[1], **of_all)
    compare_with_peer(ours, theirs, problem)
    assert ours.param_groups[0]["d"].item() == pytest.approx(theirs.param_groups[0]["d"], rel=1e-8)


@given(data=st.data(), **PARAMETERS)
@settings(max_examples=15)
def test_d_adapt_sgd_equals_its_package(data, shape_lists, seed):
    dadaptation = pytest.importorskip("dadaptation")
    of_all = data.draw(st.fixed_dictionaries(DISTANCE))
    # The package takes momentum and the decision to decay from its first group.
    options = data.draw(st.fixed_dictionaries(OPTIONS["DAdaptSGD"][0]))
    problem = Valley.random([*chain(*shape_lists)], seed)
    groups = [groups_of(problem.start, shape_lists, [options] * len(shape_lists)) for _ in "12"]
    ours = optim.DAdaptSGD(groups[0], **of_all)
    theirs = dadaptation.DAdaptSGD(groups[1], **of_all)
    compare_with_peer(ours, theirs, problem)
    assert ours.param_groups[0]["d"].item() == pytest.approx(theirs.param_groups[0]["d"], rel=1e-8)


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
@given(data=st.data(), members=st.lists(shapes, min_size=1, max_size=4), seed=seeds)
@settings(max_examples=8)
def test_dog_equals_its_package(name, data, members, seed):
    dog = pytest.importorskip("dog")
    # One group, as each has its own estimates there; eps is added to G.
    option = st.fixed_dictionaries(OVER_GRADIENTS[0] | OVER_GRADIENTS[1])
    options = data.draw(option)
    problem = Valley.random(members, seed)
    ours = getattr(optim, name)(groups_of(problem.start, [members], [options]))
    theirs = getattr(dog, name)(groups_of(problem.start, [members], [options]), eps=0)
    compare_with_peer(ours, theirs, problem)

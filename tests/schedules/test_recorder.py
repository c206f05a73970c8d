"""GradientNorms sees what the optimizer consumes, under any optimizer, and changes nothing."""

import copy
import gc
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selftune import optim
from selftune.schedules import GradientNorms, NormLog, ScheduleLR, linear, refine

OURS = [
    *(optim.AdamW, optim.NAdamW, optim.Prodigy, optim.DAdaptAdam, optim.DAdaptSGD),
    *(optim.ScheduleFreeAdamW, optim.ScheduleFreeSGD),
]
TORCHS = [torch.optim.SGD, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RMSprop]
every_optimizer = pytest.mark.parametrize("build", [*OURS, *TORCHS])


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (4,), ()]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def give_gradients(params: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def flat(tensors) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


@every_optimizer
def test_it_records_the_norms_of_gradients_and_weights(build):
    params = parameters()
    optimizer = build(params, lr=0.1)
    grads, weights = [], []
    with GradientNorms(optimizer) as recorder:
        for step in range(5):
            give_gradients(params, step)
            grads.append(flat(p.grad for p in params))
            weights.append(flat(params))
            optimizer.step()
    log = recorder.log
    assert log.steps.tolist() == list(range(5))
    assert log.norms["l2"] == pytest.approx([g.norm().item() for g in grads])
    assert log.norms["l1"] == pytest.approx([g.abs().sum().item() for g in grads])
    assert log.norms["weight"] == pytest.approx([w.norm().item() for w in weights])
    assert (log.total_steps, log.optimizer) == (5, build.__name__)


@every_optimizer
def test_it_changes_nothing(build):
    alone, watched = parameters(), parameters()
    optimizers = [build(alone, lr=0.1), build(watched, lr=0.1)]
    GradientNorms(optimizers[1], update=True)
    for step in range(4):
        for params, optimizer in zip((alone, watched), optimizers, strict=True):
            give_gradients(params, step)
            optimizer.step()
    assert torch.equal(flat(alone), flat(watched))
    assert torch.equal(flat(p.grad for p in alone), flat(p.grad for p in watched))


def test_lr_and_weight_decay_are_recorded():
    params = parameters()
    groups = [{"params": params[:2], "weight_decay": 0.1}, {"params": params[2:]}]
    optimizer = torch.optim.AdamW(groups, lr=0.5, weight_decay=0.0)
    scheduler = ScheduleLR(optimizer, linear(4))
    recorder = GradientNorms(optimizer)
    for step in range(4):
        give_gradients(params, step)
        optimizer.step()
        scheduler.step()
    assert recorder.log.lrs is not None
    assert recorder.log.lrs.tolist() == [0.5, 0.375, 0.25, 0.125]
    assert recorder.log.weight_decay == 0.1


def test_an_lr_that_is_a_tensor_is_recorded_as_it_was():
    params = parameters()
    optimizer = torch.optim.AdamW(params, lr=torch.tensor(0.5, dtype=torch.float64))
    scheduler = ScheduleLR(optimizer, linear(4))
    recorder = GradientNorms(optimizer)
    for step in range(4):
        give_gradients(params, step)
        optimizer.step()
        scheduler.step()
    assert recorder.log.lrs is not None
    assert recorder.log.lrs.tolist() == [0.5, 0.375, 0.25, 0.125]


# -- <g, u> -----------------------------------------------------------------------------------


def test_for_sgd_the_update_is_the_gradient():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer, update=True)
    for step in range(5):
        give_gradients(params, step)
        optimizer.step()
    norms = recorder.log.norms
    assert norms["update"] == pytest.approx(norms["l2"] ** 2)


def test_for_sign_descent_the_update_gives_the_l1_norm():
    params = parameters()
    # Without momentum and second moment, Adam's update is the sign of the gradient.
    optimizer = torch.optim.Adam(params, lr=0.1, betas=(0.0, 0.0), eps=0.0)
    recorder = GradientNorms(optimizer, update=True)
    for step in range(5):
        give_gradients(params, step)
        optimizer.step()
    norms = recorder.log.norms
    assert norms["update"] == pytest.approx(norms["l1"])


@pytest.mark.parametrize(
    "make",
    [
        lambda params: optim.ScheduleFreeSGD(params, lr=0.1),
        lambda params: optim.ScheduleFree(torch.optim.SGD(params, lr=0.1)),
    ],
)
def test_for_schedule_free_the_update_is_that_of_z_not_of_the_average(make):
    params = parameters()
    optimizer = make(params)
    recorder = GradientNorms(optimizer, update=True)
    for step in range(5):
        give_gradients(params, step)
        optimizer.step()
    norms = recorder.log.norms
    assert norms["update"] == pytest.approx(norms["l2"] ** 2)


def test_the_update_does_not_depend_on_the_learning_rate():
    logs = []
    for lr in (1e-4, 1e-3):
        params = parameters()
        optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)
        recorder = GradientNorms(optimizer, update=True)
        for step in range(5):
            give_gradients(params, step)
            optimizer.step()
        logs.append(recorder.log)
    assert logs[0].norms["update"] == pytest.approx(logs[1].norms["update"])


# -- as the optimizer consumes them -----------------------------------------------------------


def test_norms_are_those_after_clipping():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer)
    give_gradients(params, 0)
    nn.utils.clip_grad_norm_(params, 0.5)
    optimizer.step()
    assert recorder.log.norms["l2"] == pytest.approx([0.5], rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_norms_are_those_without_the_scale_of_a_grad_scaler(fused, unscale):
    params = parameters(torch.float32)
    optimizer = torch.optim.AdamW(params, lr=0.1, fused=fused, weight_decay=0.0)
    recorder = GradientNorms(optimizer, update=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(sum(p.square().sum() / 2 for p in params)).backward()
    expected = flat(params).norm().item()  # the gradient is the parameter
    l1 = flat(params).abs().sum().item()
    if unscale:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    norms = recorder.log.norms
    assert norms["l2"] == pytest.approx([expected], rel=1e-5)
    assert norms["update"] == pytest.approx([l1], rel=1e-4)  # Adam's first update is the sign


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_grad_scaler_skips_are_not_steps(fused):
    params = parameters(torch.float32)
    optimizer = torch.optim.AdamW(params, lr=0.1, fused=fused)
    recorder = GradientNorms(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * sum(p.square().sum() for p in params)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert recorder.log.steps.tolist() == [0, 1]
    assert np.isfinite(recorder.log.norms["l2"]).all()


@pytest.mark.parametrize("build", OURS)
@pytest.mark.parametrize("every", [1, 2])
def test_steps_that_the_optimizer_skips_are_not_steps(build, every):
    params = parameters()
    optimizer = build(params)
    recorder = GradientNorms(optimizer, update=True, every=every)
    for step in range(6):
        give_gradients(params, step)
        if step in (1, 2):
            params[0].grad[0, 0] = torch.inf
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*skipped a step")
            optimizer.step()
    log = recorder.log
    assert log.steps.tolist() == list(range(0, 4, every))
    assert log.total_steps == 4
    assert all(np.isfinite(norms).all() for norms in log.norms.values())


def test_a_verdict_that_comes_late_is_waited_for(monkeypatch):
    monkeypatch.setattr("selftune.step_hooks._is_known_later", lambda *_: True)
    params = parameters()
    optimizer = optim.AdamW(params, lr=0.1)
    recorder = GradientNorms(optimizer)
    expected = []
    for step in range(4):
        give_gradients(params, step)
        expected.append(flat(p.grad for p in params).norm().item())
        if step == 1:
            params[0].grad.fill_(torch.nan)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*skipped a step")
            optimizer.step()
        optimizer.zero_grad()
    log = recorder.log
    assert log.steps.tolist() == [0, 1, 2]
    assert log.norms["l2"] == pytest.approx([expected[0], *expected[2:]])
    recorder.close()
    assert recorder.log.total_steps == 3


def test_a_run_whose_steps_were_all_skipped_gives_no_schedule():
    params = parameters()
    optimizer = optim.AdamW(params, lr=0.1)
    with GradientNorms(optimizer) as recorder:
        params[0].grad = torch.full_like(params[0], torch.nan)
        with pytest.warns(UserWarning, match="skipped a step"):
            optimizer.step()
    with pytest.raises(ValueError, match="norms"):
        refine(recorder.log, 10)


def test_gradients_that_a_closure_computes_are_seen():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer, update=True)

    def closure():
        optimizer.zero_grad()
        loss = sum(p.square().sum() / 2 for p in params)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    norms = recorder.log.norms
    assert norms["l2"] == pytest.approx(norms["weight"])
    assert norms["update"] == pytest.approx(norms["l2"] ** 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_gradients_are_summed_in_float32(dtype):
    p = nn.Parameter(torch.full((400, 400), 1.0, dtype=dtype))
    optimizer = torch.optim.SGD([p], lr=0.1)
    recorder = GradientNorms(optimizer)
    p.grad = torch.full_like(p, 1.0)
    optimizer.step()
    norms = recorder.log.norms
    assert (norms["l1"][0], norms["l2"][0]) == (160_000, 400)  # float16 ends at 65504


def test_sparse_gradients_have_norms_too():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(list(table.parameters()), lr=0.1)
    recorder = GradientNorms(optimizer, update=True)
    table(torch.tensor([1, 1, 2])).sum().backward()
    optimizer.step()
    norms = recorder.log.norms
    assert norms["l1"][0] == pytest.approx(9)
    assert norms["l2"][0] == pytest.approx(np.sqrt(3 * 4 + 3 * 1))
    assert norms["update"][0] == pytest.approx(9)  # Adam's first update is the sign


def test_parameters_without_a_gradient_do_not_count():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer, update=True)
    give_gradients(params, 0)
    params[0].grad = None
    weights, grads = flat(params[1:]), flat(p.grad for p in params[1:])
    optimizer.step()
    norms = recorder.log.norms
    assert norms["weight"] == pytest.approx([weights.norm().item()])
    assert norms["l2"] == pytest.approx([grads.norm().item()])
    assert norms["update"] == pytest.approx([grads.norm().item() ** 2])


def test_a_step_without_any_gradient_leaves_no_record():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer)
    optimizer.step()
    give_gradients(params, 0)
    optimizer.step()
    assert recorder.log.steps.tolist() == [1]
    assert recorder.log.total_steps == 2


def test_mixed_dtypes_have_one_norm():
    params = [nn.Parameter(torch.ones(4, dtype=t)) for t in (torch.float32, torch.bfloat16)]
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer, update=True)
    for p in params:
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    assert recorder.log.norms["l2"][0] == pytest.approx(np.sqrt(8 * 4))


def test_complex_parameters_count_with_both_parts():
    p = nn.Parameter(torch.tensor([3 + 4j, 0], dtype=torch.complex128))
    optimizer = torch.optim.SGD([p], lr=0.1)
    recorder = GradientNorms(optimizer, update=True)
    p.grad = torch.tensor([3 - 4j, 0], dtype=torch.complex128)
    optimizer.step()
    norms = recorder.log.norms
    assert (norms["weight"][0], norms["l2"][0]) == (5, 5)
    assert norms["update"][0] == pytest.approx(25)


# -- cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", [False, True])
def test_nothing_waits_for_the_device_between_transfers(update):
    params = [nn.Parameter(torch.empty(3, device="meta"))]
    optimizer = torch.optim.AdamW(params, lr=0.1, foreach=True)
    GradientNorms(optimizer, update=update)
    for _ in range(50):  # reading a number back from "meta" raises
        params[0].grad = torch.empty(3, device="meta")
        optimizer.step()


def test_memory_stays_bounded_and_the_records_stay_even():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.0)
    recorder = GradientNorms(optimizer, capacity=100)
    for step in range(1003):
        for p in params:
            p.grad = torch.full_like(p, step)
        optimizer.step()
    log = recorder.log
    assert 50 < len(log.steps) <= 100
    assert set(np.diff(log.steps)) == {16}
    assert log.norms["l1"] == pytest.approx(17 * log.steps)
    assert log.total_steps == 1003


def test_every_skips_steps_between_records():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    recorder = GradientNorms(optimizer, every=3)
    for step in range(8):
        give_gradients(params, step)
        optimizer.step()
    assert recorder.log.steps.tolist() == [0, 3, 6]
    assert recorder.log.total_steps == 8


def test_closed_it_records_no_more():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    with GradientNorms(optimizer) as recorder:
        give_gradients(params, 0)
        optimizer.step()
    optimizer.step()
    assert len(recorder.log.steps) == 1


# -- resuming ---------------------------------------------------------------------------------


def test_a_resumed_recorder_goes_on_with_the_log(tmp_path):
    def train(recorder: GradientNorms, optimizer, params, steps) -> NormLog:
        for step in steps:
            give_gradients(params, step)
            optimizer.step()
        recorder.close()
        return recorder.log

    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.01)
    twin = copy.deepcopy(params)
    other = torch.optim.SGD(twin, lr=0.01)
    whole = train(GradientNorms(optimizer, capacity=20), optimizer, params, range(90))

    train(first := GradientNorms(other, capacity=20), other, twin, range(50))
    first.log.save(tmp_path / "norms.csv")
    log = NormLog.load(tmp_path / "norms.csv")
    resumed = train(GradientNorms(other, capacity=20, log=log), other, twin, range(50, 90))
    assert np.array_equal(resumed.steps, whole.steps)
    assert np.array_equal(resumed.norms["l2"], whole.norms["l2"])
    assert resumed.total_steps == 90


def test_a_log_of_other_norms_is_not_gone_on_with():
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    log = NormLog(np.arange(3), {"l2": np.ones(3)}, lrs=np.ones(3))
    with pytest.raises(ValueError, match="has no weight, l1"):
        GradientNorms(optimizer, log=log)


@pytest.mark.parametrize(("option", "value"), [("every", 0), ("capacity", 1)])
def test_options_out_of_range_are_refused(option, value):
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        GradientNorms(optimizer, **{option: value})


# -- sharded parameters -----------------------------------------------------------------------


def test_sharded_parameters_have_the_norm_of_the_whole(tmp_path):
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = init_device_mesh("cpu", (1,))
            whole = parameters()[:1]
            p = nn.Parameter(distribute_tensor(whole[0].detach().clone(), mesh, [Shard(0)]))
            optimizer = torch.optim.SGD([p], lr=0.1)
            recorder = GradientNorms(optimizer, update=True)
            give_gradients(whole, 0)
            assert whole[0].grad is not None
            p.grad = distribute_tensor(whole[0].grad, mesh, [Shard(0)])
            optimizer.step()
    finally:
        distributed.destroy_process_group()
    norms = recorder.log.norms
    assert norms["weight"] == pytest.approx([flat(whole).norm().item()])
    assert norms["l1"] == pytest.approx([flat(w.grad for w in whole).abs().sum().item()])
    assert norms["update"] == pytest.approx(norms["l2"] ** 2)


# -- with refine ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "update", "kind"),
    [
        (torch.optim.SGD, False, "sgd"),
        (optim.ScheduleFreeSGD, False, "sgd"),
        (lambda params, lr: optim.ScheduleFree(torch.optim.SGD(params, lr)), False, "sgd"),
        (lambda params, lr: optim.ScheduleFree(torch.optim.AdamW(params, lr)), False, "adam"),
        (torch.optim.AdamW, False, "adam"),
        (optim.Prodigy, False, "adam"),
        (torch.optim.SGD, True, "update"),
    ],
)
def test_refine_knows_what_to_do_with_a_log(build, update, kind):
    params = parameters()
    optimizer = build(params, lr=0.1)
    with GradientNorms(optimizer, update=update) as recorder:
        for step in range(20):
            give_gradients(params, step)
            optimizer.step()
    refined = refine(recorder.log)
    assert refined.diagnostics.kind == kind
    assert refined.total_steps == 20


# -- resuming from an older checkpoint ---------------------------------------------------------


@pytest.mark.parametrize("build", [torch.optim.AdamW, optim.AdamW, optim.Prodigy])
def test_what_a_lost_branch_recorded_is_cut_when_an_older_checkpoint_goes_on(build):
    def steps(optimizer, params, seeds) -> None:
        for seed in seeds:
            give_gradients(params, seed)
            optimizer.step()

    params = parameters()
    optimizer = build(params, lr=0.1)
    with GradientNorms(optimizer) as recorder:
        steps(optimizer, params, range(6))
        checkpoint = copy.deepcopy(optimizer.state_dict())
        steps(optimizer, params, range(6, 10))
        lost = recorder.log
    again = parameters()
    resumed = build(again, lr=0.1)
    with GradientNorms(resumed, log=lost) as recorder:  # before or after loading
        resumed.load_state_dict(checkpoint)
        steps(resumed, again, range(20, 22))
        log = recorder.log
    assert log.steps.tolist() == list(range(8))
    assert log.total_steps == 8
    assert log.norms["l2"][:6].tolist() == lost.norms["l2"][:6].tolist()
    assert log.norms["l2"][6] != lost.norms["l2"][6]


def test_an_optimizer_that_counts_nothing_needs_the_log_before_the_checkpoint():
    params = parameters()
    optimizer = torch.optim.SGD(params, lr=0.1)
    with GradientNorms(optimizer) as recorder:
        for seed in range(5):
            give_gradients(params, seed)
            optimizer.step()
    with GradientNorms(optimizer, log=recorder.log.before(3)) as again:
        give_gradients(params, 9)
        optimizer.step()
        assert again.log.steps.tolist() == [0, 1, 2, 3]
        assert again.log.total_steps == 4


@every_optimizer
def test_a_closed_recorder_that_is_kept_for_its_log_does_not_keep_the_optimizer(build):
    params = parameters()
    optimizer = build(params, weight_decay=0.25)
    with GradientNorms(optimizer, update=True) as recorder:
        for step in range(3):
            give_gradients(params, step)
            optimizer.step()
    log, alive = recorder.log, [weakref.ref(optimizer), weakref.ref(params[0])]
    del params, optimizer
    gc.collect()
    assert [each() for each in alive] == [None, None]
    assert (recorder.log.optimizer, recorder.log.weight_decay) == (log.optimizer, 0.25)
    assert np.array_equal(recorder.log.norms["update"], log.norms["update"])

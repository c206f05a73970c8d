import copy
import gc
import io
import warnings
import weakref

import numpy as np
import pytest
import torch

from selftune.optim import AdamW, Prodigy, ScheduleFreeAdamW
from selftune.schedules import ScheduleLR, constant, cosine, inverse_sqrt, linear, wsd


def one_weight(lr: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def run(scheduler: ScheduleLR, steps: int) -> list[float]:
    lrs = []
    for _ in range(steps):
        lrs.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return lrs


def test_the_lr_of_a_step_is_the_peak_times_the_multiplier():
    schedule = cosine(10).with_warmup(2)
    assert run(ScheduleLR(one_weight(), schedule), 13) == [0.5 * schedule(t) for t in range(13)]


@pytest.mark.filterwarnings("ignore:.* averages in the place of a decaying")
@pytest.mark.parametrize("build", [torch.optim.AdamW, AdamW, ScheduleFreeAdamW, Prodigy])
def test_it_drives_any_optimizer(build):
    p = torch.ones(3, requires_grad=True)
    optimizer = build([p], lr=0.1)
    scheduler = ScheduleLR(optimizer, linear(4))
    for t in range(4):
        p.grad = torch.ones(3)
        assert optimizer.param_groups[0]["lr"] == 0.1 * (1 - t / 4)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_every_group_keeps_its_own_peak():
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    scheduler = ScheduleLR(optimizer, linear(4))
    run(scheduler, 2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]
    assert scheduler.get_last_lr() == [0.5, 0.05]


def test_a_group_added_later_is_scheduled_from_its_own_peak():
    optimizer = one_weight()
    scheduler = ScheduleLR(optimizer, linear(4))
    run(scheduler, 1)
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 2.0})
    run(scheduler, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 1.0]


def test_an_lr_that_is_a_tensor_is_written_in_place():
    lr = torch.tensor(0.5)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr)
    run(ScheduleLR(optimizer, linear(4)), 2)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr == 0.25


def test_a_checkpoint_is_plain_numbers_and_resumes():
    schedule = wsd(20, 0.5, "1-sqrt").with_warmup(3)
    optimizer = one_weight()
    scheduler = ScheduleLR(optimizer, schedule)
    run(scheduler, 12)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), file)
    file.seek(0)
    saved_optimizer, saved = torch.load(file, weights_only=True)
    expected = run(scheduler, 10)

    optimizer = one_weight()
    scheduler = ScheduleLR(optimizer, schedule)
    optimizer.load_state_dict(saved_optimizer)
    scheduler.load_state_dict(saved)
    assert run(scheduler, 10) == expected


def test_a_sequence_resumes_within_its_second_part():
    schedule = linear(5).then(cosine(10))
    scheduler = ScheduleLR(one_weight(), schedule)
    run(scheduler, 8)
    resumed = ScheduleLR(one_weight(), schedule)
    resumed.load_state_dict(scheduler.state_dict())
    resumed.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    assert run(resumed, 5) == run(scheduler, 5) == [0.5 * schedule(t) for t in range(8, 13)]


@pytest.mark.parametrize("last_epoch", [2, 4, 8])
def test_last_epoch_goes_on_within_a_sequence(last_epoch):
    # torch's SequentialLR begins its first part anew.
    schedule = linear(5).then(cosine(10))
    optimizer = one_weight()
    optimizer.param_groups[0]["initial_lr"] = 0.5
    ScheduleLR(optimizer, schedule, last_epoch=last_epoch)
    assert optimizer.param_groups[0]["lr"] == 0.5 * schedule(last_epoch + 1)


# -- resuming with another schedule -----------------------------------------------------------


@pytest.fixture
def saved():
    scheduler = ScheduleLR(one_weight(), linear(10))
    run(scheduler, 8)
    return scheduler.state_dict()


def test_resuming_with_another_schedule_is_refused_and_loses_nothing(saved):
    # torch's LambdaLR goes on with the saved 10 steps without a word.
    scheduler = ScheduleLR(one_weight(), linear(20))
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match=r'saved .*step 8.*=10.*given .*=20.*"given" or "saved"'):
        scheduler.load_state_dict(saved)
    assert scheduler.state_dict() == before


def test_the_given_schedule_may_go_on_from_the_saved_step(saved):
    scheduler = ScheduleLR(one_weight(), linear(20), on_mismatch="given")
    with pytest.warns(UserWarning, match="going on with the given one"):
        scheduler.load_state_dict(saved)
    run(scheduler, 1)
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.5 * linear(20)(9)
    assert scheduler.schedule == linear(20)


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])
def test_the_given_schedule_rules_the_first_resumed_step(lr):
    before = ScheduleLR(torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr), linear(10))
    run(before, 8)
    # A scheduler writes into an lr that is a tensor: each optimizer has its own.
    lr = torch.tensor(0.5) if isinstance(lr, torch.Tensor) else lr
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr)
    scheduler = ScheduleLR(optimizer, linear(20), on_mismatch="given")
    optimizer.load_state_dict(before.optimizer.state_dict())
    held = optimizer.param_groups[0]["lr"]
    with pytest.warns(UserWarning, match="going on with the given one"):
        scheduler.load_state_dict(before.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * linear(20)(8))
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
    assert (optimizer.param_groups[0]["lr"] is held) == isinstance(lr, torch.Tensor)


def test_the_saved_schedule_may_come_back(saved):
    scheduler = ScheduleLR(one_weight(), linear(20), on_mismatch="saved")
    with pytest.warns(UserWarning, match="going on with the saved one"):
        scheduler.load_state_dict(saved)
    run(scheduler, 1)
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert scheduler.schedule == linear(10)


@pytest.mark.parametrize("on_mismatch", ["error", "given", "saved"])
def test_resuming_with_the_same_schedule_says_nothing(saved, on_mismatch):
    scheduler = ScheduleLR(one_weight(), linear(10), on_mismatch=on_mismatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.load_state_dict(saved)
    assert scheduler.last_epoch == 8


def test_what_to_do_on_a_mismatch_is_not_taken_from_the_checkpoint(saved):
    scheduler = ScheduleLR(one_weight(), linear(10), on_mismatch="given")
    scheduler.load_state_dict(saved)
    assert scheduler.on_mismatch == "given"


def test_the_state_of_another_scheduler_is_refused():
    state = torch.optim.lr_scheduler.StepLR(one_weight(), 3).state_dict()
    with pytest.raises(ValueError, match="no schedule in the saved state"):
        ScheduleLR(one_weight(), linear(10)).load_state_dict(state)


def test_anything_but_a_schedule_is_refused():
    with pytest.raises(ValueError, match=r"must be one of selftune.schedules"):
        ScheduleLR(one_weight(), lambda step: 1.0)  # pyright: ignore[reportArgumentType]


def test_an_unknown_way_to_resume_is_refused():
    with pytest.raises(ValueError, match="on_mismatch is one of error, given, saved, got 'new'"):
        ScheduleLR(one_weight(), constant(), on_mismatch="new")


def test_optimizer_and_schedule_in_the_wrong_order_are_told_the_right_one():
    with pytest.raises(ValueError, match=r"takes the optimizer first.*got a Schedule$"):
        ScheduleLR(linear(10), one_weight())  # pyright: ignore[reportArgumentType]


def test_an_optimizer_given_to_a_schedule_is_told_how_they_are_joined():
    with pytest.raises(ValueError, match=r"got an optimizer: ScheduleLR\(optimizer, linear"):
        linear(one_weight(), 100)  # pyright: ignore[reportArgumentType]


# -- peaks, and the order of building and loading -----------------------------------------------


def two_groups(lr: float = 0.5) -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr * k} for k in (1, 2)]
    return torch.optim.SGD(groups)


def test_a_peak_written_after_an_earlier_scheduler_is_not_passed_over():
    optimizer = one_weight()
    ScheduleLR(optimizer, linear(10))
    optimizer.param_groups[0]["lr"] = 0.05
    message = r'saved peak of group 0, .* is 0.5; the given one, .* is 0.05; .*"given" or "saved"'
    with pytest.raises(ValueError, match=message):
        ScheduleLR(optimizer, linear(10))


@pytest.mark.parametrize(("on_mismatch", "peak"), [("given", 0.05), ("saved", 0.5)])
def test_of_two_peaks_the_one_that_was_chosen_goes_on(on_mismatch, peak):
    optimizer = one_weight()
    ScheduleLR(optimizer, linear(10))
    optimizer.param_groups[0]["lr"] = 0.05
    with pytest.warns(UserWarning, match=f"going on with the {on_mismatch} one"):
        scheduler = ScheduleLR(optimizer, linear(10), on_mismatch=on_mismatch)
    assert run(scheduler, 2) == [peak, peak * 0.9]


def test_a_second_scheduler_in_mid_run_keeps_the_peak_of_the_first():
    optimizer = one_weight()
    run(ScheduleLR(optimizer, linear(10)), 5)
    assert run(ScheduleLR(optimizer, constant(10)), 1) == [0.5]


def test_an_lr_that_is_written_in_mid_run_is_written_over_with_a_warning_once():
    scheduler = ScheduleLR(one_weight(), constant(10))
    run(scheduler, 1)
    for _ in range(2):
        scheduler.optimizer.param_groups[0]["lr"] = 0.05
        scheduler.optimizer.step()
        if not scheduler._warned:
            with pytest.warns(UserWarning, match="lr of group 0 was set to 0.05"):
                scheduler.step()
        else:
            scheduler.step()
        assert scheduler.optimizer.param_groups[0]["lr"] == 0.5


def test_in_torchs_sequence_of_schedulers_nothing_is_taken_for_a_foreign_lr():
    optimizer = one_weight()
    parts = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
        ScheduleLR(optimizer, linear(10)),
    ]
    sequence = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            optimizer.step()
            sequence.step()


def resumed_in(order: str, saved_optimizer, saved, lr: float = 0.5, **options) -> ScheduleLR:
    """A run that goes on: s builds the scheduler, o loads the optimizer, l the scheduler."""
    optimizer = two_groups(lr)
    scheduler = None
    for action in order:
        if action == "s":
            scheduler = ScheduleLR(optimizer, linear(10), **options)
        elif action == "o":
            optimizer.load_state_dict(copy.deepcopy(saved_optimizer))
        elif action == "w":  # the caller writes another lr
            optimizer.param_groups[0]["lr"] = 0.05
        elif scheduler is not None:
            scheduler.load_state_dict(copy.deepcopy(saved))
    assert scheduler is not None
    return scheduler


ORDERS = ["sol", "slo", "osl"]


@pytest.fixture
def saved_run():
    scheduler = ScheduleLR(two_groups(), linear(10))
    run(scheduler, 4)
    return scheduler.optimizer.state_dict(), scheduler.state_dict()


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_building_and_loading_gives_the_same_first_step(order, saved_run):
    scheduler = resumed_in(order, *saved_run)
    lrs = [group["lr"] for group in scheduler.optimizer.param_groups]
    assert lrs == [0.5 * linear(10)(4), 1.0 * linear(10)(4)] == scheduler.get_last_lr()
    assert run(scheduler, 2) == [0.5 * linear(10)(4), 0.5 * linear(10)(5)]


def test_another_lr_at_resume_is_refused(saved_run):
    with pytest.raises(ValueError, match=r"saved peaks, at step 4, are \[0.5, 1.0\]; the given"):
        resumed_in("sol", *saved_run, lr=0.05)


@pytest.mark.parametrize("order", ["sol", "slo"])
@pytest.mark.parametrize(("on_mismatch", "peak"), [("given", 0.05), ("saved", 0.5)])
def test_another_lr_at_resume_is_taken_if_that_is_said(on_mismatch, peak, order, saved_run):
    with pytest.warns(UserWarning, match=f"going on with the {on_mismatch} one"):
        scheduler = resumed_in(order, *saved_run, lr=0.05, on_mismatch=on_mismatch)
    assert run(scheduler, 2) == pytest.approx([peak * linear(10)(4), peak * linear(10)(5)])


@pytest.mark.parametrize("order", ["owsl", "sowl"])
def test_an_lr_written_into_a_loaded_optimizer_is_a_given_peak(order, saved_run):
    with pytest.raises(ValueError, match=r"are \[0.5, 1.0\]; the given ones are \[0.05, 1.0\]"):
        resumed_in(order, *saved_run)
    with pytest.warns(UserWarning, match="going on with the given one"):
        scheduler = resumed_in(order, *saved_run, on_mismatch="given")
    assert run(scheduler, 1) == pytest.approx([0.05 * linear(10)(4)])


def test_an_lr_written_after_another_packages_scheduler_is_remarked_on_once():
    optimizer = one_weight()
    run(torch.optim.lr_scheduler.StepLR(optimizer, 2), 3)
    optimizer.param_groups[0]["lr"] = 0.03
    scheduler = ScheduleLR(optimizer, linear(10))
    with pytest.warns(UserWarning, match=r'group 0 was 0.03 .*peak .* is 0.5.*"initial_lr" too'):
        run(scheduler, 1)
    run(scheduler, 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("steps", [2, 5])
def test_a_sequence_of_torchs_resumes_without_a_word(order, first, steps):
    def built(optimizer):
        parts = [
            lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
            lambda: ScheduleLR(optimizer, linear(10)),
        ]
        made = [part() for part in (parts[::-1] if first else parts)]
        return torch.optim.lr_scheduler.SequentialLR(optimizer, made, milestones=[3])

    def lrs(optimizer, scheduler, steps):
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    twin, optimizer, scheduler = one_weight(), one_weight(), None
    uninterrupted = built(twin)
    lrs(twin, uninterrupted, steps)
    saved = copy.deepcopy((twin.state_dict(), uninterrupted.state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for action in order:
            if action == "s":
                scheduler = built(optimizer)
            elif action == "o":
                optimizer.load_state_dict(saved[0])
            elif scheduler is not None:
                scheduler.load_state_dict(saved[1])
        assert optimizer.param_groups[0]["lr"] == twin.param_groups[0]["lr"]
        assert lrs(optimizer, scheduler, 4) == lrs(twin, uninterrupted, 4)


def test_another_number_of_groups_is_one_clear_error(saved_run):
    scheduler = ScheduleLR(one_weight(), linear(10))
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="saved scheduler has 2 parameter groups, the optimizer 1"):
        scheduler.load_state_dict(saved_run[1])
    assert scheduler.state_dict() == before


def a_tensor_group(lr: float) -> dict:
    return {"params": [torch.zeros(1, requires_grad=True)], "lr": torch.tensor(lr)}


def test_the_peak_of_a_tensor_lr_that_is_added_later_stays_what_it_was():
    optimizer = torch.optim.Adam([a_tensor_group(0.5)])
    scheduler = ScheduleLR(optimizer, constant() * 0.5)
    optimizer.add_param_group(a_tensor_group(0.5))
    run(scheduler, 3)
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.25, 0.25]


def test_a_tensor_lr_that_is_written_into_a_loaded_optimizer_is_a_peak_of_its_own():
    def made(peak):
        optimizer = torch.optim.Adam([a_tensor_group(peak)])
        return optimizer, ScheduleLR(optimizer, constant() * 0.5, on_mismatch="given")

    optimizer, scheduler = made(0.5)
    run(scheduler, 2)
    saved = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = made(0.5)
    optimizer.load_state_dict(saved[0])
    optimizer.param_groups[0]["lr"].fill_(4.0)
    with pytest.warns(UserWarning, match="the given ones are"):
        scheduler.load_state_dict(saved[1])
    run(scheduler, 2)
    assert optimizer.param_groups[0]["lr"].item() == 2.0


def test_a_saved_state_does_not_change_when_a_group_is_added():
    scheduler = ScheduleLR(one_weight(), linear(4))
    saved = scheduler.state_dict()
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
    run(scheduler, 1)
    assert saved["base_lrs"] == [0.5]


def test_numbers_of_numpy_are_saved_as_plain_ones():
    scheduler = ScheduleLR(one_weight(np.float64(0.5)), inverse_sqrt(np.int64(5)))
    run(scheduler, 2)
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == scheduler.state_dict()


@pytest.mark.parametrize("name", ["schedule", "base_lrs", "last_epoch", "_last_lr"])
def test_a_state_that_lacks_a_number_is_refused_and_changes_nothing(name):
    scheduler = ScheduleLR(one_weight(), linear(4))
    saved = scheduler.state_dict()
    run(scheduler, 2)
    before = scheduler.state_dict()
    del saved[name]
    with pytest.raises(ValueError, match=f"no {name} in the saved state"):
        scheduler.load_state_dict(saved)
    assert scheduler.state_dict() == before


def test_a_scheduler_does_not_keep_an_optimizer_in_memory_that_its_parameters_refer_to():
    optimizer = one_weight()
    # As a hook that steps within the backward pass does.
    (p,) = optimizer.param_groups[0]["params"]
    p.register_hook(lambda grad, optimizer=optimizer: None)
    run(ScheduleLR(optimizer, linear(4)), 2)
    alive = weakref.ref(optimizer)
    del optimizer, p
    gc.collect()
    assert alive() is None


def test_a_scheduler_that_is_gone_leaves_no_hook():
    optimizer = one_weight()
    for _ in range(3):
        scheduler = ScheduleLR(optimizer, linear(4))
    assert len(optimizer._optimizer_load_state_dict_post_hooks) == 1
    del scheduler
    assert not optimizer._optimizer_load_state_dict_post_hooks

"""timm's factory, and its average of weights."""

import pytest
import torch

pytest.importorskip("timm")

from ours import OURS, SCHEDULE_FREE
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3

from benchmarks.frameworks import in_timm as script
from benchmarks.frameworks.problem import alike
from selftune import optim
from selftune.integrations.timm import register


@pytest.mark.parametrize("subject", OURS[:3], ids=lambda subject: subject.name)
def test_timm_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


def vision_transformer():
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return VisionTransformer(num_classes=4, **sizes)


@pytest.mark.parametrize("name", sorted(set(register())))
def test_the_factory_makes_every_optimizer_and_leaves_lr_and_betas_to_it(name):
    model = vision_transformer()
    optimizer = create_optimizer_v2(model, name, weight_decay=0.1, momentum=0.9, foreach=True)
    cls = {each.lower(): cls for each, cls in vars(optim).items() if isinstance(cls, type)}[name]
    assert type(optimizer) is cls
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.1]
    own = cls(vision_transformer().parameters()).param_groups[0]
    for option in cls(model.parameters()).defaults.keys() - {"weight_decay"}:
        assert optimizer.param_groups[0][option] == own[option]
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step(loss=1.0)


def test_names_of_timms_own_keep_their_meaning_and_registering_again_changes_nothing():
    names = list_optimizers()
    assert "selftune" in names
    assert register() == register()
    assert list_optimizers() == names
    model = vision_transformer()
    assert type(create_optimizer_v2(model, "adamw", lr=0.1)) is torch.optim.AdamW


def test_timms_schedulers_and_layer_decay_take_our_optimizers():
    optimizer = create_optimizer_v2(vision_transformer(), "prodigy", lr=1.0, layer_decay=0.75)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=4)
    scheduler.step(3)
    assert 0 < optimizer.param_groups[-1]["lr"] < 1


def test_timms_average_is_one_of_evaluation_weights_and_leaves_the_run_alone(tmp_path):
    plain = script.Script(SCHEDULE_FREE, tmp_path / "plain")
    plain.train(range(2))
    averaged = script.Script(SCHEDULE_FREE, tmp_path / "averaged")
    average = ModelEmaV3(averaged.model, decay=0.8)
    start = {name: p.clone() for name, p in averaged.model.state_dict().items()}
    averaged.optimizer.register_step_post_hook(lambda *_: average.update(averaged.model))
    averaged.train(range(2))
    weights = averaged.recorder.weights
    assert all(map(alike, weights, plain.recorder.weights))
    for each in weights:
        start = {name: p.lerp(each[name], 0.2) for name, p in start.items()}
    assert alike(dict(average.module.state_dict()), start)

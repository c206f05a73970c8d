"""The Trainer of transformers, of TRL and of sentence-transformers."""

import warnings

import pytest
import torch

pytest.importorskip("transformers")

from ours import OURS, SCHEDULE_FREE
from transformers import TrainerCallback

from benchmarks.frameworks import in_transformers as script
from benchmarks.frameworks.problem import near
from benchmarks.frameworks.subjects import Subject
from selftune import ScheduleFreePlus
from selftune.integrations.transformers import SelfTuneCallback


@pytest.mark.parametrize("subject", OURS, ids=lambda subject: subject.name)
def test_the_trainer_judges_keeps_saves_resumes_and_logs_what_is_right(subject, tmp_path):
    assert all(script.run(subject, tmp_path))


class Handed(TrainerCallback):
    """What the optimizer is given as the loss of each step."""

    def __init__(self):
        self.losses = []

    def on_train_begin(self, *args, optimizer, **kwargs):
        inner = optimizer.optimizer
        inner.register_step_pre_hook(lambda *_: self.losses.append(inner._now.loss.item()))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_a_method_that_needs_the_loss_is_given_that_of_all_micro_batches(micro_batches, tmp_path):
    trainer = script.trainer(
        Subject("selftune", "ScheduleFreePlus", {}),
        tmp_path,
        per_device_train_batch_size=24 // micro_batches,
        gradient_accumulation_steps=micro_batches,
        max_steps=2,
    )
    handed = Handed()
    trainer.add_callback(handed)
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "learning_rate" in row]
    assert len(logged) == 2
    assert all(map(near, handed.losses, logged))


def test_a_schedule_free_method_under_the_default_schedule_is_warned_of_once(tmp_path):
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, lr_scheduler_type="linear")
    with pytest.warns(match="averages in the place of a decaying schedule") as caught:
        trainer.train()
    said = [str(w.message) for w in caught if "averages in the place" in str(w.message)]
    assert len(said) == 1
    assert said[0].endswith("the Trainer's schedule decays: set lr_scheduler_type='constant'")


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("ScheduleFreeAdamW", "constant_with_warmup"), ("Prodigy", "linear")],
)
def test_no_other_schedule_is_warned_of(name, schedule, tmp_path):
    trainer = script.trainer(
        Subject("selftune", name, {}), tmp_path, lr_scheduler_type=schedule, max_steps=2
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*schedule.*")
        trainer.train()


def test_another_optimizer_is_refused(tmp_path):
    trainer = script.trainer(Subject("torch.optim", "AdamW", {}), tmp_path)
    trainer.add_callback(SelfTuneCallback())
    with pytest.raises(ValueError, match="optimizers of selftune"):
        trainer.train()


def test_reporters_are_told_the_step_size_of_every_group(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = script.trainer(
        Subject("selftune", "SelfTune", {}),
        tmp_path,
        report_to=["tensorboard"],
        max_steps=3,
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    sizes = [event.value for event in events.Scalars("train/step_size")]
    assert len(sizes) == 3
    assert sizes[-1] == pytest.approx(trainer.optimizer.optimizer.step_size()[0])
    assert "train/step_size/1" in events.Tags()["scalars"]


def test_a_trainer_goes_on_after_training_and_after_an_interruption(tmp_path):
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, max_steps=3)

    class Interrupting(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    trainer.add_callback(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.pop_callback(Interrupting)
    for _ in range(2):
        trainer.train()
        assert not trainer.optimizer.optimizer.param_groups[0]["train_mode"]
    rows = [row for row in trainer.state.log_history if "learning_rate" in row]
    assert all("step_size" in row for row in rows)


def test_an_adapter_is_judged_and_merged_at_the_evaluation_weights(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    trainer = script.trainer(SCHEDULE_FREE, tmp_path, max_steps=6, eval_strategy="no")
    trainer.model = trainer.model_wrapped = peft.get_peft_model(trainer.model, config)
    seen = []

    class Generating(TrainerCallback):
        def on_step_end(self, args, state, control, model, optimizer, **kwargs):
            model.eval()
            prompt = script.VALIDATION.rows[:1, :2]
            model.generate(prompt, max_new_tokens=1, do_sample=False, pad_token_id=0)
            seen.append(optimizer.optimizer.param_groups[0]["train_mode"])

    trainer.add_callback(Generating())
    trainer.train()
    assert seen == [False] * 6
    rows = script.VALIDATION.rows
    with torch.no_grad():
        adapted = trainer.model(input_ids=rows).logits
        merged = trainer.model.merge_and_unload()(input_ids=rows).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)


def test_the_loss_of_a_skipped_step_is_forgotten():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = ScheduleFreePlus([parameter])
    optimizer.add_loss(torch.tensor(3.0))
    SelfTuneCallback().on_step_begin(None, None, None, optimizer=optimizer)
    assert optimizer._now.loss is None

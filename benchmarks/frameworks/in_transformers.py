"""The Trainer of transformers, with a two-layer Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from benchmarks.frameworks.problem import Recorder, alike, logged, near, same_bits, weights_of
from benchmarks.frameworks.subjects import Outcome, Subject

STEPS, SAVED_AT = 12, 6


def wire_selftune(options: dict[str, Any]) -> None:
    from selftune.integrations.transformers import SelfTuneCallback

    options["callbacks"].append(SelfTuneCallback())


class Sentences(Dataset[dict[str, Tensor]]):
    def __init__(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(0, 32, (size, 1), generator=generator)
        self.rows = (starts + 3 * torch.arange(8)) % 32  # (sentences, tokens)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


VALIDATION = Sentences(16, seed=2)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
        )
    )


def validation_loss(weights: dict[str, Tensor]) -> float:
    model = llama()
    model.load_state_dict(weights, strict=False)
    with torch.no_grad():
        return model(input_ids=VALIDATION.rows, labels=VALIDATION.rows).loss.item()


class _Recording(TrainerCallback):
    recorder: Recorder

    def on_train_begin(self, *_: Any, model: Any, optimizer: Any, **__: Any) -> None:
        self.recorder = Recorder(model, optimizer.optimizer)


def trainer(subject: Subject, folder: Path, **arguments: Any) -> Trainer:
    arguments = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 16,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **arguments,
    }
    options: dict[str, Any] = {"callbacks": [_Recording()]}
    if subject.package == "selftune":
        wire_selftune(options)
    return Trainer(
        model=llama(),
        args=TrainingArguments(**arguments),
        train_dataset=Sentences(48, seed=1),
        eval_dataset=VALIDATION,
        optimizer_cls_and_kwargs=(subject.optimizer, subject.options),
        **options,
    )


def run(subject: Subject, folder: Path) -> Outcome:
    whole = trainer(
        subject, folder / "whole", load_best_model_at_end=True, metric_for_best_model="loss"
    )
    whole.train()
    recorder = whole.pop_callback(_Recording).recorder
    weights = recorder.weights
    losses = [validation_loss(each) for each in weights]
    logs = whole.state.log_history
    evaluated = {row["step"]: row["eval_loss"] for row in logs if "eval_loss" in row}
    best = min(evaluated, key=lambda step: losses[step - 1])

    unevaluated = trainer(subject, folder / "unevaluated", eval_strategy="no", save_steps=SAVED_AT)
    unevaluated.train()
    checkpoint = folder / "unevaluated" / f"checkpoint-{SAVED_AT}"
    resumed = trainer(subject, folder / "unevaluated", eval_strategy="no", save_steps=SAVED_AT)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    return Outcome(
        validated=all(near(value, losses[step - 1]) for step, value in evaluated.items()),
        best=alike(dict(whole.model.state_dict()), weights[best - 1])
        and near(whole.evaluate()["eval_loss"], losses[best - 1]),
        saved=alike(load_file(checkpoint / "model.safetensors"), weights[SAVED_AT - 1]),
        resumed=same_bits(weights_of(unevaluated.model), weights_of(resumed.model)),
        logged=logged(recorder.step_sizes, [row for row in logs if "learning_rate" in row]),
    )

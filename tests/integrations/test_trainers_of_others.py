"""Trainers that are made of the Trainer of transformers: TRL's and sentence-transformers'."""

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("datasets")

import datasets
from ours import SCHEDULE_FREE
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from benchmarks.frameworks import in_transformers as script
from benchmarks.frameworks.problem import alike, near
from selftune.integrations.transformers import SelfTuneCallback

WORDS = {f"w{i}": i for i in range(30)} | {"[PAD]": 30, "[UNK]": 31}
ARGUMENTS = {
    "max_steps": 6,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_steps": 3,
    "logging_steps": 1,
    "per_device_train_batch_size": 4,
    "lr_scheduler_type": "constant",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
}
OPTIMIZER = (SCHEDULE_FREE.optimizer, SCHEDULE_FREE.options)


def tokenizer():
    words = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return words


def sentences(size):
    return [" ".join(f"w{(i + 3 * k) % 30}" for k in range(6)) for i in range(size)]


def check(trainer, recorder, folder, weights_in):
    """That the trainer has logged, evaluated and saved as it should have."""
    logs = trainer.state.log_history
    sizes = [row["step_size"] for row in logs if "learning_rate" in row]
    assert all(map(near, sizes, recorder.step_sizes))
    assert len(sizes) == 6
    assert alike(weights_in(folder / "checkpoint-3"), recorder.weights[2])
    assert alike(dict(trainer.model.state_dict()), recorder.weights[5])
    return {row["step"]: row["eval_loss"] for row in logs if "eval_loss" in row}


def test_trl_fine_tunes_with_it(tmp_path):
    trl = pytest.importorskip("trl")
    from safetensors.torch import load_file
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="[PAD]", eos_token="[PAD]", unk_token="[UNK]"
    )
    recording = script._Recording()
    trainer = trl.SFTTrainer(
        script.llama(),
        args=trl.SFTConfig(str(tmp_path), bf16=False, **ARGUMENTS),
        train_dataset=datasets.Dataset.from_dict({"text": sentences(24)}),
        eval_dataset=datasets.Dataset.from_dict({"text": sentences(4)}),
        processing_class=words,
        optimizer_cls_and_kwargs=OPTIMIZER,
        callbacks=[recording, SelfTuneCallback()],
    )
    trainer.train()

    def weights_in(folder):
        return load_file(folder / "model.safetensors")

    evaluated = check(trainer, recording.recorder, tmp_path, weights_in)
    ids = torch.tensor([[*row, words.eos_token_id] for row in words(sentences(4))["input_ids"]])
    model = script.llama()
    for step, loss in evaluated.items():
        model.load_state_dict(recording.recorder.weights[step - 1], strict=False)
        with torch.no_grad():
            assert loss == pytest.approx(model(input_ids=ids, labels=ids).loss.item())


def test_sentence_transformers_train_with_it(tmp_path):
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import losses

    torch.manual_seed(0)
    embedding = st.sentence_transformer.modules.StaticEmbedding(tokenizer(), embedding_dim=8)
    model = st.SentenceTransformer(modules=[embedding])
    pairs = {"anchor": sentences(24), "positive": sentences(24)[1:] + sentences(1)}
    recording = script._Recording()
    trainer = st.SentenceTransformerTrainer(
        model,
        args=st.SentenceTransformerTrainingArguments(str(tmp_path), **ARGUMENTS),
        train_dataset=datasets.Dataset.from_dict(pairs),
        eval_dataset=datasets.Dataset.from_dict(pairs),
        loss=losses.MultipleNegativesRankingLoss(model),
        optimizer_cls_and_kwargs=OPTIMIZER,
        callbacks=[recording, SelfTuneCallback()],
    )
    trainer.train()

    def weights_in(folder):
        return dict(st.SentenceTransformer(str(folder)).state_dict())

    evaluated = check(trainer, recording.recorder, tmp_path, weights_in)
    assert evaluated.keys() == {2, 4, 6}

"""The code of docs/frameworks.md runs, and its table shows nothing of ours that is wrong."""

import re
from pathlib import Path

import pytest
import torch
from ours import SCHEDULE_FREE
from torch import nn

from benchmarks.frameworks.problem import TRAINING, Net, training_batches, validation_batches

PAGE = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
SECTIONS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
CODE = {
    title: code
    for title, text in SECTIONS
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
}
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| \S+ \d", line)]


def given(title, folder):
    """The names that a section takes for known."""
    if title.startswith("transformers"):
        from benchmarks.frameworks.in_transformers import Sentences, llama

        return {"model": llama(), "dataset": Sentences(32, seed=1), "output_dir": str(folder)}
    if title == "Lightning":
        from benchmarks.frameworks.in_lightning import Module

        loaders = {"train_loader": training_batches(), "val_loader": validation_batches()}
        return {"module": Module(SCHEDULE_FREE), **loaders}
    names = {"model": Net(), "criterion": nn.functional.mse_loss, "loader": training_batches()}
    if title == "fastai":
        from fastai.data.core import DataLoaders

        names["dls"] = DataLoaders(training_batches(), validation_batches())
    inputs, targets = TRAINING
    return {**names, "Module": Net, "inputs": inputs, "targets": targets}


@pytest.mark.parametrize("title", CODE)
def test_the_code_of_a_section_runs(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in re.findall(r"^from (?!selftune)(\w+)", CODE[title], flags=re.MULTILINE):
        pytest.importorskip(package)
    names = {"__name__": "__page__", **given(title, tmp_path)}
    exec(compile(CODE[title], f"frameworks.md, {title}", "exec"), names)
    optimizer = names.get("optimizer")
    if optimizer is not None and title != "timm":
        assert torch.optim.Optimizer in type(optimizer).__mro__
        assert optimizer.state


def test_every_section_with_code_of_its_own_is_tried():
    assert len(CODE) == 9


def test_the_table_has_no_wrong_cell_in_our_rows():
    ours = [row for row in ROWS if row[1].startswith("selftune")]
    assert len(ours) == 14
    assert all(row[2:7] == ["yes"] * 5 for row in ours)

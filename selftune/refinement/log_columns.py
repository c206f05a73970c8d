"""Columns of a table and their meanings, by the names that loggers give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

GRADIENT_NORMS = ("l2", "l1", "update")
NORMS = (*GRADIENT_NORMS, "weight")
SERIES = ("step", "lr", *NORMS)
WHOLE = ("total_steps", "weight_decay", "optimizer")  # one value for the run, in every row

# Names in lower case, with "_" for blanks, hyphens and points; the first that is there counts.
ALIASES = {
    "step": (
        *("step", "global_step", "iteration", "iter", "train_step", "current_step"),
        *("optimizer_step", "opt_step", "step_num", "iter_num", "iteration_number"),
        *("num_updates", "steps", "global_steps", "iterations", "iters", "updates", "it"),
        *("num_steps", "num_iterations", "time_batch", "batch", "batch_idx"),
        "_step",  # of Weights & Biases, which counts calls of its log
    ),
    "l2": (
        *("grad_norm_clipped", "clipped_grad_norm", "grad_norm_after_clip"),
        *("grad_norm", "gradient_norm", "grad_norm_l2", "grad_l2_norm", "l2_grad_norm"),
        *("gradient_l2_norm", "l2_gradient_norm", "gradient_norm_l2", "grad_norm_2"),
        *("global_grad_norm", "grad_global_norm", "grad_norm_global", "gradient_global_norm"),
        *("global_gradient_norm", "total_grad_norm", "grad_total_norm", "grad_norm_total"),
        *("total_gradient_norm", "total_norm", "global_norm", "l2_norm_grad_global"),
        *("grad_2_norm", "grad_2_norm_total", "grad_2_0_norm_total", "grad_2_0_norm"),
        *("gradnorm", "gnorm", "grads_norm", "gradients_norm", "norm_grad", "norm_of_gradient"),
        *("grad_norm_before_clip", "grad_norm_unclipped", "unclipped_grad_norm", "norm"),
    ),
    "l1": (
        *("grad_norm_l1", "grad_l1_norm", "l1_grad_norm", "gradient_l1_norm", "grad_norm_1"),
        *("l1_gradient_norm", "gradient_norm_l1", "grad_1_norm", "grad_1_0_norm_total"),
    ),
    "weight": (
        *("weight_norm", "weights_norm", "param_norm", "params_norm", "parameter_norm"),
        *("parameters_norm", "l2_norm_param_global", "total_param_norm", "norm_param"),
    ),
    "lr": (
        *("lr", "learning_rate", "learningrate", "current_lr", "lr_0", "lr_group_0", "lr_group0"),
        *("lr_pg1", "lr_pg0", "learning_rate_0", "learning_rate_group0", "learning_rate_group_0"),
        *("optimizer_lr", "base_lr", "max_lr"),
    ),
    "total_steps": ("total_steps",),
    "weight_decay": ("weight_decay", "wd"),
    "optimizer": ("optimizer", "optimizer_name", "optim"),
    # What tells where a row stands if there are no steps.
    "tokens": (
        *("tokens", "num_tokens", "total_tokens", "n_tokens", "tokens_seen", "seen_tokens"),
        *("train_tokens", "consumed_tokens", "num_input_tokens_seen", "num_tokens_seen"),
    ),
    "samples": (
        *("samples", "consumed_samples", "samples_seen", "num_samples", "examples"),
        *("examples_seen", "num_examples", "consumed_train_samples", "images_seen"),
    ),
    "epoch": ("epoch", "epochs", "num_epochs", "current_epoch"),
}
TRAINING = {"train", "training", "trainer", "optim", "optimizer", "total", "global", "all"}
OTHER_DATA = {"eval", "evaluation", "val", "valid", "validation", "test", "dev"}
PREFIX = re.compile(rf"({'|'.join(sorted(TRAINING - {'total', 'global', 'all'}))})_(?=.)")
NOT_TRAINING = re.compile(rf"({'|'.join(sorted(OTHER_DATA))})_")
RUN = re.compile(r"(?P<run>.+) - (?P<key>.+)")  # a column of a chart of Weights & Biases
EXTREMES = ("__MIN", "__MAX")  # its columns of what an average leaves out
# Lightning's monitor of learning rates names them by the class of the optimizer.
MONITOR = re.compile(r"(?:.*/)?lr-(?P<optimizer>[A-Za-z]\w*)(?:/pg\d+|-\d+)*")
OPTIMIZER = re.compile(
    r"adam|sgd|rmsprop|lion|adagrad|adadelta|prodigy|do[w]?g|lamb|muon|sophia", re.I
)


@dataclass(frozen=True, order=True)
class Match:
    """A column that a meaning may be read from; the smallest is the best.

    alias: its place among the names of that meaning; prefix: how far what stands before is from
    what one says of training.
    """

    alias: int
    prefix: int
    column: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.alias, self.prefix


def matches(
    header: Sequence[str], said: Mapping[str, str], meaning: str, run: str | None = None
) -> list[int]:
    """The columns that match this meaning best; several if their names match equally well.

    said: their name -> our name, which goes before all else. run: if the columns are those of
    several runs, the one they have to be of.
    """
    spoken = [i for i, name in enumerate(header) if said.get(name) == meaning]
    own = [i for i, name in enumerate(header) if name == meaning and name not in said]
    if spoken or own:
        return spoken or own
    found = sorted(
        Match(ALIASES[meaning].index(base), prefix, column)
        for column, name in enumerate(header)
        if name not in said and run_of(name) in (None, run or run_of(name))
        for prefix, base in _bases(name, meaning)
        if base in ALIASES.get(meaning, ())
    )
    return list(dict.fromkeys(m.column for m in found if m.rank == found[0].rank))


def run_of(name: str) -> str | None:
    """The run that a column is of, where a chart of several was exported."""
    match = RUN.fullmatch(name)
    return match["run"] if match else None


def optimizer_of(name: str) -> str | None:
    """The optimizer's class by which Lightning's monitor names a column of learning rates."""
    match = MONITOR.fullmatch(_key(name))
    return match["optimizer"] if match and OPTIMIZER.search(match["optimizer"]) else None


def canonical(name: str) -> str:
    """A name without what programs write differently: case, blanks, hyphens, points, marks."""
    plain = name.strip().strip("\ufeff\"'").casefold()
    return re.sub(r"_{2,}", "_", re.sub(r"[\s\-.()\[\]]+", "_", plain)).rstrip("_")


def _key(name: str) -> str:
    match = RUN.fullmatch(name)
    return match["key"] if match else name


def _bases(name: str, meaning: str) -> Iterator[tuple[int, str]]:
    """The names without their prefixes, each with how far its prefix is from those of training."""
    key = _key(name)
    if key.endswith(EXTREMES):
        return
    if meaning == "lr" and MONITOR.fullmatch(key):
        yield 0, "lr"
        return
    *before, last = map(canonical, key.split("/"))
    if OTHER_DATA.intersection(before) or any(map(NOT_TRAINING.match, (*before, last))):
        return
    distance = 0 if not before else 1 if TRAINING.issuperset(before) else 2
    yield min(distance, 1), "_".join([*before, last])
    for short in (last, PREFIX.sub("", last, count=1)):
        yield distance, short
        if meaning != "step":
            yield distance, short.removesuffix("_step")  # Lightning's, beside that of an epoch

"""Recognition of a table's columns by the names that loggers give them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

GRADIENT_NORMS = ("l2", "l1", "update")
NORMS = (*GRADIENT_NORMS, "weight")
SERIES = ("step", "lr", *NORMS)
WHOLE = ("total_steps", "weight_decay", "optimizer")  # one value for the run, in every row

# Names in the form of `canonical`; the earliest name in a list that the table has is used.
ALIASES = {
    "step": (
        *("step", "global_step", "iteration", "iter", "train_step", "current_step"),
        *("optimizer_step", "opt_step", "step_num", "iter_num", "num_updates", "it"),
    ),
    "l1": ("grad_1_norm", "grad_1_0_norm_total"),
    "weight": (
        *("weight_norm", "weights_norm", "param_norm", "params_norm", "parameter_norm"),
        *("parameters_norm", "l2_norm_param_global", "total_param_norm", "norm_param"),
    ),
    "lr": ("lr", "learning_rate"),
    "total_steps": ("total_steps",),
    "weight_decay": ("weight_decay", "wd"),
    "optimizer": ("optimizer", "optimizer_name", "optim"),
    # Columns that give a row's position if there are no steps.
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
# Names that consist of these words in any order: of the required words (the first string), all,
# and any of the optional words (the second string).
WORDS = {
    "step": (
        "step",
        "global train training trainer current optimizer opt optim grad num n no nr id"
        " number idx index count counter of the",
    ),
    "l2": (
        "grad norm",
        "l2 total global train training all overall model avg average mean value of"
        " the by before pre unclipped preclip raw after post clipped postclip clip clipping",
    ),
    "l1": ("grad norm l1", "total global train training all model of the"),
    "lr": ("lr", "0 1 pg group param current last train optimizer opt base max effective"),
}
SYNONYMS: dict[str, str] = {
    synonym: word
    for word, synonyms in {
        "step": "steps iter iters iteration iterations update updates",
        "grad": "gradient gradients grads",
        "grad norm": "gradnorm gnorm",
        "norm": "norms",
        "lr": "learningrate",
    }.items()
    for synonym in synonyms.split()
}
BEFORE_CLIPPING = {"before", "pre", "unclipped", "preclip", "raw"}
AFTER_CLIPPING = {"after", "post", "clipped", "postclip"}
# Ambiguous names, used only if there is no other; "_step" counts calls of Weights & Biases' log().
LAST = {
    "step": ("time_batch", "batch", "batch_idx", "_step"),
    "l2": ("total_norm", "global_norm", "g_norm", "norm"),
}
TRAINING = {"train", "training", "trainer", "optim", "optimizer", "total", "global", "all"}
OTHER_DATA = {"eval", "evaluation", "val", "valid", "validation", "test", "dev"}
PREFIX = re.compile(rf"({'|'.join(sorted(TRAINING - {'total', 'global', 'all'}))})_(?=.)")
NOT_TRAINING = re.compile(rf"({'|'.join(sorted(OTHER_DATA))})_")
RUN = re.compile(r"(?P<run>.+) - (?P<key>.+)")  # a column in a chart exported from W&B
EXTREMES = ("__MIN", "__MAX")  # W&B's columns of minima and maxima, which are ignored
# Lightning's LearningRateMonitor names columns by the class of the optimizer.
MONITOR = re.compile(r"(?:.*/)?lr-(?P<optimizer>[A-Za-z]\w*)(?:/pg\d+|-\d+)*")
OPTIMIZER = re.compile(
    r"adam|sgd|rmsprop|lion|adagrad|adadelta|prodigy|do[w]?g|lamb|muon|sophia", re.I
)


@dataclass(frozen=True, order=True)
class Match:
    """A column that may have a certain meaning; the smallest match is the best.

    alias: the rank of its name among the names for that meaning.
    prefix: 0 without a prefix such as "train/", 1 with one for training, 2 with another.
    """

    alias: int
    prefix: int
    column: int

    @property
    def rank(self) -> tuple[int, int]:
        return self.alias, self.prefix


def matches(
    header: Sequence[str], meanings: Mapping[str, str], meaning: str, run: str | None = None
) -> list[int]:
    """The columns that match this meaning best; several if their names match equally well.

    meanings: name of a column -> its meaning, as given by the user, which takes precedence.
    run: the run that the columns have to belong to, in a table of several runs.
    """
    chosen = [i for i, name in enumerate(header) if meanings.get(name) == meaning]
    own = [i for i, name in enumerate(header) if name == meaning and name not in meanings]
    if meaning == "update" and own == matches(header, meanings, "step", run):
        own = []  # the only column of steps is named "update", as it counts updates
    if chosen or own:
        return chosen or own
    found = sorted(
        Match(rank, prefix, column)
        for column, name in enumerate(header)
        if name not in meanings and run_of(name) in (None, run or run_of(name))
        for prefix, base in _bases(name, meaning)
        if (rank := _rank(base, meaning)) is not None
    )
    return list(dict.fromkeys(m.column for m in found if m.rank == found[0].rank))


def run_of(name: str) -> str | None:
    """The run that a column belongs to, in a chart of several runs exported from W&B."""
    match = RUN.fullmatch(name)
    return match["run"] if match else None


def optimizer_of(name: str) -> str | None:
    """The optimizer's class in the name of a column of Lightning's LearningRateMonitor."""
    match = MONITOR.fullmatch(_key(name))
    return match["optimizer"] if match and OPTIMIZER.search(match["optimizer"]) else None


def canonical(name: str) -> str:
    """A name in lower case, with "_" for blanks, hyphens, points, brackets and camel case."""
    plain = re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", name.strip().strip("\ufeff\"'")).casefold()
    return re.sub(r"_{2,}", "_", re.sub(r"[\s\-.()\[\]]+", "_", plain)).rstrip("_")


def _rank(name: str, meaning: str) -> int | None:
    """The rank of a name among those for a meaning, 0 being the best; None if it is not one."""
    plain = re.sub(r"grad_2(_0)?_norm", "grad_norm", name)
    found: list[str] = re.findall(r"l[12]|[a-z]+|\d+", plain)
    words = {word for w in found for word in SYNONYMS.get(w, w).split()}
    if {"learning", "rate"} <= words:
        words = words - {"learning", "rate"} | {"lr"}
    names, last = ALIASES.get(meaning, ()), LAST.get(meaning, ())
    if name in names:
        return names.index(name)
    if name in last:
        return 200 + last.index(name)
    needed, others = (set(words.split()) for words in WORDS.get(meaning, ("?", "")))
    if not needed <= words <= needed | others:
        return None
    before, after = bool(words & BEFORE_CLIPPING), bool(words & AFTER_CLIPPING)
    if words & {"clip", "clipping"} and not (before or after):
        return None  # the threshold of clipping
    return 100 * (1 + before - (after and not before)) + len(words)


def _key(name: str) -> str:
    match = RUN.fullmatch(name)
    return match["key"] if match else name


def _bases(name: str, meaning: str) -> Iterator[tuple[int, str]]:
    """Variants of a name without its prefixes, each with a rank of its prefix (see `Match`)."""
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
            yield distance, short.removesuffix("_step")  # Lightning logs NAME_step and NAME_epoch

"""Recognition of logs printed as text, which are refused with a command that makes a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The characters of a line that are compared: a few expressions take time with a line's square.
LONGEST = 2000


@dataclass(frozen=True)
class TextLog:
    """The format of a program's printed log.

    line: a regular expression that finds a line of it.
    sed: an extended regular expression whose groups are a step and a gradient norm; None if the
        lines contain no gradient norm.
    instead: a file of the same program that can be read.
    """

    program: str
    line: str
    sed: str | None = None
    instead: str = "a table with a column of steps and one of gradient norms"


TEXT_LOGS = (
    TextLog("llm.c's main.log", r"^s:\d+ (trl|tel|eval):", r"^s:([0-9]+) .*norm:([^ ]+).*"),
    TextLog(
        "a log of llm.c or nanochat",
        r"^step:?\s+\d+(/\d+)?\s.*\bnorm:?\s",
        r"^step:? +([0-9]+).* norm:? *([0-9.eE+-]+).*",
    ),
    TextLog(
        "torchtitan's log",
        r"\bstep:\s*\d+\s+loss:\s*[\d.]+\s+grad_norm:",
        r".*step: *([0-9]+) .*grad_norm: *([0-9.eE+-]+).*",
    ),
    TextLog("torchtitan's log", r"\bstep:\s*\d+\s+loss:\s*[\d.]+\s+(memory|tps):"),
    TextLog(
        "Megatron-LM's log",
        r"\biteration\s+\d+/\s*\d+ \|",
        r".*iteration +([0-9]+)/.*grad norm: *([0-9.eE+-]+).*",
    ),
    TextLog("nanoGPT's log", r"^(iter \d+: loss|step \d+: train loss) "),
    TextLog("modded-nanogpt's log", r"^step:\d+/\d+ (train|val)_loss:"),
    TextLog("a print-out of transformers' Trainer", r"^\{'\w+': ", instead="trainer_state.json"),
    TextLog("fairseq's log", r"\| (train|train_inner) \| .*\bgnorm\b"),
    TextLog("DeepSpeed's log", r"\bstep=\d+, skipped=\d+, lr=\["),
    *(
        TextLog(
            "a program's print-out",
            rf"\b{word}:?[ =]+\[?\d+.*\b{norm}:?[ =]+[\d.]",
            rf".*{word}:?[ =]+\[?([0-9]+).*{norm}:?[ =]+([0-9.eE+-]+).*",
        )
        for word in ("step", "iter", "iteration", "Step", "Iteration")
        for norm in ("grad_norm", "grad norm", "gnorm", "gradient norm", "grad-norm")
    ),
    TextLog("a progress bar of Keras, tqdm or Lightning", r"^Epoch \d+/\d+$|\d%\|.*\|"),
)


def refuse_text_log(path: str | Path, head: str) -> None:
    """Raise ValueError, with the remedy, if the beginning of the file is a printed log."""
    lines = [COLOUR.sub("", line).strip()[:LONGEST] for line in head.splitlines()[:200]]
    for log in TEXT_LOGS:
        if any(re.search(log.line, line) for line in lines):
            raise ValueError(f"{path} is {log.program}, a text that is not read: {_remedy(log)}")


def _remedy(log: TextLog) -> str:
    if log.sed is None:
        return f"give {log.instead}"
    return rf"make a table of it: (echo step,grad_norm; sed -nE 's#{log.sed}#\1,\2#p' FILE)"

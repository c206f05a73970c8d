"""A warning at the end of a program that trained an average and never used it."""

from __future__ import annotations

import atexit
import warnings
from typing import NamedTuple

from selftune.optim.engine.remarks import user_line

# Shorter trainings are no reason to warn: their model may be meant to be thrown away.
ENOUGH_STEPS = 100


class AverageUse:
    """Whether an optimizer's evaluation weights were ever taken or saved.

    It refers to nothing else, as it is kept until the program ends.
    """

    is_used = False


class Training(NamedTuple):
    """An optimizer with an average after enough steps, and the line that calls its `step`."""

    name: str
    average: AverageUse
    file: str
    line: int


_trainings: list[Training] = []


def expect_use(name: str, average: AverageUse) -> None:
    """Warn at the end of the program, unless the evaluation weights are used before."""
    _trainings.append(Training(name, average, *user_line()))


@atexit.register
def warn_of_unused() -> None:
    """Warn of the first optimizer whose evaluation weights were not used, and clear the list."""
    unused = [training for training in _trainings if not training.average.is_used]
    _trainings.clear()
    for name, _, file, line in unused[:1]:
        warnings.warn_explicit(
            f"the evaluation weights of {name} were never used: the program evaluated or saved its "
            "training weights, which are worse; attach(model, optimizer), or call optimizer.eval() "
            "before model.state_dict()",
            UserWarning,
            file,
            line,
        )

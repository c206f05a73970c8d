"""image_vit at four times the width: does the order of methods change with size?

To stay cheap it has two blocks in place of four, sees four patches an image in place of sixteen,
and is judged on fewer images.
"""

from functools import partial

from ...workload import Splits, Workload
from .. import images
from ..image_vit.data import training_batches
from ..image_vit.model import ViT


def load() -> Splits:
    """As images.load, with every fifth image of validation and every fourth of test."""
    splits = images.load()
    validation = {name: values[::5] for name, values in splits.validation.items()}
    test = {name: values[::4] for name, values in splits.test.items()}
    return Splits(splits.train, validation, test)


WORKLOAD = Workload(
    name="vit_wide4",
    dataset="fashion",
    metric=images.METRIC,
    batch_size=16,
    step_hint=400,
    load=load,
    build_model=partial(ViT, patch=14, width=192, num_blocks=2),
    training_batches=training_batches,
    loss=images.loss,
    evaluate=images.evaluate,
)

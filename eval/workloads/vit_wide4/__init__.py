"""image_vit at four times the width, to see whether the order of methods changes with size.

To stay cheap, it has two blocks instead of four, four patches per image instead of sixteen, and
fewer validation and test images.
"""

from functools import partial

from ...workload import Splits, Workload
from .. import images
from ..image_vit.data import training_batches
from ..image_vit.model import ViT


def load() -> Splits:
    """As images.load, with every fifth validation image and every fourth test image."""
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

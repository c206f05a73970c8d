"""A day of weather readings at an airport, and the temperature in the twelve hours after it."""

import math
from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ...data import read
from ...workload import Arrays, Batch, Splits
from ..shuffled import shuffled

PAST = 24  # hours of input
FUTURE = 12  # hours to forecast
STRIDE = 3  # hours between the starts of validation and test windows
EVALUATION_BATCH = 300


def load() -> Splits:
    """Windows that lie wholly within one split.

    past (window, PAST, input): readings, standardised with the training mean and deviation, and
    the hour of the day as sine and cosine; future (window, FUTURE): standardised temperatures;
    degree: one degree Fahrenheit in standardised units.
    """
    arrays = read("weather")
    readings = torch.from_numpy(arrays["readings"])  # (airport, hour, reading)
    split_of_hour = torch.from_numpy(arrays["split"])
    trained_on = readings[:, split_of_hour == 0].flatten(0, 1).double()
    mean, std = trained_on.mean(0), trained_on.std(0)
    angle = torch.from_numpy(arrays["hour"]) * (2 * math.pi / 24)
    clock = torch.stack([angle.sin(), angle.cos()], dim=1).expand(len(readings), -1, -1)
    inputs = torch.cat([((readings - mean) / std).float(), clock], dim=2)
    windows = rearrange(  # without copying
        inputs.unfold(1, PAST + FUTURE, 1), "airport start input hour -> start airport hour input"
    )
    split_of_window = split_of_hour.unfold(0, PAST + FUTURE, 1)

    def split(number: int, stride: int) -> Arrays:
        starts = (split_of_window == number).all(dim=1).nonzero().flatten()[::stride]
        chosen = windows[starts].flatten(0, 1)  # (window, hour, input)
        return {
            "past": chosen[:, :PAST].contiguous(),
            "future": chosen[:, PAST:, 0].contiguous(),
            "degree": 1 / float(std[0]),
        }

    return Splits(split(0, 1), split(1, STRIDE), split(2, STRIDE))


def training_batches(train: Arrays, batch_size: int, generator: Generator) -> Iterator[Batch]:
    """(past, future); every window at most once per epoch."""
    return shuffled((train["past"], train["future"]), batch_size, generator)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean absolute error of all hours, in standard deviations of the temperature."""
    past, future = batch
    return F.l1_loss(model(past), future)


def evaluate(model: nn.Module, split: Arrays) -> float:
    """Mean absolute error of all hours in degrees Fahrenheit."""
    batches = zip(
        split["past"].split(EVALUATION_BATCH), split["future"].split(EVALUATION_BATCH), strict=True
    )
    total = sum(F.l1_loss(model(past), future, reduction="sum") for past, future in batches)
    return float(total) / split["future"].numel() / split["degree"]

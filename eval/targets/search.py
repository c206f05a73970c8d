"""The calibrated baseline's family, and quasi-random configurations of it."""

from dataclasses import asdict, dataclass

from torch import nn

from selftune import optim, schedules

from ..methods import Built
from ..results import Record
from ..trial import Trial
from ..workload import Workload
from .protocol import PROTOCOL, Sizes, again

SEED = 1  # the main command's default is 0, so that it does not use the seeds of the targets
FIRST_NEW_SEED = 1000  # beyond any number of configurations
WARMUPS = (0.02, 0.05, 0.1)  # of the steps


@dataclass(frozen=True)
class Configuration:
    """NAdamW with warm-up and cosine decay to zero; all parameters are decayed."""

    lr: float
    one_minus_beta1: float
    one_minus_beta2: float
    weight_decay: float
    warmup: float

    def __call__(self, model: nn.Module, num_steps: int) -> Built:
        optimizer = optim.NAdamW(
            model.parameters(),
            lr=self.lr,
            betas=(1 - self.one_minus_beta1, 1 - self.one_minus_beta2),
            weight_decay=self.weight_decay,
        )
        schedule = schedules.cosine(num_steps).with_warmup(round(self.warmup * num_steps))
        return optimizer, schedules.ScheduleLR(optimizer, schedule), None

    def __str__(self) -> str:
        return (
            f"NAdamW, lr {self.lr:.4g}, beta1 {1 - self.one_minus_beta1:.4f}, "
            f"beta2 {1 - self.one_minus_beta2:.5f}, weight decay {self.weight_decay:.4g}, "
            f"warm-up {self.warmup:.0%}, cosine"
        )


def configurations(number: int) -> list[Configuration]:
    """The first points of a scrambled Sobol sequence over the search space.

    AlgoPerf's ranges, widened for small models.
    """
    from scipy.stats import qmc  # imported here: it takes a second, and the runs do not need it

    points = qmc.Sobol(5, scramble=True, rng=SEED).random_base2((number - 1).bit_length())
    return [
        Configuration(
            lr=_log_uniform(point[0], 1e-4, 3e-2),
            one_minus_beta1=_log_uniform(point[1], 4e-3, 0.2),
            one_minus_beta2=_log_uniform(point[2], 1e-3, 0.1),
            weight_decay=_log_uniform(point[3], 5e-3, 1.0),
            warmup=WARMUPS[int(point[4] * len(WARMUPS))],
        )
        for point in points[:number]
    ]


def search_trials(workload: Workload, sizes: Sizes = PROTOCOL, device: str = "cpu") -> list[Trial]:
    """One trial for each configuration, each with another seed."""
    return [
        _trial(workload, configuration, "search", index, sizes, device)
        for index, configuration in enumerate(configurations(sizes.configurations))
    ]


def trials_with_new_seeds(
    workload: Workload, best: Record, sizes: Sizes = PROTOCOL, device: str = "cpu"
) -> list[Trial]:
    """Trials of the search's best configuration with new seeds."""
    configuration = Configuration(**best["configuration"])
    return [
        _trial(workload, configuration, again(best["study"]), FIRST_NEW_SEED + index, sizes, device)
        for index in range(sizes.seeds)
    ]


def _trial(
    workload: Workload,
    configuration: Configuration,
    method: str,
    study: int,
    sizes: Sizes,
    device: str,
) -> Trial:
    return Trial(
        workload=workload,
        method=method,
        configuration=str(configuration),
        build=configuration,
        study=study,
        seed=SEED,
        budget=1.0,
        target=None,
        device=device,
        details={"configuration": asdict(configuration), "protocol": asdict(sizes)},
    )


def _log_uniform(point: float, low: float, high: float) -> float:
    return float(low * (high / low) ** point)

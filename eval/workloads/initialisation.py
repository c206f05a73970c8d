"""Initial weights as AlgoPerf draws them where it says nothing else."""

from torch import Tensor, nn

TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut off at -2 and 2


def lecun_normal_(weight: Tensor) -> None:
    """Normal, cut off at two standard deviations, with variance 1 / fan_in.

    weight: (out, in, ...), as convolutions and linear layers have it.
    """
    std = weight[0].numel() ** -0.5 / TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

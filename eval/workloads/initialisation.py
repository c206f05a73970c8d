"""AlgoPerf's default initial weights."""

from torch import Tensor, nn

TRUNCATED_STD = 0.87962566103423978  # of a standard normal truncated at -2 and 2


def lecun_normal_(weight: Tensor) -> None:
    """Fill `weight` from a normal truncated at two standard deviations, with variance 1 / fan_in.

    weight: (out, in, ...), as in convolutions and linear layers.
    """
    std = weight[0].numel() ** -0.5 / TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

"""A frozen language model with trainable low-rank adapters."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data import read
from ..text_gpt.model import GPT

RANK = 4
SCALE = 2.0  # alpha / rank of the paper


class AdaptedLinear(nn.Module):
    """A frozen linear layer plus a trainable low-rank product, SCALE * B A.

    Hu et al., LoRA: Low-rank adaptation of large language models, 2021, section 4.1.
    https://arxiv.org/abs/2106.09685

    B starts at zero, so that the layer starts as the frozen one.
    """

    def __init__(self, frozen: nn.Linear, rank: int = RANK) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, frozen.in_features) * frozen.in_features**-0.5)
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + SCALE * F.linear(F.linear(x, self.a), self.b)


def adapted_gpt() -> GPT:
    """The pretrained model with an adapter in every linear layer; only adapters are trained."""
    model = GPT()
    model.load_state_dict(
        {name: torch.from_numpy(array).float() for name, array in read("pretrained_gpt").items()}
    )
    model.requires_grad_(False)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in linear:
        parent, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(model.get_submodule(parent), child, AdaptedLinear(layer))
    return model

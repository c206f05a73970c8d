"""A recurrent network that reads a day of weather and forecasts the temperature."""

from torch import Tensor, nn

from .data import FUTURE


class GRU(nn.Module):
    """Cho et al., Learning phrase representations using RNN encoder-decoder, 2014: gated units.

    https://arxiv.org/abs/1406.1078

    All hours are forecast at once from the last hidden state. Initial weights are PyTorch's.
    """

    def __init__(self, num_inputs: int = 10, width: int = 48, num_layers: int = 1) -> None:
        super().__init__()
        self.recurrent = nn.GRU(num_inputs, width, num_layers, batch_first=True)
        self.output = nn.Linear(width, FUTURE)

    def forward(self, past: Tensor) -> Tensor:
        """past: (window, hour, input). Returns temperatures (window, FUTURE)."""
        states, _ = self.recurrent(past)  # (window, hour, width)
        return self.output(states[:, -1])

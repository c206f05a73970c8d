"""AdamW with the most common settings."""

from torch import nn

from selftune import optim, schedules

from .method import Built, Method


def adamw(model: nn.Module, num_steps: int) -> Built:
    """Common, untuned settings: lr 1e-3, torch's weight decay, linear decay."""
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return optimizer, schedules.ScheduleLR(optimizer, schedules.linear(num_steps)), None


ADAMW = Method(
    "adamw",
    "AdamW, lr .001, betas .9/.999, linear decay",
    "decoupled .01 x lr, all parameters, as torch's default",
    adamw,
)

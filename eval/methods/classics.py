"""Published optimizers that are not AlgoPerf submissions, with the settings of their papers."""

import torch
from torch import Tensor, nn

from selftune import schedules

from . import horizon
from .method import Built, Method
from .rule import Group, Rule, State


class LAMB(Rule):
    """Adam with the step of each tensor scaled to the norm of its weights.

    You et al., Large Batch Optimization for Deep Learning, 2020, Algorithm 2, with phi the
    identity. https://arxiv.org/abs/1904.00962
    """

    def init_state(self, p: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        (beta1, beta2), step = group["betas"], state["step"]
        m = state["exp_avg"].lerp_(gradient, 1 - beta1) / (1 - beta1**step)
        v = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        direction = m / ((v / (1 - beta2**step)).sqrt() + 1e-6)
        direction.add_(p, alpha=group["weight_decay"])
        ratio = p.norm() / direction.norm()
        # The ratio is 1 if the weights are zero, or if the direction is.
        ratio = torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0)
        p.sub_(group["lr"] * ratio * direction)


class SGDSaI(Rule):
    """SGD with momentum; the first gradient of each tensor sets its learning rate.

    Xu et al., No More Adam, 2024, Algorithm 1. https://arxiv.org/abs/2412.11768
    A tensor's factor is the norm of its first gradient divided by the standard deviation of the
    gradient's entries; for a tensor of one dimension or one row, it is the norm.
    """

    def init_state(self, p: Tensor) -> State:
        gradient = p.grad
        assert gradient is not None
        factor = gradient.norm()
        if p.ndim > 1 and len(p) > 1:
            deviation = gradient.std()
            # If all entries are equal, the ratio would be huge.
            factor = torch.where(deviation > 0, factor / (deviation + 1e-8), factor)
        return {"momentum": torch.zeros_like(p), "factor": factor}

    def update(self, p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        lr = group["lr"]
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        p.mul_(1 - lr * group["weight_decay"])
        p.sub_(lr * state["factor"] * momentum)


def adagrad(model: nn.Module, num_steps: int) -> Built:
    """Duchi et al., Adaptive Subgradient Methods, 2011, at torch's defaults: lr .01, no decay.

    https://jmlr.org/papers/v12/duchi11a.html
    """
    return torch.optim.Adagrad(model.parameters(), lr=0.01), None, None


def rmsprop(model: nn.Module, num_steps: int) -> Built:
    """Hinton's lecture 6e of 2012: lr .001, decay .9, no schedule.

    https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
    """
    return torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9), None, None


def adadelta(model: nn.Module, num_steps: int) -> Built:
    """Zeiler, ADADELTA, 2012, Algorithm 1, which has no learning rate: rho .95, eps 1e-6.

    https://arxiv.org/abs/1212.5701
    """
    return torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-6), None, None


def lamb(model: nn.Module, num_steps: int) -> Built:
    """The paper's settings for BERT at its smallest batch size, 512: lr 5e-3 / 2^3, linear decay.

    The warm-up lasts 1/320 of the run. Deviations: batches are smaller still; weight decay
    includes vectors, which BERT's leaves out.
    """
    optimizer = LAMB(model.parameters(), lr=5e-3 / 2**3, betas=(0.9, 0.999), weight_decay=0.01)
    steps = horizon.algoperf_steps(num_steps)
    schedule = schedules.linear(steps).with_warmup(round(steps / 320))
    return optimizer, schedules.ScheduleLR(optimizer, schedule), None


def sgd_sai(model: nn.Module, num_steps: int) -> Built:
    """The paper's rule with the defaults of pytorch_optimizer's class of this name, and a cosine.

    lr .01, momentum .9; the paper uses a different learning rate for every task.
    """
    optimizer = SGDSaI(model.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-2)
    return optimizer, horizon.cosine(optimizer, num_steps, warmup=0.0), None


PUBLISHED = (
    Method("adagrad", "AdaGrad, lr .01, no schedule", "none, torch's default", adagrad),
    Method("rmsprop", "RMSProp, lr .001, decay .9, no schedule", "none", rmsprop),
    Method("adadelta", "Adadelta, rho .95, eps 1e-6, no schedule", "none", adadelta),
    Method(
        "lamb",
        "LAMB, lr .000625, betas .9/.999, linear decay over 4/3 x after 1/320 warm-up",
        "decoupled .01 x the layer's step, all parameters",
        lamb,
    ),
    Method(
        "sgd_sai",
        "SGD-SaI, lr .01, momentum .9, cosine over 4/3 x",
        "decoupled .01 x lr, all parameters, the package's default",
        sgd_sai,
    ),
)

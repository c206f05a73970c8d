"""Slow transcriptions of the methods: one tensor at a time, every sequence kept.

Each takes a list of parameters and, parallel to it, the options of each. Nothing is shared with
the library: where it eliminates a sequence, cancels a factor or skips a pass, these do not.
A parameter whose gradient is None is left alone, and counts its own steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Reference:
    """`params` are where gradients are taken; `step` moves them."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]]) -> None:
        self.params = [p.clone() for p in params]
        self.options = options
        self.count = [0] * len(params)

    def zeros(self) -> list[Tensor]:
        return [torch.zeros_like(p) for p in self.params]

    def copies(self) -> list[Tensor]:
        return [p.clone() for p in self.params]

    def evaluation_weights(self) -> list[Tensor]:
        return self.params

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        """`schedule` multiplies every lr."""
        raise NotImplementedError


class AdamW(Reference):
    """Loshchilov & Hutter 2019, Algorithm 2, with the decay multiplied by lr."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]]) -> None:
        super().__init__(params, options)
        self.m, self.v = self.zeros(), self.zeros()

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, o = self.count[i], self.options[i]
            beta1, beta2 = o["betas"]
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * g**2
            m_hat = self.first_moment(self.m[i], g, beta1) / (1 - beta1**t)
            v_hat = self.v[i] / (1 - beta2**t)
            step = m_hat / (v_hat.sqrt() + o["eps"]) + o["weight_decay"] * self.params[i]
            self.params[i] = self.params[i] - schedule * o["lr"] * step

    def first_moment(self, m: Tensor, g: Tensor, beta1: float) -> Tensor:
        return m


class NAdamW(AdamW):
    """AlgoPerf's: the momentum is taken one step further along the present gradient."""

    def first_moment(self, m: Tensor, g: Tensor, beta1: float) -> Tensor:
        return beta1 * m + (1 - beta1) * g


class ScheduleFree(Reference):
    """x, y and z, kept apart. Defazio et al. 2024, equations 2 to 4."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]]) -> None:
        super().__init__(params, options)
        self.x, self.z = self.copies(), self.copies()
        self.largest_lr = [0.0] * len(params)
        self.weight_sum = [0.0] * len(params)

    def evaluation_weights(self) -> list[Tensor]:
        return self.x

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, o, beta = self.count[i], self.options[i], self.interpolation(i)
            gamma = schedule * o["lr"] * self.warmed_up(i)
            self.largest_lr[i] = max(self.largest_lr[i], gamma)
            weight = t ** o["r"] * self.largest_lr[i] ** 2
            self.weight_sum[i] += weight
            c = weight / self.weight_sum[i] if weight > 0 else 0
            if o.get("averaging_constant") is not None:
                c = min(1, (1 - beta) * o["averaging_constant"] * c)
            decayed = {"x": self.x, "y": self.params, "z": self.z}[o.get("decay_at", "y")][i]
            u = self.direction(i, g) + o["weight_decay"] * decayed
            self.z[i] = self.z[i] - gamma * u
            self.x[i] = (1 - c) * self.x[i] + c * self.z[i]
            self.params[i] = (1 - beta) * self.z[i] + beta * self.x[i]

    def warmed_up(self, i: int) -> float:
        t, warmup_steps = self.count[i], self.options[i]["warmup_steps"]
        return t / warmup_steps if t < warmup_steps else 1.0

    def direction(self, i: int, g: Tensor) -> Tensor:
        raise NotImplementedError

    def interpolation(self, i: int) -> float:
        raise NotImplementedError


class ScheduleFreeSGD(ScheduleFree):
    def direction(self, i: int, g: Tensor) -> Tensor:
        return g

    def interpolation(self, i: int) -> float:
        return self.options[i]["momentum"]


class ScheduleFreeAdamW(ScheduleFree):
    """Algorithm 1, with the second moment's bias correction in the denominator."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]]) -> None:
        super().__init__(params, options)
        self.m, self.v = self.zeros(), self.zeros()

    def direction(self, i: int, g: Tensor) -> Tensor:
        t, o = self.count[i], self.options[i]
        mu, beta2 = o["inner_momentum"], o["betas"][1]
        self.m[i] = mu * self.m[i] + (1 - mu) * g
        self.v[i] = beta2 * self.v[i] + (1 - beta2) * g**2
        return self.m[i] / (1 - mu**t) / ((self.v[i] / (1 - beta2**t)).sqrt() + o["eps"])

    def interpolation(self, i: int) -> float:
        return self.options[i]["betas"][0]


class ScheduleFreeRAdam(ScheduleFreeAdamW):
    """Liu et al. 2020, Algorithm 2, without the steps of SGD: r_t in place of a warm-up."""

    def warmed_up(self, i: int) -> float:
        t, beta2 = self.count[i], self.options[i]["betas"][1]
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length <= 4:
            return 0.0
        over = (length - 4) * (length - 2) * longest
        return math.sqrt(over / ((longest - 4) * (longest - 2) * length))


class Prodigy(Reference):
    """Mishchenko & Defazio 2024, Algorithm 4: (1 - beta3) and d_k^2 where the paper has them.

    `common` holds what belongs to d and so to all parameters.
    """

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.d = self.d_max = common["d0"]
        self.r = 0.0
        self.x0 = self.copies()
        self.s, self.m, self.v = self.zeros(), self.zeros(), self.zeros()

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        common, d = self.common, self.d
        beta1, beta2 = common["betas"]
        beta3 = math.sqrt(beta2) if common["beta3"] is None else common["beta3"]
        inner, s_l1 = 0.0, 0.0
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, o, x = self.count[i], self.options[i], self.params[i]
            gamma = schedule * common["lr"]
            if common["use_bias_correction"]:
                gamma *= math.sqrt(1 - beta2**t) / (1 - beta1**t)
            sampled = slice(None, None, common["slice_p"])
            there = (g * (self.x0[i] - x)).flatten()[sampled]
            inner += gamma * d**2 * there.sum().item()
            in_s = 1.0 if common["safeguard_warmup"] else gamma
            self.s[i] = beta3 * self.s[i] + (1 - beta3) * in_s * d**2 * g
            s_l1 += self.s[i].flatten()[sampled].abs().sum().item()
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * d * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * d**2 * g**2
            step = self.m[i] / (self.v[i].sqrt() + d * o["eps"]) + o["weight_decay"] * x
            self.params[i] = x - gamma * d * step
        self.r = beta3 * self.r + (1 - beta3) * inner
        if s_l1 == 0:
            return
        d_hat = common["d_coef"] * self.r / s_l1
        if d == common["d0"]:  # the first jump is not bound by growth_rate
            d = max(d, d_hat)
        self.d_max = max(self.d_max, d_hat)
        self.d = min(self.d_max, d * common["growth_rate"])


class ScheduleFreeProdigy(Reference):
    """Prodigy's d and second moment; x, y and z, kept apart. d compares with p0 - z."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.d = self.d_max = common["d0"]
        self.numerator = 0.0
        self.x, self.z, self.z0 = self.copies(), self.copies(), self.copies()
        self.s, self.v = self.zeros(), self.zeros()
        self.weights: list[float] = []  # of all steps so far
        self.largest_lr = [0.0] * len(params)
        self.own_weights: list[list[float]] = [[] for _ in params]
        self.largest_step = 0.0

    def evaluation_weights(self) -> list[Tensor]:
        return self.x

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        common, d = self.common, self.d
        beta1, beta2 = common["betas"]
        beta3 = math.sqrt(beta2)
        gamma = schedule * common["lr"]
        self.largest_step = max(self.largest_step, gamma * d)
        self.weights.append((len(self.weights) + 1) ** common["r"] * self.largest_step**2)
        inner, s_l1 = 0.0, 0.0
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, o, y = self.count[i], self.options[i], self.params[i]
            sampled = slice(None, None, common["slice_p"])
            there = (g * (self.z0[i] - self.z[i])).flatten()[sampled]
            inner += gamma * d**2 * there.sum().item()
            in_s = 1.0 if common["safeguard_warmup"] else gamma
            self.s[i] = beta3 * self.s[i] + in_s * d**2 * g
            s_l1 += self.s[i].flatten()[sampled].abs().sum().item()
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * d**2 * g**2
            u = d * g / ((self.v[i] / (1 - beta2**t)).sqrt() + d * o["eps"])
            self.z[i] = self.z[i] - gamma * d * (u + o["weight_decay"] * y)
            self.largest_lr[i] = max(self.largest_lr[i], gamma)
            self.own_weights[i].append(t ** common["r"] * self.largest_lr[i] ** 2)
            shares = (each[-1] / sum(each) for each in (self.weights, self.own_weights[i]))
            c = max(shares)
            self.x[i] = (1 - c) * self.x[i] + c * self.z[i]
            self.params[i] = (1 - beta1) * self.z[i] + beta1 * self.x[i]
        self.numerator = beta3 * self.numerator + inner
        if s_l1 == 0:
            return
        d_hat = common["d_coef"] * self.numerator / s_l1
        if d == common["d0"]:
            d = max(d, d_hat)
        self.d_max = max(self.d_max, d_hat)
        self.d = min(self.d_max, d * common["growth_rate"])


class ScheduleFreePlus(Reference):
    """Defazio 2026, with a cap, and with the tangent's slope towards z as it was built."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.x, self.z = self.copies(), self.copies()
        self.m, self.v = self.zeros(), self.zeros()
        self.calls, self.e, self.largest = 0, 0.0, 0.0
        self.weights: list[float] = []
        self.own_weights: list[list[float]] = [[] for _ in params]

    def evaluation_weights(self) -> list[Tensor]:
        return self.x

    def step(self, grads: list[Tensor | None], schedule: float = 1.0, loss: float = 0.0) -> None:
        o, self.calls = self.common, self.calls + 1
        beta1, beta2 = o["betas"]
        present = [i for i, g in enumerate(grads) if g is not None]
        slope = sum((grads[i] * (self.z[i] - self.params[i])).sum().item() for i in present)
        l1 = sum(grads[i].abs().sum().item() for i in present) * math.sqrt(math.pi / 2)
        self.e = o["polyak_beta"] * self.e + (1 - o["polyak_beta"]) * l1
        e_hat = self.e / (1 - o["polyak_beta"] ** self.calls)
        gamma = min(schedule * o["lr"] * max(0, loss + slope) / e_hat, o["max_step_size"])
        self.largest = max(self.largest, gamma)
        shared = 1.0
        if self.calls > o["c_warmup"]:
            self.weights.append(self.calls ** o["r"] * self.largest**2)
            if self.weights[-1] > 0:
                shared = self.weights[-1] / sum(self.weights)
        for i in present:
            g, y = grads[i], self.params[i]
            progress = min(self.count[i] / o["anneal_steps"], 1) if o["anneal_steps"] else 0
            ends = math.log(1 - o["beta"]), math.log(1 - o["beta_max"])
            beta = 1 - math.exp((1 - progress) * ends[0] + progress * ends[1])
            self.count[i] += 1
            t = self.count[i]
            self.own_weights[i].append(t ** o["r"])
            c = max(shared, self.own_weights[i][-1] / sum(self.own_weights[i]))
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * g**2
            m_hat, v_hat = self.m[i] / (1 - beta1**t), self.v[i] / (1 - beta2**t)
            self.z[i] = self.z[i] - gamma**2 * self.options[i]["weight_decay"] * y
            self.z[i] = self.z[i] - gamma * m_hat / (v_hat.sqrt() + self.options[i]["eps"])
            self.x[i] = (1 - c) * self.x[i] + c * self.z[i]
            self.params[i] = beta * self.x[i] + (1 - beta) * self.z[i]


class DAdaptSGD(Reference):
    """Defazio & Mishchenko 2023, Algorithm 4, with z kept."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.d = common["d0"]
        self.inner = 0.0
        self.g0_norm = 0.0
        self.x0 = self.copies()
        self.s, self.z = self.zeros(), self.copies()

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        if self.g0_norm == 0:
            self.g0_norm = math.sqrt(sum((g**2).sum().item() for g in grads if g is not None))
        delta = self.d * schedule * self.common["lr"] / self.g0_norm
        s_sq = 0.0
        for i, g in enumerate(grads):
            if g is None:
                continue
            o, x = self.options[i], self.params[i]
            g = g + o["weight_decay"] * x
            self.inner += delta * (g * self.s[i]).sum().item()
            self.s[i] = self.s[i] + delta * g
            s_sq += (self.s[i] ** 2).sum().item()
            self.z[i] = self.x0[i] - self.s[i]
            self.params[i] = o["momentum"] * x + (1 - o["momentum"]) * self.z[i]
        d_hat = 2 * self.inner / math.sqrt(s_sq)
        self.d = max(self.d, min(d_hat, self.d * self.common["growth_rate"]))


class DAdaptAdaGrad(Reference):
    """The dadaptation package's, with alpha from 0 and its sums taken anew at every step."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.d = common["d0"]
        self.grad_sum = 0.0
        self.x0 = self.copies()
        self.s, self.alpha = self.zeros(), self.zeros()

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        delta = self.d * schedule * self.common["lr"]
        for i, g in enumerate(grads):
            if g is None:
                continue
            o, x = self.options[i], self.params[i]
            g = g + o["weight_decay"] * x
            self.alpha[i] = self.alpha[i] + g**2
            root = self.alpha[i].sqrt() + o["eps"]
            self.grad_sum += (delta**2 * g**2 / root).sum().item()
            self.s[i] = self.s[i] + delta * g
            z = self.x0[i] - self.s[i] / root
            self.params[i] = o["momentum"] * x + (1 - o["momentum"]) * z
        roots = [a.sqrt() + o["eps"] for a, o in zip(self.alpha, self.options, strict=True)]
        pairs = zip(self.s, roots, strict=True)
        s_sum = sum((s**2 / root).sum().item() for s, root in pairs)
        d_hat = (s_sum - self.grad_sum) / sum(s.abs().sum().item() for s in self.s)
        self.d = max(self.d, min(d_hat, self.d * self.common["growth_rate"]))


class DAdaptAdam(Reference):
    """Defazio & Mishchenko 2023, Algorithm 5, in its inner-product form."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.d = common["d0"]
        self.r = 0.0
        self.s, self.m, self.v = self.zeros(), self.zeros(), self.zeros()

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        common = self.common
        beta1, beta2 = common["betas"]
        beta3 = math.sqrt(beta2)
        inner, s_l1 = 0.0, 0.0
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, o, x = self.count[i], self.options[i], self.params[i]
            delta = self.d * schedule * common["lr"]
            if common["use_bias_correction"]:
                delta *= math.sqrt(1 - beta2**t) / (1 - beta1**t)
            # s against the old v, which has not seen g.
            inner += delta * (g * self.s[i] / (self.v[i].sqrt() + o["eps"])).sum().item()
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * delta * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * g**2
            self.s[i] = beta3 * self.s[i] + (1 - beta3) * delta * g
            s_l1 += self.s[i].abs().sum().item()
            step = self.m[i] / (self.v[i].sqrt() + o["eps"]) + delta * o["weight_decay"] * x
            self.params[i] = x - step
        self.r = beta3 * self.r + (1 - beta3) * inner
        if s_l1 == 0:
            return
        d_hat = self.r / ((1 - beta3) * s_l1)
        self.d = max(self.d, min(d_hat, self.d * common["growth_rate"]))


class DoG(Reference):
    """Ivgi et al. 2023, equation (DoG): all tensors are one vector."""

    def __init__(
        self, params: list[Tensor], options: list[dict[str, Any]], common: dict[str, Any]
    ) -> None:
        super().__init__(params, options)
        self.common = common
        self.x0 = self.copies()
        self.blocks = self.split(len(params))
        self.r_bar = [0.0] * len(self.blocks)
        self.grad_sum = [0.0] * len(self.blocks)

    def split(self, number: int) -> list[list[int]]:
        """The tensors which share a step size."""
        return [list(range(number))]

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        for block, members in enumerate(self.blocks):
            present = [i for i in members if grads[i] is not None]
            if not present:
                continue
            with_decay = {
                i: grads[i] + self.options[i]["weight_decay"] * self.params[i] for i in present
            }
            r_eps = self.common["reps_rel"] * (1 + norm(self.x0[i] for i in present))
            distance = norm(self.params[i] - self.x0[i] for i in members)
            self.r_bar[block] = max(self.r_bar[block], r_eps, distance)
            grad_norm = norm(with_decay.values())
            eta = self.step_size(block, self.r_bar[block], grad_norm)
            for i, g in with_decay.items():
                lr = schedule * self.options[i]["lr"]
                self.params[i] = self.params[i] - lr * eta * g

    def step_size(self, block: int, r_bar: float, grad_norm: float) -> float:
        self.grad_sum[block] += grad_norm**2
        return r_bar / math.sqrt(self.grad_sum[block])


class LDoG(DoG):
    """DoG for every tensor by itself."""

    def split(self, number: int) -> list[list[int]]:
        return [[i] for i in range(number)]


class DoWG(DoG):
    """Khaled et al. 2023, Algorithm 1."""

    def step_size(self, block: int, r_bar: float, grad_norm: float) -> float:
        self.grad_sum[block] += r_bar**2 * grad_norm**2
        return r_bar**2 / math.sqrt(self.grad_sum[block])


class SelfTune(Reference):
    """Muon's directions (by its polynomial), NAdam's, one learnt step size, an anytime average."""

    def __init__(self, params: list[Tensor], options: list[dict[str, Any]]) -> None:
        super().__init__(params, options)
        self.m, self.v = self.zeros(), self.zeros()
        self.x0, self.x = self.copies(), self.copies()
        self.norm_sq, self.usual_sq = [0.0] * len(params), [0.0] * len(params)
        self.t, self.costs, self.gains, self.largest = 0, 0.0, 0.0, 0.0
        self.multiple = 1.0

    def evaluation_weights(self) -> list[Tensor]:
        return self.x

    def step(self, grads: list[Tensor | None], schedule: float = 1.0) -> None:
        if all(g is None for g in grads):
            return
        self.learn(grads)
        for i, g in enumerate(grads):
            if g is None:
                continue
            self.count[i] += 1
            t, p = self.count[i], self.params[i]
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            ahead = 0.9 * self.m[i] + 0.1 * g
            u = self.direction(i, t, ahead, g)
            self.norm_sq[i] = 0.9 * self.norm_sq[i] + 0.1 * norm([g]) ** 2
            self.usual_sq[i] = 0.999 * self.usual_sq[i] + 0.001 * norm([g]) ** 2
            present = math.sqrt(self.norm_sq[i] / (1 - 0.9**t))
            u = u * min(1.0, 10 * present / math.sqrt(self.usual_sq[i] / (1 - 0.999**t)))
            eta = self.multiple * schedule * self.options[i]["lr"]
            self.params[i] = p - eta * (u + self.options[i]["weight_decay"] * p)
            c = 9 / (8 + t)
            self.x[i] = (1 - c) * self.x[i] + c * self.params[i]

    def learn(self, grads: list[Tensor | None]) -> None:
        self.t += 1
        cost, gain = 0.0, 0.0
        for p, x, x0, g in zip(self.params, self.x, self.x0, grads, strict=True):
            if g is not None:
                cost += (g * (p - x)).sum().item()
                gain += (g * (x0 - x)).sum().item()
        c = 9 / (8 + self.t)
        self.costs = (1 - c) * self.costs + c * cost
        self.gains = (1 - c) * self.gains + c * gain
        self.largest = max(self.largest, abs(self.gains))
        if self.largest == 0:
            return
        worth = 0.7 * abs(self.gains)
        change = (worth - self.costs) / (abs(self.costs) + worth + 0.021 * self.largest)
        self.multiple *= math.exp(3 / (self.t + 40) * change)

    def direction(self, i: int, t: int, ahead: Tensor, g: Tensor) -> Tensor:
        rows, columns = (ahead.shape[0], ahead[0].numel()) if ahead.dim() > 1 else (1, 1)
        if min(rows, columns) > 1 and max(rows, columns) <= 8 * min(rows, columns):
            u = polar(ahead.reshape(rows, columns)).reshape(ahead.shape)
            return u * math.sqrt(max(1.0, rows / columns))
        self.v[i] = 0.99 * self.v[i] + 0.01 * g**2
        return ahead / (1 - 0.9**t) / (self.v[i] / (1 - 0.99**t)).sqrt()


def polar(matrix: Tensor) -> Tensor:
    """Muon's polynomial of the singular values, by the decomposition that it avoids."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / norm([matrix])
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


def norm(tensors: Iterable[Tensor]) -> float:
    """Of all of them as one vector."""
    return math.sqrt(sum((tensor**2).sum().item() for tensor in tensors))

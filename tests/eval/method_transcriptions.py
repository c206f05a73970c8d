"""The published methods again, in numpy, one array at a time and from their submissions' own terms.

A transcription is (gradients, weight, name, num_steps) -> weight, where gradients are those of
consecutive steps and num_steps is what the method is told.
"""

from math import cos, pi, sqrt

import numpy as np


def cosine(num_steps, warmup, share=4 / 3):
    """Multipliers of all steps: 4/3 of the steps, the first of them a warm-up."""
    steps = round(share * num_steps)
    rise = round(warmup * steps)
    return [
        (step + 1) / (rise + 1)
        if step < rise
        else (1 + cos(pi * (step - rise) / (steps - rise))) / 2
        for step in range(steps)
    ]


def adam(gradients, weight, rates, beta1, beta2, weight_decay=0.0, nesterov=False, eps=1e-8):
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=False), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        first = beta1 * m + (1 - beta1) * g if nesterov else m
        step = first / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
        weight = weight - lr * (step + weight_decay * weight)
    return weight


def newton_schulz(matrix):
    """By singular values: the iteration applies an odd polynomial to each of them."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


def muon(gradients, weight, rates, beta, nesterov, weight_decay, direction):
    m = np.zeros_like(weight)
    for g, lr in zip(gradients, rates, strict=False):
        m = beta * m + (1 - beta) * g
        update = beta * m + (1 - beta) * g if nesterov else m
        weight = weight - lr * (direction(update) + weight_decay * weight)
    return weight


def muon_torch(gradients, weight, name, num_steps):
    rates = [0.01 * factor for factor in cosine(num_steps, 0.05)]
    if weight.ndim < 2 or "embed" in name:
        return adam(gradients, weight, rates, 0.9, 0.999)

    def direction(update):
        flat = newton_schulz(update.reshape(len(update), -1)).reshape(update.shape)
        return flat * max(1, sqrt(update.shape[0] / update.shape[1]))

    return muon(gradients, weight, rates, 0.9, True, 0.0, direction)


def muon_jax(gradients, weight, name, num_steps):
    factors = cosine(num_steps, 0.0)
    lr = 0.0001357495179
    if weight.ndim < 2 or "embed" in name:
        rates = [lr * factor for factor in factors]
        return adam(gradients, weight, rates, 0.96586744, 0.8629173173, 0.01275028385, True)

    def direction(update):
        if update.ndim == 2:  # (in, out) in JAX
            kernel = newton_schulz(update.T)
            return kernel.T * max(1, sqrt(kernel.shape[1] / kernel.shape[0]))
        jax = np.einsum("oihw->hwio", update)
        kernel = jax.reshape(len(jax), -1)
        scaled = newton_schulz(kernel) * max(1, sqrt(kernel.shape[1] / kernel.shape[0]))
        return np.einsum("hwio->oihw", scaled.reshape(jax.shape))

    rates = [28.61130298 * lr * factor for factor in factors]
    return muon(gradients, weight, rates, 0.9560745273, False, 0.02397563985, direction)


def point(lr, beta1, beta2, weight_decay, warmup, nesterov=True):
    """An Adam at a point, for all parameters alike."""

    def transcription(gradients, weight, name, num_steps):
        rates = [lr * factor for factor in cosine(num_steps, warmup)]
        return adam(gradients, weight, rates, beta1, beta2, weight_decay, nesterov)

    return transcription


def cautious_nadamw(gradients, weight, name, num_steps):
    beta1, beta2 = 0.93266073836, 0.9955159689799007
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, (g, factor) in enumerate(zip(gradients, cosine(num_steps, 0.02), strict=False), 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        first = (beta1 * m + (1 - beta1) * g) / (1 - beta1**t)
        mask = np.where(first * g > 0, 1.0, 0.0)
        step = first * mask / max(mask.mean(), 1e-3) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
        weight = weight - 0.0017486387539278373 * factor * (step + 0.08121616522670176 * weight)
    return weight


def ademamix(gradients, weight, name, num_steps):
    beta1, beta2 = 0.8, 0.995
    rise = round(500_000 / 57_270 * round(4 / 3 * num_steps))
    fast, slow, v = (np.zeros_like(weight) for _ in range(3))

    def half_life(beta):
        return np.log(0.5) / np.log(beta) - 1

    for t, (g, factor) in enumerate(zip(gradients, cosine(num_steps, 0.02), strict=False), 1):
        a = t / rise
        beta3 = 0.5 ** (1 / ((1 - a) * half_life(beta1) + a * half_life(0.9995) + 1))
        fast = beta1 * fast + (1 - beta1) * g
        slow = beta3 * slow + (1 - beta3) * g
        v = beta2 * v + (1 - beta2) * g * g
        denominator = np.sqrt(v / (1 - beta2**t)) + 1e-8
        step = (fast / (1 - beta1**t) + 8 * a * slow) / denominator
        weight = weight - 2e-3 * factor * (step + 0.1 * weight)
    return weight


def adamg(gradients, weight, name, num_steps):
    beta1, beta2, beta3 = 0.95, 0.999, 0.95
    m, v, r = (np.zeros_like(weight) for _ in range(3))
    factors = cosine(num_steps, 0.02, share=1)
    for t, (g, factor) in enumerate(zip(gradients, factors, strict=False), 1):
        v = beta2 * v + (1 - beta2) * g * g
        r = beta3 * r + (1 - beta3) * 0.2 * v**0.24
        m = beta1 * m + (1 - beta1) * r * g
        denominator = np.sqrt(v / (1 - beta2**t)) + 1e-8
        weight = weight - min(factor, t**-0.5) * m / (1 - beta1**t) / denominator
    return weight


def lion(gradients, weight, name, num_steps):
    m = np.zeros_like(weight)
    for g, factor in zip(gradients, cosine(num_steps, 0.02), strict=False):
        weight = weight * (1 - 2e-4 * factor * 0.5)
        weight = weight - 2e-4 * factor * np.sign(0.95 * m + 0.05 * g)
        m = 0.98 * m + 0.02 * g
    return weight


def diloco(gradients, weight, name, num_steps):
    """An Adam whose memory outlasts the outer steps."""
    m, v, b = (np.zeros_like(weight) for _ in range(3))
    slow = weight
    for t, (g, factor) in enumerate(zip(gradients, cosine(num_steps, 0.0), strict=False), 1):
        m = 0.99 * m + 0.01 * g
        v = 0.995 * v + 0.005 * g * g
        step = m / (1 - 0.99**t) / (np.sqrt(v / (1 - 0.995**t)) + 1e-8)
        weight = weight - 0.000955 * factor * (step + 0.2424 * weight)
        if t % 75 == 0:
            moved = slow - weight
            b = 0.7675 * b + moved
            slow = slow - 0.3006 * (moved + 0.7675 * b)
            weight = slow
    return weight


def schedule_free(power, at_x):
    """Its y after all steps: the weights that training goes on from."""

    def transcription(gradients, weight, name, num_steps):
        beta, beta2, decay = 0.9, 0.9955159689799007, 0.08121616522670176
        x = y = z = weight
        v, total, rise = np.zeros_like(weight), 0.0, round(0.015 * round(4 / 3 * num_steps))
        for k, g in enumerate(gradients):
            lr = 0.0025 * min(1, (k + 1) / rise)
            total += (k + 1) ** power * lr**2
            share = (k + 1) ** power * lr**2 / total
            v = beta2 * v + (1 - beta2) * g * g
            direction = g / (np.sqrt(v / (1 - beta2 ** (k + 1))) + 1e-8)
            z = z - lr * (direction + decay * (x if at_x else y))
            x = (1 - share) * x + share * z
            y = beta * x + (1 - beta) * z
        return y

    return transcription


def lamb(gradients, weight, name, num_steps):
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    steps = round(4 / 3 * num_steps)
    rise = round(steps / 320)
    for t, g in enumerate(gradients, 1):
        decay = 1 - (t - 1 - rise) / (steps - rise)
        lr = 0.000625 * (t / (rise + 1) if t <= rise else decay)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + 0.01 * weight
        length = np.linalg.norm(weight)
        ratio = length / np.linalg.norm(step) if length > 0 else 1
        weight = weight - lr * ratio * step
    return weight


def sgd_sai(gradients, weight, name, num_steps):
    first = gradients[0]
    factor = np.linalg.norm(first)
    if first.ndim > 1 and len(first) > 1:
        factor = factor / (first.std(ddof=1) + 1e-8)
    m = np.zeros_like(weight)
    for g, lr in zip(gradients, cosine(num_steps, 0.0), strict=False):
        m = 0.9 * m + 0.1 * g
        weight = weight - 0.01 * lr * (factor * m + 0.01 * weight)
    return weight


def amos(gradients, weight, name, num_steps):
    """With gradients too short to be clipped."""
    steps = round(4 / 3 * num_steps)
    rise = round(0.02 * steps)

    def tau(sqrt_k):
        q = np.sqrt(1 - 1 / sqrt_k)
        return q * np.log(sqrt_k * (1 + q) ** 2)

    largest = 6 * 4 * 9  # the kernel of the tests' model
    xi_peak = np.sqrt(
        2 * (tau(np.sqrt(largest)) + np.sqrt(2) - 1) / (0.75 * steps * (1 - 0.02 * 2 / 3))
    )
    eta = {
        "kernel.weight": np.sqrt(1 / 36),
        "norm.weight": 1.0,
        "norm.bias": 0.5,
    }.get(name, 0.062)
    axes = (1,) if name == "embedding.weight" else tuple(range(weight.ndim))
    beta1, beta2, l2 = 0.95, 0.999, 0.002
    m, nu, b = np.zeros_like(weight), np.zeros_like(weight), 0.0
    for t, g in enumerate(gradients, 1):
        xi = xi_peak * min(1, t / (rise + 1))
        g2 = g * g
        if t > 1:
            ratio = np.maximum(1, g2 / (nu / (1 - beta2 ** (t - 1))))
            g, g2 = g / np.sqrt(ratio), g2 / ratio
        m = (1 - beta1) * g + beta1 * m
        nu = beta2 * nu + g2
        nu_hat = nu * (1 - beta2) / (1 - beta2**t)
        r = (m * m).mean(axes, keepdims=True) / nu_hat.mean(axes, keepdims=True)
        r = r * (1 + beta1) / (1 - beta1)
        sqrt_k = np.sqrt(weight.size / r.size)
        l2p = 1 + l2 * ((1 + 0.5 * tau(sqrt_k)) ** 2 - 1) ** 2
        l2q = 1 + l2 * b * b
        root = np.sqrt(1 + b)
        rate = xi * xi / np.maximum(r, root)
        decay = -0.5 * rate * (l2p / l2q * r + l2)
        bv = (2 * root / (1 + np.sqrt(1 + 2 / (2 + tau(sqrt_k)) * root))) ** 2 - 1
        l2r = (1 + l2 * b * bv) / (1 + l2 / l2p * l2q)
        change = decay * weight - eta * xi * m / np.sqrt(nu_hat)
        weight = weight + change / (1 + eta * root * l2r * bv)
        b = b + rate * (r / sqrt_k + b)
    return weight


TRANSCRIPTIONS = {
    "amos": amos,
    "muon_torch": muon_torch,
    "muon_jax": muon_jax,
    "nadamw_v05": point(
        0.0017486387539278373, 0.93266073836, 0.9955159689799007, 0.08121616522670176, 0.02
    ),
    "nadamw_2026": point(
        0.00190834618600756, 0.90909347751, 0.998898321921855, 0.08121616522670176, 0.1
    ),
    "nadamw_resnet": point(
        0.004126541534675243, 0.99219690167, 0.9966054696718922, 0.05371805022820654, 0.05
    ),
    "generalized_adam": point(
        0.0014271957958295392, 0.9661952124707597, 0.9957304053273589, 0.09153141484048229, 0.01
    ),
    "nadamp": point(
        0.0013002412605362058, 0.9603612866058248, 0.9778023204992619, 0.16056758401092633, 0.05
    ),
    "cyclic_lr": point(
        0.001308209823469072, 0.97313336939, 0.9981232922116359, 0.16375311233774334, 0.1
    ),
    "schedule_free_v1": schedule_free(0.75, at_x=True),
    "schedule_free_v2": schedule_free(0, at_x=False),
    "cautious_nadamw": cautious_nadamw,
    "ademamix": ademamix,
    "adamg": adamg,
    "lion": lion,
    "diloco": diloco,
    "lamb": lamb,
    "sgd_sai": sgd_sai,
}

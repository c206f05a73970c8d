"""The published methods again, in numpy, one array at a time and from their submissions' own terms.

A transcription is (gradients, weight, name, num_steps) -> weight, where gradients are those of
consecutive steps and num_steps is what the method is told.
"""

from math import cos, pi, sqrt

import numpy as np


def cosine(num_steps, warmup):
    """Multipliers of all steps: 4/3 of the steps, the first of them a warm-up."""
    steps = round(4 / 3 * num_steps)
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


TRANSCRIPTIONS = {"muon_torch": muon_torch, "muon_jax": muon_jax}

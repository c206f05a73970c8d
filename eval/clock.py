"""Clock: a stopwatch for training and preparing for evaluation, but not for evaluation itself."""

import time

import torch


class Clock:
    """A stopwatch.

    On a CPU it measures the process's CPU time, which other processes do not affect. Elsewhere it
    measures wall time, read after waiting for the device.
    """

    def __init__(self, device: str):
        self._device = torch.device(device)
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Time between every `start` and `stop` so far."""
        running = 0.0 if self._since is None else self._now() - self._since
        return self._before + running

    def start(self) -> None:
        assert self._since is None, "the clock is already running"
        self._since = self._now()

    def stop(self) -> None:
        assert self._since is not None, "the clock is not running"
        self._before, self._since = self.seconds, None

    def _now(self) -> float:
        if self._device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def check_device(device: str) -> None:
    """Raise ValueError if the device cannot be used for training."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"cannot train on --device {device!r}: {reason}") from None

"""The tensors of an average: folding weights in, and swapping with the model's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selftune.averaging.module_tensors import Place, local
from selftune.averaging.offload import Offload
from selftune.averaging.profiles import Moment, Profile
from selftune.dtensor import own_part
from selftune.tensor_list import TensorList

# Weights of another dtype than the average's are converted in parts of so many elements, or one
# larger tensor.
CHUNK = 2**22


class Memory:
    """What a profile keeps of each tensor: one or more means, and perhaps snapshots.

    places: the model's tensors that are averaged, by name.
    offload: keep the average on the CPU.
    """

    def __init__(self, profile: Profile, places: dict[str, Place], offload: bool) -> None:
        self._profile, self._places = profile, places
        self._offload = Offload() if offload else None
        self._swapped: dict[str, Tensor] = {}  # inside `exchanged`: the tensors with the average
        self._kept = {name: self._new(place.tensor) for name, place in places.items()}
        self._parts = self._in_parts()

    def __getstate__(self) -> dict[str, Any]:
        offload = self._offload is not None  # threads cannot be copied
        whole = {"_offload": offload, "_swapped": {}, "_kept": self.tensors(), "_parts": None}
        return {**vars(self), **whole}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._offload = Offload() if state["_offload"] else None
        # Made anew, as pickle gives tensors that shared their memory a copy each.
        self._parts = self._in_parts()

    def fold(self, at: Moment) -> None:
        """Fold the present weights into the average."""
        weights = [part.weights() for part in self._parts]
        if self._offload is None:
            self._fold(weights, at)
        else:
            self._offload.send(weights, lambda staged: self._fold(staged, at))

    def hold(self) -> None:
        """Call this after `fold`, before the weights are written again."""
        if self._offload is not None:
            self._offload.hold()

    def wait(self) -> None:
        """Wait until all weights are folded in."""
        if self._offload is not None:
            self._offload.wait()

    def means(self) -> dict[str, Tensor]:
        """The average by name, not copied."""
        return {name: self._swapped.get(name, kept["mean"]) for name, kept in self._kept.items()}

    @contextmanager
    def exchanged(self, theirs: dict[str, Place]) -> Iterator[None]:
        """Inside, the model's tensors hold the average, in their own memory."""
        with ExitStack() as restore:
            for name, place in theirs.items():
                tensor, mean = local(place.tensor), local(self._kept[name]["mean"])
                # Buffers get a copy, as the model may write to them during evaluation.
                if tensor.dtype == mean.dtype and isinstance(place.tensor, nn.Parameter):
                    _exchange_values(tensor, mean)
                    restore.callback(_exchange_values, tensor, mean)
                    restore.callback(self._swapped.pop, name)
                    self._swapped[name] = place.tensor
                else:
                    restore.callback(tensor.copy_, tensor.clone())
                    tensor.copy_(mean)
            yield

    def copy_to(self, theirs: dict[str, Place]) -> None:
        for name, place in theirs.items():
            local(place.tensor).copy_(local(self._kept[name]["mean"]))

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that is kept, by name, for a checkpoint; inside `exchanged` the average is copied."""
        swapped = {
            name: {"mean": tensor.detach().clone()} for name, tensor in self._swapped.items()
        }
        return {name: {**kept, **swapped.get(name, {})} for name, kept in self._kept.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        """Load from a checkpoint. Raises ValueError, and changes nothing, if shapes differ."""
        saved, mine = _shapes(tensors), _shapes(self._kept)
        if saved != mine:
            unlike = min(
                key for key in saved.keys() | mine.keys() if saved.get(key) != mine.get(key)
            )
            raise ValueError(
                f"{unlike[1]} of {unlike[0]!r} is {saved.get(unlike, 'missing')} in the saved "
                f"average and {mine.get(unlike, 'missing')} in this one: resume with the same model"
            )
        for name, kept in self._kept.items():
            for key, tensor in kept.items():
                tensor.copy_(tensors[name][key])

    def _fold(self, weights: list[TensorList], at: Moment) -> None:
        for part, now in zip(self._parts, weights, strict=True):
            self._profile.fold(part.kept, now, at)

    def _in_parts(self) -> list[_Part]:
        keys = (*self._profile.means(), *self._profile.snapshots())
        return [
            _Part(
                [self._places[name] for name in names],
                {key: TensorList([local(self._kept[name][key]) for name in names]) for key in keys},
            )
            for names in _alike(self._places)
        ]

    def _new(self, tensor: Tensor) -> dict[str, Tensor]:
        # At least float32: in bfloat16 the steps of a mean would be smaller than its rounding.
        wide = torch.promote_types(tensor.dtype, torch.float32)
        types = dict.fromkeys(self._profile.means(), wide)
        types |= dict.fromkeys(self._profile.snapshots(), tensor.dtype)
        tensor = tensor.detach()
        like, device = (tensor, None) if self._offload is None else (own_part(tensor), "cpu")
        return {key: torch.zeros_like(like, dtype=t, device=device) for key, t in types.items()}


class _Part:
    """Tensors of one device and dtype that are folded in by the same calls."""

    def __init__(self, places: list[Place], kept: dict[str, TensorList]) -> None:
        self.places, self.kept = places, kept

    def weights(self) -> TensorList:
        return TensorList([local(place.tensor) for place in self.places])


def _alike(places: dict[str, Place]) -> list[list[str]]:
    """The names in parts of one device and dtype, each of at most CHUNK elements or one tensor."""
    parts: list[list[str]] = []
    room: dict[Any, int] = {}  # in the last part of each kind
    last: dict[Any, list[str]] = {}
    for name, place in places.items():
        tensor = local(place.tensor)
        kind, size = (tensor.device, tensor.dtype), tensor.numel()
        if room.get(kind, 0) < size or kind not in last:
            last[kind] = []
            parts.append(last[kind])
            room[kind] = CHUNK
        last[kind].append(name)
        room[kind] -= size
    return parts


def _exchange_values(a: Tensor, b: Tensor) -> None:
    held = a.clone()
    a.copy_(b)
    b.copy_(held)


def _shapes(tensors: dict[str, dict[str, Any]]) -> dict[tuple[str, str], tuple[int, ...]]:
    return {
        (name, key): tuple(tensor.shape)
        for name, kept in tensors.items()
        for key, tensor in kept.items()
    }

"""The axes of an ablation: `schedule=constant,linear,refined; averaging=none,ema`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from selftune.averaging import EMA, LAWA, PowerEMA, Profile, Tail
from selftune.schedules import Schedule, constant, cosine, linear, rex, wsd

from ..cli import listed, one

REFINED, NONE = "refined", "none"
WARMUP = 0.02  # of the run, as in AlgoPerf's baseline; used if the method's own is not known

SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "wsd": lambda num_steps: wsd(num_steps, 0.2, "1-sqrt"),
    "rex": rex,
}
AVERAGES: dict[str, Profile] = {
    "ema": EMA(),
    "lawa": LAWA(),
    "tail": Tail(),
    "power": PowerEMA(),
}
LRS = {
    "transferred": "from the method's own schedule by the convex bound",
    "same": "the method's own peak",
}


@dataclass(frozen=True)
class Axes:
    """The names on both axes in the order they were given; the first of each is the baseline.

    lr: how the peak of a schedule is chosen, one of LRS.
    """

    schedules: tuple[str, ...]
    averages: tuple[str, ...]
    lr: str

    @staticmethod
    def of(text: str) -> "Axes":
        """Parse the axes. Raises ValueError for unknown names."""
        given: dict[str, str] = {}
        known = {
            "schedule": dict.fromkeys([*SCHEDULES, REFINED]),
            "averaging": dict.fromkeys([NONE, *AVERAGES]),
            "lr": dict.fromkeys(LRS),
        }
        for part in filter(None, (part.strip() for part in text.split(";"))):
            axis, equals, names = (word.strip() for word in part.partition("="))
            one(axis, known, "axis of --ablate")
            if not equals or axis in given:
                raise ValueError(f"--ablate takes each axis once, as in {axis}=a,b; got {text!r}")
            given[axis] = names
        chosen = {axis: _names(given.get(axis), known[axis], axis) for axis in known}
        lr, *others = chosen["lr"]
        if others:
            raise ValueError(f"lr is one of {', '.join(LRS)}, got {given['lr']!r}")
        return Axes(chosen["schedule"], chosen["averaging"], lr)

    @property
    def recorded(self) -> str:
        """The schedule whose runs record norms, if any has to."""
        plain = [name for name in self.schedules if name != REFINED]
        return plain[0] if plain else "linear"

    @property
    def profiles(self) -> dict[str, Profile]:
        return {name: AVERAGES[name] for name in self.averages if name != NONE}


def with_warmup(name: str, num_steps: int, share: float = WARMUP) -> Schedule:
    return SCHEDULES[name](num_steps).with_warmup(round(share * num_steps))


def _names(text: str | None, known: Mapping[str, None], axis: str) -> tuple[str, ...]:
    defaults = {"schedule": "linear,cosine,wsd", "averaging": NONE, "lr": "transferred"}
    names = [name.strip() for name in listed(text or defaults[axis], known)]
    for name in names:
        one(name, known, axis, ", all")
    return tuple(dict.fromkeys(names))

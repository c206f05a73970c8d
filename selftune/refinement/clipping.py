"""Gradient clipping in recorded norms: applying it afterwards, and detecting it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np

AT_CEILING = 0.05  # if so many norms equal the largest one, they were recorded after clipping
ALIKE = 1e-3  # relative tolerance of "equal", as clipping divides by the norm plus 1e-6
USUAL = 1.0  # the norm to which most programs clip


def clipped(norms: Mapping[str, np.ndarray], largest: float) -> tuple[dict[str, np.ndarray], str]:
    """The norms as after clipping to the l2 norm `largest`, and a note on what changed.

    Raises ValueError if there are no l2 norms.
    """
    if not 0 < largest < inf:
        raise ValueError(f"the norm to clip to must be positive and finite, got {largest}")
    if "l2" not in norms:
        raise ValueError(f"clipping needs l2 norms; the log has {', '.join(norms)}")
    l2 = norms["l2"]
    above = l2 > largest
    factor = np.where(above, largest / np.where(above, l2, 1.0), 1.0)
    # <g, u> is scaled like g, as it is unknown how clipping would have changed u.
    gradients = {name: norms[name] * factor for name in ("l2", "l1", "update") if name in norms}
    if above.any():
        note = f"{above.mean():.0%} of the norms exceed {largest:g} and are clipped to it"
    else:
        note = f"no norm exceeds {largest:g}: clipping to it changes nothing"
    return {**norms, **gradients}, note


def clipping_note(l2: np.ndarray) -> str | None:
    """A note on whether norms were probably recorded before or after clipping; None if unclear."""
    usable = l2[np.isfinite(l2) & (l2 > 0)]
    if len(usable) < 2:
        return None
    largest = usable.max()
    ceiling = np.mean(usable >= (1 - ALIKE) * largest)
    if ceiling >= AT_CEILING and ceiling * len(usable) > 1 and usable.min() < 0.9 * largest:
        return (
            f"{ceiling:.0%} of the norms are {largest:.3g} and none is larger: they were recorded "
            "after clipping, as refinement wants them"
        )
    if largest > USUAL:
        return (
            f"{np.mean(usable > USUAL):.0%} of the norms exceed {USUAL:g}: if gradients were "
            "clipped, these were recorded before it; say to what norm, with --clip"
        )
    return None

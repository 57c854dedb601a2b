"""Answers as a table, and as the text that is printed."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from stages.evaluate.geocode import LEVELS, areas
from stages.predict.search import NEAR_KM, Answers

NEAR = f"probability_{NEAR_KM:g}km"
COLUMNS = ("rank", "probability", f"within {NEAR_KM:g} km", "latitude", "longitude", "near")  # of to_rows


def answer_table(photos: Sequence[Path], answers: Answers, towns: pl.DataFrame | None) -> pl.DataFrame:
    """A row for each of a photo's places, best first.

    Columns: photo, rank from 1, latitude, longitude, probability of the place and of all within 25 km of it, and the
    names of its area, null without towns.
    """
    n, k = answers.latitude.shape
    latitude, longitude = answers.latitude.ravel(), answers.longitude.ravel()
    columns = {
        "photo": [shown_name(photo) for photo in photos for _ in range(k)],
        "rank": np.tile(np.arange(1, k + 1), n),
        "latitude": latitude,
        "longitude": longitude,
        "probability": answers.probability.ravel().astype(np.float64).round(6),  # float32 has no more digits
        NEAR: answers.probability_near.ravel().round(6),
    }
    table = pl.DataFrame(columns)
    if towns is None:
        return table.with_columns(pl.lit(None, pl.String).alias(level) for level in LEVELS)
    return table.hstack(areas(towns, latitude, longitude))


def shown_name(photo: Path) -> str:
    """A photo's path as text; bytes that are no UTF-8, which a file's name may have, become replacement characters."""
    return os.fsencode(photo).decode(errors="replace")


def n_photos(table: pl.DataFrame) -> int:
    """Number of the photos in a table of answers; their names need not differ."""
    return (table["rank"] == 1).sum()


def area_names(table: pl.DataFrame) -> list[str]:
    """Per row the area from the town to the country, without the names that are missing."""
    names = table.select(reversed(LEVELS)).rows()
    return [", ".join(name for name in row if name) for row in names]


def to_json(table: pl.DataFrame) -> str:
    """A list of photos, each with its places, best first."""
    photos = table.iter_slices(len(table) // n_photos(table))  # all have as many places
    return json.dumps([{"photo": of["photo"][0], "places": of.drop("photo").to_dicts()} for of in photos], indent=2)


def to_rows(table: pl.DataFrame) -> list[tuple[str, ...]]:
    """One photo's places for a person, by COLUMNS."""
    numbers = table.select("rank", "probability", NEAR, "latitude", "longitude").rows()
    return [
        (f"{rank}", f"{probability:.1%}", f"{near:.1%}", f"{latitude:.5f}", f"{longitude:.5f}", area)
        for (rank, probability, near, latitude, longitude), area in zip(numbers, area_names(table), strict=True)
    ]

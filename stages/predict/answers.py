"""Answers as a table, and as the text that is printed."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from stages.evaluate.gallery import TopPlaces
from stages.evaluate.geocode import LEVELS, areas


def answer_table(photos: Sequence[Path], top: TopPlaces, towns: pl.DataFrame) -> pl.DataFrame:
    """A row for each of a photo's places: photo, rank from 1, latitude, longitude, probability and the area's names."""
    n, k = top.latitude.shape
    latitude, longitude = top.latitude.ravel(), top.longitude.ravel()
    columns = {
        "photo": [str(photo) for photo in photos for _ in range(k)],
        "rank": np.tile(np.arange(1, k + 1), n),
        "latitude": latitude,
        "longitude": longitude,
        "probability": top.probability.ravel().astype(np.float64).round(6),  # float32 has no more digits
    }
    return pl.DataFrame(columns).hstack(areas(towns, latitude, longitude))


def area_names(table: pl.DataFrame) -> list[str]:
    """Per row the area from the town to the country, without the names that are missing."""
    names = table.select(reversed(LEVELS)).rows()
    return [", ".join(name for name in row if name) for row in names]


def to_json(table: pl.DataFrame) -> str:
    """A list of photos, each with its places, best first."""
    photos = table.partition_by("photo", maintain_order=True)
    return json.dumps([{"photo": of["photo"][0], "places": of.drop("photo").to_dicts()} for of in photos], indent=2)


def to_rows(table: pl.DataFrame) -> list[tuple[str, ...]]:
    """One photo's places for a person: rank, probability, latitude, longitude and area."""
    numbers = table.select("rank", "probability", "latitude", "longitude").rows()
    return [
        (f"{rank}", f"{probability:.1%}", f"{latitude:.5f}", f"{longitude:.5f}", area)
        for (rank, probability, latitude, longitude), area in zip(numbers, area_names(table), strict=True)
    ]

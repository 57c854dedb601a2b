"""Which rows params ask for; the others are set aside without being counted as lost."""

import hashlib

import numpy as np
import polars as pl

from stages.params import Filter

NOT_WANTED = "left out by shard.filter"


def set_aside(rows: pl.DataFrame, p: Filter, n_before: int) -> pl.DataFrame:
    """The rows, with the reason NOT_WANTED where they are usable and not asked for.

    rows: as check_coordinates gives them, with a column archive, null for a row without a photo.
    n_before: usable photos in earlier batches that were asked for; max_photos counts them.
    """
    is_usable = rows["reason"].is_null()
    is_wanted = is_usable & _in_box(rows, p.bounding_box) & _in_countries(rows, p.countries)
    is_wanted &= pl.Series(_share_of_ids(rows["id"]) < p.fraction) if p.fraction < 1 else True
    if p.max_photos:
        is_photo = is_wanted & rows["archive"].is_not_null()
        is_wanted &= n_before + is_photo.cum_sum() - is_photo < p.max_photos
    not_wanted = pl.when(pl.Series(is_usable & ~is_wanted)).then(pl.lit(NOT_WANTED))
    return rows.with_columns(reason=not_wanted.otherwise("reason"))


def count_photos(rows: pl.DataFrame, reason: str | None) -> int:
    """Number of rows with a photo and this reason."""
    return rows.filter(pl.col("reason").eq_missing(reason), pl.col("archive").is_not_null()).height


def _in_box(rows: pl.DataFrame, box: list[float] | None) -> pl.Series:
    if box is None:
        return pl.repeat(True, len(rows), eager=True)
    south, west, north, east = box
    longitude = rows["longitude"]
    is_between = (longitude >= west) & (longitude <= east)
    if west > east:
        is_between = (longitude >= west) | (longitude <= east)
    return (rows["latitude"].is_between(south, north) & is_between).fill_null(False)


def _in_countries(rows: pl.DataFrame, countries: list[str]) -> pl.Series:
    if not countries:
        return pl.repeat(True, len(rows), eager=True)
    return rows["country"].is_in(countries).fill_null(False)


def _share_of_ids(ids: pl.Series) -> np.ndarray:
    """A number in [0, 1) for each id (n,): uniform, and the same on every machine and in every year."""
    digests = (hashlib.sha256(name.encode()).digest() for name in ids.fill_null(""))
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests]) / 2**64

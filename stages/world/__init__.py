"""A synthetic world in OSV5M's source layout, with known truth: for trying, testing and benchmarking the pipeline.

Land, towns, roads and appearance all come from one seed. A place's appearance latents are Gaussian random fields on the
sphere at known ranges (truth.py); a photo is drawn from its place's latents with accidents of its own (draw.py).
"""

import math
from pathlib import Path

import numpy as np
import polars as pl

from stages.geo import unit_vectors
from stages.params import World
from stages.shards import write_json, written_whole
from stages.world import geography, roads, table, truth
from stages.world.archives import Archive, write_archives

SPLITS = ("train", "test")
PHOTOS_AN_ARCHIVE = 1000
MAX_ARCHIVES = 98  # OSV5M numbers its training archives 00 to 97
STRAY_SHARE = 0.001  # rows without their image, and again images without their row: the real set has both


def write_world(params: World, folder: Path) -> None:
    """Write the world of params into folder; archives that are there already are left as they are.

    train.csv, test.csv, images/{train,test}/NN.zip, and geography/ with places.csv, coastlines.csv and truth.json.
    """
    land = geography.Land(params.seed)
    towns = geography.name_areas(geography.found_towns(land, params.seed), params.seed)
    photos = _photos(land, towns, params)
    archives = []
    for split in SPLITS:
        of_split = photos.filter(split=split)
        _write_csv(folder / f"{split}.csv", of_split.filter("has_row").select(table.COLUMNS))
        archives += _archives(of_split.filter("has_image"), folder / "images" / split, params)
    _write_csv(folder / "geography" / "places.csv", towns.select("lat", "lon", "name", "admin1", "admin2", "cc"))
    _write_csv(folder / "geography" / "coastlines.csv", geography.coastlines(land))
    write_json(folder / "geography" / "truth.json", truth.describe())
    if missing := [archive for archive in archives if not archive.path.exists()]:
        write_archives(missing)


def _photos(land: geography.Land, towns: pl.DataFrame, params: World) -> pl.DataFrame:
    """All photos: the columns of the CSVs, split, has_row, has_image, and index, a photo's number in its split."""
    parts, taken = [], None
    for index, (split, n) in enumerate(zip(SPLITS, (params.n_train, params.n_test), strict=True)):
        rng = np.random.default_rng([params.seed, 500, index])
        n_strays = max(1, round(STRAY_SHARE * n))
        places = roads.photo_places(land, towns, n + 2 * n_strays, split=split, seed=params.seed, away_from=taken)
        taken = unit_vectors(places["latitude"].to_numpy(), places["longitude"].to_numpy())
        # In no order, as in the real set: an archive holds photos of the whole world.
        shuffled = table.photo_rows(places, towns, rng)[rng.permutation(len(places))]
        number = pl.int_range(pl.len())
        parts.append(
            shuffled.with_columns(
                number.alias("index"),
                pl.lit(split).alias("split"),
                (number >= n_strays).alias("has_row"),
                (number < n + n_strays).alias("has_image"),
            )
        )
    return pl.concat(parts)


def _archives(photos: pl.DataFrame, folder: Path, params: World) -> list[Archive]:
    """Archives of a split's photos, numbered from 00."""
    latents = truth.latents(unit_vectors(photos["latitude"].to_numpy(), photos["longitude"].to_numpy()), params.seed)
    size = max(PHOTOS_AN_ARCHIVE, math.ceil(len(photos) / MAX_ARCHIVES))
    of_split = SPLITS.index(folder.name)
    return [
        Archive(
            path=folder / f"{start // size:02d}.zip",
            ids=photos["id"][start : start + size].to_list(),
            latents=latents[start : start + size],
            seeds=[[params.seed, of_split, index] for index in photos["index"][start : start + size]],
            height_px=params.height_px,
        )
        for start in range(0, len(photos), size)
    ]


def _write_csv(path: Path, rows: pl.DataFrame) -> None:
    with written_whole(path) as temporary:
        rows.write_csv(temporary)

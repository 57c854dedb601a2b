"""Continents, coasts, towns and administrative areas of a world, all from its seed."""

import contourpy
import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.geo import coordinates, displace, unit_vectors
from stages.world.fields import smooth_field
from stages.world.names import COUNTRY_CODES, invent_names

LAND_SHARE = 0.3
SHORE = 0.01  # a place is on land if the land's height there exceeds this: a few km from the coastline
GRID_DEG = 0.5
N_CONURBATIONS = 220
N_TOWNS = 1400
MAX_LATITUDE_DEG = 72.0  # nobody drives beyond


class Land:
    """Height of the land at a point of the sphere: positive on land, negative in the sea."""

    def __init__(self, seed: int):
        # Length in km: weight. The first makes continents, the others bays, islands and a ragged coast.
        scales = {2000: 1.0, 700: 0.4, 300: 0.2, 120: 0.06}
        self._fields = [
            (weight, smooth_field(np.random.default_rng([seed, 100 + i]), length, n_waves=32))
            for i, (length, weight) in enumerate(scales.items())
        ]
        self._sea_level = 0.0
        self._sea_level = float(np.quantile(self.height(fibonacci_sphere(20_000)), 1 - LAND_SHARE))

    def height(self, vectors: np.ndarray) -> np.ndarray:
        """Height, in no unit, at unit vectors (n, 3): (n,)."""
        return sum(weight * field.at(vectors)[:, 0] for weight, field in self._fields) - self._sea_level


def fibonacci_sphere(n: int) -> np.ndarray:
    """Unit vectors (n, 3) spread evenly over the sphere, from pole to pole."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    across = np.sqrt(1 - z * z)
    return np.column_stack([across * np.cos(angle), across * np.sin(angle), z])


def coastlines(land: Land) -> pl.DataFrame:
    """Lines where the land meets the sea, each cut at the antimeridian: columns line, latitude, longitude (degrees)."""
    longitude = np.linspace(-180, 180, round(360 / GRID_DEG) + 1)
    latitude = np.linspace(-90, 90, round(180 / GRID_DEG) + 1)
    height = land.height(unit_vectors(*np.meshgrid(latitude, longitude, indexing="ij")).reshape(-1, 3))
    grid = contourpy.contour_generator(longitude, latitude, height.reshape(len(latitude), len(longitude)))
    lines = [line for line in grid.lines(0.0) if len(line) > 5]  # shorter ones are rocks
    rows = np.concatenate([np.column_stack([np.full(len(line), i), line]) for i, line in enumerate(lines)])
    return pl.DataFrame(
        {
            "line": rows[:, 0].astype(np.int64),
            "latitude": rows[:, 2].round(3),
            "longitude": rows[:, 1].round(3),
        }
    )


def found_towns(land: Land, seed: int) -> pl.DataFrame:
    """Towns in clusters: at most N_TOWNS rows of lat, lon (degrees) and weight, its share of the photos."""
    rng = np.random.default_rng([seed, 200])
    sites = fibonacci_sphere(60_000)  # about 90 km apart
    latitude, _ = coordinates(sites)
    sites = sites[(land.height(sites) > SHORE) & (np.abs(latitude) < MAX_LATITUDE_DEG)]
    appeal = np.exp(0.8 * smooth_field(rng, 700, n_waves=64).at(sites)[:, 0])
    centres = rng.choice(len(sites), N_CONURBATIONS, replace=False, p=appeal / appeal.sum())
    of_centre = rng.choice(N_CONURBATIONS, N_TOWNS, p=_heavy_tailed(rng, N_CONURBATIONS, 0.8))
    # The first towns are the centres themselves, the others lie around one, mostly near.
    of_centre[:N_CONURBATIONS] = np.arange(N_CONURBATIONS)
    spread_km = np.where(np.arange(N_TOWNS) < N_CONURBATIONS, 0.5, 110.0) * rng.gamma(1.5, 1.0, N_TOWNS)
    bearing = rng.uniform(0, 2 * np.pi, N_TOWNS)
    start = coordinates(sites[centres[of_centre]])
    latitude, longitude = displace(*start, spread_km * np.sin(bearing), spread_km * np.cos(bearing))
    weight = _heavy_tailed(rng, N_TOWNS, 1.4)
    is_fit = (land.height(unit_vectors(latitude, longitude)) > SHORE) & (np.abs(latitude) < MAX_LATITUDE_DEG)
    towns = pl.DataFrame({"lat": latitude.round(5), "lon": longitude.round(5), "weight": weight})
    return towns.filter(is_fit).with_columns(pl.col("weight") / pl.col("weight").sum())


def _heavy_tailed(rng: np.random.Generator, n: int, sigma: float) -> np.ndarray:
    """Log-normal shares (n,) that sum to 1; at sigma 1.4 the largest of 1400 is some hundred times the median."""
    shares = rng.lognormal(sigma=sigma, size=n)
    return shares / shares.sum()


def name_areas(towns: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Towns with the columns name, admin1, admin2 and cc, of reverse_geocoder's tables, added.

    Areas are nested: a town belongs to the country with the nearest capital, in it to the region with the nearest seat,
    and in that to the sub-region with the nearest seat. Seats are towns. A few countries have no sub-regions (null).
    """
    rng = np.random.default_rng([seed, 300])
    vectors = unit_vectors(towns["lat"].to_numpy(), towns["lon"].to_numpy())
    columns = {name: np.full(len(towns), None, object) for name in ("name", "admin1", "admin2", "cc")}
    codes = rng.permutation(COUNTRY_CODES)
    for country, code in zip(_cells(rng, vectors, len(codes)), codes, strict=False):
        regions = _cells(rng, vectors[country], np.clip(len(country) // 6, 1, 14))
        names = invent_names(rng, len(country) + len(regions))
        has_sub_regions = rng.random() < 0.9
        columns["cc"][country] = code
        columns["name"][country] = names[: len(country)]
        for region, region_name in zip(regions, names[len(country) :], strict=True):
            inside = country[region]
            columns["admin1"][inside] = region_name
            for sub_region in _cells(rng, vectors[inside], np.clip(len(inside) // 3, 1, 12)) if has_sub_regions else []:
                seat = columns["name"][inside[sub_region[0]]]
                columns["admin2"][inside[sub_region]] = f"{seat} County"
    return towns.with_columns(pl.Series(name, values.tolist(), pl.String) for name, values in columns.items())


def _cells(rng: np.random.Generator, vectors: np.ndarray, n_cells: int) -> list[np.ndarray]:
    """Row numbers of vectors (n, 3) in each of at most n_cells nearest-centre cells; the first row is the centre.

    Centres are rows, each drawn with a probability proportional to its squared distance from the centres before it, so
    that they lie apart.  Source: Arthur & Vassilvitskii (2007), k-means++.
    """
    squared, cell = np.full(len(vectors), 1.0), np.zeros(len(vectors), int)
    centres: list[int] = []
    while len(centres) < n_cells and squared.sum() > 0:
        centre = rng.choice(len(vectors), p=squared / squared.sum())
        from_centre = ((vectors - vectors[centre]) ** 2).sum(axis=1)
        is_nearer = (from_centre < squared) | (not centres)
        cell[is_nearer] = len(centres)
        squared = np.where(is_nearer, from_centre, squared)
        centres.append(int(centre))
    members = [np.flatnonzero(cell == i) for i in range(len(centres))]
    return [np.concatenate([[centre], rows[rows != centre]]) for centre, rows in zip(centres, members, strict=True)]


def nearest_town(towns: pl.DataFrame, vectors: np.ndarray) -> np.ndarray:
    """Row of the nearest town to each of the unit vectors (n, 3): (n,)."""
    return cKDTree(unit_vectors(towns["lat"].to_numpy(), towns["lon"].to_numpy())).query(vectors)[1]
